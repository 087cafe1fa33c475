//! The pool polled by hand: operations as data, and a counting waker that finds missed wakes.
//!
//! The driver lives on a runtime that takes a step only when the test says so; callers are polled
//! outside it. The law: a future that was not woken cannot make progress, and everybody who waits
//! is served or told in the end.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

use poolyard_core::{AcquireError, Lease};
use poolyard_testkit::cancel::HandPolled;
use poolyard_testkit::{FakeError, FakeManager, Method, Step};
use proptest::prelude::*;
use tokio::runtime::{Builder, Runtime};

use crate::common::*;

type Outcome = Result<FakeLease, AcquireError<FakeError>>;
type Caller = HandPolled<Pin<Box<dyn Future<Output = Outcome>>>>;

#[derive(Clone, Debug)]
enum Op {
    Start(u32),
    Poll(usize),
    Cancel(usize),
    Return(usize),
    Discard(usize),
    Detach(usize),
    Gone(usize),
    Drive(usize),
    Script(Method, Step),
    Invalidate(u32),
    Suspend,
    Resume,
    Resize(usize),
    Close,
}

fn fault() -> impl Strategy<Value = Step> {
    let ways = [Step::ok(), Step::err("scripted"), Step::panic(), Step::panic_at_call()];
    (prop::sample::select(ways.to_vec()), 0..3u32).prop_map(|(step, yields)| step.yields(yields))
}

fn op() -> impl Strategy<Value = Op> {
    let methods = [Method::Create, Method::Recycle, Method::HealthCheck, Method::Destroy, Method::Reuse];
    prop_oneof![
        8 => (0..3u32).prop_map(Op::Start),
        6 => (0..8usize).prop_map(Op::Poll),
        3 => (0..8usize).prop_map(Op::Cancel),
        6 => (0..8usize).prop_map(Op::Return),
        1 => (0..8usize).prop_map(Op::Discard),
        1 => (0..8usize).prop_map(Op::Detach),
        1 => (0..8usize).prop_map(Op::Gone),
        8 => (1..4usize).prop_map(Op::Drive),
        4 => (prop::sample::select(methods.to_vec()), fault()).prop_map(|(m, s)| Op::Script(m, s)),
        1 => (0..3u32).prop_map(Op::Invalidate),
        1 => Just(Op::Suspend),
        2 => Just(Op::Resume),
        1 => (1..5usize).prop_map(Op::Resize),
    ]
}

struct World {
    runtime: Runtime,
    fake: FakeManager,
    pool: FakePool,
    callers: Vec<Caller>,
    leases: Vec<FakeLease>,
}

impl World {
    fn new(max_total: usize, max_overtakes: u64, checks: bool) -> Self {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let fake = FakeManager::new();
        let pool = pool_of(max_total, &fake).max_overtakes(max_overtakes).runtime(runtime.handle().clone());
        let pool = pool.check_after(checks.then_some(ms(0))).check_every_recycles(2).build().unwrap();
        World { runtime, fake, pool, callers: Vec::new(), leases: Vec::new() }
    }

    fn drive(&self, steps: usize) {
        self.runtime.block_on(async {
            for _ in 0..steps {
                tokio::task::yield_now().await;
            }
        });
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Start(key) => {
                let pool = self.pool.clone();
                self.callers.push(HandPolled::new(Box::pin(async move { pool.acquire(&key).await })));
            }
            Op::Poll(index) => self.poll(index),
            Op::Cancel(index) if index < self.callers.len() => drop(self.callers.swap_remove(index)),
            Op::Return(index) if index < self.leases.len() => drop(self.leases.swap_remove(index)),
            Op::Discard(index) if index < self.leases.len() => {
                Lease::discard(self.leases.swap_remove(index));
            }
            Op::Detach(index) if index < self.leases.len() => {
                Lease::detach(self.leases.swap_remove(index)).end();
            }
            Op::Gone(index) => {
                let ids = self.fake.live_ids();
                ids.get(index).map(|id| self.fake.gone(*id));
            }
            Op::Drive(steps) => self.drive(steps),
            Op::Script(method, step) => drop(self.fake.script(method, [step])),
            Op::Invalidate(key) => self.pool.invalidate(&key),
            Op::Suspend => self.pool.suspend(),
            Op::Resume => self.pool.resume(),
            Op::Resize(max_total) => self.pool.resize(|config| config.max_total = max_total).unwrap(),
            Op::Close => {
                drop(poolyard_testkit::cancel::poll_once(Box::pin(self.pool.close(secs(9))).as_mut()))
            }
            Op::Cancel(_) | Op::Return(_) | Op::Discard(_) | Op::Detach(_) => {}
        }
    }

    /// Polls one caller as an executor would.
    fn poll(&mut self, index: usize) {
        let Some(caller) = self.callers.get_mut(index) else { return };
        if let Poll::Ready(outcome) = caller.run() {
            self.leases.extend(outcome.ok());
            self.callers.swap_remove(index);
        }
    }

    /// Polls everybody who was not woken: nothing may come of it.
    fn nobody_missed_a_wake(&mut self) {
        for caller in self.callers.iter_mut().filter(|caller| !caller.is_woken()) {
            assert!(caller.poll().is_pending(), "there was something for a caller that was not woken");
        }
    }

    /// From now on all goes well: everybody is served or told, by wakes alone.
    fn finish(mut self) {
        self.fake.clear_script();
        self.pool.resume();
        for _ in 0..300 {
            self.drive(4);
            self.leases.clear();
            for index in (0..self.callers.len()).rev() {
                self.poll(index);
            }
        }
        assert_eq!(self.callers.len(), 0, "somebody waits for ever");
        let World { runtime, fake, pool, .. } = self;
        let report = runtime.block_on(pool.close(secs(60)));
        assert!(report.is_clean(), "{report:?}");
        fake.assert_clean();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn who_is_not_woken_has_nothing_to_gain_and_all_are_served_in_the_end(
        max_total in 1..4usize,
        max_overtakes in 0..3u64,
        checks in any::<bool>(),
        ops in prop::collection::vec(op(), 1..60),
        close in prop::bool::weighted(0.2),
    ) {
        let mut world = World::new(max_total, max_overtakes, checks);
        for op in ops {
            world.apply(op);
            world.nobody_missed_a_wake();
        }
        if close {
            world.apply(Op::Close);
            world.nobody_missed_a_wake();
        }
        world.finish();
    }
}
