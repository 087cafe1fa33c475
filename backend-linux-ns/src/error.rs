//! [`Error`]: which step failed, of what kind, why, and what to do.

use std::borrow::Cow;
use std::fmt;
use std::io;

use poolyard_exec::ExecError;

pub use crate::protocol::Stage;

/// A sandbox could not be made, cleaned or used.
#[derive(Debug)]
pub struct Error {
    stage: Stage,
    kind: ErrorKind,
    /// What it was about, and what to do; may be empty.
    detail: Cow<'static, str>,
    source: Option<io::Error>,
}

/// What kind of failure it is, to branch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The specification can never be right. Trying again cannot help.
    InvalidSpec,
    /// This system lacks something that the specification requires, or forbids it.
    Unsupported,
    /// The sandbox, or the process that makes sandboxes, is gone.
    Gone,
    /// A system call failed in another way.
    System,
}

impl Error {
    pub(crate) fn new(stage: Stage, kind: ErrorKind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { stage, kind, detail: detail.into(), source: None }
    }

    pub(crate) fn system(stage: Stage, source: io::Error) -> Self {
        let kind = kind_of(stage, &source);
        Self { stage, kind, detail: hint(stage, &source).into(), source: Some(source) }
    }

    pub(crate) fn gone(what: &'static str) -> Self {
        Self::new(Stage::Protocol, ErrorKind::Gone, what)
    }

    /// Says what it was about.
    pub(crate) fn about(mut self, what: impl fmt::Display) -> Self {
        self.detail = match self.detail.is_empty() {
            true => what.to_string().into(),
            false => format!("{what}; {}", self.detail).into(),
        };
        self
    }

    /// The step that failed.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// What to branch on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

/// What the system says it lacks, or forbids, is not a failure of the moment.
fn kind_of(stage: Stage, source: &io::Error) -> ErrorKind {
    match (stage, source.raw_os_error()) {
        (Stage::OpenBase, Some(libc::EPERM)) => ErrorKind::Unsupported,
        (Stage::OpenBase, _) | (Stage::Cgroup, Some(libc::EINVAL | libc::ERANGE)) => ErrorKind::InvalidSpec,
        (_, Some(libc::EPERM | libc::EACCES | libc::ENOSYS | libc::EOPNOTSUPP)) => ErrorKind::Unsupported,
        (Stage::CloneKeeper, Some(libc::ENOSPC | libc::EUSERS)) => ErrorKind::Unsupported,
        (Stage::Clocks, Some(libc::EINVAL)) => ErrorKind::Unsupported,
        _ => ErrorKind::System,
    }
}

/// What to do about the failures that people meet.
fn hint(stage: Stage, source: &io::Error) -> &'static str {
    match (stage, source.raw_os_error()) {
        (Stage::CloneKeeper, Some(libc::EPERM)) => {
            "namespaces are forbidden here; allow user namespaces (kernel.unprivileged_userns_clone=1, \
             kernel.apparmor_restrict_unprivileged_userns=0), or a seccomp profile that permits them, or \
             run as root"
        }
        (Stage::CloneKeeper, Some(libc::ENOSPC)) => "raise user.max_user_namespaces or its siblings",
        (Stage::MapIds, _) => {
            "check /etc/subuid and /etc/subgid, and that newuidmap and newgidmap are set-id"
        }
        (Stage::Landlock, Some(libc::ENOENT)) => {
            "each path that Landlock allows must be there in the sandbox"
        }
        (Stage::RootLayer, Some(libc::EINVAL)) => {
            "the base lies on two overlays already; name one that does not"
        }
        (Stage::Clocks, Some(libc::EINVAL)) => {
            "this kernel has no time namespaces; it needs 5.6 or newer with CONFIG_TIME_NS"
        }
        (Stage::OpenBase, Some(libc::EPERM)) => {
            "this process may not mount; give its container CAP_SYS_ADMIN, or do not run it as root"
        }
        (Stage::OpenBase, Some(libc::EACCES)) => "every directory on the way must be open to this user",
        (Stage::OpenBase, Some(libc::EINVAL)) => "the directory has mounts below it; name one without",
        (Stage::MountProc, Some(libc::EPERM)) => {
            "the surrounding container masks /proc; give it an unmasked one"
        }
        (Stage::MountBase | Stage::MountRoot, Some(libc::EPERM)) => {
            "this kernel does not mount overlayfs in a user namespace; it needs 5.11 or newer"
        }
        (Stage::Cgroup, Some(libc::EINVAL | libc::ERANGE | libc::ENOSPC | libc::EACCES)) => {
            "this system cannot enforce one of the limits; processors must exist and be allowed to this process"
        }
        (Stage::MountBase | Stage::MountRoot, Some(libc::ENODEV)) => "load the kernel module `overlay`",
        _ => "",
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed", self.stage.as_str())?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

impl From<Error> for ExecError {
    fn from(error: Error) -> Self {
        use poolyard_exec::{ErrorKind as Kind, Stage as At};
        let os = error.source.as_ref().and_then(io::Error::raw_os_error);
        let (stage, kind, message) = match (error.stage, os) {
            (Stage::Execute, Some(libc::ENOENT | libc::ENOTDIR)) => (
                At::Start,
                Kind::ProgramNotFound,
                "there is no such program inside; check its name, PATH, and that its interpreter and libraries \
                 are there too",
            ),
            (Stage::Execute, Some(libc::E2BIG)) => (
                At::Start,
                Kind::InvalidCommand { field: "argv" },
                "is too long for the kernel; pass the rest by stdin or in a file",
            ),
            (Stage::Execute, Some(libc::EACCES | libc::EISDIR | libc::ENOEXEC | libc::EPERM)) => (
                At::Start,
                Kind::NotExecutable,
                "the file is there but cannot be executed; check its mode and format",
            ),
            (Stage::WorkingDirectory, _) => (
                At::Start,
                Kind::NoWorkingDirectory,
                "the working directory is missing or closed; make it with a file in it, or name another",
            ),
            (Stage::Files, _) => (At::CopyIn, Kind::CopyInFailed, ""),
            (Stage::Protocol, _) => (At::Run, Kind::ResourceGone, ""),
            _ => (At::Prepare, Kind::Internal, ""),
        };
        let message: Cow<'static, str> = match message {
            "" => error.to_string().into(),
            message => message.into(),
        };
        ExecError::new(stage, kind, message).with_source(error)
    }
}
