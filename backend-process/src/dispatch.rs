//! [`Dispatcher`]: calls to a set of workers that are leased for good and shared among callers.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use poolyard_core::Pool;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::task::JoinHandle;

use crate::call::{CallError, Cause, Deadline, Phase};
use crate::manager::ProcessManager;
use crate::protocol::{Frames, Protocol};
use crate::shared::{Shared, drive};
use crate::spec::WorkerKey;

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
    hasher: RandomState,
    turn: AtomicU64,
    queue: Mutex<Queue<P>>,
}

struct Queue<P: Protocol> {
    slots: Vec<Slot<P>>,
    waiting: VecDeque<Waiter<P>>,
    last_error: Option<String>,
    closed: bool,
}

struct Slot<P: Protocol> {
    worker: Option<Arc<Shared<P>>>,
    open: usize,
    /// Counts the workers that this slot has had, so that a permit for an old one frees nothing.
    serial: u64,
    generation: u64,
}

struct Waiter<P: Protocol> {
    sticky: Option<u64>,
    grant: oneshot::Sender<Permit<P>>,
}

/// The right to one call on one worker. Gives the place to the next in line when it is dropped.
struct Permit<P: Protocol> {
    inner: Arc<Inner<P>>,
    worker: Arc<Shared<P>>,
    slot: usize,
    serial: u64,
}

impl<P: Protocol> Drop for Permit<P> {
    fn drop(&mut self) {
        let mut queue = self.inner.queue.lock();
        let slot = &mut queue.slots[self.slot];
        if slot.serial == self.serial {
            slot.open -= 1;
        }
        drop(queue);
        dispatch(&self.inner);
    }
}

impl<P: Protocol> Dispatcher<P> {
    /// Leases workers of `key` from `pool`, in the background. To be called within the runtime that is to
    /// drive them.
    pub fn new(pool: Pool<ProcessManager<P>>, key: WorkerKey, config: DispatcherConfig) -> Self {
        let count = if config.select == Select::Exclusive { 0 } else { config.workers.max(1) };
        let slot = || Slot { worker: None, open: 0, serial: 0, generation: 0 };
        let queue = Queue {
            slots: (0..count).map(|_| slot()).collect(),
            waiting: VecDeque::new(),
            last_error: None,
            closed: false,
        };
        let inner = Arc::new(Inner {
            pool,
            replacements: Semaphore::new(config.max_unavailable.max(1)),
            config,
            key: Mutex::new((key, 1)),
            rolled: Notify::new(),
            replaced: Notify::new(),
            hasher: RandomState::new(),
            turn: AtomicU64::new(0),
            queue: Mutex::new(queue),
        });
        let keepers = (0..count).map(|slot| tokio::spawn(keep(inner.clone(), slot))).collect();
        Self { inner, keepers }
    }

    /// Calls a worker. `sticky` chooses it with [`Select::Sticky`] and means nothing otherwise.
    ///
    /// Waits in line until a worker has room; the deadline is for waiting and the call together.
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
        if self.inner.config.select == Select::Exclusive {
            return self.call_exclusively(request, deadline, begun).await;
        }
        loop {
            let permit = self.permit(sticky).map_err(failed)?;
            let permit = match tokio::time::timeout_at(deadline.at.into(), permit).await {
                Ok(Ok(permit)) => permit,
                Ok(Err(_)) => return Err(failed(self.inner.why_nobody())),
                Err(_) => return Err(failed(Cause::Deadline)),
            };
            let worker = permit.worker.clone();
            match worker.call(request, deadline, Box::new(permit)).await {
                // It ended before it had the call: another one gets it.
                Err(error) if error.phase() == Phase::Queue => tokio::task::yield_now().await,
                done => return done,
            }
        }
    }

    async fn call_exclusively(
        &self,
        request: &P::Request,
        deadline: Deadline,
        begun: Instant,
    ) -> Result<P::Response, CallError>
    where
        P::Request: Sync,
    {
        let failed = |cause| CallError::new(Phase::Queue, cause, 0, begun.elapsed());
        if self.inner.queue.lock().closed {
            return Err(failed(Cause::NotAccepted));
        }
        let key = self.inner.key.lock().0.clone();
        match tokio::time::timeout_at(deadline.at.into(), self.inner.pool.acquire(&key)).await {
            Ok(Ok(mut worker)) => worker.call(request, deadline).await,
            Ok(Err(error)) => Err(failed(Cause::NoWorker(with_sources(&error)))),
            Err(_) => Err(failed(Cause::Deadline)),
        }
    }

    fn permit(&self, sticky: Option<&[u8]>) -> Result<oneshot::Receiver<Permit<P>>, Cause> {
        let (grant, granted) = oneshot::channel();
        let sticky = sticky.map(|key| self.inner.hasher.hash_one(key));
        {
            let mut queue = self.inner.queue.lock();
            let max = self.inner.config.max_waiting;
            if queue.waiting.len() >= max {
                queue.waiting.retain(|waiter| !waiter.grant.is_closed());
            }
            if queue.closed || queue.waiting.len() >= max {
                return Err(Cause::NotAccepted);
            }
            queue.waiting.push_back(Waiter { sticky, grant });
        }
        dispatch(&self.inner);
        Ok(granted)
    }

    /// Replaces all workers by workers of `key`, one after the other (`max_unavailable`), each only after its
    /// successor is ready; calls go on meanwhile. Returns when all are replaced: if new workers cannot be
    /// made, the old ones go on working and this does not return. Dropping the future changes nothing.
    pub async fn roll(&self, key: WorkerKey) {
        let generation = {
            let mut current = self.inner.key.lock();
            *current = (key, current.1 + 1);
            current.1
        };
        self.inner.rolled.notify_waiters();
        loop {
            let mut replaced = std::pin::pin!(self.inner.replaced.notified());
            replaced.as_mut().enable();
            if self.inner.queue.lock().slots.iter().all(|slot| slot.generation >= generation) {
                return;
            }
            replaced.await;
        }
    }

    /// How many calls each worker has under way; `None` where there is no worker at the moment.
    pub fn load(&self) -> Vec<Option<usize>> {
        let queue = self.inner.queue.lock();
        queue.slots.iter().map(|slot| slot.worker.as_ref().map(|_| slot.open)).collect()
    }

    /// How many calls wait for a worker.
    pub fn waiting(&self) -> usize {
        let queue = self.inner.queue.lock();
        queue.waiting.iter().filter(|waiter| !waiter.grant.is_closed()).count()
    }

    /// Accepts no more calls. Those that wait fail, those that are under way are answered, and the workers
    /// go back to the pool.
    pub fn close(&self) {
        let (waiting, workers) = {
            let mut queue = self.inner.queue.lock();
            queue.closed = true;
            let workers: Vec<_> = queue.slots.iter_mut().filter_map(|slot| slot.worker.take()).collect();
            (std::mem::take(&mut queue.waiting), workers)
        };
        drop(waiting);
        self.keepers.iter().for_each(JoinHandle::abort);
        workers.iter().for_each(|worker| worker.drain());
    }
}

impl<P: Protocol> Drop for Dispatcher<P> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<P: Protocol> Inner<P> {
    fn why_nobody(&self) -> Cause {
        match self.queue.lock().last_error.clone() {
            Some(error) => Cause::NoWorker(error),
            None => Cause::NotAccepted,
        }
    }

    /// The slot for a call, if one has room.
    fn choose(&self, slots: &[Slot<P>], sticky: Option<u64>) -> Option<usize> {
        let room = self.config.calls_per_worker.max(1);
        let room = if P::HAS_IDS { room } else { 1 };
        let living = || (0..slots.len()).filter(|index| slots[*index].worker.is_some());
        let free = || living().filter(|index| slots[*index].open < room);
        match (self.config.select, sticky) {
            (Select::Sticky, Some(key)) => {
                // The highest of one draw per slot: when a slot drops out, only its own keys move.
                let best = living().max_by_key(|index| self.hasher.hash_one((key, *index)))?;
                (slots[best].open < room).then_some(best)
            }
            (Select::RoundRobin, _) => {
                let turn = self.turn.load(Ordering::Relaxed) as usize % slots.len();
                let next = free().min_by_key(|index| (index + slots.len() - turn) % slots.len())?;
                self.turn.store(next as u64 + 1, Ordering::Relaxed);
                Some(next)
            }
            (Select::Random, _) => {
                let count = free().count();
                let draw = self.hasher.hash_one(self.turn.fetch_add(1, Ordering::Relaxed));
                free().nth(draw as usize % count.max(1))
            }
            _ => free().min_by_key(|index| slots[*index].open),
        }
    }
}

/// Grants places to those who wait, oldest first. The only way in which places are given.
fn dispatch<P: Protocol>(inner: &Arc<Inner<P>>) {
    loop {
        let Some((grant, permit)) = next_grant(inner) else { return };
        // Outside the lock: a caller that has gone meanwhile has its permit dropped here, which dispatches.
        drop(grant.send(permit));
    }
}

fn next_grant<P: Protocol>(inner: &Arc<Inner<P>>) -> Option<(oneshot::Sender<Permit<P>>, Permit<P>)> {
    let mut queue = inner.queue.lock();
    let queue = &mut *queue;
    queue.waiting.retain(|waiter| !waiter.grant.is_closed());
    // A sticky call whose worker is busy blocks nobody behind it.
    let sticky = inner.config.select == Select::Sticky;
    let reach = if sticky { queue.waiting.len() } else { queue.waiting.len().min(1) };
    let (at, slot) = (0..reach)
        .find_map(|at| inner.choose(&queue.slots, queue.waiting[at].sticky).map(|slot| (at, slot)))?;
    let waiter = queue.waiting.remove(at)?;
    let (index, slot) = (slot, &mut queue.slots[slot]);
    let worker = slot.worker.clone()?;
    slot.open += 1;
    Some((waiter.grant, Permit { inner: inner.clone(), worker, slot: index, serial: slot.serial }))
}

/// How long a slot waits after a failed attempt to get a worker, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(5));

/// Keeps one slot filled. A replacement is made before the worker that it replaces is let go.
async fn keep<P: Protocol>(inner: Arc<Inner<P>>, index: usize) {
    let mut old: Option<Arc<Shared<P>>> = None;
    let mut pause = RETRY.0;
    loop {
        let (key, generation) = inner.key.lock().clone();
        // A slot that has a worker waits its turn; an empty one does not.
        let _turn = if old.is_some() { inner.replacements.acquire().await.ok() } else { None };
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
        let shared = Shared::new(&mut lease);
        let worn = Arc::new(Notify::new());
        let tell = worn.clone();
        let serving = tokio::spawn(drive(lease, shared.clone(), move || tell.notify_one()));
        install(&inner, index, shared.clone(), generation);
        if let Some(old) = old.take() {
            old.drain();
        }
        drop(_turn);
        if is_over(&inner, &worn, serving, generation).await {
            remove(&inner, index, &shared);
        } else {
            old = Some(shared);
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

fn install<P: Protocol>(inner: &Arc<Inner<P>>, index: usize, worker: Arc<Shared<P>>, generation: u64) {
    {
        let mut queue = inner.queue.lock();
        let slot = &mut queue.slots[index];
        *slot = Slot { worker: Some(worker), open: 0, serial: slot.serial + 1, generation };
        queue.last_error = None;
    }
    inner.replaced.notify_waiters();
    dispatch(inner);
}

fn remove<P: Protocol>(inner: &Arc<Inner<P>>, index: usize, worker: &Arc<Shared<P>>) {
    {
        let mut queue = inner.queue.lock();
        let slot = &mut queue.slots[index];
        if slot.worker.as_ref().is_some_and(|current| Arc::ptr_eq(current, worker)) {
            slot.worker = None;
        }
    }
    dispatch(inner);
}

/// With no worker left, those who wait are told why instead of waiting for their deadlines.
fn no_worker<P: Protocol>(inner: &Inner<P>, error: String) {
    let waiting = {
        let mut queue = inner.queue.lock();
        queue.last_error = Some(error);
        let none = queue.slots.iter().all(|slot| slot.worker.is_none());
        if none { std::mem::take(&mut queue.waiting) } else { VecDeque::new() }
    };
    drop(waiting);
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(Some(error), |error| error.source());
    sources.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
