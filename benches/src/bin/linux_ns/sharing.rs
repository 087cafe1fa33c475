//! What a hundred sandboxes take that share one base, and that have a copy of it each.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use poolyard_benches::row::{OURS, Row};
use poolyard_exec::{Command, Exec};
use poolyard_linux_ns::{LinuxNs, SandboxSpec};
use tokio::runtime::Builder;

use crate::memory::Counter;

const COUNT: usize = 100;

/// The directories; they go with this value.
struct Bases(PathBuf);

impl Bases {
    /// Beside the programs of the system, not in memory.
    fn new() -> io::Result<Self> {
        let dir = PathBuf::from(format!("/var/tmp/poolyard-bench-bases-{}", std::process::id()));
        fs::create_dir_all(&dir)?;
        Ok(Self(dir))
    }

    /// A shell with its libraries, and nothing else.
    fn make(&self, number: usize) -> io::Result<PathBuf> {
        let base = self.0.join(number.to_string());
        fs::create_dir_all(base.join("bin"))?;
        fs::copy("/bin/sh", base.join("bin/sh"))?;
        let output = Process::new("ldd").arg("/bin/sh").output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        for library in text.split_whitespace().filter(|word| word.starts_with('/')) {
            let place = base.join(library.trim_start_matches('/'));
            fs::create_dir_all(place.parent().unwrap_or(&base))?;
            fs::copy(library, place)?;
        }
        Ok(base)
    }

    fn disk_kib(&self) -> io::Result<f64> {
        Ok(blocks(&self.0)? as f64 / 2.0)
    }
}

impl Drop for Bases {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Blocks of 512 bytes that everything in `dir` takes.
fn blocks(dir: &Path) -> io::Result<u64> {
    let mut sum = fs::metadata(dir)?.blocks();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        sum += if metadata.is_dir() { blocks(&entry.path())? } else { metadata.blocks() };
    }
    Ok(sum)
}

pub(crate) fn rows() -> Vec<Row> {
    let cases = [("shared", 1), ("separate", COUNT)];
    cases.into_iter().flat_map(|(name, bases)| measure(name, bases)).collect()
}

fn measure(name: &str, bases: usize) -> [Row; 2] {
    let (memory, disk) = (format!("memory/{COUNT}_{name}"), format!("disk/{COUNT}_{name}"));
    match take(bases) {
        Ok([kib, disk_kib]) => [
            Row::new(&memory, OURS, "KiB", &[kib], "each has run its shell; pages of files included"),
            Row::new(&disk, OURS, "KiB", &[disk_kib], "their bases: a shell and its libraries"),
        ],
        Err(e) => [Row::missing(&memory, OURS, e.to_string()), Row::missing(&disk, OURS, e.to_string())],
    }
}

/// Memory and disk in KiB of so many sandboxes, which go round over so many bases.
fn take(bases: usize) -> io::Result<[f64; 2]> {
    let dir = Bases::new()?;
    // Copied before anything is counted, and out of the cache, so that who reads it first is charged.
    let made: Vec<PathBuf> = (0..bases).map(|number| dir.make(number)).collect::<io::Result<_>>()?;
    forget(&made)?;
    let counter = Counter::new()?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let kib = runtime.block_on(async {
        let ns = LinuxNs::new().map_err(io::Error::other)?;
        let before = counter.bytes()?;
        let mut kept = Vec::new();
        for number in 0..COUNT {
            let spec = SandboxSpec::builder().root(&made[number % bases]).build();
            let sandbox = ns.sandbox(&spec).await.map_err(io::Error::other)?;
            let command = Command::new("/bin/sh").args(["-c", ":"]);
            let outcome = sandbox.exec(&command).await.map_err(io::Error::other)?;
            if !outcome.success() {
                return Err(io::Error::other(format!("{outcome:?}")));
            }
            kept.push(sandbox);
        }
        let kib = (counter.bytes()? - before) / 1024.0;
        drop(kept);
        Ok::<_, io::Error>(kib)
    })?;
    Ok([kib, dir.disk_kib()?])
}

/// Writes files back and drops their pages.
fn forget(dirs: &[PathBuf]) -> io::Result<()> {
    for dir in dirs {
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.is_dir() {
                forget(&[path])?;
                continue;
            }
            let file = fs::File::open(path)?;
            file.sync_all()?;
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        }
    }
    Ok(())
}
