//! [`Error`]: what goes wrong when workers are made, checked and ended.

use std::fmt;
use std::io;

use crate::exit::Exit;

/// A worker could not be made or kept.
#[derive(Debug)]
pub struct Error {
    stage: Stage,
    kind: ErrorKind,
    source: Option<io::Error>,
    stderr: String,
}

impl Error {
    pub(crate) fn new(stage: Stage, kind: ErrorKind) -> Self {
        Self { stage, kind, source: None, stderr: String::new() }
    }

    pub(crate) fn system(stage: Stage, source: io::Error) -> Self {
        Self { stage, kind: ErrorKind::System, source: Some(source), stderr: String::new() }
    }

    pub(crate) fn errno((stage, errno): (Stage, i32)) -> Self {
        Self::system(stage, io::Error::from_raw_os_error(errno))
    }

    pub(crate) fn with_stderr(mut self, stderr: String) -> Self {
        self.stderr = stderr;
        self
    }

    /// Where it went wrong.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// What went wrong, to branch on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The end of what the worker wrote to standard error, as far as it was read.
    pub fn stderr(&self) -> &str {
        &self.stderr
    }

    /// Whether the same attempt may work a little later: the system was short of something.
    pub fn is_transient(&self) -> bool {
        let errno = self.source.as_ref().and_then(io::Error::raw_os_error);
        matches!(errno, Some(libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE))
            || matches!(self.kind, ErrorKind::GuardianLost)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ErrorKind::System => write!(f, "cannot {}", self.stage)?,
            ErrorKind::BootFailed(exit) => write!(f, "the worker {exit} before it was ready")?,
            kind => write!(f, "cannot {}: {kind}", self.stage)?,
        }
        if let Some(hint) = hint(self.stage, self.source.as_ref().and_then(io::Error::raw_os_error)) {
            write!(f, "; {hint}")?;
        }
        match self.stderr.trim_end() {
            "" => Ok(()),
            text => write!(f, "; its standard error ends with:\n{text}"),
        }
    }
}

fn hint(stage: Stage, errno: Option<i32>) -> Option<&'static str> {
    match (stage, errno?) {
        (Stage::Exec, libc::ENOENT) => {
            Some("the program, or the interpreter that its first line names, does not exist")
        }
        (Stage::Exec, libc::EACCES) => Some("the program is not executable for the worker's user"),
        (Stage::Uid | Stage::Gid | Stage::Groups, libc::EPERM) => {
            Some("changing user or group needs CAP_SETUID and CAP_SETGID; leave it out or run with them")
        }
        (Stage::Priority | Stage::Rlimit, libc::EPERM | libc::EACCES) => {
            Some("only a privileged process may raise this; ask for less")
        }
        (Stage::Clone, libc::EAGAIN) => Some("a limit on processes is reached (ulimit -u, pids cgroup)"),
        (_, libc::EMFILE) => Some("this process has too many open files; raise ulimit -n"),
        _ => None,
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|e| e as _)
    }
}

/// What goes wrong with a worker outside calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The system refused a step; the error's source says how.
    System,
    /// The worker ended before it said that it was ready.
    BootFailed(Exit),
    /// The worker was not ready in time, and was killed.
    NotReady,
    /// The worker is dead.
    Dead,
    /// The worker said something that nobody had asked for: it cannot be trusted to answer the next
    /// call with its own answer.
    Desynchronised,
    /// The worker did not answer a check in time.
    Unresponsive,
    /// The worker exceeded one of its limits and is to be replaced.
    Retired,
    /// The zygote is gone; a new one is started for the next attempt.
    GuardianLost,
    /// There is no such entry, or `poolyard_process::init` was not called at the start of `main`.
    NoEntry,
    /// A text holds a zero byte, which no argument or variable can.
    ZeroByte,
    /// Arguments and environment together are too large for the zygote.
    TooLarge,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ErrorKind::System => "the system refused",
            ErrorKind::BootFailed(_) => "it ended before it was ready",
            ErrorKind::NotReady => {
                "it was not ready in time; raise `Ready::Handshake`'s time if it needs longer"
            }
            ErrorKind::Dead => "it is dead",
            ErrorKind::Desynchronised => "it said something that nobody had asked for",
            ErrorKind::Unresponsive => "it did not answer in time",
            ErrorKind::Retired => "it reached a limit of its own",
            ErrorKind::GuardianLost => "the zygote ended; the next attempt starts another",
            ErrorKind::NoEntry => {
                "no such entry; call `poolyard_process::init` first in `main` and register it"
            }
            ErrorKind::ZeroByte => "a text holds a zero byte",
            ErrorKind::TooLarge => "arguments and environment exceed 128 KiB",
        })
    }
}

/// The step at which something went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
#[expect(missing_docs, reason = "the text of each is in `Display`")]
pub enum Stage {
    Clone,
    Session,
    Rlimit,
    Priority,
    Cpus,
    Groups,
    Gid,
    Uid,
    Privileges,
    ParentDeath,
    WorkingDirectory,
    Descriptors,
    Exec,
    Program,
    Pipes,
    Supervisor,
    Zygote,
    Ready,
    HealthCheck,
    Recycle,
    Listen,
}

impl Stage {
    /// Every stage, in the order of their numbers.
    pub const ALL: [Stage; 21] = [
        Stage::Clone,
        Stage::Session,
        Stage::Rlimit,
        Stage::Priority,
        Stage::Cpus,
        Stage::Groups,
        Stage::Gid,
        Stage::Uid,
        Stage::Privileges,
        Stage::ParentDeath,
        Stage::WorkingDirectory,
        Stage::Descriptors,
        Stage::Exec,
        Stage::Program,
        Stage::Pipes,
        Stage::Supervisor,
        Stage::Zygote,
        Stage::Ready,
        Stage::HealthCheck,
        Stage::Recycle,
        Stage::Listen,
    ];
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Clone => "create the process",
            Stage::Session => "give the worker a session or process group of its own",
            Stage::Rlimit => "set a resource limit",
            Stage::Priority => "set the priority",
            Stage::Cpus => "set the processors",
            Stage::Groups => "set the supplementary groups",
            Stage::Gid => "set the group",
            Stage::Uid => "set the user",
            Stage::Privileges => "give privileges up",
            Stage::ParentDeath => "tie the worker to its parent",
            Stage::WorkingDirectory => "enter the working directory",
            Stage::Descriptors => "hand the descriptors over",
            Stage::Exec => "execute the program",
            Stage::Program => "find the program",
            Stage::Pipes => "open the channel to the worker",
            Stage::Supervisor => "start the supervising thread",
            Stage::Zygote => "use the zygote",
            Stage::Ready => "wait until the worker is ready",
            Stage::HealthCheck => "check the worker",
            Stage::Recycle => "clean the worker",
            Stage::Listen => "open the listener",
        })
    }
}
