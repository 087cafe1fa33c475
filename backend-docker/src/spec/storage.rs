//! [`Mount`] and [`Tmpfs`].

/// Something of the host, or a volume, at a path in the container.
///
/// A writable mount is not cleaned between two users: with [`Reset::Wipe`](crate::Reset::Wipe) a
/// container in which one has changed is thrown away, unless its path is
/// [wiped](crate::ContainerSpec::wipe).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mount {
    pub(crate) source: Source,
    pub(crate) target: String,
    pub(crate) read_only: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    Bind(String),
    Volume(String),
    Anonymous,
}

impl Mount {
    /// A directory or file of the engine's machine, read-only.
    pub fn bind(source: impl Into<String>, target: impl Into<String>) -> Self {
        Self { source: Source::Bind(source.into()), target: target.into(), read_only: true }
    }

    /// A volume by name; made if it does not exist, and then removed with its owner.
    pub fn volume(name: impl Into<String>, target: impl Into<String>) -> Self {
        Self { source: Source::Volume(name.into()), target: target.into(), read_only: false }
    }

    /// A fresh volume that goes with the container.
    pub fn anonymous(target: impl Into<String>) -> Self {
        Self { source: Source::Anonymous, target: target.into(), read_only: false }
    }

    /// Lets programs write to it.
    pub fn writable(mut self) -> Self {
        self.read_only = false;
        self
    }

    /// Keeps programs from writing to it.
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }
}

/// A file system in memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tmpfs {
    pub(crate) path: String,
    pub(crate) size: u64,
    pub(crate) mode: u32,
    pub(crate) exec: bool,
}

impl Tmpfs {
    /// At most `size` bytes at `path`, writable for all as `/tmp` is; programs on it can be executed.
    pub fn new(path: impl Into<String>, size: u64) -> Self {
        Self { path: path.into(), size, mode: 0o1777, exec: true }
    }

    /// Other permission bits.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// Programs on it cannot be executed.
    pub fn no_exec(mut self) -> Self {
        self.exec = false;
        self
    }

    pub(crate) fn options(&self) -> String {
        let exec = if self.exec { "exec" } else { "noexec" };
        format!("rw,nosuid,nodev,{exec},size={},mode={:o}", self.size, self.mode)
    }
}
