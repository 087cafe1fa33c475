//! The programs that every subject runs.

use std::io;
use std::path::PathBuf;
use std::process::Command;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// Exits with its first instruction. No C library, no loader: the floor of what a program can cost.
    Static,
    /// The system's own, with its loader and its C library.
    True,
}

pub(crate) const PROGRAMS: [Program; 2] = [Program::Static, Program::True];

impl Program {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Program::Static => "static",
            Program::True => "true",
        }
    }

    /// Where sandboxes have it that show the directory of the programs at /bench.
    pub(crate) fn inside(self) -> &'static str {
        match self {
            Program::Static => "/bench/static",
            Program::True => "/usr/bin/true",
        }
    }
}

/// A directory that holds the static program. It goes with this value.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) dir: PathBuf,
}

#[cfg(target_arch = "x86_64")]
const EXIT: &str = "mov $60, %eax; xor %edi, %edi; syscall";
#[cfg(target_arch = "aarch64")]
const EXIT: &str = "mov x8, #93; mov x0, #0; svc #0";

impl Programs {
    pub(crate) fn build() -> io::Result<Self> {
        let dir = std::env::temp_dir().join(format!("poolyard-bench-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        let programs = Self { dir };
        let source = programs.dir.join("static.c");
        std::fs::write(&source, format!("void _start(void) {{ __asm__ volatile(\"{EXIT}\"); }}"))?;
        let to = programs.dir.join("static");
        let status =
            Command::new("cc").args(["-O2", "-static", "-nostdlib", "-o"]).args([&to, &source]).status()?;
        match status.success() {
            true => Ok(programs),
            false => Err(io::Error::other("cc cannot build the static program")),
        }
    }

    /// Where the host has it.
    pub(crate) fn path(&self, program: Program) -> PathBuf {
        match program {
            Program::Static => self.dir.join("static"),
            Program::True => "/usr/bin/true".into(),
        }
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
