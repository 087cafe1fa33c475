//! The supervising thread: it starts processes, reads what they write to standard error, notices their
//! ends, and reaps them.
//!
//! One thread per manager. It is the parent of what it starts, in the kernel's sense (a worker dies with
//! the thread that started it), so it lives until the last of them is reaped, whatever becomes of
//! any async runtime. It blocks in `epoll_wait` and nowhere else but in the start of a program.

mod life;
mod tail;
mod thread;
pub(crate) mod tree;

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::eventfd::{EfdFlags, EventFd};
use parking_lot::Mutex;
use tokio::sync::oneshot;

pub(crate) use life::{Child, Life};
pub(crate) use thread::mark;

use crate::error::{Error, ErrorKind, Stage};
use crate::memory::Scale;
use crate::spec::Spawner;
use crate::sys::spawn::Image;
use crate::zygote::host::Orders;

/// Is told each line that a worker writes to standard error.
pub(crate) type LineSink = Arc<dyn Fn(i32, &[u8]) + Send + Sync>;

/// What is to be started.
pub(crate) struct Order {
    pub(crate) image: Image,
    /// Whether `image` names an entry instead of a program.
    pub(crate) entry: bool,
    pub(crate) spawner: Spawner,
    /// `fds[i]` becomes descriptor `i`.
    pub(crate) fds: Vec<OwnedFd>,
    /// The reading end of its standard error.
    pub(crate) stderr: Option<OwnedFd>,
    pub(crate) stderr_tail: usize,
    pub(crate) lines: Option<LineSink>,
    pub(crate) hard_memory: Option<Scale>,
}

impl Order {
    /// Whether the zygote is to start it, and not the supervising thread.
    fn is_for_the_zygote(&self) -> bool {
        match self.spawner {
            Spawner::Direct => false,
            Spawner::Zygote => true,
            Spawner::Auto => self.entry || crate::zygote::is_available(),
        }
    }
}

type Reply = oneshot::Sender<Result<Child, Error>>;

/// An order that the zygote has not answered yet.
struct Pending {
    stderr: Option<OwnedFd>,
    stderr_tail: usize,
    lines: Option<LineSink>,
    hard_memory: Option<Scale>,
    reply: Reply,
}

impl Pending {
    fn new(order: Order, reply: Reply) -> Self {
        let Order { stderr, stderr_tail, lines, hard_memory, .. } = order;
        Self { stderr, stderr_tail, lines, hard_memory, reply }
    }
}

enum Request {
    Spawn {
        token: u64,
        order: Box<Order>,
        reply: Reply,
    },
    /// The zygote has been told already.
    Ordered {
        token: u64,
        pending: Pending,
    },
    Kill {
        token: u64,
    },
    Quit,
}

#[derive(Default)]
struct Inbox {
    requests: Vec<Request>,
    /// Where orders for the zygote go, while there is one.
    zygote: Option<Orders>,
}

struct Shared {
    inbox: Mutex<Inbox>,
    wake: EventFd,
}

impl Shared {
    /// Orders a process: of the zygote at once if there is one, which saves a hop, or else of the thread.
    fn order(&self, token: u64, order: Order, reply: Reply) {
        if order.is_for_the_zygote() {
            // Sent and noted under one lock: the thread looks here before it takes the zygote's answer.
            let mut inbox = self.inbox.lock();
            let zygote = inbox.zygote.as_ref();
            if zygote.is_some_and(|zygote| zygote.send(token, order.entry, &order.image, &order.fds)) {
                return inbox.requests.push(Request::Ordered { token, pending: Pending::new(order, reply) });
            }
        }
        self.send(Request::Spawn { token, order: Box::new(order), reply });
    }

    fn send(&self, request: Request) {
        self.inbox.lock().requests.push(request);
        // Fails only if the counter would overflow, and then the thread is awake anyway.
        let _ = self.wake.write(1);
    }
}

/// The last handle ends the thread, as soon as nothing is left for it to reap.
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.send(Request::Quit);
    }
}

/// A handle on the supervising thread.
#[derive(Clone)]
pub(crate) struct Supervisor(Arc<Handle>);

impl Supervisor {
    pub(crate) fn start() -> Result<Self, Error> {
        Self::try_start().map_err(|source| Error::system(Stage::Supervisor, source))
    }

    fn try_start() -> io::Result<Self> {
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let shared = Arc::new(Shared { inbox: Mutex::default(), wake });
        let handle = Arc::new(Handle(shared.clone()));
        let thread = thread::Thread::new(shared, Arc::downgrade(&handle))?;
        std::thread::Builder::new().name("poolyard-process".into()).spawn(|| thread.run())?;
        Ok(Self(handle))
    }

    /// A number that no other worker of this host has.
    pub(crate) fn token(&self) -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }

    /// Starts a process, at once and not when the future is first polled. A dropped future leaves nothing: the
    /// process is killed when it is there.
    pub(crate) fn spawn(
        &self,
        token: u64,
        order: Order,
    ) -> impl Future<Output = Result<Child, Error>> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        self.0.0.order(token, order, reply);
        async { answer.await.unwrap_or_else(|_| Err(Error::new(Stage::Supervisor, ErrorKind::GuardianLost))) }
    }

    fn kill(&self, token: u64) {
        self.0.0.send(Request::Kill { token });
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Supervisor")
    }
}
