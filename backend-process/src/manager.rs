//! [`ProcessManager`]: makes, cleans, checks and ends workers for a pool.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, getsockname, listen, socket,
};
use poolyard_core::{Context, Manager, Meta, Reason, Reuse};
use poolyard_worker::Arena;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;

use crate::call::Cause;
use crate::call_queue::Seat;
use crate::error::{Error, ErrorKind, Stage};
use crate::exit::Kill;
use crate::image::image;
use crate::io::Io;
use crate::protocol::{Frames, Protocol};
use crate::spec::{Channel, Ready, Source, Transport, WorkerKey, WorkerSpec};
use crate::supervisor::{LineSink, Order, Supervisor, mark, tree};
use crate::sys::fds::{self, Pipe, memory};
use crate::worker_process::Worker;

/// Pools worker processes. The key says what they are, the protocol how they are spoken to.
pub struct ProcessManager<P: Protocol = Frames> {
    protocol: P,
    supervisor: Supervisor,
    lines: Option<LineSink>,
}

impl ProcessManager<Frames> {
    /// A manager of workers that speak [`Frames`].
    ///
    /// # Errors
    ///
    /// If the supervising thread cannot be started.
    pub fn new() -> Result<Self, Error> {
        Self::with_protocol(Frames::default())
    }
}

impl<P: Protocol> ProcessManager<P> {
    /// A manager of workers that speak `protocol`.
    ///
    /// # Errors
    ///
    /// If the supervising thread cannot be started.
    pub fn with_protocol(protocol: P) -> Result<Self, Error> {
        Ok(Self { protocol, supervisor: Supervisor::start()?, lines: None })
    }

    /// Has `sink` called, on the supervising thread, with each line that a worker writes to standard
    /// error and the worker's process id. It must not block. If it panics, that line is lost and
    /// nothing else.
    pub fn on_stderr(mut self, sink: impl Fn(i32, &[u8]) + Send + Sync + 'static) -> Self {
        self.lines = Some(std::sync::Arc::new(move |pid, line: &[u8]| {
            // The thread watches over all workers, so a panic must not end it.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| sink(pid, line)));
        }));
        self
    }

    /// The protocol, for those who encode calls elsewhere.
    pub(crate) fn session(&self) -> P {
        self.protocol.session()
    }

    async fn start(&self, spec: &WorkerSpec) -> Result<Worker<P>, Error> {
        let token = self.supervisor.token();
        let pipes = |source| Error::system(Stage::Pipes, source);
        let mut wiring = Wiring::new(spec, token).map_err(pipes)?;
        let order = Order {
            image: image(spec, &wiring.env)?,
            entry: matches!(spec.source, Source::Entry(_)),
            spawner: spec.spawner,
            fds: std::mem::take(&mut wiring.theirs),
            stderr: wiring.stderr.take(),
            stderr_tail: spec.stderr_tail,
            lines: self.lines.clone(),
            hard_memory: spec.scale(spec.hard_memory),
        };
        let mut protocol = self.protocol.session();
        protocol.attach(wiring.arena.take());
        let seat = wiring.seat.take();
        let starting = self.supervisor.spawn(token, order);
        // While the process starts.
        let io = wiring.io().map_err(pipes);
        let child = starting.await?;
        match io {
            Ok(io) => Ok(Worker::new(child, io, protocol, spec, token).seated(seat)),
            Err(error) => {
                child.kill(Kill::NotReady);
                child.life.buried().await;
                Err(error)
            }
        }
    }

    async fn until_ready(&self, worker: &mut Worker<P>, cx: &Context) -> Result<(), Error> {
        // A little earlier than the pool's own deadline, which would lose the reason.
        let deadline = Instant::now() + cx.remaining().mul_f32(0.95);
        let Err(cause) = worker.ready(deadline).await else { return Ok(()) };
        let kind = match cause {
            Cause::Exited(death) => ErrorKind::BootFailed(death.exit),
            Cause::Deadline => ErrorKind::NotReady,
            _ => ErrorKind::Desynchronised,
        };
        worker.child().kill(Kill::NotReady);
        // Its place in the pool is free when this returns, so nothing may be left of it then.
        worker.child().life.buried().await;
        Err(Error::new(Stage::Ready, kind).with_stderr(worker.stderr()))
    }
}

impl<P: Protocol> Manager for ProcessManager<P> {
    type Key = WorkerKey;
    type Resource = Worker<P>;
    type Error = Error;

    async fn create(&self, key: &WorkerKey, cx: &Context) -> Result<Worker<P>, Error> {
        let spec = key.spec();
        let mut worker = self.start(spec).await?;
        if P::SAYS_READY && spec.ready == Ready::Protocol {
            self.until_ready(&mut worker, cx).await?;
        }
        // Not earlier: a death before this is told as the error of this creation, with its reasons.
        worker.child().life.report_to(cx.gone());
        Ok(worker)
    }

    async fn recycle(&self, _: &WorkerKey, worker: &mut Worker<P>, cx: &Context) -> Result<(), Error> {
        let failed =
            |worker: &Worker<P>, kind| Err(Error::new(Stage::Recycle, kind).with_stderr(worker.stderr()));
        if !worker.is_usable() || !worker.is_silent() {
            return failed(worker, ErrorKind::Desynchronised);
        }
        while !tree::kill_descendants(worker.pid()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        match worker.ask(P::reset, cx.deadline()).await {
            Ok(_) => Ok(()),
            Err(Cause::Deadline) => failed(worker, ErrorKind::Unresponsive),
            Err(Cause::Exited(_)) => failed(worker, ErrorKind::Dead),
            Err(_) => failed(worker, ErrorKind::Desynchronised),
        }
    }

    async fn health_check(&self, key: &WorkerKey, worker: &mut Worker<P>, cx: &Context) -> Result<(), Error> {
        let failed =
            |worker: &Worker<P>, kind| Err(Error::new(Stage::HealthCheck, kind).with_stderr(worker.stderr()));
        if worker.death().is_some() {
            return failed(worker, ErrorKind::Dead);
        }
        if !worker.is_usable() || !worker.is_silent() {
            return failed(worker, ErrorKind::Desynchronised);
        }
        if !key.spec().ping {
            return Ok(());
        }
        match worker.ask(P::ping, cx.deadline()).await {
            Ok(_) => Ok(()),
            Err(Cause::Deadline) => failed(worker, ErrorKind::Unresponsive),
            Err(_) => failed(worker, ErrorKind::Dead),
        }
    }

    async fn destroy(&self, key: &WorkerKey, worker: &mut Worker<P>, reason: Reason, _: &Context) {
        worker.end(Kill::Destroyed(reason), key.spec()).await;
    }

    fn destroy_now(&self, _: &WorkerKey, worker: Worker<P>, reason: Reason) {
        worker.child().kill(Kill::Destroyed(reason));
    }

    fn reuse(&self, _: &WorkerKey, worker: &mut Worker<P>, _: &Meta) -> Reuse {
        worker.verdict()
    }

    fn retry(&self, error: &Error, attempt: u32) -> Option<Duration> {
        let delay = Duration::from_millis(10) * 2_u32.pow(attempt.min(6));
        (error.is_transient() && attempt <= 5).then_some(delay)
    }

    fn describe(&self, worker: &Worker<P>) -> Cow<'static, str> {
        format!("worker process {}", worker.pid()).into()
    }
}

/// The descriptors between the host and one worker.
struct Wiring {
    /// What the worker gets, in the order of its numbers.
    theirs: Vec<OwnedFd>,
    ours: Ours,
    stderr: Option<OwnedFd>,
    arena: Option<Arena>,
    seat: Option<Seat>,
    /// What tells the worker of them.
    env: Vec<(&'static str, String)>,
}

enum Ours {
    Pipes {
        write: OwnedFd,
        read: OwnedFd,
    },
    Sockets {
        write: OwnedFd,
        read: OwnedFd,
    },
    /// Both directions in one.
    Stream(OwnedFd),
}

impl Wiring {
    fn new(spec: &WorkerSpec, token: u64) -> io::Result<Self> {
        let errors = Pipe::new()?;
        let mut env = vec![(tree::MARK, mark(token))];
        let (mut theirs, ours) = match spec.channel {
            Channel::Listener => listener(errors.write.try_clone()?)?,
            channel => pipes(spec, channel == Channel::Separate, &errors.write, &mut env)?,
        };
        let arena = match spec.arena {
            Some(bytes) => {
                let file = memory("poolyard-arena", bytes)?;
                env.push(("POOLYARD_ARENA", theirs.len().to_string()));
                theirs.push(file.try_clone()?);
                Some(Arena::map(file)?)
            }
            None => None,
        };
        let seat = take_seat(spec, &mut theirs, &mut env)?;
        Ok(Self { theirs, ours, stderr: Some(errors.read), arena, seat, env })
    }

    fn io(self) -> io::Result<Io> {
        Ok(match self.ours {
            Ours::Pipes { write, read } => {
                Io::Pipes(Some(pipe::Sender::from_owned_fd(write)?), pipe::Receiver::from_owned_fd(read)?)
            }
            Ours::Sockets { write, read } => Io::Sockets(Some(stream(write)?), stream(read)?),
            Ours::Stream(both) => Io::Stream(stream(both)?),
        })
    }
}

/// A connected socket, known to the runtime.
fn stream(socket: OwnedFd) -> io::Result<UnixStream> {
    fds::set_nonblocking(&socket)?;
    UnixStream::from_std(socket.into())
}

/// Hands the queue of calls over, if the workers have one.
fn take_seat(
    spec: &WorkerSpec,
    theirs: &mut Vec<OwnedFd>,
    env: &mut Vec<(&'static str, String)>,
) -> io::Result<Option<Seat>> {
    let Some(queue) = &spec.queue else { return Ok(None) };
    let seat = queue.seat()?;
    env.push(("POOLYARD_QUEUE", theirs.len().to_string()));
    theirs.push(queue.theirs().try_clone_to_owned()?);
    env.push(("POOLYARD_SCOREBOARD", theirs.len().to_string()));
    theirs.push(queue.page().try_clone_to_owned()?);
    env.push(("POOLYARD_SCORE_SLOT", seat.index.to_string()));
    Ok(Some(seat))
}

type Ends = (Vec<OwnedFd>, Ours);

fn pipes(
    spec: &WorkerSpec,
    separate: bool,
    stderr: &OwnedFd,
    env: &mut Vec<(&'static str, String)>,
) -> io::Result<Ends> {
    let (requests, answers) = (way(spec)?, way(spec)?);
    let stderr = || stderr.try_clone();
    let theirs = if separate {
        env.push(("POOLYARD_CHANNEL", "3,4".into()));
        vec![File::open("/dev/null")?.into(), stderr()?, stderr()?, requests.read, answers.write]
    } else {
        vec![requests.read, answers.write, stderr()?]
    };
    let (write, read) = (requests.write, answers.read);
    let ours = match spec.transport {
        Transport::Pipe => Ours::Pipes { write, read },
        Transport::Socket => Ours::Sockets { write, read },
    };
    Ok((theirs, ours))
}

/// One direction of a channel.
fn way(spec: &WorkerSpec) -> io::Result<Pipe> {
    if spec.transport == Transport::Socket {
        return Pipe::of_sockets();
    }
    let pipe = Pipe::new()?;
    spec.pipe_size.iter().for_each(|bytes| pipe.grow(*bytes));
    Ok(pipe)
}

/// A listening socket without a name in the file system, and a connection to it: that does not wait for the
/// worker to accept it.
fn listener(stderr: OwnedFd) -> io::Result<Ends> {
    let stream = || socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None);
    let (listener, ours) = (stream()?, stream()?);
    bind(listener.as_raw_fd(), &UnixAddr::new_unnamed())?;
    listen(&listener, Backlog::new(1)?)?;
    let address: UnixAddr = getsockname(listener.as_raw_fd())?;
    connect(ours.as_raw_fd(), &address)?;
    Ok((vec![listener, stderr.try_clone()?, stderr], Ours::Stream(ours)))
}
