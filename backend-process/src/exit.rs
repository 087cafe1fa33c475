//! How a worker ended, and why.

use std::fmt;

/// How a worker process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Exit {
    /// It ended by itself, with this code.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
    /// It ended, and somebody else in the host took its status (a `waitpid(-1)`).
    Unknown,
    /// The process that looked after it ended, and it with it.
    GuardianLost,
}

impl Exit {
    /// Whether it ended by itself with code 0.
    pub fn success(self) -> bool {
        self == Exit::Code(0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exited with code {code}"),
            Exit::Signal(number) => match nix::sys::signal::Signal::try_from(*number) {
                Ok(signal) => write!(f, "was ended by {signal}"),
                Err(_) => write!(f, "was ended by signal {number}"),
            },
            Exit::Unknown => f.write_str("ended, and its status was taken by somebody else"),
            Exit::GuardianLost => f.write_str("ended with the zygote that it came from"),
        }
    }
}

/// Why this library ended a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kill {
    /// Its pool destroyed it, for this reason.
    Destroyed(poolyard_core::Reason),
    /// Its handle was dropped.
    Dropped,
    /// It was not ready in time.
    NotReady,
    /// It exceeded its hard memory limit.
    Memory,
    /// It did not end in time after it was asked to.
    Stuck,
}

impl fmt::Display for Kill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kill::Destroyed(reason) => write!(f, "destroyed by its pool ({reason})"),
            Kill::Dropped => f.write_str("its handle was dropped"),
            Kill::NotReady => f.write_str("it was not ready in time"),
            Kill::Memory => f.write_str("it exceeded its hard memory limit"),
            Kill::Stuck => f.write_str("it did not end when asked to"),
        }
    }
}

/// How a worker ended, and why if it was this library's doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Death {
    /// How it ended.
    pub exit: Exit,
    /// Why this library ended it; `None` = it ended for reasons of its own.
    pub kill: Option<Kill>,
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kill {
            Some(kill) => write!(f, "was killed: {kill}"),
            None => self.exit.fmt(f),
        }
    }
}
