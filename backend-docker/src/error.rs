//! [`Error`]: at which stage something failed, what kind of failure it was, and what to do.

use std::fmt;
use std::time::Duration;

/// A failed operation on a container or its engine.
///
/// Branch on [`kind`](Error::kind); the message is for people and says what to do next.
#[derive(Debug)]
pub struct Error {
    stage: Stage,
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What was being done when an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// Reaching the engine.
    Connect,
    /// Reading the specification.
    Spec,
    /// Finding, pulling or loading an image.
    Image,
    /// Making a network or a volume.
    Resources,
    /// Creating the container.
    Create,
    /// Starting the container.
    Start,
    /// The first words with the resident agent.
    Agent,
    /// Waiting for the container to be ready.
    Ready,
    /// Running a command.
    Exec,
    /// Moving files in or out.
    Files,
    /// Reading resource usage.
    Stats,
    /// Cleaning the container between two users.
    Reset,
    /// Proving that it is clean.
    Verify,
    /// Pausing or resuming.
    Pause,
    /// Inspecting, listing, following events.
    Inspect,
    /// Removing the container or what belongs to it.
    Remove,
}

impl Stage {
    /// A stable name in snake case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Stage::Connect => "connect",
            Stage::Spec => "spec",
            Stage::Image => "image",
            Stage::Resources => "resources",
            Stage::Create => "create",
            Stage::Start => "start",
            Stage::Agent => "agent",
            Stage::Ready => "ready",
            Stage::Exec => "exec",
            Stage::Files => "files",
            Stage::Stats => "stats",
            Stage::Reset => "reset",
            Stage::Verify => "verify",
            Stage::Pause => "pause",
            Stage::Inspect => "inspect",
            Stage::Remove => "remove",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What kind of failure it was.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The engine could not be reached, or hung up.
    Unreachable,
    /// No answer within the deadline of the call.
    Timeout(Duration),
    /// The image does not exist here and could not be pulled.
    ImageMissing,
    /// The container (or its network, or its volume) does not exist any more.
    Missing,
    /// The name is taken, or the container's state does not allow the operation.
    Conflict,
    /// A host port is already in use.
    PortTaken,
    /// The engine's machine has no disk, memory or process slots left.
    Capacity,
    /// The specification cannot work; trying again will not help.
    BadSpec,
    /// The container died.
    Crashed(Crash),
    /// The container runs but did not become ready in time.
    NotReady,
    /// The reset left traces of the last user; the text says which.
    Dirty,
    /// The program could not be started: the error number of the failed system call.
    Spawn(i32),
    /// A file operation failed inside the container, with this error number.
    File(i32),
    /// The engine or the container cannot do this.
    Unsupported,
    /// The agent and this library do not understand each other.
    Protocol,
    /// Any other answer of the engine.
    Engine(u16),
}

/// How a container died.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Crash {
    /// Exit code of its main program, as far as known.
    pub exit_code: Option<i64>,
    /// Whether the kernel killed something in it for want of memory.
    pub oom: bool,
    /// The last lines it wrote, oldest first.
    pub last_lines: Vec<String>,
}

impl Error {
    pub(crate) fn new(stage: Stage, kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { stage, kind, message: message.into(), source: None }
    }

    pub(crate) fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    pub(crate) fn at(mut self, stage: Stage) -> Self {
        self.stage = stage;
        self
    }

    pub(crate) fn crashed(stage: Stage, crash: Crash) -> Self {
        let message = "the container died; its last lines say why";
        Self::new(stage, ErrorKind::Crashed(crash), message)
    }

    pub(crate) fn timeout(stage: Stage, limit: Duration) -> Self {
        let message = "the engine did not answer in time; is it overloaded or frozen?";
        Self::new(stage, ErrorKind::Timeout(limit), message)
    }

    /// What was being done.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// What kind of failure it was.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// How the container died, where that was the failure.
    pub fn crash(&self) -> Option<&Crash> {
        match &self.kind {
            ErrorKind::Crashed(crash) => Some(crash),
            _ => None,
        }
    }

    /// Whether the same call may succeed later without any change.
    pub fn is_transient(&self) -> bool {
        matches!(
            self.kind,
            ErrorKind::Unreachable | ErrorKind::Timeout(_) | ErrorKind::PortTaken | ErrorKind::Capacity
        )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.stage, self.kind, self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ErrorKind::Unreachable => f.write_str("engine unreachable"),
            ErrorKind::Timeout(limit) => write!(f, "no answer within {limit:?}"),
            ErrorKind::ImageMissing => f.write_str("no such image"),
            ErrorKind::Missing => f.write_str("does not exist"),
            ErrorKind::Conflict => f.write_str("conflict"),
            ErrorKind::PortTaken => f.write_str("port taken"),
            ErrorKind::Capacity => f.write_str("engine out of resources"),
            ErrorKind::BadSpec => f.write_str("bad specification"),
            ErrorKind::Crashed(crash) => crash.fmt(f),
            ErrorKind::NotReady => f.write_str("not ready"),
            ErrorKind::Dirty => f.write_str("not clean"),
            ErrorKind::Spawn(errno) | ErrorKind::File(errno) => {
                std::io::Error::from_raw_os_error(*errno).fmt(f)
            }
            ErrorKind::Unsupported => f.write_str("not supported"),
            ErrorKind::Protocol => f.write_str("protocol error"),
            ErrorKind::Engine(status) => write!(f, "engine answered {status}"),
        }
    }
}

impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.exit_code {
            Some(code) => write!(f, "exited with {code}")?,
            None => f.write_str("exited")?,
        }
        if self.oom {
            f.write_str(" (out of memory)")?;
        }
        if !self.last_lines.is_empty() {
            write!(f, "; last lines:\n{}\n", self.last_lines.join("\n"))?;
        }
        Ok(())
    }
}
