//! Properties of a whole pool over a manager of your own: random plans, a real pool, and after each
//! step the question whether what happened may have happened.
//!
//! A [`World`] says which manager, which keys and configurations, and what users do. [`check`] is
//! the whole test; [`search`] gives the counterexample instead of a panic; [`run`] runs one plan.
//! What is judged is a list of [`Invariant`]s; who judges is the [`Reference`], a naive account that
//! is told every [`Event`] at the users' and at the manager's side. The [`strategy`] module draws
//! plans, which shrink to the shortest that breaks the same promise.
//!
//! With the feature `test-util` the time of a run is paused, so that minutes pass in no time. A
//! manager that waits for something outside the process needs [`Effort::real_time`].
//!
//! ```
//! use std::convert::Infallible;
//!
//! use poolyard_core::{Context, Manager};
//! use poolyard_testkit::model::{self, Effort, World};
//! use proptest::prelude::*;
//!
//! struct Sheets;
//!
//! impl Manager for Sheets {
//!     type Key = &'static str;
//!     type Resource = String;
//!     type Error = Infallible;
//!
//!     async fn create(&self, _: &&'static str, _: &Context) -> Result<String, Infallible> {
//!         Ok(String::new())
//!     }
//!     async fn recycle(&self, _: &&'static str, sheet: &mut String, _: &Context) -> Result<(), Infallible> {
//!         sheet.clear();
//!         Ok(())
//!     }
//! }
//!
//! struct Desk;
//!
//! impl World for Desk {
//!     type Manager = Sheets;
//!
//!     fn manager(&self) -> Sheets {
//!         Sheets
//!     }
//!     fn keys(&self) -> BoxedStrategy<&'static str> {
//!         prop_oneof![Just("lined"), Just("plain")].boxed()
//!     }
//!     async fn use_it(&self, sheet: &mut String, way: u32) {
//!         sheet.push_str(&way.to_string());
//!     }
//!     async fn expect(&self, _: &&'static str, sheet: &mut String) -> Result<(), String> {
//!         if sheet.is_empty() { Ok(()) } else { Err(format!("what somebody wrote: {sheet}")) }
//!     }
//! }
//!
//! model::check(&Desk, &Effort { cases: 20, ..Effort::default() });
//! ```

mod book;
mod event;
mod invariant;
mod plan;
mod reference;
pub mod strategy;
#[cfg(test)]
mod tests;
mod users;
mod watch;

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use poolyard_core::{Manager, Pool, PoolConfig};
use proptest::strategy::{BoxedStrategy, Strategy};
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};

use self::book::{Bend, Book};
pub use self::event::{Event, Refusal, Seen};
pub use self::invariant::{Broken, Invariant};
pub use self::plan::{Op, Plan};
pub use self::reference::Reference;
use self::users::Users;
use self::watch::Watched;
use crate::trial::{CASES, SEED, number_from, random, text_of};

/// How late a pool may do what time brings where time is real and the machine is shared.
const REAL_SLACK: Duration = Duration::from_secs(5);

type KeyOf<W> = <<W as World>::Manager as Manager>::Key;

/// The manager under test, and what its users do.
pub trait World {
    /// The manager under test.
    type Manager: Manager<Key: fmt::Debug>;

    /// A manager for one run. Runs follow one another in the same world.
    fn manager(&self) -> Self::Manager;

    /// The keys that callers ask for. Few: what happens, happens where callers meet.
    fn keys(&self) -> BoxedStrategy<<Self::Manager as Manager>::Key>;

    /// The configurations to try.
    fn configs(&self) -> BoxedStrategy<PoolConfig> {
        strategy::configs().boxed()
    }

    /// Uses a resource as a user would, in one of several ways; how, the number says, from 0 to 7.
    fn use_it(
        &self,
        _resource: &mut <Self::Manager as Manager>::Resource,
        _way: u32,
    ) -> impl Future<Output = ()> {
        async {}
    }

    /// A user has taken the resource out of the pool for ever, and does with it what is right.
    fn detached(
        &self,
        _key: &<Self::Manager as Manager>::Key,
        resource: <Self::Manager as Manager>::Resource,
    ) -> impl Future<Output = ()> {
        async { drop(resource) }
    }

    /// Looks at a resource as its new user, and says what should not be.
    fn expect(
        &self,
        _key: &<Self::Manager as Manager>::Key,
        _resource: &mut <Self::Manager as Manager>::Resource,
    ) -> impl Future<Output = Result<(), String>> {
        async { Ok(()) }
    }
}

/// How much is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// How many plans. The environment variable `POOLYARD_CASES` overrules it.
    pub cases: u32,
    /// How many operations a plan has at most.
    pub ops: usize,
    /// Where the dice start. `None`: `POOLYARD_SEED`, or anywhere.
    pub seed: Option<u64>,
    /// Time is real, not paused. Without the feature `test-util` it always is.
    pub real_time: bool,
}

impl Default for Effort {
    fn default() -> Self {
        Self { cases: 256, ops: 60, seed: None, real_time: !cfg!(feature = "test-util") }
    }
}

/// What was tried without a broken promise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Operations.
    pub steps: u64,
    /// Callers.
    pub callers: u64,
    /// Callers that were given a resource.
    pub served: u64,
    /// Callers that were given an error.
    pub refused: u64,
}

impl Summary {
    fn add(&mut self, other: Summary) {
        self.steps += other.steps;
        self.callers += other.callers;
        self.served += other.served;
        self.refused += other.refused;
    }
}

/// A plan that breaks a promise. Its text is all that is needed to understand and to replay it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Failure<K> {
    /// The promise, and what shows that it is broken.
    pub broken: Broken,
    /// The operation after which it showed, from 0; `plan.ops.len()` is the end of the run.
    pub step: usize,
    /// The plan.
    pub plan: Plan<K>,
    /// What happened, a line each, with the time since the beginning.
    pub history: Vec<String>,
    /// What replays the search that found it.
    pub seed: Option<u64>,
}

impl<K: fmt::Debug> fmt::Display for Failure<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.broken)?;
        match self.plan.ops.get(self.step) {
            Some(op) => writeln!(f, "at step {} of {}: {op:?}", self.step + 1, self.plan.ops.len())?,
            None => {
                writeln!(f, "when all {} steps were taken and everything given back", self.plan.ops.len())?
            }
        }
        writeln!(f, "configuration: {}", plan::differences(&self.plan.config))?;
        writeln!(f, "history:")?;
        self.history.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
        if let Some(seed) = self.seed {
            writeln!(f, "replay with {SEED}={seed}")?;
        }
        writeln!(f, "the plan, for `model::run`: {:?}", self.plan.ops)
    }
}

impl<K: fmt::Debug> std::error::Error for Failure<K> {}

/// Tries random plans over a world; the whole of a test.
///
/// # Panics
///
/// With the text of the [`Failure`], if a promise is broken.
pub fn check<W: World>(world: &W, effort: &Effort) -> Summary {
    search(world, effort).unwrap_or_else(|failure| panic!("{failure}"))
}

/// Tries random plans over a world, and shrinks the first one that breaks a promise.
///
/// # Errors
///
/// The shortest plan found that breaks the same promise.
pub fn search<W: World>(world: &W, effort: &Effort) -> Result<Summary, Box<Failure<KeyOf<W>>>> {
    search_twisted(world, effort, &Twist::NONE)
}

/// Runs one plan over a world.
///
/// # Errors
///
/// The first promise that it breaks.
pub fn run<W: World>(world: &W, plan: &Plan<KeyOf<W>>, effort: &Effort) -> RunOf<W> {
    run_twisted(world, plan, effort, &Twist::NONE)
}

/// The outcome of a run.
pub type RunOf<W> = Result<Summary, Box<Failure<KeyOf<W>>>>;

/// What the tests of this module do to a run, to see whether the reference notices.
struct Twist<K> {
    /// The pool is judged by another configuration than its own.
    promised: Option<fn(&mut PoolConfig)>,
    bend: Option<Bend<K>>,
}

impl<K> Twist<K> {
    /// The run is judged by what happens.
    const NONE: Self = Self { promised: None, bend: None };
}

fn search_twisted<W: World>(world: &W, effort: &Effort, twist: &Twist<KeyOf<W>>) -> RunOf<W> {
    let seed = effort.seed.or_else(|| number_from(SEED)).unwrap_or_else(random);
    let asked = number_from(CASES).and_then(|cases| u32::try_from(cases).ok());
    let config = Config {
        cases: asked.unwrap_or(effort.cases),
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: 4_000,
        ..Config::default()
    };
    let plans = strategy::plans(world.keys(), world.configs(), effort.ops);
    let total = std::cell::RefCell::new(Summary::default());
    let found = std::cell::Cell::new(None);
    let result = TestRunner::new(config).run(&plans, |plan| {
        let run = run_twisted(world, &plan, effort, twist);
        let Err(failure) = run.map(|summary| total.borrow_mut().add(summary)) else { return Ok(()) };
        // Shrinking keeps to the promise that was broken first.
        let invariant = found.get().unwrap_or(failure.broken.invariant);
        found.set(Some(invariant));
        match failure.broken.invariant == invariant {
            true => Err(TestCaseError::fail(failure.broken.evidence)),
            false => Ok(()),
        }
    });
    match result {
        Ok(()) => Ok(total.into_inner()),
        Err(TestError::Fail(_, plan)) => {
            let mut failure = shortest(world, plan, effort, twist, found.get());
            failure.seed = Some(seed);
            Err(Box::new(failure))
        }
        Err(TestError::Abort(reason)) => panic!("no plan could be drawn: {reason}"),
    }
}

/// Leaves out pairs of operations, too: whoever takes a second resource also gives it back.
fn shortest<W: World>(
    world: &W,
    plan: Plan<KeyOf<W>>,
    effort: &Effort,
    twist: &Twist<KeyOf<W>>,
    invariant: Option<Invariant>,
) -> Failure<KeyOf<W>> {
    let fails = |plan: &Plan<KeyOf<W>>| {
        let failure = run_twisted(world, plan, effort, twist).err()?;
        (Some(failure.broken.invariant) == invariant).then_some(*failure)
    };
    let unsteady = "the plan breaks a promise in one run and none in the next; is the manager at random?";
    let mut best = fails(&plan).unwrap_or_else(|| panic!("{unsteady}\n{plan:?}"));
    'again: loop {
        let count = best.plan.ops.len();
        for (first, second) in (0..count).flat_map(|first| (first..count).map(move |second| (first, second)))
        {
            let mut plan = best.plan.clone();
            plan.ops.remove(second);
            if first != second {
                plan.ops.remove(first);
            }
            if let Some(failure) = fails(&plan) {
                best = failure;
                continue 'again;
            }
        }
        return best;
    }
}

fn run_twisted<W: World>(
    world: &W,
    plan: &Plan<KeyOf<W>>,
    effort: &Effort,
    twist: &Twist<KeyOf<W>>,
) -> RunOf<W> {
    let paused = !effort.real_time && cfg!(feature = "test-util");
    let runtime = runtime(paused);
    let slack = if paused { reference::SLACK } else { REAL_SLACK };
    let step = std::cell::Cell::new(0);
    // The book begins inside, for its clock is the runtime's.
    let ran = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            let mut promised = plan.config.clone();
            twist.promised.into_iter().for_each(|promise| promise(&mut promised));
            let book = Book::new(&promised, slack, twist.bend);
            let watched = Watched::new(world.manager(), book);
            let pool = Pool::builder(watched.clone()).config(plan.config.clone()).build();
            let pool = pool.unwrap_or_else(|error| panic!("the world's configuration is refused: {error}"));
            let book = std::sync::Arc::clone(&watched.book);
            let mut users = Users::new(world, pool, watched, paused);
            for (index, op) in plan.ops.iter().enumerate() {
                step.set(index);
                book.headline(format!("{}. {op:?}", index + 1));
                users.take(op).await;
                if book.is_broken() {
                    break;
                }
            }
            if !book.is_broken() {
                step.set(plan.ops.len());
                book.headline("everything is given back, and the pool is closed".to_owned());
            }
            let summary = match book.is_broken() {
                true => users.summary,
                false => users.finish(plan).await,
            };
            (summary, book.verdict())
        })
    }));
    let (summary, (broken, history)) = ran.unwrap_or_else(|panic| {
        let evidence = format!("a panic: {}", text_of(panic.as_ref()));
        (Summary::default(), (Some(Broken { invariant: Invariant::Expected, evidence }), Vec::new()))
    });
    match broken {
        None => Ok(summary),
        Some(broken) => {
            let (step, plan) = (step.get(), plan.clone());
            Err(Box::new(Failure { broken, step, plan, history, seed: None }))
        }
    }
}

fn runtime(paused: bool) -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all();
    #[cfg(feature = "test-util")]
    builder.start_paused(paused);
    #[cfg(not(feature = "test-util"))]
    let _ = paused;
    builder.build().expect("a runtime can be built")
}
