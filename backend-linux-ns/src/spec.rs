//! [`SandboxSpec`]: what a sandbox is made from. It is the key of a pool.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use poolyard_exec::{Limits, Network, Profile};

use crate::landlock::Landlock;
use crate::seccomp::Filter;

/// What a sandbox is made from: its root, its network, its size. Two equal specifications share sandboxes.
///
/// Cheap to clone; it is meant to be kept and used as the key of every acquire.
///
/// ```
/// use poolyard_exec::{Limits, Network};
/// use poolyard_linux_ns::SandboxSpec;
///
/// let spec = SandboxSpec::builder()
///     .network(Network::Loopback)
///     .limits(Limits::new().memory(256 << 20).processes(64).disk_bytes(64 << 20))
///     .build();
/// assert_eq!(spec, spec.clone());
/// ```
#[derive(Clone)]
pub struct SandboxSpec {
    inner: Arc<Inner>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Inner {
    pub(crate) base: Base,
    pub(crate) trees: Vec<(String, PathBuf)>,
    pub(crate) hostname: String,
    pub(crate) proc_view: ProcView,
    pub(crate) filter: Filter,
    pub(crate) landlock: Landlock,
    pub(crate) writable_root: bool,
    pub(crate) background: Background,
    pub(crate) reuse: ReusePolicy,
    pub(crate) canary: Option<Canary>,
    pub(crate) limits: Limits,
}

/// What the root of a sandbox shows. What is shown is never changed, not even under a
/// [writable root](SandboxSpecBuilder::writable_root).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Base {
    /// The host's programs and libraries: /usr and what belongs to it, and the few files of /etc that
    /// programs need to start. Nothing of /home, /root, /var, and no accounts.
    #[default]
    HostSystem,
    /// A directory with a whole system in it, for example an unpacked image.
    Directory(PathBuf),
}

/// How much of /proc a command sees. Always of its own processes only, and always read-only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ProcView {
    /// All but the files that tell about the host's kernel or other users.
    #[default]
    Masked,
    /// Only the directories of processes. Some programs miss /proc/meminfo or /proc/cpuinfo.
    Minimal,
}

/// What happens to processes that a command leaves behind. They never outlive the lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Background {
    /// They are killed before the command's outcome is known.
    #[default]
    Kill,
    /// They go on, for the next commands of the lease.
    Keep,
}

/// Whether a sandbox serves several leases. Between two of them nothing survives but the empty skeleton.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReusePolicy {
    /// It does, after a recycle, until one of the bounds is reached.
    Reuse {
        /// Leases at most.
        max_uses: Option<u64>,
        /// Age at most.
        max_age: Option<Duration>,
    },
    /// One lease, then it is destroyed: the pool hides only the cost of making it.
    Pristine,
}

impl Default for ReusePolicy {
    fn default() -> Self {
        Self::Reuse { max_uses: None, max_age: None }
    }
}

/// A command that a healthy sandbox ends with 0 in time. It runs at every health check.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Canary {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// How long it may take.
    pub deadline: Duration,
}

/// Sizes where a specification says none.
pub(crate) const DEFAULT_DISK_BYTES: u64 = 64 << 20;
pub(crate) const DEFAULT_DISK_INODES: u64 = 16 << 10;

impl SandboxSpec {
    /// Starts from the defaults: the host's system, no network, 64 MiB and 16384 files to write.
    pub fn builder() -> SandboxSpecBuilder {
        SandboxSpecBuilder {
            inner: Inner {
                base: Base::default(),
                trees: Vec::new(),
                hostname: "sandbox".into(),
                proc_view: ProcView::default(),
                filter: Filter::default(),
                landlock: Landlock::default(),
                writable_root: false,
                background: Background::default(),
                reuse: ReusePolicy::default(),
                canary: None,
                limits: Limits::new().network(Network::Off),
            },
        }
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// The root.
    pub fn base(&self) -> &Base {
        &self.inner.base
    }

    /// The limits that every command is under, and those that the sandbox is made with.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }
}

impl Inner {
    pub(crate) fn network(&self) -> Network {
        self.limits.network.unwrap_or_default()
    }

    pub(crate) fn disk_bytes(&self) -> u64 {
        self.limits.disk_bytes.unwrap_or(DEFAULT_DISK_BYTES)
    }

    pub(crate) fn disk_inodes(&self) -> u64 {
        self.limits.disk_inodes.unwrap_or(DEFAULT_DISK_INODES)
    }

    /// Controllers that the sandbox's cgroup needs beyond the usual ones.
    pub(crate) fn extra_controllers(&self) -> Vec<&'static str> {
        let bandwidth = self.limits.cpu_bandwidth.map(|_| "cpu");
        let cpus = self.limits.cpu_set.as_ref().map(|_| "cpuset");
        let io = self.limits.io_bandwidth.map(|_| crate::cgroup::IO);
        bandwidth.into_iter().chain(cpus).chain(io).collect()
    }
}

impl Default for SandboxSpec {
    fn default() -> Self {
        Self::builder().build()
    }
}

impl fmt::Debug for SandboxSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl PartialEq for SandboxSpec {
    fn eq(&self, other: &Self) -> bool {
        // Keys of one pool are mostly clones of each other.
        Arc::ptr_eq(&self.inner, &other.inner) || self.inner == other.inner
    }
}

impl Eq for SandboxSpec {}

impl Hash for SandboxSpec {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl From<Profile> for SandboxSpec {
    /// The profile's base directory, or the host's system. An image name alone says nothing here: unpack it
    /// and name the directory.
    fn from(profile: Profile) -> Self {
        let builder = Self::builder().limits(profile.limits);
        match profile.base {
            Some(directory) => builder.root(directory).build(),
            None => builder.build(),
        }
    }
}

/// Builds a [`SandboxSpec`].
#[derive(Debug)]
pub struct SandboxSpecBuilder {
    inner: Inner,
}

impl SandboxSpecBuilder {
    /// The root is this directory, with everything below it that lies on the same mount.
    pub fn root(mut self, directory: impl Into<PathBuf>) -> Self {
        self.inner.base = Base::Directory(directory.into());
        self
    }

    /// Shows the host's directory `source` at `target` (relative to the root, its parent being there), read-only.
    pub fn tree(mut self, target: impl Into<String>, source: impl AsRef<Path>) -> Self {
        self.inner.trees.push((target.into(), source.as_ref().to_owned()));
        self
    }

    /// The reach of the network; off by default.
    pub fn network(mut self, network: Network) -> Self {
        self.inner.limits.network = Some(network);
        self
    }

    /// What the sandbox is made with: disk, network, cpu share, processors and the rate of disks for its whole life,
    /// the rest as defaults and ceilings for each command. The network stays if the new limits do not say.
    pub fn limits(mut self, limits: Limits) -> Self {
        let network = limits.network.or(self.inner.limits.network);
        self.inner.limits = limits;
        self.inner.limits.network = network;
        self
    }

    /// The name that `uname` tells.
    pub fn hostname(mut self, name: impl Into<String>) -> Self {
        self.inner.hostname = name.into();
        self
    }

    /// How much of /proc is there.
    pub fn proc_view(mut self, view: ProcView) -> Self {
        self.inner.proc_view = view;
        self
    }

    /// The system-call filter.
    pub fn filter(mut self, filter: Filter) -> Self {
        self.inner.filter = filter;
        self
    }

    /// What commands may use of the files that are there, of ports and of abstract sockets.
    pub fn landlock(mut self, rules: Landlock) -> Self {
        self.inner.landlock = rules;
        self
    }

    /// Commands can write to the root, too: into a layer of the lease's own, over the base and gone with the lease.
    /// It shares the limits of the disk with /box and /tmp, and costs a recycle a mount for each base directory.
    ///
    /// The directories and files that the sandbox makes, and the tops of base directories, are the command's own. Below
    /// them owners and modes are the base's: commands are not root, and change only what they may. To let them change
    /// all of an unpacked image, `chmod -R a+rwX` it, or own it and use the mode
    /// [`SingleUid`](crate::Mode::SingleUid). What is owned outside by somebody else than root (in mode root), or than
    /// this process's user (in the others), cannot be changed; nor can anything below the tops on file systems
    /// without idmapped mounts (ext4, xfs and btrfs have them, an overlay has not) in mode root.
    pub fn writable_root(mut self) -> Self {
        self.inner.writable_root = true;
        self
    }

    /// What happens to processes that a command leaves behind.
    pub fn background(mut self, background: Background) -> Self {
        self.inner.background = background;
        self
    }

    /// Whether a sandbox serves several leases.
    pub fn reuse(mut self, policy: ReusePolicy) -> Self {
        self.inner.reuse = policy;
        self
    }

    /// A command that health checks run.
    pub fn canary(mut self, canary: Canary) -> Self {
        self.inner.canary = Some(canary);
        self
    }

    /// The specification.
    pub fn build(self) -> SandboxSpec {
        SandboxSpec { inner: Arc::new(self.inner) }
    }
}
