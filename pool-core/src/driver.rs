//! The driver: the one task that carries out the ledger's orders and keeps its time.
//!
//! Dropping a lease only queues and wakes; the driver starts one task per order. It is started when
//! it is first needed, dies with its runtime, and is then started again by whoever needs it next. It
//! keeps the pool alive until the last handle is gone and everything is destroyed.

use std::future::Future;
use std::hash::BuildHasher;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context as TaskContext, Poll, Waker};

use tokio::runtime::Handle;

use crate::call::contained;
use crate::job::{Task, run};
use crate::ledger::{Job, Order};
use crate::manager::Manager;
use crate::meta::Reason;
use crate::observer::Observer;
use crate::rt::{self, Placement};
use crate::shared::{After, Inner, Shared};
use crate::time::Time;
use crate::watch::Watch;

/// What the pool knows of its driver, under the lock.
pub(crate) struct DriverSeat {
    pub(crate) alive: bool,
    /// `None` while it is awake or about to be.
    pub(crate) waker: Option<Waker>,
    /// It will look at the time then, at the latest.
    pub(crate) armed: Time,
    /// Where it runs, once it has run.
    pub(crate) handle: Option<Handle>,
    /// It has run, and where it runs time goes on by itself. A runtime of one thread stands still
    /// whenever nobody is in it.
    steady: bool,
}

impl DriverSeat {
    /// Whether any caller can leave its deadline to the driver.
    pub(crate) fn is_steady(&self) -> bool {
        self.alive && self.steady
    }

    /// Whether a caller in the runtime `here` can leave its deadline to the driver.
    pub(crate) fn keeps_time_for(&self, here: &Handle) -> bool {
        let at_home = self.handle.as_ref().is_some_and(|there| there.id() == here.id());
        self.is_steady() || self.alive && at_home
    }

    /// It is about to be woken, and will look at the time then.
    pub(crate) fn rouse(&mut self) -> Option<Waker> {
        if self.alive {
            self.armed = Time::ZERO;
        }
        self.waker.take()
    }
}

impl Default for DriverSeat {
    fn default() -> Self {
        DriverSeat { alive: false, waker: None, armed: Time::NEVER, handle: None, steady: false }
    }
}

impl<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> Shared<M, O, S> {
    /// An event left work for a driver, and there is none.
    #[cold]
    pub(crate) fn want_driver(self: &Arc<Self>) {
        if !self.start_driver(false) && self.handles.load(Ordering::Acquire) == 0 {
            self.end_without_driver();
        }
    }

    /// Starts the driver where there is none. `on_thread`: on a thread of its own, if there is no
    /// runtime. Returns whether one is alive.
    pub(crate) fn start_driver(self: &Arc<Self>, on_thread: bool) -> bool {
        if self.is_forked() {
            // The parent's driver does the work; this process must not touch the resources.
            return true;
        }
        if self.state.lock().driver.alive {
            return true;
        }
        if let Placement::Runtime(handle) = &self.placement
            && self.start_on(handle)
        {
            return true;
        }
        let own_thread = matches!(self.placement, Placement::OwnThread);
        if !own_thread
            && let Some(handle) = rt::current()
            && self.start_on(&handle)
        {
            return true;
        }
        (own_thread || on_thread) && self.start_on_thread()
    }

    /// On a runtime that has ended, the driver is dropped at once.
    fn start_on(self: &Arc<Self>, handle: &Handle) -> bool {
        if !self.take_seat() {
            return true;
        }
        let driver = Driver::new(Seated(Some(Arc::clone(self))), handle.clone(), rt::is_steady(handle));
        rt::spawn(handle, driver);
        self.state.lock().driver.alive
    }

    fn start_on_thread(self: &Arc<Self>) -> bool {
        if !self.take_seat() {
            return true;
        }
        let seat = Seated(Some(Arc::clone(self)));
        let name = format!("poolyard-{}", self.state.lock().config.name);
        let started = rt::spawn_thread(name, |handle| Driver::new(seat, handle, true));
        if let Err(error) = &started {
            tracing::error!(%error, "poolyard: no thread for the driver");
        }
        started.is_ok()
    }

    fn take_seat(&self) -> bool {
        !std::mem::replace(&mut self.state.lock().driver.alive, true)
    }

    /// The pool's last handle is gone and no driver can be had: ends what is there, here and now.
    fn end_without_driver(self: &Arc<Self>) {
        loop {
            let mut ended = Vec::new();
            let mut inner = self.state.lock();
            if inner.driver.alive {
                return;
            }
            while let Some(order) = inner.ledger.out.orders.pop_front() {
                ended.extend(inner.end_order(order, self.now()));
            }
            let after = inner.settle();
            drop(inner);
            _ = after.map(After::carry_out);
            if ended.is_empty() {
                return;
            }
            for (held, reason) in ended {
                let held = *held;
                _ = contained(|| self.manager.destroy_now(&held.key, held.resource, reason));
            }
        }
    }
}

impl<M: Manager> Inner<M> {
    /// Answers an order without a driver; the resource, if there is one, is to be ended by the caller.
    fn end_order(&mut self, order: Order, now: Time) -> Option<(Box<crate::held::Held<M>>, Reason)> {
        let slot = order.id.slot();
        match order.job {
            Job::Create => {
                _ = self.ledger.create_failed(slot, now);
                None
            }
            Job::Destroy(reason) => {
                let held = self.parked[slot as usize].take();
                self.ledger.destroyed(slot, now);
                held.map(|held| (held, reason))
            }
            Job::Recycle | Job::Check | Job::Hibernate | Job::Wake | Job::Specialise => {
                self.ledger.lost(slot, Reason::Interrupted, true, now);
                None
            }
        }
    }
}

/// The driver's task.
struct Driver<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> {
    seat: Seated<M, O, S>,
    handle: Handle,
    /// Time goes on by itself there.
    steady: bool,
    sleep: Pin<Box<tokio::time::Sleep>>,
    armed: Time,
    watch: Watch,
}

impl<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> Driver<M, O, S> {
    fn new(seat: Seated<M, O, S>, handle: Handle, steady: bool) -> Self {
        let sleep = rt::sleep_until(&handle, None);
        let has_source = seat.0.as_ref().is_some_and(|shared| !shared.source.is_none());
        Driver { seat, handle, steady, sleep, armed: Time::NEVER, watch: Watch::new(has_source) }
    }

    /// Takes what is to be done, and leaves word when to be woken. `None`: nothing will ever be.
    fn take_orders(&mut self, shared: &Arc<Shared<M, O, S>>, waker: &Waker) -> Option<Vec<Task<M, O, S>>> {
        let waker = waker.clone();
        let now = shared.clock.fine();
        self.watch.look(shared, now);
        let mut inner = shared.state.lock();
        if inner.ledger.alarm() <= now {
            inner.ledger.tick(now);
        }
        let mut tasks = Vec::with_capacity(inner.ledger.out.orders.len());
        while let Some(order) = inner.ledger.out.orders.pop_front() {
            tasks.push(Task::new(shared, &mut inner, order));
        }
        self.watch.plan(&inner.config, now);
        self.armed = inner.ledger.alarm().min(self.watch.next());
        inner.driver.armed = self.armed;
        let finished = tasks.is_empty() && inner.ledger.is_drained();
        let old = match finished {
            true => std::mem::take(&mut inner.driver).waker,
            false => inner.driver.waker.replace(waker),
        };
        if !finished && inner.driver.handle.is_none() {
            inner.driver.handle = Some(self.handle.clone());
            inner.driver.steady = self.steady;
        }
        let after = inner.settle();
        drop(inner);
        drop(old);
        _ = after.map(After::carry_out);
        (!finished).then_some(tasks)
    }
}

impl<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> Future for Driver<M, O, S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let this = &mut *self;
        let shared = Arc::clone(this.seat.0.as_ref().expect("a driver is polled until it is done"));
        loop {
            let before = this.armed;
            let Some(tasks) = this.take_orders(&shared, cx.waker()) else {
                this.seat.0 = None;
                return Poll::Ready(());
            };
            for task in tasks {
                rt::spawn(&this.handle, run(task));
            }
            if this.armed != before {
                this.sleep.as_mut().reset(rt::deadline(shared.clock.instant(this.armed)));
            }
            if this.sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            this.armed = Time::NEVER;
            this.sleep.as_mut().reset(rt::deadline(None));
        }
    }
}

/// Whoever sits in the driver's seat; dropped before its work is done, it leaves the seat free.
struct Seated<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static>(Option<Arc<Shared<M, O, S>>>);

impl<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> Drop for Seated<M, O, S> {
    fn drop(&mut self) {
        let Some(shared) = self.0.take() else { return };
        let mut after = After::new();
        let mut inner = shared.state.lock();
        let old = std::mem::take(&mut inner.driver);
        inner.wake_all_waiting(&mut after);
        drop(inner);
        drop(old);
        after.carry_out();
        if shared.handles.load(Ordering::Acquire) == 0 && !shared.is_forked() {
            shared.end_without_driver();
        }
    }
}

impl<M: Manager> Inner<M> {
    /// The driver has died: those who wait may start another where they are.
    fn wake_all_waiting(&mut self, after: &mut After<M>) {
        for waiter in self.ledger.waiting_ids() {
            let waker = self.seat(waiter).waker.take();
            after.wake(waker);
        }
        for waker in std::mem::take(&mut self.draining) {
            after.wake(Some(waker));
        }
        for waker in self.warm_calls.wake_all() {
            after.wake(Some(waker));
        }
    }
}
