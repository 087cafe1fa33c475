//! From a key to a lease: the fast path, the queue, and plain threads.

use std::future::Future;
use std::hash::BuildHasher;
use std::panic::Location;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crate::error::{AcquireError, CreateFailure, TryAcquireError};
use crate::held::Held;
use crate::lease::Lease;
use crate::ledger::{Acquired, Fate, Gate};
use crate::manager::Manager;
use crate::observer::Observer;
use crate::rt;
use crate::shared::{Inner, Seat, Shared};
use crate::time::{Clock, Time};

/// Options of one acquire.
///
/// ```
/// use std::time::{Duration, Instant};
/// use poolyard_core::Acquire;
///
/// let options = Acquire { deadline: Some(Instant::now() + Duration::from_secs(1)) };
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acquire {
    /// When to give up, whatever `wait_timeout` says. `None`: after `wait_timeout`.
    pub deadline: Option<Instant>,
}

/// Between two looks; the processor decides how long a pause is, from 10 to 50 ns.
const PAUSES: usize = 4;

type Acquisition<M, O, S> = Result<Lease<M, O, S>, AcquireError<<M as Manager>::Error>>;

impl<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> Shared<M, O, S> {
    pub(crate) fn try_acquire(
        self: &Arc<Self>,
        key: &M::Key,
        location: &'static Location<'static>,
    ) -> Result<Lease<M, O, S>, TryAcquireError> {
        match self.take(key, location) {
            Some(held) => Ok(Lease::new(self, held, false)),
            None => Err(self.why_nothing_is_taken()),
        }
    }

    /// Takes a resource that is ready without a check. One word, so that it comes back in a register:
    /// a result that goes through memory costs more than the ledger's part.
    fn take(self: &Arc<Self>, key: &M::Key, location: &'static Location<'static>) -> Option<Box<Held<M>>> {
        if self.is_forked() {
            return None;
        }
        let hash = self.hasher.hash_one(key);
        let now = self.now();
        self.event(|inner| {
            let group = inner.find_group(hash, key)?;
            let slot = inner.ledger.try_acquire(group, now, location)?;
            Some(inner.unpark(slot))
        })
    }

    #[cold]
    fn why_nothing_is_taken(&self) -> TryAcquireError {
        if self.is_forked() {
            return TryAcquireError::Forked;
        }
        match self.state.lock().ledger.gate() {
            Gate::Open => TryAcquireError::NoneReady,
            Gate::Suspended => TryAcquireError::Suspended,
            Gate::Closed => TryAcquireError::Closed,
        }
    }

    /// Looks again a few times before the caller queues: where leases are short and their holders run on
    /// other cores, a resource is back sooner than a queue can be joined. As long as somebody waits for
    /// the key, there is nothing to be had, so nobody is passed but as throughput mode allows.
    #[cold]
    fn look_again(
        self: &Arc<Self>,
        key: &M::Key,
        location: &'static Location<'static>,
    ) -> Option<Lease<M, O, S>> {
        let taken = (0..self.patience.rounds()).find_map(|_| {
            (0..PAUSES).for_each(|_| std::hint::spin_loop());
            self.take(key, location)
        });
        self.patience.learn(taken.is_some());
        taken.map(|held| Lease::new(self, held, false))
    }

    /// Takes what is ready after all, or a place in the queue, in which `waker` is left.
    #[cold]
    fn queue(
        self: &Arc<Self>,
        key: &M::Key,
        options: &Acquire,
        location: &'static Location<'static>,
        waker: &Waker,
    ) -> Result<Begun<'_, M, O, S>, AcquireError<M::Error>> {
        if self.is_forked() {
            return Err(AcquireError::Forked);
        }
        let now = self.now();
        let deadline = options.deadline.map(|deadline| self.clock.at(deadline));
        let mut request = Request { deadline, now, location, waker: Some(waker.clone()) };
        let hash = self.hasher.hash_one(key);
        let known =
            self.event(|inner| inner.find_group(hash, key).map(|group| inner.ask(group, &mut request)));
        let answer = match known {
            Some(answer) => answer,
            None => {
                let newcomer = self.introduce(key)?;
                self.event(|inner| match inner.ledger.gate() {
                    Gate::Closed => None,
                    _ => {
                        let group = inner.find_or_add_group(&newcomer);
                        Some(inner.ask(group, &mut request))
                    }
                })
                .ok_or(AcquireError::Closed)?
            }
        };
        let Answer { acquired, held, deadline, driven, cost, cause } = answer;
        match acquired {
            Acquired::Ready(_) => {
                let held = held.expect("a ready slot has a resource");
                Ok(Begun::Ready(Lease::new(self, held, false)))
            }
            Acquired::Queued(waiter) => Ok(Begun::Queued(Waiting {
                shared: self,
                waiter,
                hash,
                since: now,
                deadline,
                backstop: None,
                driven,
                done: false,
            })),
            Acquired::CircuitOpen(until) => {
                Err(AcquireError::CircuitOpen { retry_after: until.since(now), cause })
            }
            refusal => Err(self.refusal(refusal, cost)),
        }
    }

    fn refusal(&self, refusal: Acquired, cost: u64) -> AcquireError<M::Error> {
        let config = Arc::clone(&self.state.lock().config);
        match refusal {
            Acquired::TooManyWaiters => AcquireError::TooManyWaiters { max_waiters: config.max_waiters },
            Acquired::TooCostly => AcquireError::TooCostly { cost, max_cost: config.max_cost },
            _ => AcquireError::Closed,
        }
    }

    /// As [`acquire`](Self::acquire), for plain threads.
    pub(crate) fn acquire_blocking(
        self: &Arc<Self>,
        key: &M::Key,
        options: &Acquire,
        location: &'static Location<'static>,
    ) -> Acquisition<M, O, S> {
        if let Some(held) = self.take(key, location) {
            return Ok(Lease::new(self, held, false));
        }
        if rt::current().is_some() {
            return Err(AcquireError::InsideRuntime);
        }
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        match self.queue(key, options, location, &waker)? {
            Begun::Ready(lease) => Ok(lease),
            Begun::Queued(waiting) => waiting.block(&waker),
        }
    }
}

/// An acquire: the fast path at its first poll, a place in the queue after that.
pub(crate) struct Acquiring<'a, M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> {
    pub(crate) shared: &'a Arc<Shared<M, O, S>>,
    pub(crate) key: &'a M::Key,
    pub(crate) options: Acquire,
    pub(crate) location: &'static Location<'static>,
    waiting: Option<Waiting<'a, M, O, S>>,
}

impl<'a, M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> Acquiring<'a, M, O, S> {
    #[inline]
    pub(crate) fn new(
        shared: &'a Arc<Shared<M, O, S>>,
        key: &'a M::Key,
        options: Acquire,
        location: &'static Location<'static>,
    ) -> Self {
        Acquiring { shared, key, options, location, waiting: None }
    }

    #[cold]
    fn poll_slow(&mut self, cx: &mut TaskContext<'_>) -> Poll<Acquisition<M, O, S>> {
        if self.waiting.is_none() {
            if let Some(lease) = self.shared.look_again(self.key, self.location) {
                return Poll::Ready(Ok(lease));
            }
            match self.shared.queue(self.key, &self.options, self.location, cx.waker())? {
                Begun::Ready(lease) => return Poll::Ready(Ok(lease)),
                Begun::Queued(waiting) if waiting.driven => {
                    self.waiting = Some(waiting);
                    return Poll::Pending;
                }
                Begun::Queued(waiting) => self.waiting = Some(waiting),
            }
        }
        let waiting = self.waiting.as_mut().expect("a place in the queue was taken");
        Pin::new(waiting).poll(cx)
    }
}

impl<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> Future for Acquiring<'_, M, O, S> {
    type Output = Acquisition<M, O, S>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.waiting.is_none()
            && let Some(held) = this.shared.take(this.key, this.location)
        {
            return Poll::Ready(Ok(Lease::new(this.shared, held, false)));
        }
        this.poll_slow(cx)
    }
}

enum Begun<'a, M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> {
    Ready(Lease<M, O, S>),
    Queued(Waiting<'a, M, O, S>),
}

/// What a caller asks of the ledger.
struct Request {
    /// Its own, where it has one.
    deadline: Option<Time>,
    now: Time,
    location: &'static Location<'static>,
    /// Taken where it gets a place in the queue.
    waker: Option<Waker>,
}

/// What the ledger and the shell say to that.
struct Answer<M: Manager> {
    acquired: Acquired,
    held: Option<Box<Held<M>>>,
    deadline: Time,
    /// The place is taken, the waker left, and a driver keeps the deadline: nothing is left to do.
    driven: bool,
    cost: u64,
    /// The last error, where creations keep failing.
    cause: Option<Arc<str>>,
}

/// A caller in the queue. Dropping it gives up the place, and passes on what was promised.
struct Waiting<'a, M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> {
    shared: &'a Arc<Shared<M, O, S>>,
    waiter: u32,
    /// Of its key.
    hash: u64,
    since: Time,
    deadline: Time,
    /// A timer on the caller's own runtime, where the driver lives on another one.
    backstop: Option<Pin<Box<tokio::time::Sleep>>>,
    /// A driver was seen to, and a backstop set if needed.
    driven: bool,
    done: bool,
}

impl<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> Waiting<'_, M, O, S> {
    /// The outcome, if there is one; else leaves the waker to be woken by it.
    fn look(&mut self, waker: &Waker) -> Poll<Acquisition<M, O, S>> {
        let mut spare = None;
        loop {
            let now = self.shared.now();
            let mut inner = self.shared.state.lock();
            let fate = inner.ledger.fate(self.waiter);
            if fate != Fate::Waiting {
                self.done = true;
                let outcome = inner.conclude(self.waiter, fate, now);
                drop(inner);
                return Poll::Ready(self.tell(outcome));
            }
            self.driven &= inner.driver.alive;
            let left = &mut inner.seat(self.waiter).waker;
            if left.as_ref().is_some_and(|left| left.will_wake(waker)) {
                return Poll::Pending;
            }
            if let Some(waker) = spare.take() {
                let old = left.replace(waker);
                drop(inner);
                drop(old);
                return Poll::Pending;
            }
            drop(inner);
            spare = Some(waker.clone());
        }
    }

    fn tell(&self, outcome: Result<Box<Held<M>>, AcquireError<M::Error>>) -> Acquisition<M, O, S> {
        let held = outcome.inspect_err(|error| {
            tracing::trace!(key = self.hash, waited = ?self.waited(), %error, "poolyard: not served");
            if let AcquireError::TimedOut { phase, .. } = error {
                _ = crate::call::contained(|| self.shared.observer.timed_out(*phase));
            }
        })?;
        tracing::trace!(id = %held.meta.id, waited = ?self.waited(), "poolyard: served");
        Ok(Lease::new(self.shared, held, true))
    }

    fn waited(&self) -> Duration {
        self.shared.clock.fine().since(self.since)
    }

    /// Makes sure that somebody keeps the deadline: the driver, and where it lives on another
    /// runtime than the caller, the caller itself.
    fn ensure_driven(&mut self) {
        self.driven = self.shared.start_driver(true);
        let Some(here) = rt::current() else { return };
        if !self.shared.state.lock().driver.keeps_time_for(&here)
            && let Some(deadline) = self.shared.clock.instant(self.deadline)
        {
            self.backstop = Some(rt::sleep_until(&here, Some(deadline)));
        }
    }

    fn keep_time(&self) {
        let now = self.shared.clock.fine();
        self.shared.event(|inner| inner.ledger.tick(now));
    }

    /// Waits on a plain thread.
    fn block(self, waker: &Waker) -> Acquisition<M, O, S> {
        let mut cx = TaskContext::from_waker(waker);
        let mut waiting = pin!(self);
        loop {
            if let Poll::Ready(outcome) = waiting.as_mut().poll(&mut cx) {
                return outcome;
            }
            match waiting.shared.clock.instant(waiting.deadline) {
                None => std::thread::park(),
                Some(deadline) => {
                    std::thread::park_timeout(deadline.saturating_duration_since(crate::time::now()));
                    waiting.keep_time();
                }
            }
        }
    }
}

impl<M: Manager> Inner<M> {
    fn ask(&mut self, group: u32, request: &mut Request) -> Answer<M> {
        let Request { deadline: own, now, location, ref mut waker } = *request;
        let common = now.plus_maybe(self.config.wait_timeout).after(Clock::LAG);
        let cost = self.ledger.cost_of(group);
        let acquired = self.ledger.acquire(group, own, common, now, location);
        let (mut driven, mut cause) = (false, None);
        let held = match acquired {
            Acquired::Ready(slot) => Some(self.unpark(slot)),
            Acquired::Queued(waiter) => {
                driven = self.driver.is_steady() && self.ledger.fate(waiter) == Fate::Waiting;
                *self.seat(waiter) = Seat { waker: waker.take(), ..Default::default() };
                None
            }
            Acquired::CircuitOpen(_) => {
                cause = self.shell(group).last_error.clone();
                None
            }
            _ => None,
        };
        Answer { acquired, held, deadline: own.unwrap_or(common), driven, cost, cause }
    }

    /// What a settled waiter gets.
    fn conclude(
        &mut self,
        waiter: u32,
        fate: Fate,
        now: Time,
    ) -> Result<Box<Held<M>>, AcquireError<M::Error>> {
        let last_error = self.seat(waiter).last_error.take();
        match fate {
            Fate::Granted(_) => {
                let slot = self.ledger.pick_up(waiter, now).expect("a grant is for a slot");
                return Ok(self.unpark(slot));
            }
            _ => self.ledger.dismiss(waiter),
        }
        Err(match fate {
            Fate::TimedOut(phase) => AcquireError::TimedOut { phase, counts: self.counts(), last_error },
            Fate::CircuitOpen(until) => {
                AcquireError::CircuitOpen { retry_after: until.since(now), cause: last_error }
            }
            Fate::CreateFailed => match self.seat(waiter).failure.take() {
                Some(CreateFailure::Error(error)) => AcquireError::Create(error),
                Some(CreateFailure::Panicked(message)) => AcquireError::CreatePanicked(message),
                Some(CreateFailure::Gone(cause)) => AcquireError::CreateGone(cause),
                _ => AcquireError::TimedOut {
                    phase: crate::error::Phase::Create,
                    counts: self.counts(),
                    last_error,
                },
            },
            _ => AcquireError::Closed,
        })
    }
}

impl<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> Future for Waiting<'_, M, O, S> {
    type Output = Acquisition<M, O, S>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(outcome) = self.look(cx.waker()) {
            return Poll::Ready(outcome);
        }
        if !self.driven {
            self.ensure_driven();
        }
        let rung = self.backstop.as_mut().is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready());
        if rung {
            self.backstop = None;
            self.keep_time();
            return self.look(cx.waker());
        }
        Poll::Pending
    }
}

impl<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> Drop for Waiting<'_, M, O, S> {
    fn drop(&mut self) {
        if self.done || self.shared.is_forked() {
            return;
        }
        let now = self.shared.now();
        let left = self.shared.event(|inner| {
            let seat = std::mem::take(inner.seat(self.waiter));
            inner.ledger.cancel(self.waiter, now);
            seat
        });
        tracing::trace!(key = self.hash, waited = ?self.waited(), "poolyard: cancelled");
        drop(left);
    }
}

/// Wakes a thread that is parked in `acquire_blocking`.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}
