//! Minimum idle and warm-up.

use poolyard_core::{CreateFailure, Reason};
use poolyard_testkit::cancel::poll_once;
use poolyard_testkit::{FakeManager, Gate, Method, Step};

use crate::common::*;

#[tokio::test(start_paused = true)]
async fn minimum_idle_is_kept_for_every_known_key() {
    let fake = FakeManager::new();
    let pool = pool_of(10, &fake).min_idle_per_key(2).build().unwrap();
    let one = pool.acquire(&1).await.unwrap();
    settle().await;
    assert_eq!((counts(&pool).idle, counts(&pool).leased), (2, 1));
    let two = pool.acquire(&1).await.unwrap();
    settle().await;
    assert_eq!(counts(&pool).idle, 2, "what was taken is replaced");
    fake.gone(fake.live_ids()[2]);
    settle().await;
    assert_eq!(counts(&pool).idle, 2, "what died is replaced");
    drop((one, two));
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn minimum_idle_outlives_the_idle_timeout_but_not_the_lifetime() {
    let fake = FakeManager::new();
    let pool = pool_of(5, &fake).min_idle_per_key(1).idle_timeout(secs(5)).max_lifetime(secs(60));
    let pool = pool.lifetime_jitter(0.0).check_interval(None).build().unwrap();
    drop(take(&pool, 1, 3).await);
    tokio::time::sleep(secs(50)).await;
    assert_eq!((counts(&pool).idle, destroyed_for(&pool, Reason::MaxLifetime)), (1, 0));
    tokio::time::sleep(secs(15)).await;
    assert_eq!((counts(&pool).idle, destroyed_for(&pool, Reason::Replaced)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn minimum_idle_yields_to_the_limits() {
    let fake = FakeManager::new();
    let pool = pool_of(3, &fake).min_idle_per_key(2).build().unwrap();
    let leases = take(&pool, 1, 3).await;
    settle().await;
    assert_eq!((counts(&pool).idle, fake.peak_held()), (0, 3));
    drop(leases);
}

#[tokio::test(start_paused = true)]
async fn warming_makes_no_more_than_may_be_idle() {
    let fake = FakeManager::new().always(Method::Create, Step::ok().after(secs(1)));
    let pool = pool_of(9, &fake).max_idle_per_key(3).build().unwrap();
    assert_eq!((pool.warm(&1, 1).await.inserted, pool.warm(&1, 9).await.inserted), (1, 2));
    assert_eq!(pool.snapshot().counters.created, 3);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn minimum_idle_is_refilled_with_a_back_off_after_failures() {
    let fake = FakeManager::new();
    let pool = pool_of(5, &fake).min_idle_per_key(1).max_creating_per_key(1).build().unwrap();
    let lease = pool.acquire(&1).await.unwrap();
    settle().await;
    fake.always(Method::Create, Step::err("down"));
    let before = fake.count(Method::Create);
    fake.gone(fake.live_ids()[1]);
    tokio::time::sleep(secs(60)).await;
    let attempts = fake.count(Method::Create) - before;
    assert!((8..=12).contains(&attempts), "{attempts}: 0.1 s, 0.2 s, ... up to 30 s");
    fake.clear_script();
    tokio::time::sleep(secs(31)).await;
    assert_eq!(counts(&pool).idle, 1, "and when it works again, it is there");
    drop(lease);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn warm_reports_what_was_made_and_what_was_there() {
    let fake = FakeManager::new();
    let pool = pool_of(8, &fake).build().unwrap();
    drop(take(&pool, 1, 2).await);
    settle().await;
    let report = pool.warm(&1, 5).await;
    assert_eq!((report.inserted, report.already_there, report.failures.len()), (3, 2, 0));
    assert_eq!(counts(&pool).idle, 5);
    let report = pool.warm(&1, 4).await;
    assert_eq!((report.inserted, report.already_there), (0, 4));
    assert_eq!(pool.warm(&2, 0).await.inserted, 0);
    assert_eq!(pool.keys().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn warm_reports_every_failure_with_its_cause_and_keeps_what_succeeded() {
    let fake = FakeManager::new();
    fake.create_script([Step::ok(), Step::err("no"), Step::panic(), Step::hang(), Step::ok()]);
    let pool = pool_of(8, &fake).max_per_key(6).create_timeout(secs(1)).build().unwrap();
    let report = pool.warm(&1, 8).await;
    assert_eq!(report.inserted + report.failures.len(), 8);
    let has = |which: fn(&CreateFailure<_>) -> bool| report.failures.iter().filter(|f| which(f)).count();
    assert_eq!(has(|f| matches!(f, CreateFailure::Error(error) if error.text == "no")), 1);
    assert_eq!(has(|f| matches!(f, CreateFailure::Panicked(_))), 1);
    assert_eq!(has(|f| matches!(f, CreateFailure::TimedOut)), 1);
    assert_eq!(counts(&pool).idle, report.inserted);
}

#[tokio::test(start_paused = true)]
async fn warm_stays_within_the_limits_and_says_so() {
    let fake = FakeManager::new();
    let pool = pool_of(8, &fake).max_per_key(3).build().unwrap();
    let report = pool.warm(&1, 5).await;
    assert_eq!(report.inserted, 3);
    assert!(report.failures.iter().all(|failure| matches!(failure, CreateFailure::NoRoom)));
    assert_eq!((report.failures.len(), fake.peak_held()), (2, 3));
}

#[tokio::test(start_paused = true)]
async fn warm_creates_concurrently_within_max_creating() {
    let fake = FakeManager::new().always(Method::Create, Step::ok().after(secs(1)));
    let pool = pool_of(20, &fake).max_creating(5).max_creating_per_key(3).build().unwrap();
    let start = tokio::time::Instant::now();
    assert_eq!(pool.warm(&1, 9).await.inserted, 9);
    assert_eq!((start.elapsed().as_secs(), fake.peak_running(Method::Create)), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn warm_destroys_what_has_expired_first() {
    let fake = FakeManager::new();
    let pool = pool_of(2, &fake).idle_timeout(secs(5)).build().unwrap();
    drop(take(&pool, 1, 2).await);
    settle().await;
    tokio::time::advance(secs(5)).await;
    let report = pool.warm(&1, 2).await;
    assert_eq!((report.inserted, report.already_there, report.failures.len()), (2, 0, 0), "{report:?}");
    assert_eq!(fake.reasons(), [Reason::IdleTimeout; 2]);
}

#[tokio::test(start_paused = true)]
async fn a_warm_up_whose_caller_went_away_goes_on() {
    let gate = Gate::new();
    let fake = FakeManager::new().always(Method::Create, Step::ok().at(&gate));
    let pool = pool_of(5, &fake).build().unwrap();
    let mut warm = Box::pin(pool.warm(&1, 3));
    assert!(poll_once(warm.as_mut()).is_pending());
    settle().await;
    drop(warm);
    gate.open();
    settle().await;
    assert_eq!(counts(&pool).idle, 3);
}

#[tokio::test(start_paused = true)]
async fn a_warm_up_in_a_pool_that_closes_is_interrupted() {
    let gate = Gate::new();
    let fake = FakeManager::new().always(Method::Create, Step::ok().at(&gate));
    let pool = pool_of(5, &fake).max_creating(1).build().unwrap();
    let warm = tokio::spawn({
        let pool = pool.clone();
        async move { pool.warm(&1, 3).await }
    });
    settle().await;
    let closed = tokio::spawn({
        let pool = pool.clone();
        async move { pool.close(secs(60)).await }
    });
    settle().await;
    gate.open();
    let report = warm.await.unwrap();
    assert_eq!((report.inserted, report.failures.len()), (0, 3));
    assert!(report.failures.iter().all(|failure| matches!(failure, CreateFailure::Interrupted)));
    assert!(closed.await.unwrap().is_clean());
    assert_eq!(pool.warm(&1, 2).await.failures.len(), 2);
}
