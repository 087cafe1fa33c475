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

enum Request {
    Spawn { token: u64, order: Box<Order>, reply: oneshot::Sender<Result<Child, Error>> },
    Kill { token: u64 },
    Quit,
}

struct Shared {
    requests: Mutex<Vec<Request>>,
    wake: EventFd,
}

impl Shared {
    fn send(&self, request: Request) {
        self.requests.lock().push(request);
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
        let shared = Arc::new(Shared { requests: Mutex::default(), wake });
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
        self.0.0.send(Request::Spawn { token, order: Box::new(order), reply });
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
