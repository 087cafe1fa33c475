//! [`WorkerSpec`] and [`WorkerKey`]: what a worker is, and by what it is asked for.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use crate::attrs::Attrs;
use crate::call_queue::CallQueue;
use crate::memory::Scale;

/// Describes workers: their program, their attributes, and how they are treated.
///
/// Workers with equal specs are interchangeable; [`key`](WorkerSpec::key) makes the pool's key of it.
///
/// ```
/// use poolyard_process::{Attrs, WorkerSpec};
/// use std::time::Duration;
///
/// let key = WorkerSpec::command("python3")
///     .arg("worker.py")
///     .env("PYTHONHASHSEED", "0")
///     .attrs(Attrs::new().nice(5))
///     .max_calls(10_000)
///     .max_age(Duration::from_secs(3600))
///     .key();
/// assert_eq!(key.spec().program(), "python3");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WorkerSpec {
    pub(crate) source: Source,
    pub(crate) env_clear: bool,
    pub(crate) env: BTreeMap<OsString, Option<OsString>>,
    pub(crate) cwd: Option<PathBuf>,
    pub(crate) attrs: Attrs,
    pub(crate) channel: Channel,
    pub(crate) transport: Transport,
    pub(crate) spawner: Spawner,
    pub(crate) ready: Ready,
    pub(crate) on_return: OnReturn,
    pub(crate) ping: bool,
    pub(crate) max_calls: Option<u64>,
    pub(crate) max_age: Option<Duration>,
    pub(crate) spread: u8,
    pub(crate) soft_memory: Option<u64>,
    pub(crate) hard_memory: Option<u64>,
    pub(crate) stderr_tail: usize,
    pub(crate) max_message: usize,
    pub(crate) pipe_size: Option<usize>,
    pub(crate) arena: Option<usize>,
    pub(crate) stop_grace: Duration,
    pub(crate) stop_signal: Option<i32>,
    /// Where the workers take their calls from, if not from a channel each.
    pub(crate) queue: Option<CallQueue>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    Command { program: OsString, args: Vec<OsString> },
    Entry(String),
}

impl WorkerSpec {
    /// Workers that execute `program`. A bare name is looked up in the `PATH` that the worker gets.
    pub fn command(program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref().to_owned();
        Self::new(Source::Command { program, args: Vec::new() }, Channel::Stdio)
    }

    /// Workers that run the entry `name` of this very program, forked from its zygote without
    /// executing anything; see [`init`](crate::init).
    pub fn entry(name: impl Into<String>) -> Self {
        Self::new(Source::Entry(name.into()), Channel::Separate)
    }

    fn new(source: Source, channel: Channel) -> Self {
        Self {
            source,
            env_clear: false,
            env: BTreeMap::new(),
            cwd: None,
            attrs: Attrs::default(),
            channel,
            transport: Transport::Pipe,
            spawner: Spawner::Auto,
            ready: Ready::Protocol,
            on_return: OnReturn::Keep,
            ping: false,
            max_calls: None,
            max_age: None,
            spread: 20,
            soft_memory: None,
            hard_memory: None,
            stderr_tail: 16 * 1024,
            max_message: 64 << 20,
            pipe_size: None,
            arena: None,
            stop_grace: Duration::from_millis(100),
            stop_signal: None,
            queue: None,
        }
    }

    /// Adds an argument of a command. Entries take none.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        if let Source::Command { args, .. } = &mut self.source {
            args.push(arg.as_ref().to_owned());
        }
        self
    }

    /// Adds arguments of a command.
    pub fn args<A: AsRef<OsStr>>(self, args: impl IntoIterator<Item = A>) -> Self {
        args.into_iter().fold(self, WorkerSpec::arg)
    }

    /// Sets a variable of the worker's environment.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.insert(name.as_ref().to_owned(), Some(value.as_ref().to_owned()));
        self
    }

    /// Leaves a variable of the host out.
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.env.insert(name.as_ref().to_owned(), None);
        self
    }

    /// Starts from an empty environment instead of the host's.
    pub fn env_clear(mut self) -> Self {
        self.env_clear = true;
        self
    }

    /// The working directory. Default: the host's.
    pub fn cwd(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cwd = Some(dir.into());
        self
    }

    /// Priority, limits, user and the like.
    pub fn attrs(mut self, attrs: Attrs) -> Self {
        self.attrs = attrs;
        self
    }

    /// Which descriptors carry the protocol. Default: [`Channel::Stdio`] for commands.
    pub fn channel(mut self, channel: Channel) -> Self {
        self.channel = channel;
        self
    }

    /// What the channel is made of. Default: [`Transport::Pipe`]. [`Channel::Listener`] has its own way.
    pub fn transport(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    /// Who is the worker's parent. Default: [`Spawner::Auto`].
    pub fn spawner(mut self, spawner: Spawner) -> Self {
        self.spawner = spawner;
        self
    }

    /// When a new worker counts as ready. Default: [`Ready::Protocol`].
    pub fn ready(mut self, ready: Ready) -> Self {
        self.ready = ready;
        self
    }

    /// What happens to a worker between two users. Default: [`OnReturn::Keep`].
    pub fn on_return(mut self, on_return: OnReturn) -> Self {
        self.on_return = on_return;
        self
    }

    /// Health checks send a ping and wait for its answer, instead of only looking whether the worker
    /// lives and is silent. For protocols that have one.
    pub fn ping(mut self) -> Self {
        self.ping = true;
        self
    }

    /// Retires a worker after so many calls, less a part of [`spread`](WorkerSpec::spread).
    pub fn max_calls(mut self, calls: u64) -> Self {
        self.max_calls = Some(calls.max(1));
        self
    }

    /// Retires a worker at this age, less a part of [`spread`](WorkerSpec::spread).
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// By how many percent of `max_calls` and `max_age` workers retire early, evenly distributed over
    /// consecutive workers, so that they do not retire together. Default: 20, at most 90.
    pub fn spread(mut self, percent: u8) -> Self {
        self.spread = percent.min(90);
        self
    }

    /// Retires a worker at return when its memory exceeds this many bytes: resident memory, of which an entry's
    /// worker counts only its share of what it has in common with others. Looked at every 100 ms at most.
    pub fn soft_memory(mut self, bytes: u64) -> Self {
        self.soft_memory = Some(bytes);
        self
    }

    /// Kills a worker, call or not, when its memory exceeds this many bytes, counted as for
    /// [`soft_memory`](WorkerSpec::soft_memory). Looked at every 100 ms.
    pub fn hard_memory(mut self, bytes: u64) -> Self {
        self.hard_memory = Some(bytes);
        self
    }

    /// How many bytes of its standard error are kept for errors. Default: 16 KiB.
    pub fn stderr_tail(mut self, bytes: usize) -> Self {
        self.stderr_tail = bytes;
        self
    }

    /// The largest message that is accepted from the worker, in bytes. Default: 64 MiB.
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.max_message = bytes;
        self
    }

    /// The buffer of each pipe, in bytes. Default: the system's (64 KiB); 1 MiB is the most that an
    /// unprivileged user gets. A larger one makes the slowest of large messages faster, and most of them not:
    /// the two sides take turns then, where else they work at the same time. Sockets keep the system's (208 KiB).
    pub fn pipe_size(mut self, bytes: usize) -> Self {
        self.pipe_size = Some(bytes);
        self
    }

    /// Shares this much memory with each worker for large payloads: half for requests, half for
    /// answers. For [`Frames`](crate::Frames) and workers that use the worker kit. Calls use it from 32 KiB on,
    /// those of [`Worker::request`](crate::Worker::request) always; not those of a batch, and not those of a worker
    /// that a dispatcher with several calls under way has had.
    pub fn arena(mut self, bytes: usize) -> Self {
        self.arena = Some(bytes.next_multiple_of(2 * 4096).max(2 * 4096));
        self
    }

    /// How long a worker that is asked to end, by closing its input, may take before it is killed.
    /// Default: 100 ms. Zero kills at once.
    ///
    /// One that is in the middle of a call is not asked.
    pub fn stop_grace(mut self, grace: Duration) -> Self {
        self.stop_grace = grace;
        self
    }

    /// Sends this signal to a worker that is to end and does not, be it in the middle of a call or deaf to the
    /// end of its input, and kills it [`stop_grace`](WorkerSpec::stop_grace) later. Default: none.
    pub fn stop_signal(mut self, signal: i32) -> Self {
        self.stop_signal = Some(signal);
        self
    }

    /// The same workers, who take their calls from this queue.
    pub(crate) fn taking_from(&self, queue: &CallQueue) -> Self {
        Self { queue: Some(queue.clone()), ..self.clone() }
    }

    /// Watches a limit of this spec.
    pub(crate) fn scale(&self, limit: Option<u64>) -> Option<Scale> {
        limit.map(|limit| Scale::new(limit, matches!(self.source, Source::Entry(_))))
    }

    /// The program, or the entry's name.
    pub fn program(&self) -> &OsStr {
        match &self.source {
            Source::Command { program, .. } => program,
            Source::Entry(name) => OsStr::new(name),
        }
    }

    /// The pool's key for such workers.
    pub fn key(self) -> WorkerKey {
        static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        WorkerKey { hash: HASHER.hash_one(&self), spec: Arc::new(self) }
    }
}

/// Which descriptors of the worker carry the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    /// Standard input and output.
    Stdio,
    /// Descriptors 3 (in) and 4 (out); `POOLYARD_CHANNEL` says so. What the worker prints goes to its
    /// standard error.
    Separate,
    /// Descriptor 0 is a listening socket, to which the pool connects; the way of FastCGI.
    Listener,
}

/// What the channel of a worker is made of. Either is one descriptor for each direction, and the worker sees the end
/// of its input when the pool closes it.
///
/// Measured with an echo on two processors, without an [arena](WorkerSpec::arena), in microseconds (the medians of
/// the report of `benches/`, whose README says how):
///
/// | | 1 byte | 4 KiB | 1 MiB |
/// |---|---|---|---|
/// | `Pipe`, of 1 MiB | 3.9 | 4.8 | 576 |
/// | `Socket` | 5.2 | 6.8 | 417 |
///
/// Both sides of a socket copy in larger pieces and wake each other less often, but each piece costs more. With
/// an arena large messages bypass either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A pipe for each direction: the faster for small messages, and what programs expect.
    Pipe,
    /// A Unix stream socket for each direction: the faster from some 100 KiB on.
    ///
    /// A socket cannot be opened by name: a shell's `< /dev/stdin` and `> /dev/stdout`, and whatever opens
    /// `/proc/self/fd/0`, fail with `ENXIO`. A program that looks what its standard input is may take a socket
    /// for a connection of the network: bash then reads `~/.bashrc`. [`Channel::Separate`] keeps sockets from those
    /// who look. `sendfile` and `splice` from the input do not work everywhere.
    Socket,
}

/// Who is the worker's parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Spawner {
    /// The zygote if [`init`](crate::init) was called, else this process.
    Auto,
    /// This process. A SIGKILL of it kills its workers, but not what they have started.
    Direct,
    /// The zygote: nothing survives, and no `waitpid` of the host sees the worker.
    Zygote,
}

/// When a new worker counts as ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ready {
    /// When it says so, if its protocol has a word for that; else when it is executing.
    Protocol,
    /// When it is executing.
    Spawned,
}

/// What happens to a worker between two users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnReturn {
    /// It is kept as it is: warm, and with whatever its last call left in it.
    Keep,
    /// It is told to reset, and what it has started is killed. For protocols that have a reset.
    Reset,
    /// It is replaced, so that each user gets a worker that nobody has used.
    Replace,
}

/// What a pool of workers is asked with. Cheap to clone and to compare.
#[derive(Clone)]
pub struct WorkerKey {
    hash: u64,
    spec: Arc<WorkerSpec>,
}

impl WorkerKey {
    /// What it asks for.
    pub fn spec(&self) -> &WorkerSpec {
        &self.spec
    }
}

impl PartialEq for WorkerKey {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.spec, &other.spec) || self.hash == other.hash && self.spec == other.spec
    }
}

impl Eq for WorkerKey {}

impl Hash for WorkerKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl fmt::Debug for WorkerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WorkerKey").field(&self.spec.program()).finish()
    }
}
