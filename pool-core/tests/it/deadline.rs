//! One absolute deadline for a whole acquire, and what a caller is told when it passes.

use poolyard_core::{Acquire, AcquireError, Lease, Phase};
use poolyard_testkit::{FakeManager, Gate, Method, Step};
use tokio::time::Instant;

use crate::common::*;

/// What a caller of key 1 waited for until its deadline passed.
async fn phase(pool: &FakePool) -> Phase {
    match pool.acquire(&1).await.unwrap_err() {
        AcquireError::TimedOut { phase, .. } => phase,
        other => panic!("{other}"),
    }
}

#[tokio::test(start_paused = true)]
async fn wait_timeout_ends_a_wait() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).wait_timeout(secs(3)).build().unwrap();
    let lease = pool.acquire(&1).await.unwrap();
    let start = Instant::now();
    let error = pool.acquire(&1).await.unwrap_err();
    let AcquireError::TimedOut { phase: Phase::Capacity, counts: at_end, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!((start.elapsed().as_secs(), at_end.leased, at_end.waiters), (3, 1, 0));
    assert_eq!((counts(&pool).waiters, pool.snapshot().counters.timed_out), (0, 1));
    drop(lease);
}

#[tokio::test(start_paused = true)]
async fn a_callers_own_deadline_goes_before_wait_timeout() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).wait_timeout(secs(3)).build().unwrap();
    let _lease = pool.acquire(&1).await.unwrap();
    for seconds in [1, 10] {
        let start = Instant::now();
        let deadline = Some((start + secs(seconds)).into_std());
        assert!(pool.acquire_with(&1, Acquire { deadline }).await.is_err());
        assert_eq!(start.elapsed().as_secs(), seconds);
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_has_passed_takes_only_what_is_ready() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).build().unwrap();
    let past = || Acquire { deadline: Some((Instant::now() - secs(1)).into_std()) };
    tokio::time::sleep(secs(5)).await;
    let start = Instant::now();
    assert!(pool.acquire_with(&1, past()).await.is_err());
    assert!(start.elapsed() < secs(1));
    settle().await;
    assert!(pool.acquire_with(&1, past()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn one_deadline_spans_all_that_a_wait_goes_through() {
    let fake = FakeManager::new().always(Method::HealthCheck, Step::err("dead").after(secs(1)));
    fake.always(Method::Recycle, Step::ok().after(secs(1))).always(Method::Create, Step::ok());
    let pool = pool_of(4, &fake).check_after(ms(0)).wait_timeout(secs(3)).build().unwrap();
    drop(take(&pool, 1, 4).await);
    tokio::time::sleep(secs(5)).await;
    fake.always(Method::Create, Step::ok().after(secs(20)));
    let start = Instant::now();
    assert!(pool.acquire(&1).await.is_err(), "a check fails, and a creation takes too long");
    assert_eq!(start.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_caller_is_told_what_it_waited_for() {
    let gate = Gate::new();
    let fake = FakeManager::new().create_script([Step::ok().at(&gate)]);
    let pool = pool_of(1, &fake).wait_timeout(secs(1)).max_lifetime(None).build().unwrap();
    assert_eq!(phase(&pool).await, Phase::Create);
    gate.open();
    settle().await;
    let lease = pool.acquire(&1).await.unwrap();
    assert_eq!(phase(&pool).await, Phase::Capacity);
    fake.recycle_script([Step::ok().after(secs(2))]);
    drop(lease);
    assert_eq!(phase(&pool).await, Phase::Recycle);
    tokio::time::sleep(secs(40)).await;
    fake.health_check_script([Step::ok().after(secs(2))]);
    assert_eq!(phase(&pool).await, Phase::HealthCheck);
    tokio::time::sleep(secs(2)).await;
    fake.destroy_script([Step::ok().after(secs(2))]);
    Lease::discard(pool.acquire(&1).await.unwrap());
    assert_eq!(phase(&pool).await, Phase::Destroy);
    pool.suspend();
    assert_eq!(phase(&pool).await, Phase::Suspended);
}

#[tokio::test(start_paused = true)]
async fn a_caller_is_told_what_another_key_kept_it_waiting_for() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).wait_timeout(secs(1)).build().unwrap();
    let lease = pool.acquire(&2).await.unwrap();
    assert_eq!(phase(&pool).await, Phase::Capacity);
    fake.destroy_script([Step::ok().after(secs(5))]);
    drop(lease);
    settle().await;
    assert_eq!(phase(&pool).await, Phase::Destroy);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn who_times_out_is_told_the_last_error_of_its_key() {
    let fake = FakeManager::new().always(Method::Create, Step::err("no route").after(ms(700)));
    fake.on_retry(|_, _| Some(ms(100)));
    let pool = pool_of(1, &fake).wait_timeout(secs(2)).build().unwrap();
    let error = pool.acquire(&1).await.unwrap_err();
    let AcquireError::TimedOut { last_error: Some(last), .. } = &error else { panic!("{error}") };
    assert!(last.contains("no route"), "{last}");
    assert!(error.to_string().contains("no route"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn no_default_waits_for_ever() {
    let fake = FakeManager::new().always(Method::Create, Step::hang());
    fake.always(Method::Recycle, Step::hang()).always(Method::HealthCheck, Step::hang());
    fake.always(Method::Destroy, Step::hang());
    let pool = pool_of(2, &fake).build().unwrap();
    pool.insert(&1, fake.resource(1)).unwrap();
    drop(pool.acquire(&1).await.unwrap());
    assert!(pool.acquire(&1).await.is_err());
    drop(pool.warm(&2, 1).await);
    tokio::time::sleep(secs(60)).await;
    let still = pool.resources().len();
    assert_eq!((still, fake.running(Method::Create)), (0, 0), "no call into the manager lasts");
}
