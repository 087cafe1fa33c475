//! The law about a whole pool over the manager: random users, one pool, and what must always hold.

use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use poolyard_core::{AcquireError, Lease, Manager, Pool, ResourceId, ReuseOrder};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::cancel::HandPolled;
use crate::faults::{Faulty, FaultyError};
use crate::harness::{Capability, Harness, KeyOf};
use crate::script::{Method, Step, Then};
use crate::trial::Trial;

/// How long the pool's driver may work between two operations of [`PoolOp::Settle`].
const A_MOMENT: Duration = Duration::from_millis(1);

/// What the users of a pool do next. Numbers choose among what there is, so that every list of
/// operations makes sense and stays so when it shrinks.
#[derive(Clone, Debug)]
pub enum PoolOp {
    /// Somebody asks for the key with this number, and is polled once.
    Start(usize),
    /// The wait with this number is polled, woken or not.
    Poll(usize),
    /// The wait with this number is dropped.
    Cancel(usize),
    /// The lease with this number is dropped.
    Return(usize),
    /// The lease with this number is discarded.
    Discard(usize),
    /// The lease with this number gets this mark.
    Dirty(usize, u32),
    /// The resource of the lease with this number is broken from outside.
    Kill(usize),
    /// All resources of the key with this number are out of date.
    Invalidate(usize),
    /// The next call of a method ends like this, before it reaches the manager.
    Fault(Method, Then),
    /// The pool gets a moment to work, and then all waits that were woken are polled.
    Settle,
}

/// A pool's configuration, and what its users do.
#[derive(Clone, Debug)]
pub struct PoolPlan {
    /// How many resources there may be.
    pub max_total: usize,
    /// How many of one key, if that is limited.
    pub max_per_key: Option<usize>,
    /// How many idle ones, if that is limited.
    pub max_idle: Option<usize>,
    /// The resource that was returned first is used first.
    pub fifo: bool,
    /// Resources are checked before every hand-out.
    pub checked: bool,
    /// What the users do.
    pub ops: Vec<PoolOp>,
}

/// A proptest strategy of up to `ops` operations on small pools. Plans shrink towards few
/// operations on a pool of one.
pub fn pool_plans(ops: usize) -> impl Strategy<Value = PoolPlan> {
    let limits = (1..5usize)
        .prop_flat_map(|max_total| (Just(max_total), option::of(1..=max_total), option::of(0..=max_total)));
    (limits, any::<bool>(), any::<bool>(), vec(pool_ops(), 0..=ops)).prop_map(
        |((max_total, max_per_key, max_idle), fifo, checked, ops)| PoolPlan {
            max_total,
            max_per_key,
            max_idle,
            fifo,
            checked,
            ops,
        },
    )
}

fn pool_ops() -> impl Strategy<Value = PoolOp> {
    let index = || 0..16usize;
    let method = prop_oneof![
        Just(Method::Create),
        Just(Method::Recycle),
        Just(Method::HealthCheck),
        Just(Method::Destroy),
    ];
    let then = prop_oneof![Just(Then::Err("scripted error")), Just(Then::Panic), Just(Then::PanicAtCall)];
    prop_oneof![
        6 => index().prop_map(PoolOp::Start),
        4 => index().prop_map(PoolOp::Poll),
        2 => index().prop_map(PoolOp::Cancel),
        4 => index().prop_map(PoolOp::Return),
        1 => index().prop_map(PoolOp::Discard),
        2 => (index(), any::<u32>()).prop_map(|(lease, mark)| PoolOp::Dirty(lease, mark)),
        2 => index().prop_map(PoolOp::Kill),
        1 => index().prop_map(PoolOp::Invalidate),
        1 => (method, then).prop_map(|(method, then)| PoolOp::Fault(method, then)),
        4 => Just(PoolOp::Settle),
    ]
}

/// Whatever users of a pool over this manager do: there are never more resources than allowed; a
/// lease has the key that was asked for, works, bears no mark of another user and is nobody
/// else's; waits of one key are served in their order; nobody is served without a wake or fails
/// without a fault; and at the end everyone was served and everything is destroyed.
pub fn a_pool_over_it_keeps_its_promises<H: Harness>(trial: &Trial<H>) {
    let before = trial.run(async {
        trial.warm_up(&trial.harness().manager()).await;
        trial.census()
    });
    trial.property(H::CASES, &pool_plans(60), |trial, plan| {
        trial.run(async {
            let mut users = Users::new(trial, &plan);
            for op in &plan.ops {
                users.take(op).await;
                users.expect_within_limits().await;
            }
            users.finish().await;
        });
    });
    trial.run(trial.expect_nothing_left(&before, "after pools over it"));
}

type PoolOf<H> = Pool<Faulty<<H as Harness>::Manager>>;
type LeaseOf<H> = Lease<Faulty<<H as Harness>::Manager>>;
type ErrorOf<H> = AcquireError<FaultyError<<<H as Harness>::Manager as Manager>::Error>>;
type Acquired<H> = Result<LeaseOf<H>, ErrorOf<H>>;

/// Somebody who waits.
struct Wait<H: Harness> {
    key: KeyOf<H>,
    call: HandPolled<Pin<Box<dyn Future<Output = Acquired<H>> + Send>>>,
    /// How often it had been woken when it was polled last; `None` before its first poll.
    wakes_seen: Option<usize>,
}

/// Somebody who holds a resource.
struct Held<H: Harness> {
    lease: LeaseOf<H>,
    killed: bool,
}

impl<H: Harness> Held<H> {
    fn id(&self) -> ResourceId {
        Lease::meta(&self.lease).id
    }
}

/// All users of one pool. Waits stand in the order in which they were queued.
struct Users<'a, H: Harness> {
    trial: &'a Trial<H>,
    plan: &'a PoolPlan,
    faulty: Faulty<H::Manager>,
    pool: PoolOf<H>,
    keys: Vec<KeyOf<H>>,
    waits: Vec<Wait<H>>,
    held: Vec<Held<H>>,
    /// What any user ever left on any resource.
    marks: Vec<u32>,
    create_faults: usize,
    failures: usize,
}

impl<'a, H: Harness> Users<'a, H> {
    fn new(trial: &'a Trial<H>, plan: &'a PoolPlan) -> Self {
        let faulty = Faulty::new(trial.harness().manager());
        let order = if plan.fifo { ReuseOrder::Fifo } else { ReuseOrder::Lifo };
        let pool = Pool::builder(faulty.clone())
            .max_total(plan.max_total)
            .max_per_key(plan.max_per_key)
            .max_idle(plan.max_idle)
            .order(order)
            .check_after(plan.checked.then_some(Duration::ZERO))
            .build();
        let pool = pool.unwrap_or_else(|error| trial.broken(error));
        let keys = trial.harness().keys();
        let (waits, held, marks) = (Vec::new(), Vec::new(), Vec::new());
        Self { trial, plan, faulty, pool, keys, waits, held, marks, create_faults: 0, failures: 0 }
    }

    async fn take(&mut self, op: &PoolOp) {
        match *op {
            PoolOp::Start(key) => self.start(key).await,
            PoolOp::Poll(wait) => {
                if let Some(wait) = choose(wait, &self.waits) {
                    self.poll(wait).await;
                }
            }
            PoolOp::Cancel(wait) => drop(choose(wait, &self.waits).map(|wait| self.waits.remove(wait))),
            PoolOp::Return(lease) => self.give_back(lease),
            PoolOp::Discard(lease) => {
                if let Some(lease) = choose(lease, &self.held) {
                    Lease::discard(self.held.swap_remove(lease).lease);
                }
            }
            PoolOp::Dirty(lease, mark) => self.dirty(lease, mark).await,
            PoolOp::Kill(lease) => self.kill(lease).await,
            PoolOp::Invalidate(key) => {
                let key = choose(key, &self.keys);
                key.into_iter().for_each(|key| self.pool.invalidate(&self.keys[key]));
            }
            PoolOp::Fault(method, then) => {
                self.create_faults += usize::from(method == Method::Create);
                self.faulty.script(method, [Step::new(then)]);
            }
            PoolOp::Settle => {
                tokio::time::sleep(A_MOMENT).await;
                self.poll_woken().await;
            }
        }
    }

    async fn start(&mut self, key: usize) {
        let Some(key) = choose(key, &self.keys).map(|key| self.keys[key].clone()) else { return };
        let (pool, wanted) = (self.pool.clone(), key.clone());
        let call = HandPolled::new(Box::pin(async move { pool.acquire(&wanted).await }) as Pin<Box<_>>);
        self.waits.push(Wait { key, call, wakes_seen: None });
        self.poll(self.waits.len() - 1).await;
    }

    /// Polls a wait. If it is over, so are all older ones of its key.
    async fn poll(&mut self, index: usize) {
        let Some(result) = self.poll_one(index).await else { return };
        let wait = self.waits.remove(index);
        let mut results = vec![(wait.key.clone(), result)];
        let mut older = 0;
        for _ in 0..index {
            if self.waits[older].key != wait.key {
                older += 1;
                continue;
            }
            match self.poll_one(older).await {
                Some(result) => results.push((self.waits.remove(older).key, result)),
                None => self.trial.broken("a wait was served before an older one of its key"),
            }
        }
        for (key, result) in results {
            self.served(key, result).await;
        }
    }

    /// Does what an executor does.
    async fn poll_woken(&mut self) {
        while let Some(woken) = self.waits.iter().position(|wait| wait.call.is_woken()) {
            self.poll(woken).await;
        }
    }

    async fn poll_one(&mut self, index: usize) -> Option<Acquired<H>> {
        let wait = &mut self.waits[index];
        let before = wait.wakes_seen.replace(wait.call.wakes());
        let Poll::Ready(result) = wait.call.poll() else { return None };
        if let Some(before) = before {
            // The wake may be on its way on another thread, but it must come.
            let woken = || self.waits[index].call.wakes() > before;
            self.soon(woken, "a wait was served and never woken").await;
        }
        Some(result)
    }

    async fn served(&mut self, key: KeyOf<H>, result: Acquired<H>) {
        match result {
            Ok(lease) => self.granted(key, lease).await,
            Err(AcquireError::Create(_) | AcquireError::CreatePanicked(_)) => {
                self.failures += 1;
                let caused = self.failures <= self.create_faults;
                self.trial.check(caused, "more waits failed than creations");
            }
            Err(error) => self.trial.broken(format_args!("a wait failed without a fault: {error}")),
        }
    }

    async fn granted(&mut self, key: KeyOf<H>, mut lease: LeaseOf<H>) {
        let (trial, id) = (self.trial, Lease::meta(&lease).id);
        trial.check(*Lease::key(&lease) == key, "a lease has another key than was asked for");
        trial.check(self.held.iter().all(|held| held.id() != id), "a resource was leased twice at once");
        let works = trial.in_time("the harness's `works`", trial.harness().works(&key, &mut lease)).await;
        trial.check(works, "a resource that was handed out does not work");
        for &mark in &self.marks {
            let seen = trial.harness().is_dirty(&mut lease, mark).await;
            trial.check(!seen, "a resource that was handed out bears the mark of an earlier user");
        }
        self.held.push(Held { lease, killed: false });
    }

    fn give_back(&mut self, lease: usize) {
        let Some(lease) = choose(lease, &self.held) else { return };
        let held = self.held.swap_remove(lease);
        // Without checks a recycle alone need not notice: the user has to tell.
        if held.killed && !self.plan.checked {
            Lease::discard(held.lease);
        }
    }

    async fn dirty(&mut self, lease: usize, mark: u32) {
        let can = self.trial.harness().capabilities().dirty == Capability::Yes;
        let Some(lease) = choose(lease, &self.held).filter(|_| can) else { return };
        let held = &mut self.held[lease];
        if !held.killed {
            self.trial.harness().dirty(&mut held.lease, mark).await;
            self.marks.push(mark);
        }
    }

    async fn kill(&mut self, lease: usize) {
        let can = self.trial.harness().capabilities().kill == Capability::Yes;
        let Some(lease) = choose(lease, &self.held).filter(|_| can) else { return };
        let held = &mut self.held[lease];
        if !std::mem::replace(&mut held.killed, true) {
            self.trial.harness().kill(&mut held.lease).await;
        }
    }

    async fn expect_within_limits(&self) {
        let counts = self.pool.snapshot().counts;
        let (max, per_key) = (self.plan.max_total, self.plan.max_per_key);
        self.trial.check(counts.live() <= max, &format!("more than {max} resources: {counts}"));
        self.trial.check(counts.leased >= self.held.len(), &format!("a lease is not counted: {counts}"));
        self.trial.check(counts.waiters <= self.waits.len(), &format!("too many wait: {counts}"));
        let keys = self.pool.keys();
        let fits = |limit: usize| keys.iter().all(|key| key.counts.live() <= limit);
        self.trial.check(per_key.is_none_or(fits), "more resources of one key than max_per_key");
        // A destroyed resource may take a moment to leave the operating system.
        self.trial.expect_live_at_most(max, "while a pool is used").await;
    }

    /// Everyone gives back what they have, and everyone who waits is served when woken.
    async fn finish(mut self) {
        while !self.held.is_empty() {
            self.give_back(0);
        }
        while !self.waits.is_empty() {
            let woken = || self.waits.iter().any(|wait| wait.call.is_woken());
            self.soon(woken, "all leases are back, and nobody who waits is woken").await;
            self.poll_woken().await;
            while !self.held.is_empty() {
                self.give_back(0);
            }
        }
        let report = self.pool.close(H::CALL_DEADLINE).await;
        let left: Vec<_> = report.left.iter().map(|resource| resource.state).collect();
        let (clean, abandoned) = (report.is_clean(), report.abandoned);
        self.trial.check(clean, &format!("close left {left:?} and {abandoned} abandoned resources"));
        self.trial.expect_live(0, "after close").await;
        let late = self.pool.acquire(&self.keys[0]).await;
        let closed = matches!(late, Err(AcquireError::Closed));
        self.trial.check(closed, "a closed pool still serves");
    }

    /// Waits until a condition holds.
    async fn soon(&self, condition: impl Fn() -> bool, otherwise: &str) {
        let deadline = Instant::now() + H::CALL_DEADLINE;
        while !condition() {
            self.trial.check(Instant::now() < deadline, otherwise);
            tokio::time::sleep(A_MOMENT).await;
        }
    }
}

/// An index into a list, from any number.
fn choose<T>(number: usize, list: &[T]) -> Option<usize> {
    number.checked_rem(list.len())
}
