//! Panics in user code: of the manager, of keys, of observers, of predicates.

use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use poolyard_core::{
    AcquireError, CreateFailure, InsertErrorKind, KeyPolicy, Observer, Pool, Reason, ResourceId, from_fn,
};
use poolyard_testkit::{FakeManager, Method, Step};

use crate::common::*;

#[tokio::test(start_paused = true)]
async fn a_panic_in_create_is_the_oldest_waiters_error() {
    let fake = FakeManager::new().create_script([Step::panic(), Step::panic_at_call()]);
    let pool = pool_of(1, &fake).build().unwrap();
    for panics in 1..=2 {
        let error = pool.acquire(&1).await.unwrap_err();
        assert!(matches!(&error, AcquireError::CreatePanicked(text) if text == "scripted panic"), "{error}");
        assert_eq!(pool.snapshot().counters.panicked_calls, panics);
    }
    assert_eq!(counts(&pool).live(), 0);
    drop(pool.acquire(&1).await.unwrap());
    end(pool, &fake).await;
}

/// A pool of one whose `method` panics with `step` once, after a few uses; the reason of the end.
async fn ends_for(method: Method, step: Step) -> Vec<Reason> {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).check_every_recycles(1).build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    settle().await;
    fake.script(method, [step]);
    drop(pool.acquire(&1).await.unwrap());
    settle().await;
    assert_eq!(pool.snapshot().counters.panicked_calls, 1, "{method:?}");
    assert_eq!(pool.acquire(&1).await.unwrap().serial(), 2, "{method:?}: its place is free again");
    let reasons = fake.reasons();
    settle().await;
    end(pool, &fake).await;
    reasons
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_recycle_reuse_or_a_check_destroys_the_resource() {
    for step in [Step::panic(), Step::panic_at_call()] {
        assert_eq!(ends_for(Method::Recycle, step.clone()).await, [Reason::Panicked]);
        assert_eq!(ends_for(Method::Reuse, step.clone()).await, [Reason::Panicked]);
        assert_eq!(ends_for(Method::HealthCheck, step).await, [Reason::Unhealthy]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_destroy_and_in_destroy_now_frees_the_place() {
    let fake = FakeManager::new().destroy_script([Step::panic()]).script(Method::DestroyNow, [Step::panic()]);
    let pool = pool_of(1, &fake).build().unwrap();
    poolyard_core::Lease::discard(pool.acquire(&1).await.unwrap());
    drop(pool.acquire(&1).await.unwrap());
    assert_eq!(pool.snapshot().counters.panicked_calls, 2);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_describe_leaves_the_resource_without_a_description() {
    let fake = FakeManager::new().script(Method::Describe, [Step::panic()]);
    let pool = pool_of(2, &fake).build().unwrap();
    let leases = take(&pool, 1, 2).await;
    let described: Vec<_> = pool.resources().iter().filter_map(|info| info.description.clone()).collect();
    assert_eq!(described.iter().map(|text| &**text).collect::<Vec<_>>(), ["fake 2"]);
    assert_eq!(pool.snapshot().counters.panicked_calls, 1);
    drop(leases);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_retry_means_no_more_attempts() {
    let fake = FakeManager::new().create_script([Step::err("no")]).script(Method::Retry, [Step::panic()]);
    let pool = pool_of(1, &fake).build().unwrap();
    let error = pool.acquire(&1).await.unwrap_err();
    assert!(matches!(error, AcquireError::Create(_)), "{error}");
    assert_eq!(pool.snapshot().counters.panicked_calls, 1);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_cost_is_an_error_of_who_asked() {
    let fake = FakeManager::new().always(Method::Cost, Step::panic());
    let pool = pool_of(1, &fake).build().unwrap();
    assert!(matches!(pool.acquire(&1).await, Err(AcquireError::CreatePanicked(_))));
    let refused = pool.insert(&1, fake.resource(1)).unwrap_err();
    assert_eq!(refused.kind, InsertErrorKind::Panicked);
    refused.resource.end();
    assert!(matches!(pool.warm(&1, 1).await.failures[..], [CreateFailure::Panicked(_)]));
    fake.clear_script();
    drop(pool.acquire(&1).await.unwrap());
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_drop_of_a_resource_frees_its_place() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            resume_unwind(Box::new("dropped"));
        }
    }
    let pool = Pool::builder(from_fn(|_: &()| async { Ok::<_, std::io::Error>(Bomb) })).max_total(1);
    let pool = pool.build().unwrap();
    for _ in 0..3 {
        poolyard_core::Lease::discard(pool.acquire(&()).await.unwrap());
    }
    settle().await;
    assert_eq!((pool.snapshot().counts.live(), pool.snapshot().counters.panicked_calls), (0, 3));
}

static EQ_PANICS: AtomicBool = AtomicBool::new(false);

#[derive(Clone, Debug)]
struct Touchy(u8);

impl PartialEq for Touchy {
    fn eq(&self, other: &Self) -> bool {
        if EQ_PANICS.load(SeqCst) {
            resume_unwind(Box::new("eq"));
        }
        self.0 == other.0
    }
}
impl Eq for Touchy {}
impl Hash for Touchy {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_eq_of_a_key_goes_to_the_caller_and_changes_nothing() {
    let pool = Pool::builder(from_fn(|_: &Touchy| async { Ok::<_, std::io::Error>(7) })).build().unwrap();
    drop(pool.acquire(&Touchy(1)).await.unwrap());
    settle().await;
    let before = pool.snapshot();
    EQ_PANICS.store(true, SeqCst);
    assert!(catch_unwind(AssertUnwindSafe(|| pool.try_acquire(&Touchy(1)))).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| pool.invalidate(&Touchy(1)))).is_err());
    let mut asking = Box::pin(pool.acquire(&Touchy(1)));
    let polled = catch_unwind(AssertUnwindSafe(|| poolyard_testkit::cancel::poll_once(asking.as_mut())));
    assert!(polled.is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| pool.insert(&Touchy(1), 8))).is_err());
    EQ_PANICS.store(false, SeqCst);
    drop(asking);
    assert_eq!(pool.snapshot(), before);
    assert!(pool.try_acquire(&Touchy(1)).is_ok());
}

struct Shouts;

impl Observer for Shouts {
    fn acquired(&self, _: ResourceId, _: bool) {
        resume_unwind(Box::new("acquired"));
    }
    fn returned(&self, _: ResourceId) {
        resume_unwind(Box::new("returned"));
    }
    fn created(&self, _: ResourceId, _: std::time::Duration) {
        resume_unwind(Box::new("created"));
    }
    fn recycled(&self, _: ResourceId, _: Option<Reason>, _: std::time::Duration) {
        resume_unwind(Box::new("recycled"));
    }
    fn destroyed(&self, _: ResourceId, _: Reason, _: std::time::Duration) {
        resume_unwind(Box::new("destroyed"));
    }
    fn create_failed(&self, _: ResourceId, _: &str, _: std::time::Duration) {
        resume_unwind(Box::new("create_failed"));
    }
    fn timed_out(&self, _: poolyard_core::Phase) {
        resume_unwind(Box::new("timed_out"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_an_observer_is_contained() {
    let fake = FakeManager::new().create_script([Step::err("no"), Step::ok(), Step::hang()]);
    let pool = pool_of(2, &fake).wait_timeout(secs(1)).observer(Shouts).build().unwrap();
    assert!(pool.acquire(&1).await.is_err());
    let lease = pool.acquire(&1).await.unwrap();
    assert!(pool.acquire(&1).await.is_err(), "timed out");
    drop(lease);
    settle().await;
    assert!(pool.try_acquire(&1).is_ok());
    assert!(pool.close(secs(60)).await.is_clean());
    fake.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_predicate_of_retain_destroys_what_it_looked_at_and_goes_on_to_the_caller() {
    let fake = FakeManager::new();
    let pool = pool_of(3, &fake).build().unwrap();
    drop(take(&pool, 1, 3).await);
    settle().await;
    let mut looks = 0;
    let retained = catch_unwind(AssertUnwindSafe(|| {
        pool.retain(|_, _, _| {
            looks += 1;
            if looks == 2 { resume_unwind(Box::new("no")) } else { true }
        })
    }));
    assert!(retained.is_err());
    settle().await;
    assert_eq!((fake.reasons(), counts(&pool).idle), (vec![Reason::Panicked], 2));
    end(pool, &fake).await;
}

/// Looks at its pool whenever user code of it runs: that would wait for ever under the pool's lock.
struct Looks(u8, Arc<std::sync::OnceLock<Box<dyn Fn() + Send + Sync>>>);

impl Looks {
    fn look(&self) {
        if let Some(look) = self.1.get() {
            look();
        }
    }
}
impl Clone for Looks {
    fn clone(&self) -> Self {
        self.look();
        Looks(self.0, Arc::clone(&self.1))
    }
}
impl Drop for Looks {
    fn drop(&mut self) {
        self.look();
    }
}
impl std::fmt::Debug for Looks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.look();
        write!(f, "Looks({})", self.0)
    }
}
impl std::fmt::Display for Looks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}
impl std::error::Error for Looks {}
impl PartialEq for Looks {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl Eq for Looks {}
impl Hash for Looks {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.look();
        self.0.hash(state);
    }
}

struct LooksOn(Arc<std::sync::OnceLock<Box<dyn Fn() + Send + Sync>>>);

impl Observer for LooksOn {
    fn acquired(&self, _: ResourceId, _: bool) {
        self.0.get().unwrap()();
    }
    fn returned(&self, _: ResourceId) {
        self.0.get().unwrap()();
    }
    fn destroyed(&self, _: ResourceId, _: Reason, _: std::time::Duration) {
        self.0.get().unwrap()();
    }
}

/// Does everything there is to do with a pool whose keys, resources, errors and observer look at it.
async fn everything_looks() {
    let window: Arc<std::sync::OnceLock<Box<dyn Fn() + Send + Sync>>> = Arc::default();
    let seen = Arc::clone(&window);
    let fails = Arc::new(AtomicBool::new(false));
    let failing = Arc::clone(&fails);
    let manager = from_fn(move |key: &Looks| {
        let made = Looks(key.0, Arc::clone(&seen));
        let fails = failing.load(SeqCst);
        async move { if fails { Err(made) } else { Ok(made) } }
    });
    let looks = Arc::clone(&window);
    let policy = move |_: &Looks| {
        looks.get().unwrap()();
        KeyPolicy::new()
    };
    let pool = Pool::builder(manager).max_total(2).observer(LooksOn(Arc::clone(&window))).policy(policy);
    let pool = pool.wait_timeout(ms(20)).build().unwrap();
    let weak = pool.downgrade();
    let look = move || _ = weak.upgrade().map(|pool| (pool.snapshot(), format!("{pool:?}")));
    assert!(window.set(Box::new(look)).is_ok());
    let key = |number| Looks(number, Arc::clone(&window));
    let one = pool.acquire(&key(1)).await.unwrap();
    let two = pool.acquire(&key(2)).await.unwrap();
    assert!(pool.acquire(&key(1)).await.is_err(), "of a key that is known");
    assert!(pool.acquire(&key(3)).await.is_err(), "of a key that is not");
    drop(pool.insert(&key(1), key(1)));
    drop((one, two));
    drop(pool.acquire(&key(4)).await.unwrap());
    drop((pool.resources(), pool.keys()));
    pool.invalidate(&key(4));
    pool.retain(|_, _, _| false);
    fails.store(true, SeqCst);
    drop(pool.acquire(&key(5)).await);
    drop(pool.warm(&key(6), 2).await);
    let seven = key(7);
    let mut forgotten = Box::pin(pool.acquire(&seven));
    _ = poolyard_testkit::cancel::poll_once(forgotten.as_mut());
    drop(forgotten);
    let mut forgotten = Box::pin(pool.warm(&seven, 1));
    _ = poolyard_testkit::cancel::poll_once(forgotten.as_mut());
    drop(forgotten);
    drop(pool.close(secs(5)).await);
    drop(pool.acquire(&key(1)).await);
    drop(pool.insert(&key(1), key(1)));
}

#[test]
fn no_user_code_but_eq_runs_under_the_lock() {
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(everything_looks());
        _ = done.send(());
    });
    // A pool that looks at itself under its lock never comes back.
    is_done.recv_timeout(secs(60)).expect("user code ran under the lock, or a step above failed");
}
