//! [`Attrs`]: what a worker process is given besides its program.

use std::time::Duration;

/// The attributes that a worker process starts with. All workers of one key have the same.
///
/// They are set between the birth of the process and its first instruction, by code that costs the
/// same whatever the host's memory is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attrs {
    pub(crate) grouping: Grouping,
    pub(crate) nice: Option<i32>,
    pub(crate) rlimits: Vec<(Limit, u64, u64)>,
    pub(crate) cpus: Vec<usize>,
    pub(crate) umask: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) groups: Option<Vec<u32>>,
    pub(crate) no_new_privs: bool,
    /// The zygote ends by itself when the host is gone, after it has ended all others.
    pub(crate) outlives_parent: bool,
}

impl Default for Attrs {
    fn default() -> Self {
        Self {
            grouping: Grouping::Session,
            nice: None,
            rlimits: Vec::new(),
            cpus: Vec::new(),
            umask: None,
            uid: None,
            gid: None,
            groups: None,
            no_new_privs: false,
            outlives_parent: false,
        }
    }
}

impl Attrs {
    /// A session of its own, and everything else as the host has it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the worker leads a session or a process group of its own. Default: a session, so that
    /// the terminal's signals do not reach it.
    pub fn grouping(mut self, grouping: Grouping) -> Self {
        self.grouping = grouping;
        self
    }

    /// The scheduling priority, from -20 (most) to 19 (least).
    pub fn nice(mut self, nice: i32) -> Self {
        self.nice = Some(nice);
        self
    }

    /// Limits a resource, soft and hard alike.
    pub fn rlimit(self, limit: Limit, value: u64) -> Self {
        self.rlimits(limit, value, value)
    }

    /// Limits a resource with a soft value that the worker may raise up to the hard one.
    pub fn rlimits(mut self, limit: Limit, soft: u64, hard: u64) -> Self {
        self.rlimits.retain(|(known, ..)| *known != limit);
        self.rlimits.push((limit, soft, hard));
        self
    }

    /// The processors it may run on. None = all that the host may use.
    pub fn cpus(mut self, cpus: impl IntoIterator<Item = usize>) -> Self {
        self.cpus = cpus.into_iter().collect();
        self
    }

    /// The file mode creation mask.
    pub fn umask(mut self, umask: u32) -> Self {
        self.umask = Some(umask);
        self
    }

    /// The user it becomes. Needs the privilege to. Drops all supplementary groups unless
    /// [`groups`](Attrs::groups) names some.
    pub fn uid(mut self, uid: u32) -> Self {
        self.uid = Some(uid);
        self
    }

    /// The group it becomes. Needs the privilege to.
    pub fn gid(mut self, gid: u32) -> Self {
        self.gid = Some(gid);
        self
    }

    /// Its supplementary groups. Needs the privilege to set them.
    pub fn groups(mut self, groups: impl IntoIterator<Item = u32>) -> Self {
        self.groups = Some(groups.into_iter().collect());
        self
    }

    /// It can never gain privileges, through no set-user-id program.
    pub fn no_new_privs(mut self) -> Self {
        self.no_new_privs = true;
        self
    }

    /// Limits its processor time; the kernel kills it beyond.
    pub fn cpu_time(self, time: Duration) -> Self {
        self.rlimit(Limit::CpuSeconds, time.as_secs().max(1))
    }
}

/// How a worker stands to the host's terminal and signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Grouping {
    /// It leads a new session.
    Session,
    /// It leads a new process group in the host's session.
    ProcessGroup,
}

/// A resource that can be limited for a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// Bytes of address space.
    AddressSpace,
    /// Bytes of a core dump.
    CoreSize,
    /// Seconds of processor time.
    CpuSeconds,
    /// Bytes of data segment.
    DataSize,
    /// Bytes of the largest file it may write.
    FileSize,
    /// Bytes of locked memory.
    LockedMemory,
    /// One more than the largest descriptor number.
    OpenFiles,
    /// Processes of its user.
    Processes,
    /// Bytes of stack.
    StackSize,
}

impl Limit {
    pub(crate) const ALL: [Limit; 9] = [
        Limit::AddressSpace,
        Limit::CoreSize,
        Limit::CpuSeconds,
        Limit::DataSize,
        Limit::FileSize,
        Limit::LockedMemory,
        Limit::OpenFiles,
        Limit::Processes,
        Limit::StackSize,
    ];

    pub(crate) fn number(self) -> u32 {
        match self {
            Limit::AddressSpace => libc::RLIMIT_AS,
            Limit::CoreSize => libc::RLIMIT_CORE,
            Limit::CpuSeconds => libc::RLIMIT_CPU,
            Limit::DataSize => libc::RLIMIT_DATA,
            Limit::FileSize => libc::RLIMIT_FSIZE,
            Limit::LockedMemory => libc::RLIMIT_MEMLOCK,
            Limit::OpenFiles => libc::RLIMIT_NOFILE,
            Limit::Processes => libc::RLIMIT_NPROC,
            Limit::StackSize => libc::RLIMIT_STACK,
        }
    }
}
