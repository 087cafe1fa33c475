//! [`Users`]: who takes the steps of a plan, over a real pool.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use poolyard_core::{AcquireError, Lease, Manager, Pool, Shed};
use tokio::time::{Instant, sleep};

use super::event::{Event, Refusal, Seen};
use super::plan::{Op, Plan};
use super::watch::{Tracked, Watched};
use super::{KeyOf, Summary, World};
use crate::cancel::HandPolled;
use crate::script::Step;

/// As long as the tasks of an in-memory manager take to come to rest, by a wide margin.
const YIELDS: usize = 64;
/// The smallest time that a timer knows.
const TICK: Duration = Duration::from_millis(1);
/// So many ticks a manager may be at work on something real before time is taken for passed.
const REAL_TICKS: usize = 20;
/// So often what was woken may wake others before everybody is taken for woken.
const ROUNDS: usize = 100;

type WatchedOf<W> = Watched<<W as World>::Manager>;
type LeaseOf<W> = Lease<WatchedOf<W>>;
type ErrorOf<W> = AcquireError<<WatchedOf<W> as Manager>::Error>;
type Call<W> = HandPolled<Pin<Box<dyn Future<Output = Result<LeaseOf<W>, ErrorOf<W>>>>>>;

/// Somebody who waits.
struct Wait<W: World> {
    number: u64,
    key: KeyOf<W>,
    call: Call<W>,
    /// How often it had been woken when it was polled last; `None` before its first poll.
    wakes_seen: Option<usize>,
}

/// All users of one pool. Waits stand in the order in which they began.
pub(super) struct Users<'w, W: World> {
    world: &'w W,
    pool: Pool<WatchedOf<W>>,
    watched: WatchedOf<W>,
    paused: bool,
    waits: Vec<Wait<W>>,
    held: Vec<LeaseOf<W>>,
    callers: u64,
    pub(super) summary: Summary,
}

impl<'w, W: World> Users<'w, W> {
    pub(super) fn new(world: &'w W, pool: Pool<WatchedOf<W>>, watched: WatchedOf<W>, paused: bool) -> Self {
        let (waits, held, summary) = (Vec::new(), Vec::new(), Summary::default());
        Self { world, pool, watched, paused, waits, held, callers: 0, summary }
    }

    fn tell(&self, event: Event<KeyOf<W>>) {
        self.watched.book.tell(event);
    }

    pub(super) async fn take(&mut self, op: &Op<KeyOf<W>>) {
        self.summary.steps += 1;
        match op {
            Op::Acquire(key) => self.acquire(key).await,
            Op::TryAcquire(key) => self.try_acquire(key).await,
            Op::Cancel(wait) => self.cancel(*wait),
            Op::Use(user, way) => {
                if let Some(user) = choose(*user, &self.held) {
                    self.world.use_it(&mut self.held[user], *way).await;
                }
            }
            Op::Release(user) => drop(self.give_back(*user)),
            Op::Discard(user) => {
                if let Some(lease) = self.give_back(*user) {
                    self.tell(Event::Condemned { resource: lease.number, why: "it was discarded" });
                    Lease::discard(lease);
                }
            }
            Op::Detach(user) => self.detach(*user).await,
            Op::Fault(method, end) => drop(self.watched.faulty.script(*method, [Step::new(*end)])),
            Op::Work => self.work_at_once().await,
            Op::Settle => self.settle().await,
            Op::Pass(time) => self.pass(*time).await,
            _ => self.take_as_owner(op).await,
        }
        self.look();
    }

    /// What is not done by users. Who was promised something takes it first: a promise is kept,
    /// whatever comes after it.
    async fn take_as_owner(&mut self, op: &Op<KeyOf<W>>) {
        self.poll_woken().await;
        match op {
            Op::Gone(number) => self.report_gone(*number),
            Op::Warm(key, wanted) => drop(HandPolled::new(self.pool.warm(key, *wanted)).poll()),
            Op::Retain(number) => self.retain(*number),
            Op::Shed(count) => drop(self.pool.shed(Shed::Resources(*count))),
            Op::Invalidate(key) => {
                self.condemn_all(Some(key));
                self.pool.invalidate(key);
            }
            Op::InvalidateAll => {
                self.condemn_all(None);
                self.pool.invalidate_all();
            }
            Op::Resize(total) => self.resize(*total),
            Op::Suspend => {
                self.pool.suspend();
                self.tell(Event::Suspended);
            }
            Op::Resume => {
                self.tell(Event::Resumed);
                self.pool.resume();
            }
            Op::Close => {
                self.tell(Event::Closed);
                // Closed from the first poll on; who waits for it is nobody's business here.
                let _ = HandPolled::new(self.pool.close(Duration::ZERO)).poll();
            }
            _ => {}
        }
    }

    async fn acquire(&mut self, key: &KeyOf<W>) {
        self.callers += 1;
        let (pool, wanted) = (self.pool.clone(), key.clone());
        let call = HandPolled::new(Box::pin(async move { pool.acquire(&wanted).await }) as Pin<Box<_>>);
        let number = self.callers;
        self.tell(Event::Asked { wait: number, key: key.clone() });
        self.waits.push(Wait { number, key: key.clone(), call, wakes_seen: None });
        self.poll(self.waits.len() - 1).await;
    }

    async fn try_acquire(&mut self, key: &KeyOf<W>) {
        let Ok(lease) = self.pool.try_acquire(key) else { return };
        self.callers += 1;
        let number = self.callers;
        self.tell(Event::Asked { wait: number, key: key.clone() });
        // What was promised to others before is theirs already.
        self.poll_woken().await;
        self.served(number, key, lease, true).await;
    }

    fn cancel(&mut self, wait: usize) {
        let Some(wait) = choose(wait, &self.waits) else { return };
        let wait = self.waits.remove(wait);
        self.tell(Event::Left { wait: wait.number });
        drop(wait);
    }

    fn give_back(&mut self, user: usize) -> Option<LeaseOf<W>> {
        let lease = self.held.swap_remove(choose(user, &self.held)?);
        self.tell(Event::GivenBack { resource: lease.number });
        Some(lease)
    }

    async fn detach(&mut self, user: usize) {
        let Some(user) = choose(user, &self.held) else { return };
        let lease = self.held.swap_remove(user);
        self.tell(Event::Detached { resource: lease.number });
        let key = Lease::key(&lease).clone();
        if let Some(resource) = Tracked::into_inner(Lease::detach(lease)) {
            self.world.detached(&key, resource).await;
        }
    }

    fn report_gone(&mut self, number: usize) {
        let there = self.watched.book.read(|reference| reference.all_of(None));
        let Some(resource) = choose(number, &there).map(|index| there[index]) else { return };
        let gone = self.watched.gone.lock().get(&resource).cloned();
        self.tell(Event::Condemned { resource, why: "it was reported gone" });
        if let Some(gone) = gone {
            gone.report("reported by the plan");
        }
    }

    fn retain(&mut self, number: usize) {
        let idle = self.pool.snapshot().counts.idle;
        let mut place = 0;
        self.pool.retain(|_, it, _| {
            place += 1;
            let keep = number.checked_rem(idle) != Some(place - 1);
            if !keep {
                self.tell(Event::Condemned { resource: it.number, why: "it was not retained" });
            }
            keep
        });
    }

    fn condemn_all(&mut self, key: Option<&KeyOf<W>>) {
        for resource in self.watched.book.read(|reference| reference.all_of(key)) {
            self.tell(Event::Condemned { resource, why: "it was invalidated" });
        }
    }

    fn resize(&mut self, total: usize) {
        let resized = self.pool.resize(|config| {
            config.max_total = total;
            config.max_per_key = config.max_per_key.map(|limit| limit.min(total));
            config.max_idle = config.max_idle.map(|limit| limit.min(total));
        });
        if resized.is_ok() {
            self.tell(Event::Resized(Box::new(self.pool.config())));
        }
    }

    /// Polls a wait. If it is over, so are all older ones of its key, which are polled before.
    async fn poll(&mut self, index: usize) {
        let wait = &mut self.waits[index];
        let before = wait.wakes_seen.replace(wait.call.wakes());
        let Poll::Ready(result) = wait.call.poll() else { return };
        let woken = before.is_none_or(|before| self.waits[index].call.wakes() > before);
        let Wait { number, key, .. } = self.waits.remove(index);
        let older = self.waits.iter().position(|wait| wait.key == key && wait.number < number);
        if let Some(older) = older.filter(|_| result.is_ok()) {
            Box::pin(self.poll(older)).await;
        }
        match result {
            Ok(lease) => self.served(number, &key, lease, woken).await,
            Err(error) => {
                self.summary.refused += 1;
                self.tell(Event::Refused { wait: number, why: refusal(&error) });
            }
        }
    }

    async fn served(&mut self, wait: u64, key: &KeyOf<W>, mut lease: LeaseOf<W>, woken: bool) {
        self.summary.served += 1;
        let (resource, uses) = (lease.number, Lease::meta(&lease).uses);
        self.tell(Event::Served { wait, resource, key: key.clone(), uses, woken });
        if let Err(what) = self.world.expect(key, &mut lease).await {
            self.tell(Event::Unexpected { resource, what });
        }
        self.held.push(lease);
    }

    /// Does what an executor does, and says whether anybody was woken.
    async fn poll_woken(&mut self) -> bool {
        let mut any = false;
        while let Some(woken) = self.waits.iter().position(|wait| wait.call.is_woken()) {
            any = true;
            self.poll(woken).await;
        }
        any
    }

    /// Lets the pool work and users take what they were promised, until neither has anything to do.
    async fn settle(&mut self) {
        for _ in 0..ROUNDS {
            self.work().await;
            if !self.poll_woken().await {
                return;
            }
        }
    }

    /// Time passes. Who is woken meanwhile does not sleep on: what he was promised grows old.
    async fn pass(&mut self, time: Duration) {
        self.poll_woken().await;
        let end = Instant::now() + time;
        while Instant::now() < end {
            sleep((TICK * 10).min(end - Instant::now())).await;
            self.poll_woken().await;
        }
        self.settle().await;
    }

    /// The pool does what takes no time.
    async fn work_at_once(&self) {
        for _ in 0..YIELDS {
            tokio::task::yield_now().await;
        }
    }

    async fn work(&self) {
        self.work_at_once().await;
        if self.paused {
            // Paused time moves when there is nothing else to do.
            return sleep(TICK).await;
        }
        for _ in 0..REAL_TICKS {
            if self.seen().calm {
                return;
            }
            sleep(TICK).await;
        }
    }

    fn seen(&self) -> Seen<KeyOf<W>> {
        Seen::of(&self.pool, self.watched.book.read(|reference| reference.is_busy()))
    }

    /// Compares the pool's figures with the reference's. They speak of the same moment only if
    /// nobody has been promised something that he has not taken.
    fn look(&self) {
        let mut seen = self.seen();
        seen.calm &= self.waits.iter().all(|wait| !wait.call.is_woken());
        self.tell(Event::Seen(seen));
    }

    /// Everything goes well from now on and everyone gives back what he has, until nobody waits.
    /// Then the pool is closed.
    pub(super) async fn finish(mut self, plan: &Plan<KeyOf<W>>) -> Summary {
        self.watched.faulty.clear_script();
        self.tell(Event::Resumed);
        self.pool.resume();
        let config = &plan.config;
        let calls = config.create_timeout + config.recycle_timeout + config.health_check_timeout;
        let patience = config.wait_timeout.unwrap_or(calls) + calls + config.destroy_timeout * 2;
        let deadline = Instant::now() + patience;
        loop {
            while !self.held.is_empty() {
                drop(self.give_back(0));
            }
            self.settle().await;
            self.look();
            if (self.waits.is_empty() && self.held.is_empty()) || Instant::now() >= deadline {
                break;
            }
            sleep(TICK * 10).await;
        }
        self.close(patience).await
    }

    async fn close(mut self, patience: Duration) -> Summary {
        if self.watched.book.is_broken() {
            return self.summary;
        }
        if self.waits.is_empty() {
            self.tell(Event::Closed);
            self.pool.close(patience).await;
            self.settle().await;
        }
        self.tell(Event::Finished);
        self.summary.callers = self.callers;
        self.summary
    }
}

fn refusal<E: Debug>(error: &AcquireError<E>) -> Refusal {
    match error {
        AcquireError::Closed => Refusal::Closed,
        AcquireError::TimedOut { .. } => Refusal::TimedOut,
        AcquireError::TooManyWaiters { .. } => Refusal::TooManyWaiters,
        AcquireError::CircuitOpen { .. } => Refusal::CircuitOpen,
        AcquireError::TooCostly { .. } => Refusal::TooCostly,
        AcquireError::Create(_) | AcquireError::CreatePanicked(_) | AcquireError::CreateGone(_) => {
            Refusal::Create
        }
        other => Refusal::Other(format!("{other:?}")),
    }
}

/// An index into a list, from any number.
fn choose<T>(number: usize, list: &[T]) -> Option<usize> {
    number.checked_rem(list.len())
}
