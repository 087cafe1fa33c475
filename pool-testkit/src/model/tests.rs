//! The laws hold over managers in memory, whatever fails; and each of them is seen to fail.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::hash::{Hash, Hasher};

use poolyard_core::{Context, Fairness, Reason};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::*;
use crate::fake::{FakeManager, FakeResource};
use crate::script::Method;

/// Sheets of paper, of which some ends are torn off between two users.
#[derive(Clone, Copy)]
struct Sheets<K> {
    /// All that was written is torn off, or just the first line.
    clean: bool,
    keys: std::marker::PhantomData<K>,
}

impl<K: Clone + Eq + Hash + Send + Sync + 'static> Manager for Sheets<K> {
    type Key = K;
    type Resource = Vec<u32>;
    type Error = Infallible;

    async fn create(&self, _: &K, _: &Context) -> Result<Vec<u32>, Infallible> {
        Ok(Vec::new())
    }

    async fn recycle(&self, _: &K, sheet: &mut Vec<u32>, _: &Context) -> Result<(), Infallible> {
        let torn = if self.clean { sheet.len() } else { sheet.len().min(1) };
        sheet.drain(..torn);
        Ok(())
    }
}

/// Those who write on them.
struct Desk {
    clean: bool,
    config: fn(&mut PoolConfig),
}

impl Desk {
    const fn new() -> Self {
        Desk { clean: true, config: |_| {} }
    }
}

impl World for Desk {
    type Manager = Sheets<u8>;

    fn manager(&self) -> Sheets<u8> {
        Sheets { clean: self.clean, keys: std::marker::PhantomData }
    }

    fn keys(&self) -> BoxedStrategy<u8> {
        (0..3u8).boxed()
    }

    fn configs(&self) -> BoxedStrategy<PoolConfig> {
        let change = self.config;
        let changed = strategy::configs().prop_map(move |mut config| {
            change(&mut config);
            config
        });
        changed.boxed()
    }

    async fn use_it(&self, sheet: &mut Vec<u32>, way: u32) {
        sheet.push(way);
    }

    async fn expect(&self, _: &u8, sheet: &mut Vec<u32>) -> Result<(), String> {
        if sheet.is_empty() { Ok(()) } else { Err(format!("what somebody wrote: {sheet:?}")) }
    }
}

#[test]
fn the_laws_hold_over_a_manager_in_memory_whatever_fails() {
    let summary = check(&Desk::new(), &Effort { cases: 400, ..Effort::default() });
    assert!(summary.served > 1_000 && summary.refused > 30, "the users did too little: {summary:?}");
}

#[test]
fn the_laws_hold_in_throughput_mode_but_for_the_order_that_it_gives_up() {
    let desk = Desk { config: |config| config.fairness = Fairness::Throughput, ..Desk::new() };
    check(&desk, &Effort { cases: 300, ..Effort::default() });
}

#[test]
fn the_laws_hold_where_adaptive_sizing_minimum_idle_and_sleep_have_their_say() {
    let config = |config: &mut PoolConfig| {
        config.min_idle_per_key = usize::from(config.max_idle.is_none());
        config.hibernate_after = Some(Duration::from_millis(20));
        config.adaptive = Some(poolyard_core::Adaptive {
            interval: Duration::from_millis(50),
            ..poolyard_core::Adaptive::default()
        });
    };
    check(&Desk { config, ..Desk::new() }, &Effort { cases: 300, ..Effort::default() });
}

#[test]
fn the_laws_hold_in_real_time() {
    check(&Desk::new(), &Effort { cases: 10, ops: 30, real_time: true, ..Effort::default() });
}

/// The fake keeps books of its own.
struct Fakes(FakeManager);

impl World for Fakes {
    type Manager = FakeManager;

    fn manager(&self) -> FakeManager {
        self.0.clone()
    }

    fn keys(&self) -> BoxedStrategy<u32> {
        (0..2u32).boxed()
    }

    async fn detached(&self, key: &u32, resource: FakeResource) {
        self.0.destroy_now(key, resource, Reason::Discarded);
    }
}

#[test]
fn the_fake_manager_agrees_with_the_reference() {
    let fakes = Fakes(FakeManager::new());
    check(&fakes, &Effort { cases: 200, ..Effort::default() });
    assert_eq!(fakes.0.violations(), []);
}

/// A key that says that it is every other key.
#[derive(Clone, Debug)]
struct Liar(#[allow(dead_code, reason = "told apart by its text")] u8);

impl PartialEq for Liar {
    fn eq(&self, _: &Liar) -> bool {
        true
    }
}

impl Eq for Liar {}

impl Hash for Liar {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

struct Liars;

impl World for Liars {
    type Manager = Sheets<Liar>;

    fn manager(&self) -> Sheets<Liar> {
        Sheets { clean: true, keys: std::marker::PhantomData }
    }

    fn keys(&self) -> BoxedStrategy<Liar> {
        (0..2u8).prop_map(Liar).boxed()
    }
}

/// Which promises random plans break, until they break this one.
fn broken_by<W: World>(world: &W, twist: &Twist<KeyOf<W>>, wanted: Invariant) -> BTreeSet<Invariant> {
    let mut runner = TestRunner::deterministic();
    let plans = strategy::plans(world.keys(), world.configs(), 60);
    let mut broken = BTreeSet::new();
    for _ in 0..1_000 {
        if broken.contains(&wanted) {
            break;
        }
        let plan = plans.new_tree(&mut runner).expect("plans can be drawn").current();
        let run = run_twisted(world, &plan, &Effort::default(), twist);
        broken.extend(run.err().map(|failure| failure.broken.invariant));
    }
    broken
}

/// Tries plans with a planted bug, until the wanted promise is broken.
type Bug = Box<dyn Fn(Invariant) -> BTreeSet<Invariant>>;

/// A pool that was promised otherwise than it is configured.
fn promised(config: fn(&mut PoolConfig), promised: fn(&mut PoolConfig)) -> Bug {
    Box::new(move |wanted| {
        broken_by(&Desk { config, ..Desk::new() }, &Twist { promised: Some(promised), bend: None }, wanted)
    })
}

/// A pool that did otherwise than it was seen to.
fn bent(bend: Bend<u8>) -> Bug {
    Box::new(move |wanted| broken_by(&Desk::new(), &Twist { promised: None, bend: Some(bend) }, wanted))
}

fn is_destroy<K>(event: &Event<K>) -> bool {
    let destroys = |method: &Method| matches!(method, Method::Destroy | Method::DestroyNow);
    matches!(event, Event::Called { method, .. } | Event::Ended { method, .. } if destroys(method))
}

fn plant(invariant: Invariant) -> Bug {
    match invariant {
        Invariant::MaxTotal => promised(|c| c.max_surge = 0, |c| c.max_total = 1),
        Invariant::MaxCost => promised(|_| {}, |c| c.max_cost = 1),
        Invariant::MaxPerKey => {
            promised(|c| (c.max_surge, c.max_per_key) = (0, None), |c| c.max_per_key = Some(1))
        }
        Invariant::MaxIdle => promised(|c| c.max_idle = None, |c| c.max_idle = Some(0)),
        Invariant::OwnKey => Box::new(|wanted| broken_by(&Liars, &Twist::NONE, wanted)),
        Invariant::OneHand => bent(|event| (!matches!(event, Event::GivenBack { .. })).then_some(event)),
        Invariant::Fit => bent(|event| match event {
            Event::Ended { resource, method: Method::Recycle, .. } => {
                Some(Event::Ended { resource, method: Method::Recycle, well: false })
            }
            event => Some(event),
        }),
        Invariant::Order => promised(|c| c.fairness = Fairness::Throughput, |c| c.fairness = Fairness::Fifo),
        Invariant::Wake => bent(|event| match event {
            Event::Served { wait, resource, key, uses, .. } => {
                Some(Event::Served { wait, resource, key, uses, woken: false })
            }
            event => Some(event),
        }),
        Invariant::Refusal => promised(|_| {}, |c| c.wait_timeout = None),
        Invariant::Progress => promised(
            |c| (c.max_total, c.max_per_key, c.max_idle) = (1, None, None),
            |c| {
                c.max_total = 4;
            },
        ),
        Invariant::Patience => promised(|_| {}, |c| c.wait_timeout = Some(Duration::ZERO)),
        Invariant::Expiry => promised(|c| c.idle_timeout = None, |c| c.idle_timeout = Some(Duration::ZERO)),
        Invariant::Account => bent(|event| (!matches!(event, Event::Asked { .. })).then_some(event)),
        Invariant::OneEnd => bent(|event| (!is_destroy(&event)).then_some(event)),
        Invariant::NoneLeft => bent(|event| {
            let hidden = is_destroy(&event) || matches!(event, Event::Dropped { .. } | Event::Seen(_));
            (!hidden).then_some(event)
        }),
        Invariant::Expected => {
            Box::new(|wanted| broken_by(&Desk { clean: false, ..Desk::new() }, &Twist::NONE, wanted))
        }
    }
}

#[test]
fn every_invariant_is_seen_to_fail() {
    for invariant in Invariant::ALL {
        let broken = plant(invariant)(invariant);
        assert!(broken.contains(&invariant), "{invariant:?}: the planted bug broke only {broken:?}");
    }
}

#[test]
fn a_planted_bug_shrinks_to_the_shortest_story() {
    let desk = Desk { clean: false, ..Desk::new() };
    let failure = search(&desk, &Effort { seed: Some(1), ..Effort::default() }).expect_err("lines are left");
    let ops = &failure.plan.ops;
    // Somebody takes a sheet, writes two lines, gives it back; somebody takes it again.
    assert!((5..=6).contains(&ops.len()), "{failure}");
    assert_eq!(ops.iter().filter(|op| matches!(op, Op::Use(..))).count(), 2, "{failure}");
    let again = run(&desk, &failure.plan, &Effort::default()).expect_err("the plan replays it");
    assert_eq!(again.broken, failure.broken);
    let text = failure.to_string();
    assert!(text.contains("POOLYARD_SEED=1") && text.contains("resource 1 is given back"), "{text}");
}
