//! The control protocol. One source, compiled into the library and into the embedded program.
//!
//! # Parties
//!
//! ```text
//! host library                                    any number of threads, never forked
//!  └ launcher        one per LinuxNs              outside all namespaces, privileges of the host
//!     └ keeper       one per sandbox              pid 1 of the outer pid namespace; owns the mount
//!        │                                        skeleton, the network and the user namespace
//!        └ init      one per lease                pid 1 of fresh pid, mount, ipc, uts namespaces
//!           └ runner one per command              waits armed, then becomes the command by execve
//! ```
//!
//! The host talks to each of them over a unix seqpacket socket of its own; one datagram is one
//! frame of `poolyard_guest::frame`. Both sides come from one build, so there are no versions to
//! negotiate: the launcher's first message names the build, and a stranger is refused. The guest's
//! side of the decoding is `decode.rs`. Whoever sends nonsense is not answered: the socket closes.
//! Every party may die or stop at every message; the tests do that to each of them, in the order of
//! [`Kind::ALL`].
//!
//! # Messages
//!
//! | kind | from, to | body; descriptors |
//! |---|---|---|
//! | `Hello` | launcher, host | build id (bytes), the version of Landlock or a negative error number (i32) |
//! | `Create` | host, launcher | the sandbox's plan, see `CreateFlags`; keeper's socket |
//! | `Created` | launcher, host, on the keeper's socket | pid (u32) of the keeper; its pidfd |
//! | `Ready` | keeper, host | |
//! | `Arm` | host, keeper | ; init's socket, runner's socket, files by which to enter the cgroups |
//! | `Armed` | runner, host | how it came into its cgroups, see `way_in` (u32); init's pidfd |
//! | `Exec` | host, runner | the command, see below; a memory file if the words are large, mapped descriptors |
//! | `Spawn` | host, init | index (u32); runner's socket, files by which to enter the cgroups |
//! | `Signal` | host, init | index (u32), signal (u32) |
//! | `Open` | host, init | area (u8), how (u8), mode (u32), path (cstr) |
//! | `Opened` | init, host | ; the file |
//! | `Exited` | init, host | seq is the index; index (u32), wait status (i32), rusage (18 numbers of 64 bits) |
//! | `Failed` | any, host | stage (u32), errno (u32), index (u32) |
//!
//! `Arm` has no answer of the keeper: the new runner's `Armed` is the answer, and it says that the
//! whole chain works. If the chain breaks before, the runner's socket closes and the reason lies in
//! the init's or the keeper's socket. `Exec` has no answer either: an `execve` that succeeds closes
//! the runner's socket, one that fails leaves a `Failed` in it; in both cases `Exited` follows from
//! the init. So a run is one message to the runner and one from the init.
//!
//! Ends need no messages: a closed socket ends the launcher or the keeper, the death of a pid 1
//! ends its namespace, and the host can kill each of them by pidfd.
//!
//! # What the classic container pools have and this one does not need
//!
//! | message there | why not here |
//! |---|---|
//! | ping | `Armed` after every recycle proves the whole chain; between two of them the pidfds tell |
//! | configuration | `Create` carries it all; a keeper is never configured twice |
//! | pid reply, acknowledgement ("may run") | the runner is in its cgroups before it is armed, by birth or by its own doing |
//! | delete, reset | a lease's files die with its mount namespace |
//! | kill all, collect zombies | the init does both after the last command; for a lease, its own death does |
//! | finish | closing the socket, or killing the keeper |
//! | symlink | commands can make links; the host makes none, so none can be abused |

/// Which message a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    Hello = 1,
    Create = 2,
    Created = 3,
    Ready = 4,
    Arm = 5,
    Armed = 6,
    Exec = 7,
    Spawn = 8,
    Signal = 9,
    Open = 10,
    Opened = 11,
    Exited = 12,
    Failed = 13,
}

impl Kind {
    /// Every kind, in the order of the numbers.
    pub const ALL: [Self; 13] = [
        Self::Hello,
        Self::Create,
        Self::Created,
        Self::Ready,
        Self::Arm,
        Self::Armed,
        Self::Exec,
        Self::Spawn,
        Self::Signal,
        Self::Open,
        Self::Opened,
        Self::Exited,
        Self::Failed,
    ];

    /// The kind with this number.
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|&kind| kind as u16 == number)
    }
}

macro_rules! stages {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal,)*) => {
        /// The step at which something failed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Stage {
            $(#[doc = $text] $name,)*
        }

        impl Stage {
            /// Every stage, in the order of their numbers in the protocol.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// What was being done.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

stages! {
    Spec = "checking the sandbox's specification",
    StartLauncher = "starting the launcher",
    Protocol = "talking to the sandbox",
    Cgroup = "preparing a cgroup",
    CloneKeeper = "making the sandbox's namespaces",
    MapIds = "mapping user and group ids",
    BecomeRoot = "taking the sandbox's identity",
    PrivateMounts = "making the mounts private",
    OpenBase = "opening a base directory",
    Scratch = "mounting the scratch file system",
    Populate = "filling the root directory",
    MountRoot = "mounting the root",
    MountBase = "mounting a base directory",
    MountDev = "mounting /dev",
    MountProc = "mounting /proc",
    PivotRoot = "changing into the new root",
    ForbidNesting = "forbidding nested user namespaces",
    HostName = "setting the host name",
    LockDown = "dropping privileges",
    Filter = "installing the system-call filter",
    CloneInit = "making a lease's namespaces",
    RootLayer = "mounting a writable layer over the root",
    Landlock = "installing the rules of Landlock",
    Clocks = "making a lease's clocks",
    MountWritable = "mounting the writable directories",
    Loopback = "bringing the loopback interface up",
    CloneRunner = "forking a runner",
    AttachCgroup = "entering the cgroup",
    CgroupNamespace = "making the cgroup namespace",
    MapFds = "mapping file descriptors",
    Terminal = "taking the controlling terminal",
    Affinity = "binding to processors",
    ResourceLimit = "setting a resource limit",
    WorkingDirectory = "changing into the working directory",
    Execute = "executing the program",
    Files = "opening a file of the sandbox",
    Command = "checking the command",
    Run = "watching the command",
}

impl Stage {
    /// The stage with this number.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.get(number as usize).copied()
    }
}

/// `Create`: how ids are mapped into the sandbox's user namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum MapMode {
    /// The launcher maps a block of ids; it needs root.
    Block = 0,
    /// `newuidmap` and `newgidmap` map the caller and its subordinate ids.
    Tools = 1,
    /// Only the caller's own ids are mapped.
    Single = 2,
}

/// `Create`: what a sandbox sees of the network.
pub mod network {
    pub const OFF: u8 = 0;
    pub const LOOPBACK: u8 = 1;
    pub const HOST: u8 = 2;
}

/// `Create`: how much of /proc is there.
pub mod proc_view {
    pub const MASKED: u8 = 0;
    pub const MINIMAL: u8 = 1;
}

/// `Create`: bits of the frame's flags.
pub mod create {
    /// Background processes of a command are left running when it ends.
    pub const KEEP_BACKGROUND: u16 = 1;
    /// Each lease gets a layer over the root that it can write to.
    pub const WRITABLE_ROOT: u16 = 2;
}

/// `Armed`: how a runner came into its cgroups.
pub mod way_in {
    /// It wrote 0 into the files.
    pub const ENTERED: u32 = 0;
    pub const BORN: u32 = 1;
    /// As `ENTERED`, since the cgroup had as many processes as it may. The kernel has counted a refused fork.
    pub const ENTERED_FULL: u32 = 2;
}

/// `Create`: kinds of Landlock's rules.
pub mod landlock {
    /// access (u64), path (cstr)
    pub const PATH: u8 = 0;
    /// access (u64), port (u16)
    pub const PORT: u8 = 1;
}

/// `Create`: the parts a root is assembled from. Each is a number (u8) and two texts: where, what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Part {
    /// A directory.
    Dir = 0,
    /// A symbolic link; what: its text.
    Link = 1,
    /// A file; what: its text.
    Text = 2,
    /// A copy of a file of the host; what: its path there.
    Copy = 3,
    /// A read-only view of a directory of the host; what: its path there.
    Tree = 4,
    /// Like `Tree`, as the root itself.
    Root = 5,
}

impl Part {
    /// The part with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Dir, Self::Link, Self::Text, Self::Copy, Self::Tree, Self::Root].into_iter().nth(number.into())
    }
}

/// Parts of one root at most.
pub const MAX_PARTS: usize = 64;

/// `Exec`: bits of the frame's flags.
pub mod exec {
    /// Descriptor 0 is a terminal and becomes the controlling one.
    pub const TERMINAL: u16 = 1;
}

/// `Open`: which directory a path starts in, and what to do there.
pub mod open {
    pub const WORK: u8 = 0;
    pub const TMP: u8 = 1;

    pub const READ: u8 = 0;
    /// Create or truncate, with missing parent directories.
    pub const WRITE: u8 = 1;
    /// Make a directory and its missing parents.
    pub const DIRECTORY: u8 = 2;
    /// Make a terminal; the path is ignored.
    pub const TERMINAL: u8 = 3;
}

/// The largest frame. What does not fit goes through a memory file.
pub const MAX_FRAME: usize = 64 * 1024;

/// Commands at most that run in one lease at the same time.
pub const MAX_RUNNERS: usize = 64;
