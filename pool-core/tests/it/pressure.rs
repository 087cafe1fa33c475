//! What goes when something is short: `shed`, and sources of pressure.

use std::sync::{Arc, Mutex};

use poolyard_core::{AcquireError, CreateFailure, Lease, Observer, Phase, Pressed, Reason, Shed};
use poolyard_testkit::{FakeManager, Method};

use crate::common::*;

/// What is short, to be set by the test.
#[derive(Clone, Default)]
struct Shortage(Arc<Mutex<Option<Pressed>>>);

impl Shortage {
    fn begin(&self, shed: Shed) {
        *self.0.lock().unwrap() = Some(Pressed { shed, cause: "the attic is full".into() });
    }

    fn end(&self) {
        *self.0.lock().unwrap() = None;
    }

    fn source(&self) -> impl Fn() -> Option<Pressed> + Send + Sync + 'static {
        let shortage = Arc::clone(&self.0);
        move || shortage.lock().unwrap().clone()
    }
}

/// A pool with one idle resource of each of `keys`, the first the least recently used.
async fn idle_of(fake: &FakeManager, shortage: &Shortage, keys: std::ops::Range<u32>) -> FakePool {
    let pool = pool_of(9, fake).pressure(shortage.source()).build().unwrap();
    for key in keys {
        drop(pool.acquire(&key).await.unwrap());
        settle().await;
    }
    pool
}

fn idle_keys(pool: &FakePool) -> Vec<u32> {
    let mut keys: Vec<u32> =
        pool.keys().into_iter().filter(|info| info.counts.idle > 0).map(|info| info.key).collect();
    keys.sort_unstable();
    keys
}

#[tokio::test(start_paused = true)]
async fn shed_destroys_the_least_recently_used_and_reports_what_went() {
    let fake = FakeManager::new();
    let pool = idle_of(&fake, &Shortage::default(), 1..5).await;
    drop(pool.acquire(&1).await.unwrap());
    settle().await;
    let report = pool.shed(Shed::Resources(2));
    let keys: Vec<u32> = report.resources.iter().map(|info| info.key).collect();
    assert_eq!((keys, report.cost), (vec![2, 3], 2));
    settle().await;
    assert_eq!((idle_keys(&pool), fake.reasons()), (vec![1, 4], vec![Reason::Shed; 2]));
    assert_eq!(pool.shed(Shed::All).resources.len(), 2);
    assert_eq!(pool.shed(Shed::All).resources.len(), 0);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn shed_by_cost_destroys_until_that_much_has_gone() {
    let fake = FakeManager::new().on_cost(|key| u64::from(*key));
    let pool = idle_of(&fake, &Shortage::default(), 1..6).await;
    let report = pool.shed(Shed::Cost(5));
    assert_eq!((report.resources.len(), report.cost), (3, 6), "1 and 2 are not enough");
    assert_eq!((pool.shed(Shed::Cost(0)).cost, pool.shed(Shed::Half).resources.len()), (0, 1));
    settle().await;
    assert_eq!(pool.snapshot().cost, 5);
}

#[tokio::test(start_paused = true)]
async fn shed_takes_neither_leased_resources_nor_a_minimum_idle() {
    let fake = FakeManager::new();
    let pool = pool_of(9, &fake).min_idle_per_key(2).build().unwrap();
    let leases = take(&pool, 1, 3).await;
    drop(take(&pool, 2, 3).await);
    settle().await;
    let spare = counts(&pool).idle - 4;
    assert!(spare > 0);
    let report = pool.shed(Shed::All);
    assert!(report.resources.iter().all(|info| info.key == 2), "key 1 has no more than its minimum");
    assert_eq!(report.resources.len(), spare);
    settle().await;
    assert_eq!((counts(&pool).leased, counts(&pool).idle), (3, 4));
    drop(leases);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn under_pressure_idle_resources_go_by_halves_least_recently_used_first() {
    let (fake, shortage) = (FakeManager::new(), Shortage::default());
    let pool = idle_of(&fake, &shortage, 1..6).await;
    tokio::time::sleep(secs(5)).await;
    assert_eq!(idle_keys(&pool), [1, 2, 3, 4, 5]);
    shortage.begin(Shed::Half);
    tokio::time::sleep(secs(1)).await;
    assert_eq!(idle_keys(&pool), [4, 5]);
    tokio::time::sleep(secs(1)).await;
    assert_eq!(idle_keys(&pool), [5]);
    tokio::time::sleep(secs(1)).await;
    assert_eq!((idle_keys(&pool), fake.reasons()), (vec![], vec![Reason::Shed; 5]));
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn under_pressure_no_creation_starts_and_who_waits_is_served_by_a_return_or_told_why() {
    let (fake, shortage) = (FakeManager::new(), Shortage::default());
    let pool = pool_of(9, &fake).wait_timeout(secs(9)).pressure(shortage.source()).build().unwrap();
    let lease = pool.acquire(&1).await.unwrap();
    shortage.begin(Shed::All);
    tokio::time::sleep(secs(1)).await;
    let (one, two) = (ask(&pool, 1).await, ask(&pool, 2).await);
    drop(lease);
    let lease = got(one).await;
    let error = two.await.unwrap().unwrap_err();
    assert!(matches!(error, AcquireError::TimedOut { phase: Phase::Pressure, .. }), "{error}");
    assert!(error.to_string().contains("the end of pressure"), "{error}");
    assert_eq!(fake.count(Method::Create), 1);
    let waits = ask(&pool, 2).await;
    shortage.end();
    tokio::time::sleep(secs(1)).await;
    drop((got(waits).await, lease));
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn under_pressure_a_minimum_idle_goes_and_comes_back_afterwards() {
    let (fake, shortage) = (FakeManager::new(), Shortage::default());
    let pool = pool_of(9, &fake).min_idle_per_key(2).pressure(shortage.source()).build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    settle().await;
    shortage.begin(Shed::All);
    tokio::time::sleep(secs(3)).await;
    assert_eq!(counts(&pool).live(), 0);
    shortage.end();
    tokio::time::sleep(secs(2)).await;
    assert_eq!(counts(&pool).idle, 2);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn under_pressure_warm_fails_at_once() {
    let (fake, shortage) = (FakeManager::new(), Shortage::default());
    shortage.begin(Shed::All);
    let pool = pool_of(9, &fake).pressure(shortage.source()).build().unwrap();
    assert!(pool.warm(&1, 1).await.inserted <= 1, "the first look may come after it");
    settle().await;
    let report = pool.warm(&1, 2).await;
    assert!(matches!(&report.failures[..], [CreateFailure::Pressure, ..]), "{report:?}");
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Option<String>>>>);

impl Observer for Log {
    fn pressure(&self, cause: Option<&str>) {
        self.0.lock().unwrap().push(cause.map(str::to_owned));
    }
}

#[tokio::test(start_paused = true)]
async fn pressure_is_shown_in_the_snapshot_and_its_beginning_and_end_are_observed() {
    let (fake, shortage, log) = (FakeManager::new(), Shortage::default(), Log::default());
    let pool = pool_of(9, &fake).pressure(shortage.source()).observer(log.clone()).build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    assert_eq!(pool.snapshot().pressure, None);
    shortage.begin(Shed::Resources(0));
    tokio::time::sleep(secs(3)).await;
    assert_eq!(pool.snapshot().pressure.as_deref(), Some("the attic is full"));
    shortage.end();
    tokio::time::sleep(secs(3)).await;
    assert_eq!(pool.snapshot().pressure, None);
    assert_eq!(*log.0.lock().unwrap(), [Some(String::from("the attic is full")), None]);
}

#[tokio::test(start_paused = true)]
async fn a_source_is_asked_every_pressure_interval_and_may_use_the_pool() {
    let fake = FakeManager::new();
    let looks = Arc::new(Mutex::new((0, None::<poolyard_core::WeakPool<FakeManager>>)));
    let inside = Arc::clone(&looks);
    let source = move || {
        let mut looks = inside.lock().unwrap();
        looks.0 += 1;
        let pool = looks.1.as_ref().and_then(|weak| weak.upgrade());
        assert!(pool.is_none_or(|pool| pool.snapshot().counts.live() < 9));
        None
    };
    let pool = pool_of(9, &fake).pressure(source).pressure_interval(secs(10)).build().unwrap();
    looks.lock().unwrap().1 = Some(pool.downgrade());
    drop(pool.acquire(&1).await.unwrap());
    tokio::time::sleep(secs(95)).await;
    assert_eq!(looks.lock().unwrap().0, 10, "at once, then nine times");
    pool.resize(|config| config.pressure_interval = secs(1)).unwrap();
    tokio::time::sleep(secs(5) + ms(500)).await;
    assert_eq!(looks.lock().unwrap().0, 15, "a shorter interval holds at once");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_panics_is_no_pressure() {
    let fake = FakeManager::new();
    let source = || -> Option<Pressed> { panic!("no such file") };
    let pool = pool_of(9, &fake).pressure(source).build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    tokio::time::sleep(secs(3)).await;
    assert_eq!((counts(&pool).idle, pool.snapshot().pressure), (1, None));
    Lease::discard(pool.acquire(&1).await.unwrap());
    end(pool, &fake).await;
}
