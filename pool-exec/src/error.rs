//! [`ExecError`]: where running a command failed, of what kind, and what to do.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use crate::limit::Limit;
use crate::support::Feature;

/// A command could not be run, or its end could not be learned.
///
/// A program that fails, is killed or exceeds a limit is not an error: that is an
/// [`Outcome`](crate::Outcome).
#[derive(Debug)]
pub struct ExecError {
    stage: Stage,
    kind: ErrorKind,
    /// One sentence, ends with what to do.
    message: Cow<'static, str>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// How far a command came.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Stage {
    /// The command was looked at; nothing has happened yet.
    Check,
    /// Limits, mounts and pipes were made ready.
    Prepare,
    /// Files were copied in.
    CopyIn,
    /// The program was about to start.
    Start,
    /// The program ran.
    Run,
    /// Its end was awaited, or its usage read.
    Wait,
    /// Files were copied out.
    CopyOut,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Check => "check",
            Stage::Prepare => "prepare",
            Stage::CopyIn => "copy in",
            Stage::Start => "start",
            Stage::Run => "run",
            Stage::Wait => "wait",
            Stage::CopyOut => "copy out",
        })
    }
}

/// What kind of failure it is, to branch on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A field of the command can never be right. Trying again cannot help.
    InvalidCommand {
        /// The field of [`Command`](crate::Command), for example `argv` or `limits.memory`.
        field: &'static str,
    },
    /// The executor cannot enforce this limit as asked.
    UnsupportedLimit(Limit),
    /// The executor does not have this feature.
    UnsupportedFeature(Feature),
    /// There is no such program inside.
    ProgramNotFound,
    /// There is such a file, but it cannot be executed: a directory, no permission, no known format, a missing
    /// interpreter.
    NotExecutable,
    /// The working directory is missing or not a directory.
    NoWorkingDirectory,
    /// A file could not be put in place: a directory in its way, no permission, no space.
    CopyInFailed,
    /// The command is at its end; there is nothing left to signal or to wait for.
    Ended,
    /// The executor runs something else and takes one command at a time. Trying again later can help.
    Busy,
    /// The resource is dead or cannot be trusted any more. Discard it and take another.
    ResourceGone,
    /// A system call or an engine failed in a way that is not the command's fault.
    Internal,
}

impl ExecError {
    /// An error whose message is one lower-case sentence without a final stop that says what to do.
    pub fn new(stage: Stage, kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { stage, kind, message: message.into(), source: None }
    }

    /// A field of the command is wrong.
    pub(crate) fn invalid(field: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Stage::Check, ErrorKind::InvalidCommand { field }, message)
    }

    /// Adds the error that caused this one.
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// How far the command came.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// What to branch on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the executor can go on to run other commands. If not, discard the lease.
    pub fn leaves_usable(&self) -> bool {
        !matches!(self.kind, ErrorKind::ResourceGone | ErrorKind::Internal)
    }
}

impl fmt::Display for ExecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ErrorKind::InvalidCommand { field } => write!(f, "{}: {field}: {}", self.stage, self.message),
            _ => write!(f, "{}: {}", self.stage, self.message),
        }
    }
}

impl Error for ExecError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_stage_and_field_and_leaves_the_source_to_the_chain() {
        let error = ExecError::invalid("cwd", "is relative; give an absolute path")
            .with_source(std::io::Error::other("the cause"));
        assert_eq!(error.to_string(), "check: cwd: is relative; give an absolute path");
        assert_eq!(error.source().unwrap().to_string(), "the cause");
    }

    #[test]
    fn only_a_broken_resource_is_unusable() {
        let kind = |kind| ExecError::new(Stage::Run, kind, "").leaves_usable();
        assert!(kind(ErrorKind::ProgramNotFound));
        assert!(kind(ErrorKind::InvalidCommand { field: "argv" }));
        assert!(!kind(ErrorKind::ResourceGone));
        assert!(!kind(ErrorKind::Internal));
    }
}
