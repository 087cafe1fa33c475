//! [`ContainerSpec`]: what a container is made of. It is the pool's key.

mod body;
mod capability;
mod port;
mod storage;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use port::Port;
pub use storage::{Mount, Tmpfs};

pub(crate) use body::Injection;
pub(crate) use capability::mask;
pub(crate) use storage::Source;

use crate::error::{Error, ErrorKind, Stage};
use crate::exec::OWN_PROCESSES;
use crate::reset::Reset;
use crate::wait::Wait;

/// One mebibyte, for sizes.
pub const MIB: u64 = 1 << 20;

/// What a container is made of, and how it becomes ready and clean again.
///
/// Equal specifications share containers. Two starting points:
///
/// - [`sandbox`](ContainerSpec::sandbox): nothing runs in it but commands; no network, read-only
///   root, `/tmp` and `/box` (where commands start) in memory, no capabilities, no way to gain any;
/// - [`service`](ContainerSpec::service): the image's own program runs in it (a database, a
///   broker); a network of its own, a writable root, and the few capabilities that such images use
///   to change to their user.
///
/// Both: no new privileges, at most 256 processes, no restarts by the engine, published ports on
/// `127.0.0.1` only.
///
/// ```
/// use poolyard_docker::{ContainerSpec, MIB};
///
/// let spec = ContainerSpec::sandbox("python:3.13-slim").memory(256 * MIB).cpus(1.0);
/// assert_eq!(spec, ContainerSpec::sandbox("python:3.13-slim").cpus(1.0).memory(256 * MIB));
/// ```
#[derive(Clone, Debug)]
pub struct ContainerSpec(Arc<Inner>);

/// The fields of a specification. Only this crate can name or read them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Inner {
    pub(crate) image: String,
    pub(crate) pull: Pull,
    pub(crate) platform: String,
    pub(crate) runtime: Option<String>,
    pub(crate) service: bool,
    pub(crate) agent: bool,
    pub(crate) entrypoint: Option<Vec<String>>,
    pub(crate) cmd: Option<Vec<String>>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) work_dir: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) hostname: Option<String>,
    pub(crate) memory: Option<u64>,
    pub(crate) swap: u64,
    pub(crate) nano_cpus: Option<u64>,
    pub(crate) cpu_set: Option<String>,
    pub(crate) pids: u32,
    pub(crate) shm: Option<u64>,
    pub(crate) ulimits: Vec<(String, i64)>,
    pub(crate) capabilities: Vec<String>,
    pub(crate) new_privileges: bool,
    pub(crate) read_only: bool,
    pub(crate) tmpfs: Vec<Tmpfs>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) network: Network,
    pub(crate) ports: Vec<Port>,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) wait: Wait,
    pub(crate) start_timeout: Duration,
    pub(crate) reset: Reset,
    pub(crate) wipe: Vec<String>,
    pub(crate) diff_every: u32,
    pub(crate) health: Option<Vec<String>>,
    pub(crate) command_limits: poolyard_exec::Limits,
}

/// Where an image comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Pull {
    /// From its registry, if the engine does not have it. However many containers are made at
    /// once, it is pulled once.
    #[default]
    IfMissing,
    /// From its registry, before every container.
    Always,
    /// From nowhere: the engine must have it.
    Never,
    /// From an archive (`docker save`) on this machine, if the engine does not have it.
    Load(PathBuf),
    /// From an archive of a root file system (`tar -C root -c .`) on this machine, if the engine does
    /// not have it.
    Import(PathBuf),
}

/// What a container is connected to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Network {
    /// Nothing at all: not even a loopback interface.
    Off,
    /// A loopback interface of its own.
    Loopback,
    /// The engine's default bridge.
    Bridge,
    /// A network of the engine, by name; made if it does not exist, and then removed with its owner.
    Named(String),
    /// The engine's machine itself: no isolation at all.
    Host,
    /// The network of another container, by id or name. Starts twice as fast; the members share
    /// loopback and ports, so never use it across tenants.
    Container(String),
}

impl ContainerSpec {
    /// A container that runs commands and nothing else. See [`ContainerSpec`].
    pub fn sandbox(image: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            image: image.into(),
            pull: Pull::default(),
            platform: String::new(),
            runtime: None,
            service: false,
            agent: true,
            entrypoint: None,
            cmd: None,
            env: Vec::new(),
            work_dir: Some("/box".into()),
            user: None,
            hostname: None,
            memory: None,
            swap: 0,
            nano_cpus: None,
            cpu_set: None,
            pids: 256,
            shm: None,
            ulimits: Vec::new(),
            capabilities: Vec::new(),
            new_privileges: false,
            read_only: true,
            tmpfs: vec![Tmpfs::new("/tmp", 64 * MIB), Tmpfs::new("/box", 256 * MIB)],
            mounts: Vec::new(),
            network: Network::Off,
            ports: Vec::new(),
            labels: Vec::new(),
            wait: Wait::None,
            start_timeout: Duration::from_secs(30),
            reset: Reset::Wipe,
            wipe: Vec::new(),
            diff_every: 16,
            health: None,
            command_limits: poolyard_exec::Limits::new(),
        }))
    }

    /// A container that runs its image's program. See [`ContainerSpec`].
    ///
    /// It is made anew for each user unless [`reset`](ContainerSpec::reset) says how it is cleaned.
    pub fn service(image: impl Into<String>) -> Self {
        let names = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID"];
        Self::sandbox(image).with(|s| {
            s.service = true;
            s.read_only = false;
            s.tmpfs.clear();
            s.work_dir = None;
            s.network = Network::Bridge;
            s.capabilities = names.map(String::from).to_vec();
            s.reset = Reset::Recreate;
            s.diff_every = 0;
        })
    }

    fn with(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// Where the image comes from; by default its registry, if the engine does not have it.
    pub fn pull(self, pull: Pull) -> Self {
        self.with(|s| s.pull = pull)
    }

    /// Which of an image's platforms, `linux/arm64` say.
    pub fn platform(self, platform: impl Into<String>) -> Self {
        self.with(|s| s.platform = platform.into())
    }

    /// Another runtime of the engine: `crun`, `runsc`, `kata`.
    pub fn runtime(self, runtime: impl Into<String>) -> Self {
        self.with(|s| s.runtime = Some(runtime.into()))
    }

    /// Replaces the image's entrypoint.
    pub fn entrypoint<S: Into<String>>(self, words: impl IntoIterator<Item = S>) -> Self {
        self.with(|s| s.entrypoint = Some(words.into_iter().map(Into::into).collect()))
    }

    /// Replaces the image's command. `{port:9092}` in a word stands for the host's port that
    /// container port 9092 was published on: it is known before the program starts.
    pub fn cmd<S: Into<String>>(self, words: impl IntoIterator<Item = S>) -> Self {
        self.with(|s| s.cmd = Some(words.into_iter().map(Into::into).collect()))
    }

    /// Sets an environment variable. `{port:..}` works as in [`cmd`](ContainerSpec::cmd), for the
    /// service.
    pub fn env(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.with(|s| s.env.push((name.into(), value.into())))
    }

    /// Where programs start.
    pub fn work_dir(self, path: impl Into<String>) -> Self {
        self.with(|s| s.work_dir = Some(path.into()))
    }

    /// Who programs run as: a name or number, with or without `:group`. By default the image's user.
    pub fn user(self, user: impl Into<String>) -> Self {
        self.with(|s| s.user = Some(user.into()))
    }

    /// The container's host name.
    pub fn hostname(self, name: impl Into<String>) -> Self {
        self.with(|s| s.hostname = Some(name.into()))
    }

    /// Memory in bytes, for everything in the container together.
    pub fn memory(self, bytes: u64) -> Self {
        self.with(|s| s.memory = Some(bytes))
    }

    /// Swap in bytes on top of [`memory`](ContainerSpec::memory); none by default.
    pub fn swap(self, bytes: u64) -> Self {
        self.with(|s| s.swap = bytes)
    }

    /// How many processors' time it may use; `0.5` is half of one.
    pub fn cpus(self, cpus: f64) -> Self {
        self.with(|s| s.nano_cpus = Some((cpus * 1e9) as u64))
    }

    /// Which processors, as the kernel writes it: `0-1,4`.
    pub fn cpu_set(self, cpus: impl Into<String>) -> Self {
        self.with(|s| s.cpu_set = Some(cpus.into()))
    }

    /// Processes and threads at the same time, the resident agent's few included; by default 256.
    pub fn pids(self, count: u32) -> Self {
        self.with(|s| s.pids = count)
    }

    /// Size of `/dev/shm` in bytes.
    pub fn shm(self, bytes: u64) -> Self {
        self.with(|s| s.shm = Some(bytes))
    }

    /// A resource limit of every process, soft and hard, by the engine's name for it (`nofile`).
    pub fn ulimit(self, name: impl Into<String>, value: i64) -> Self {
        self.with(|s| s.ulimits.push((name.into(), value)))
    }

    /// Gives programs of the superuser a capability, by its name without `CAP_`.
    pub fn capability(self, name: impl Into<String>) -> Self {
        self.with(|s| s.capabilities.push(name.into().to_uppercase()))
    }

    /// Takes all capabilities away again, those of [`service`](ContainerSpec::service) too.
    pub fn no_capabilities(self) -> Self {
        self.with(|s| s.capabilities.clear())
    }

    /// Lets programs gain privileges by executing set-user-id files. Off by default.
    pub fn allow_new_privileges(self) -> Self {
        self.with(|s| s.new_privileges = true)
    }

    /// Whether the root file system is read-only.
    pub fn read_only(self, read_only: bool) -> Self {
        self.with(|s| s.read_only = read_only)
    }

    /// A file system in memory, emptied at each reset. Replaces one at the same path.
    pub fn tmpfs(self, tmpfs: Tmpfs) -> Self {
        self.with(|s| {
            s.tmpfs.retain(|t| t.path != tmpfs.path);
            s.tmpfs.push(tmpfs);
        })
    }

    /// A directory of the host, or a volume.
    pub fn mount(self, mount: Mount) -> Self {
        self.with(|s| s.mounts.push(mount))
    }

    /// What it is connected to.
    pub fn network(self, network: Network) -> Self {
        self.with(|s| s.network = network)
    }

    /// Publishes a port on the host. Needs a network.
    pub fn publish(self, port: Port) -> Self {
        self.with(|s| s.ports.push(port))
    }

    /// Adds a label. Labels of ours begin with `dev.poolyard.`.
    pub fn label(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.with(|s| s.labels.push((name.into(), value.into())))
    }

    /// When it is ready.
    pub fn wait(self, wait: Wait) -> Self {
        self.with(|s| s.wait = wait)
    }

    /// How long it may take from its start to being ready; 30 s by default.
    pub fn start_timeout(self, limit: Duration) -> Self {
        self.with(|s| s.start_timeout = limit)
    }

    /// How it is made clean between two users.
    pub fn reset(self, reset: Reset) -> Self {
        self.with(|s| s.reset = reset)
    }

    /// A directory that [`Reset::Wipe`] empties, besides everything in memory.
    pub fn wipe(self, path: impl Into<String>) -> Self {
        self.with(|s| s.wipe.push(path.into()))
    }

    /// Asks the engine for changes of a read-only container's root after every n-th reset; 0 never.
    /// A root that can be written to is compared after every wipe, whatever this says.
    pub fn diff_every(self, n: u32) -> Self {
        self.with(|s| s.diff_every = n)
    }

    /// A command that must succeed whenever the pool checks the container's health.
    pub fn health<S: Into<String>>(self, argv: impl IntoIterator<Item = S>) -> Self {
        self.with(|s| s.health = Some(argv.into_iter().map(Into::into).collect()))
    }

    /// Limits that each command may lower and none may raise: wall time, output, file size, open
    /// files, stack. Others of these are set by methods of their own, and not looked at.
    pub fn per_command_limits(self, limits: poolyard_exec::Limits) -> Self {
        self.with(|s| s.command_limits = limits)
    }

    /// Runs the image's own program as process 1, without the resident agent. Nothing can be wiped, and
    /// a killed host leaves the container to the next start's sweep.
    ///
    /// Commands go through the engine, a hundred times slower. They must
    /// [inherit](poolyard_exec::Command::inherit_env) the container's environment, bring no files, and have
    /// limits of wall time and output only. No signals reach them: to end one, by a limit, a kill or a
    /// dropped future, ends the container. What they leave running stays. A terminal gets its size a moment
    /// after the program's start, and a program that cannot be started is an exit code (126 or 127).
    pub fn without_agent(self) -> Self {
        self.with(|s| s.agent = false)
    }

    /// Refuses what cannot work, before anything is made.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let refuse = |message: &str| Err(Error::new(Stage::Spec, ErrorKind::BadSpec, message));
        if self.image.is_empty() {
            return refuse("the image has no name");
        }
        if !self.ports.is_empty() && matches!(self.network, Network::Off | Network::Loopback) {
            return refuse("a port cannot be published without a network; use Network::Bridge");
        }
        if !self.agent && !self.service {
            return refuse("without an agent only a service can run; use ContainerSpec::service");
        }
        if !self.agent && self.network == Network::Off {
            return refuse("only the agent can take the loopback interface away; use Network::Loopback");
        }
        if self.reset == Reset::Restart && !self.read_only {
            return refuse("a restart keeps what was written to the root; make it read-only, or Recreate");
        }
        if !self.agent && (self.reset == Reset::Wipe || self.ports_in_text()) {
            return refuse("without an agent nothing can be wiped, and no port be known in advance");
        }
        if self.pids <= OWN_PROCESSES {
            return refuse(
                "fewer than 4 processes leave no room beside the agent, a command's guardian and the next one's",
            );
        }
        capability::mask(&self.capabilities).map(drop)
    }

    fn ports_in_text(&self) -> bool {
        let words = self.cmd.iter().chain(&self.entrypoint).flatten();
        words.chain(self.env.iter().map(|(_, value)| value)).any(|text| text.contains("{port:"))
    }
}

#[doc(hidden)]
impl std::ops::Deref for ContainerSpec {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl PartialEq for ContainerSpec {
    fn eq(&self, other: &Self) -> bool {
        // The pool compares under its lock, and mostly a value with itself.
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl Eq for ContainerSpec {}

impl std::hash::Hash for ContainerSpec {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}
