//! [`Trial`]: one law put to one manager, with deadlines, a census and messages that say what broke.

use std::any::Any;
use std::fmt::Display;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::Builder;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use poolyard_core::{Context, Manager, Reason, ResourceId};
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};
use tokio::runtime::{self, Handle};
use tokio::time::timeout;

use crate::availability::{require, tell};
use crate::by_hand::GoneLog;
use crate::census::Census;
use crate::harness::{Capability, Harness, KeyOf, ResourceOf};

/// The environment variable that replays a random law with the seed that its failure printed.
pub const SEED: &str = "POOLYARD_SEED";

/// The environment variable that says how many cases a random law is tried with, in place of
/// [`Harness::CASES`]; more may need more than [`Harness::LAW_DEADLINE`].
pub const CASES: &str = "POOLYARD_CASES";

/// Between two looks at something that should come true by itself.
const PAUSE: Duration = Duration::from_millis(2);

/// How long to wait for workers that a broken manager blocks.
const SHUTDOWN: Duration = Duration::from_secs(1);

/// Laws of one process run one after the other: the census is that of the whole process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Puts one law to one manager. The tests that [`conformance!`](crate::conformance) makes call it.
///
/// The law runs on a thread of its own with a runtime of four workers, so that even a manager that
/// blocks its thread for ever cannot keep the test from failing.
///
/// # Panics
///
/// If the law does not hold, or has not ended within [`Harness::LAW_DEADLINE`].
pub fn try_law<H: Harness>(suite: &str, name: &'static str, law: fn(&Trial<H>)) {
    let _alone = ONE_AT_A_TIME.lock();
    let (ended, end) = channel();
    let suite = suite.to_owned();
    let law = move || ended.send(catch_unwind(|| run_law(&suite, name, law)));
    Builder::new().name(name.to_owned()).spawn(law).expect("a thread can be started");
    match end.recv_timeout(H::LAW_DEADLINE) {
        Ok(Ok(())) => {}
        Ok(Err(panic)) => resume_unwind(panic),
        Err(RecvTimeoutError::Timeout) => panic!("{name}: not ended within {:?}", H::LAW_DEADLINE),
        Err(RecvTimeoutError::Disconnected) => panic!("{name}: its thread ended without a word"),
    }
}

fn run_law<H: Harness>(suite: &str, name: &'static str, law: fn(&Trial<H>)) {
    let runtime = runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    let runtime = runtime.expect("a runtime can be built");
    let availability = runtime.block_on(H::availability());
    if !require(suite, &availability) {
        return;
    }
    let trial = Trial::new(format!("{suite}: {name}"), runtime.handle().clone());
    let result = catch_unwind(AssertUnwindSafe(|| law(&trial)));
    trial.end();
    runtime.shutdown_timeout(SHUTDOWN);
    result.unwrap_or_else(|panic| resume_unwind(panic));
}

/// One law put to one manager.
pub struct Trial<H: Harness> {
    name: String,
    harness: H,
    gone: Arc<GoneLog>,
    runtime: Handle,
}

/// A resource under test, with what the pool would know of it.
pub struct Subject<H: Harness> {
    /// The key it was made for.
    pub key: KeyOf<H>,
    /// The resource.
    pub resource: ResourceOf<H>,
    id: ResourceId,
}

impl<H: Harness> Subject<H> {
    /// The id that calls about it carry.
    pub fn id(&self) -> ResourceId {
        self.id
    }
}

impl<H: Harness> Trial<H> {
    fn new(name: String, runtime: Handle) -> Self {
        let harness = runtime.block_on(H::new());
        Self { name, harness, gone: GoneLog::new(), runtime }
    }

    fn end(self) {
        // The harness may need the runtime to take its world down.
        let Self { runtime, harness, .. } = self;
        runtime.block_on(async { drop(harness) });
    }

    /// The harness.
    pub fn harness(&self) -> &H {
        &self.harness
    }

    /// Runs a part of the law.
    pub fn run<T>(&self, part: impl Future<Output = T>) -> T {
        self.runtime.block_on(part)
    }

    /// The first key of the harness.
    pub fn key(&self) -> KeyOf<H> {
        let first = self.harness.keys().into_iter().next();
        first.unwrap_or_else(|| self.broken("the harness has no key; it needs at least one"))
    }

    /// Ends the test: the law does not hold.
    pub fn broken(&self, how: impl Display) -> ! {
        panic!("{}: {how}", self.name)
    }

    /// Ends the test if `holds` is false.
    pub fn check(&self, holds: bool, otherwise: &str) {
        if !holds {
            self.broken(otherwise);
        }
    }

    /// Whether the law applies to what this harness can do; if not, says loudly why.
    pub fn can(&self, capability: Capability) -> bool {
        if let Capability::No(reason) = capability {
            tell("not applicable", &self.name, reason);
        }
        capability == Capability::Yes
    }

    /// A context for the resource `id`, with the deadline that calls have here.
    pub fn context(&self, id: ResourceId) -> Context {
        self.gone.context(id.as_u64(), H::CALL_DEADLINE)
    }

    /// Waits for a call on a healthy resource, and fails if it does not end in time.
    pub async fn in_time<T>(&self, what: &str, call: impl Future<Output = T>) -> T {
        match timeout(H::CALL_DEADLINE, call).await {
            Ok(output) => output,
            Err(_) => self.broken(format_args!("{what} has not ended within {:?}", H::CALL_DEADLINE)),
        }
    }

    /// Makes a resource for `key`.
    pub async fn create(&self, manager: &H::Manager, key: &KeyOf<H>) -> Subject<H> {
        let id = fresh_id();
        let cx = self.context(id);
        match self.in_time("create", manager.create(key, &cx)).await {
            Ok(resource) => Subject { key: key.clone(), resource, id },
            Err(error) => self.broken(format_args!("create failed: {}", chain(&error))),
        }
    }

    /// Recycles a resource; the error is a text.
    pub async fn recycle(&self, manager: &H::Manager, subject: &mut Subject<H>) -> Result<(), String> {
        let cx = self.context(subject.id);
        let call = manager.recycle(&subject.key, &mut subject.resource, &cx);
        self.in_time("recycle", call).await.map_err(|error| chain(&error))
    }

    /// Puts a resource to sleep that nothing is wrong with.
    pub async fn hibernate_well(&self, manager: &H::Manager, subject: &mut Subject<H>) {
        let cx = self.context(subject.id);
        let call = manager.hibernate(&subject.key, &mut subject.resource, &cx);
        if let Err(error) = self.in_time("hibernate", call).await {
            self.broken(format_args!("hibernate failed: {}", chain(&error)));
        }
    }

    /// Recycles a resource that nothing is wrong with.
    pub async fn recycle_well(&self, manager: &H::Manager, subject: &mut Subject<H>) {
        if let Err(error) = self.recycle(manager, subject).await {
            self.broken(format_args!("recycle failed: {error}"));
        }
    }

    /// Checks a resource; the error is a text.
    pub async fn health_check(&self, manager: &H::Manager, subject: &mut Subject<H>) -> Result<(), String> {
        let cx = self.context(subject.id);
        let call = manager.health_check(&subject.key, &mut subject.resource, &cx);
        self.in_time("health_check", call).await.map_err(|error| chain(&error))
    }

    /// Fails unless the resource passes its health check and does its job.
    pub async fn expect_healthy(&self, manager: &H::Manager, subject: &mut Subject<H>, when: &str) {
        if let Err(error) = self.health_check(manager, subject).await {
            self.broken(format_args!("{when}, health_check failed: {error}"));
        }
        let works = self.harness.works(&subject.key, &mut subject.resource);
        if !self.in_time("the harness's `works`", works).await {
            self.broken(format_args!("{when}, the resource does not work"));
        }
    }

    /// Destroys a resource as the pool does: the call, and then the drop.
    pub async fn destroy(&self, manager: &H::Manager, mut subject: Subject<H>, reason: Reason) {
        let cx = self.context(subject.id);
        self.in_time("destroy", manager.destroy(&subject.key, &mut subject.resource, reason, &cx)).await;
    }

    /// Fails unless the world holds `expected` resources, now or soon.
    pub async fn expect_live(&self, expected: usize, when: &str) {
        let live = self.live_soon(|live| live == expected).await;
        if live != expected {
            self.broken(format_args!("{when}, {live} resources live instead of {expected}"));
        }
    }

    /// Fails unless the world holds `most` resources or fewer, now or soon.
    pub async fn expect_live_at_most(&self, most: usize, when: &str) {
        let live = self.live_soon(|live| live <= most).await;
        if live > most {
            self.broken(format_args!("{when}, {live} resources live, more than {most}"));
        }
    }

    /// How many resources the world holds, as soon as that is `good`, or else at the deadline.
    async fn live_soon(&self, good: impl Fn(usize) -> bool) -> usize {
        let deadline = Instant::now() + H::CALL_DEADLINE;
        loop {
            let live = self.harness.live().await;
            if good(live) || Instant::now() >= deadline {
                return live;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// What the operating system holds now, if the harness wants it to be asked.
    pub fn census(&self) -> Option<Census> {
        self.harness.census().map(|scope| scope.take())
    }

    /// Fails if a resource lives, or if the operating system holds what it did not hold `before`.
    pub async fn expect_nothing_left(&self, before: &Option<Census>, when: &str) {
        self.expect_live(0, when).await;
        if let Some(before) = before
            && let Err(changes) = before.settle_leftovers(H::CALL_DEADLINE).await
        {
            self.broken(format_args!("{when}, this is left in the operating system:\n{changes}"));
        }
    }

    /// Creates, uses and destroys one resource, so that what is made once per process (signal
    /// handlers, caches) is not taken for a trace later.
    pub async fn warm_up(&self, manager: &H::Manager) {
        let mut subject = self.create(manager, &self.key()).await;
        self.recycle_well(manager, &mut subject).await;
        self.expect_healthy(manager, &mut subject, "after its first recycle").await;
        self.destroy(manager, subject, Reason::Closed).await;
        self.expect_live(0, "after the first destroy").await;
    }

    /// Tries a property with `cases` random inputs, each in a world of its own, and shrinks the
    /// one that breaks it.
    pub fn property<S: Strategy>(&self, cases: u32, inputs: &S, property: impl Fn(&Self, S::Value)) {
        let seed = number_from(SEED).unwrap_or_else(random);
        let asked = number_from(CASES).and_then(|cases| u32::try_from(cases).ok());
        let config = Config {
            cases: asked.unwrap_or(cases),
            rng_seed: RngSeed::Fixed(seed),
            failure_persistence: None,
            max_shrink_iters: 256,
            max_shrink_time: u32::try_from(H::LAW_DEADLINE.as_millis() / 10).unwrap_or(u32::MAX),
            ..Config::default()
        };
        let result = TestRunner::new(config).run(inputs, |input| {
            let trial = Self::new(self.name.clone(), self.runtime.clone());
            let tried = catch_unwind(AssertUnwindSafe(|| property(&trial, input)));
            trial.end();
            tried.map_err(|panic| TestCaseError::fail(text_of(panic.as_ref())))
        });
        if let Err(error) = result {
            panic!("{error}\nreplay with {SEED}={seed}");
        }
    }
}

/// No two resources of a process have the same id here.
fn fresh_id() -> ResourceId {
    static IDS: AtomicU64 = AtomicU64::new(1);
    ResourceId::standalone(IDS.fetch_add(1, Relaxed))
}

pub(crate) fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

pub(crate) fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(())
}

/// An error with all its sources.
fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |error| error.source());
    sources.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}

/// What a panic said.
pub(crate) fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()))
        .unwrap_or_else(|| "a panic without a text".to_owned())
}
