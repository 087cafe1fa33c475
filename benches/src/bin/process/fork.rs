//! What the kernel takes to fork: a process with one thread that does so on request, and nothing else.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};

/// Makes this program such a process.
pub(crate) const ROLE: &str = "PROCESS_BENCH_FORKER";

pub(crate) struct Forker {
    child: Child,
    ends: Option<(File, File)>,
}

impl Forker {
    pub(crate) fn start() -> Self {
        let exe = std::env::current_exe().expect("an exe");
        let mut command = Command::new(exe);
        command.env(ROLE, "yes").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("a process");
        let input = OwnedFd::from(child.stdin.take().expect("its input"));
        let output = OwnedFd::from(child.stdout.take().expect("its output"));
        Self { child, ends: Some((input.into(), output.into())) }
    }

    /// To the first word of the new process.
    pub(crate) fn fork(&mut self) {
        let (input, _) = self.ends.as_mut().expect("its pipes");
        input.write_all(b"f").expect("written");
        self.wait();
    }

    /// To the next word: after a fork, that the new process has been reaped.
    pub(crate) fn wait(&mut self) {
        let (_, output) = self.ends.as_mut().expect("its pipes");
        output.read_exact(&mut [0]).expect("a word");
    }
}

impl Drop for Forker {
    fn drop(&mut self) {
        self.ends = None;
        let _ = self.child.wait();
    }
}

/// Forks once for each byte that comes in.
#[allow(unsafe_code, reason = "the fork that is measured")]
pub(crate) fn serve() -> io::Result<()> {
    // SAFETY: the standard descriptors, which nobody else uses in this role.
    let (mut input, mut output) = unsafe { (File::from_raw_fd(0), File::from_raw_fd(1)) };
    while input.read(&mut [0])? > 0 {
        // SAFETY: there is one thread, so the child finds nothing locked.
        match unsafe { libc::fork() } {
            0 => {
                let said = output.write_all(b"r");
                // SAFETY: ends the process.
                unsafe { libc::_exit(said.is_err().into()) }
            }
            // SAFETY: nobody wants the status.
            child if child > 0 => unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) },
            _ => return Err(io::Error::last_os_error()),
        };
        output.write_all(b"e")?;
    }
    Ok(())
}
