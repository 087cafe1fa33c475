//! [`Dispatcher`]: calls to a set of workers that are leased for good and shared among callers.

mod queue;

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use poolyard_core::Pool;
use rustix::process::Signal;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::task::JoinHandle;

use crate::call::{CallError, Cause, Deadline, Phase};
use crate::call_queue::CallQueue;
use crate::manager::ProcessManager;
use crate::protocol::{Frames, Malformed, Protocol};
use crate::shared::{Shared, drive};
use crate::spec::WorkerKey;
use crate::supervisor::Life;
use crate::sys::wait;
use queue::{Place, Queue, Waiting};

/// How a dispatcher works.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DispatcherConfig {
    /// How many workers it leases. The pool should allow one more for replacements. Default: 2.
    pub workers: usize,
    /// How many calls one worker has at a time. More than 1 needs a protocol with ids and pays only with a
    /// worker that reads ahead or works on several. Default: 1.
    pub calls_per_worker: usize,
    /// Which worker gets a call. Default: [`Select::Exclusive`].
    pub select: Select,
    /// How many calls may wait for a worker. Default: 1024.
    pub max_waiting: usize,
    /// How long a call may wait for a worker, whatever time it has then. Default: up to its deadline.
    pub max_wait: Option<Duration>,
    /// How many workers may be without a replacement at a time when they are worn or rolled. Default: 1.
    pub max_unavailable: usize,
}

impl Default for DispatcherConfig {
    fn default() -> Self {
        Self {
            workers: 2,
            calls_per_worker: 1,
            select: Select::Exclusive,
            max_waiting: 1024,
            max_wait: None,
            max_unavailable: 1,
        }
    }
}

impl DispatcherConfig {
    /// So many workers with so many calls each, chosen this way.
    pub fn new(workers: usize, calls_per_worker: usize, select: Select) -> Self {
        Self { workers, calls_per_worker, select, ..Self::default() }
    }
}

/// Which worker gets a call. Among workers that have room; if none has, calls wait in the order in which
/// they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Select {
    /// A lease of the pool per call, in the pool's own order (the one used last, or longest ago). I/O runs in
    /// the calling task: the fastest for one call at a time.
    Exclusive,
    /// The one with the fewest calls under way.
    LeastBusy,
    /// One after the other.
    RoundRobin,
    /// Any.
    Random,
    /// Always the same for the same sticky key, as long as it lives, even if it has to be waited for.
    Sticky,
    /// Whichever takes it first from one queue that the kernel keeps: a worker that has answered takes the next
    /// call without waiting for this process. `calls_per_worker` says how many are in that queue or being
    /// executed at most, for each worker; 2 keeps workers busy. For [`Frames`] and workers of the worker kit,
    /// which are asked to end by SIGTERM. Calls have 64 KiB at most, answers as much as elsewhere. A call that
    /// is given up while it is in the kernel's queue is executed all the same.
    KernelQueue,
}

/// Sends calls to workers of one key.
pub struct Dispatcher<P: Protocol = Frames> {
    inner: Arc<Inner<P>>,
    keepers: Vec<JoinHandle<()>>,
}

struct Inner<P: Protocol> {
    pool: Pool<ProcessManager<P>>,
    config: DispatcherConfig,
    key: Mutex<(WorkerKey, u64)>,
    /// Told when the key has changed.
    rolled: Notify,
    /// Told when a slot has got another worker.
    replaced: Notify,
    replacements: Semaphore,
    queue: Mutex<Queue<Arc<Hand<P>>, Grant<P>>>,
    /// The calls of all workers, with [`Select::KernelQueue`].
    kernel: Option<Kernel<P>>,
    /// Why there can be no calls at all.
    refused: Option<Cause>,
    /// Why there was no worker, if there was none.
    last_error: Mutex<Option<String>>,
}

type Grant<P> = oneshot::Sender<Permit<P>>;

impl<P: Protocol> Waiting for Grant<P> {
    fn is_gone(&self) -> bool {
        self.is_closed()
    }
}

/// A worker in its slot.
struct Hand<P: Protocol> {
    shared: Arc<Shared<P>>,
    /// Who is told to take no more from the queue.
    takes: Option<Arc<Life>>,
}

impl<P: Protocol> Hand<P> {
    /// Has a worker that takes from the queue end, and waits until it takes no more. No worker but such a one
    /// goes on taking after it was replaced.
    async fn leave_queue(&self) {
        self.drain();
        if let Some(life) = &self.takes {
            life.died().await;
        }
    }

    /// Ends the worker when what it has is answered.
    fn drain(&self) {
        match &self.takes {
            Some(life) => {
                life.with_pidfd(|pidfd| wait::signal(pidfd, Signal::TERM));
            }
            None => self.shared.drain(),
        }
    }
}

/// The right to one call on one worker. Gives the place to the next in line when it is dropped.
struct Permit<P: Protocol> {
    inner: Arc<Inner<P>>,
    worker: Arc<Hand<P>>,
    place: Place,
}

impl<P: Protocol> Drop for Permit<P> {
    fn drop(&mut self) {
        self.inner.queue.lock().give_back(self.place);
        dispatch(&self.inner);
    }
}

impl<P: Protocol> Dispatcher<P> {
    /// Leases workers of `key` from `pool`, in the background. To be called within the runtime that is to
    /// drive them.
    pub fn new(pool: Pool<ProcessManager<P>>, key: WorkerKey, config: DispatcherConfig) -> Self {
        let (kernel, refused) = match (config.select, P::TAKES_FROM_QUEUE) {
            (Select::KernelQueue, false) => (None, Some(Cause::Refused(Malformed::Unexpected("a queue")))),
            (Select::KernelQueue, true) => match kernel(&pool, &config) {
                Ok(kernel) => (Some(kernel), None),
                Err(error) => (None, Some(Cause::NoWorker(error.to_string()))),
            },
            _ => (None, None),
        };
        let nobody = config.select == Select::Exclusive || refused.is_some();
        let count = if nobody { 0 } else { config.workers.max(1) };
        let room = if P::HAS_IDS { config.calls_per_worker.max(1) } else { 1 };
        let queue = Queue::new(count, config.select, room, config.max_waiting);
        let inner = Arc::new(Inner {
            pool,
            replacements: Semaphore::new(config.max_unavailable.max(1)),
            config,
            key: Mutex::new((keyed(&kernel, key), 1)),
            kernel,
            refused,
            rolled: Notify::new(),
            replaced: Notify::new(),
            queue: Mutex::new(queue),
            last_error: Mutex::default(),
        });
        let keepers = (0..count).map(|slot| tokio::spawn(keep(inner.clone(), slot))).collect();
        Self { inner, keepers }
    }

    /// Calls a worker. `sticky` chooses it with [`Select::Sticky`] and means nothing otherwise.
    ///
    /// Waits in line until a worker has room; the deadline is for waiting and the call together,
    /// [`max_wait`](DispatcherConfig::max_wait) for waiting alone.
    ///
    /// # Errors
    ///
    /// [`CallError`], with [`Phase::Queue`] if no worker had the call yet: it can be tried again then.
    ///
    /// # Cancel safety
    ///
    /// A call that waits loses its place. One that is under way is cancelled if the protocol can say that;
    /// a worker that does not answer it within a second then is replaced.
    pub async fn call(
        &self,
        sticky: Option<&[u8]>,
        request: &P::Request,
        deadline: Deadline,
    ) -> Result<P::Response, CallError>
    where
        P::Request: Sync,
    {
        let begun = Instant::now();
        let failed = |cause| CallError::new(Phase::Queue, cause, 0, begun.elapsed());
        if let Some(cause) = &self.inner.refused {
            return Err(failed(cause.clone()));
        }
        let waits = self.inner.config.max_wait.map_or(deadline.at, |wait| deadline.at.min(begun + wait));
        let patience = tokio::time::Instant::from(waits);
        if self.inner.config.select == Select::Exclusive {
            return self.call_exclusively(request, deadline, begun, patience).await;
        }
        loop {
            let permit = match self.permit(sticky).map_err(failed)? {
                Ticket::Now(permit) => permit,
                Ticket::Later(granted) => match tokio::time::timeout_at(patience, granted).await {
                    Ok(Ok(permit)) => permit,
                    Ok(Err(_)) => return Err(failed(self.inner.why_nobody())),
                    Err(_) => return Err(failed(Cause::Deadline)),
                },
            };
            let worker = permit.worker.clone();
            match worker.shared.call(request, deadline, Box::new(permit)).await {
                // It ended before it had the call: another one gets it.
                Err(error) if error.phase() == Phase::Queue && Instant::now() < deadline.at => {
                    tokio::task::yield_now().await;
                }
                done => return done,
            }
        }
    }

    async fn call_exclusively(
        &self,
        request: &P::Request,
        deadline: Deadline,
        begun: Instant,
        patience: tokio::time::Instant,
    ) -> Result<P::Response, CallError>
    where
        P::Request: Sync,
    {
        let failed = |cause| CallError::new(Phase::Queue, cause, 0, begun.elapsed());
        if self.inner.queue.lock().is_closed() {
            return Err(failed(Cause::NotAccepted));
        }
        let key = self.inner.key.lock().0.clone();
        match tokio::time::timeout_at(patience, self.inner.pool.acquire(&key)).await {
            Ok(Ok(mut worker)) => worker.call(request, deadline).await,
            Ok(Err(error)) => Err(failed(Cause::NoWorker(with_sources(&error)))),
            Err(_) => Err(failed(Cause::Deadline)),
        }
    }

    fn permit(&self, sticky: Option<&[u8]>) -> Result<Ticket<P>, Cause> {
        let granted = {
            let mut queue = self.inner.queue.lock();
            let sticky = sticky.map(|key| queue.sticky(key));
            // With nobody in line and room at a worker there is nothing to wait for.
            if let Some((worker, place)) = queue.take_now(sticky) {
                return Ok(Ticket::Now(Permit { inner: self.inner.clone(), worker, place }));
            }
            let (grant, granted) = oneshot::channel();
            if !queue.push(sticky, grant) {
                return Err(Cause::NotAccepted);
            }
            granted
        };
        dispatch(&self.inner);
        Ok(Ticket::Later(granted))
    }

    /// Replaces all workers by workers of `key`, one after the other (`max_unavailable`), each only after its
    /// successor is ready; calls go on meanwhile. Returns when all are replaced: if new workers cannot be
    /// made, the old ones go on working and this does not return. Dropping the future changes nothing.
    pub async fn roll(&self, key: WorkerKey) {
        let generation = {
            let mut current = self.inner.key.lock();
            *current = (keyed(&self.inner.kernel, key), current.1 + 1);
            current.1
        };
        self.inner.rolled.notify_waiters();
        loop {
            let mut replaced = std::pin::pin!(self.inner.replaced.notified());
            replaced.as_mut().enable();
            if self.inner.queue.lock().has_reached(generation) {
                return;
            }
            replaced.await;
        }
    }

    /// How many calls each worker has under way; `None` where there is no worker at the moment.
    pub fn load(&self) -> Vec<Option<usize>> {
        self.inner.queue.lock().load()
    }

    /// How many calls wait for a worker.
    pub fn waiting(&self) -> usize {
        self.inner.queue.lock().waiting()
    }

    /// Accepts no more calls. Those that wait fail, those that are under way are answered, and the workers
    /// go back to the pool.
    pub fn close(&self) {
        let (waiting, workers) = self.inner.queue.lock().close();
        drop(waiting);
        self.keepers.iter().for_each(JoinHandle::abort);
        workers.iter().for_each(|worker| worker.drain());
        if let Some((_, shared)) = &self.inner.kernel {
            shared.drain();
            shared.recall(Cause::NotAccepted);
        }
    }
}

impl<P: Protocol> Drop for Dispatcher<P> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<P: Protocol> Inner<P> {
    fn why_nobody(&self) -> Cause {
        match self.last_error.lock().clone() {
            Some(error) => Cause::NoWorker(error),
            None => Cause::NotAccepted,
        }
    }
}

enum Ticket<P: Protocol> {
    Now(Permit<P>),
    Later(oneshot::Receiver<Permit<P>>),
}

type Kernel<P> = (CallQueue, Arc<Shared<P>>);

/// A queue for the workers and for as many successors.
fn kernel<P: Protocol>(
    pool: &Pool<ProcessManager<P>>,
    config: &DispatcherConfig,
) -> std::io::Result<Kernel<P>> {
    let queue = CallQueue::new(config.workers.max(1) * 2 + config.max_unavailable + 2)?;
    let shared = Shared::queued(pool.manager().session(), queue.clone());
    Ok((queue, shared))
}

/// The key of workers that take from the queue, if there is one.
fn keyed<P: Protocol>(kernel: &Option<Kernel<P>>, key: WorkerKey) -> WorkerKey {
    match kernel {
        Some((queue, _)) => key.spec().taking_from(queue).key(),
        None => key,
    }
}

/// Grants places to those who wait, oldest first. The only way in which places are given.
fn dispatch<P: Protocol>(inner: &Arc<Inner<P>>) {
    loop {
        let Some((grant, worker, place)) = inner.queue.lock().next() else { return };
        // Outside the lock: a caller that has gone meanwhile has its permit dropped here, which dispatches.
        drop(grant.send(Permit { inner: inner.clone(), worker, place }));
    }
}

/// How long a slot waits after a failed attempt to get a worker, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(5));

/// Keeps one slot filled. A replacement is made before the worker that it replaces is let go.
async fn keep<P: Protocol>(inner: Arc<Inner<P>>, index: usize) {
    let mut old: Option<Arc<Hand<P>>> = None;
    let mut pause = RETRY.0;
    loop {
        let (key, generation) = inner.key.lock().clone();
        // A slot that has a worker waits its turn; an empty one does not.
        let turn = if old.is_some() { inner.replacements.acquire().await.ok() } else { None };
        let mut lease = match inner.pool.acquire(&key).await {
            Ok(lease) => lease,
            Err(error) => {
                no_worker(&inner, with_sources(&error));
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY.1);
                continue;
            }
        };
        pause = RETRY.0;
        let shared = match &inner.kernel {
            Some((_, shared)) => shared.clone(),
            None => Shared::new(&mut lease),
        };
        let takes = inner.kernel.as_ref().map(|_| lease.child().life.clone());
        let hand = Arc::new(Hand { shared: shared.clone(), takes });
        let worn = Arc::new(Notify::new());
        let tell = worn.clone();
        let serving = tokio::spawn(drive(lease, shared, move || tell.notify_one()));
        drop(turn);
        if let Some(old) = old.take_if(|old| old.takes.is_some()) {
            old.leave_queue().await;
        }
        install(&inner, index, hand.clone(), generation);
        if let Some(old) = old.take() {
            old.drain();
        }
        if is_over(&inner, &worn, serving, generation).await {
            remove(&inner, index, &hand);
        } else {
            old = Some(hand);
        }
    }
}

/// Waits until a worker has ended (true) or is to be replaced (false).
async fn is_over<P: Protocol>(
    inner: &Inner<P>,
    worn: &Notify,
    mut serving: JoinHandle<()>,
    generation: u64,
) -> bool {
    let mut rolled = std::pin::pin!(inner.rolled.notified());
    rolled.as_mut().enable();
    if inner.key.lock().1 > generation {
        return false;
    }
    let mut worn = std::pin::pin!(worn.notified());
    std::future::poll_fn(|cx| {
        use std::task::Poll;
        if std::pin::Pin::new(&mut serving).poll(cx).is_ready() {
            return Poll::Ready(true);
        }
        if worn.as_mut().poll(cx).is_ready() || rolled.as_mut().poll(cx).is_ready() {
            return Poll::Ready(false);
        }
        Poll::Pending
    })
    .await
}

fn install<P: Protocol>(inner: &Arc<Inner<P>>, index: usize, worker: Arc<Hand<P>>, generation: u64) {
    inner.queue.lock().install(index, worker, generation);
    *inner.last_error.lock() = None;
    inner.replaced.notify_waiters();
    dispatch(inner);
}

fn remove<P: Protocol>(inner: &Arc<Inner<P>>, index: usize, worker: &Arc<Hand<P>>) {
    inner.queue.lock().remove(index, |current| Arc::ptr_eq(current, worker));
    dispatch(inner);
}

/// With no worker left, those who wait are told why instead of waiting for their deadlines.
fn no_worker<P: Protocol>(inner: &Inner<P>, error: String) {
    *inner.last_error.lock() = Some(error.clone());
    let (waiting, nobody) = {
        let mut queue = inner.queue.lock();
        (queue.give_up(), queue.is_deserted())
    };
    drop(waiting);
    if let Some((_, shared)) = inner.kernel.as_ref().filter(|_| nobody) {
        shared.recall(Cause::NoWorker(error));
    }
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(Some(error), |error| error.source());
    sources.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
