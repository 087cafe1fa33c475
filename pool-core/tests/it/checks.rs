//! Health checks: before hand-out, after every n-th recycle, periodic.

use poolyard_core::{Lease, Reason, Reuse};
use poolyard_testkit::{FakeManager, Gate, Method, Step};

use crate::common::*;

/// One idle resource of key 1.
async fn one_idle(pool: &FakePool) {
    drop(pool.acquire(&1).await.unwrap());
    settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_long_idle_resource_is_checked_before_it_is_handed_out() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).check_after(secs(5)).check_interval(None).build().unwrap();
    one_idle(&pool).await;
    tokio::time::sleep(secs(4)).await;
    one_idle(&pool).await;
    assert_eq!(fake.count(Method::HealthCheck), 0, "it was in use a moment ago");
    tokio::time::sleep(secs(5)).await;
    one_idle(&pool).await;
    assert_eq!(fake.count(Method::HealthCheck), 1);
    assert_eq!(fake.count(Method::Create), 1);
}

#[tokio::test(start_paused = true)]
async fn try_acquire_takes_only_what_is_ready_without_a_check() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).check_after(secs(5)).check_interval(None).build().unwrap();
    one_idle(&pool).await;
    drop(pool.try_acquire(&1).unwrap());
    settle().await;
    tokio::time::sleep(secs(5)).await;
    assert!(pool.try_acquire(&1).is_err());
    assert_eq!(fake.count(Method::HealthCheck), 0);
    assert_eq!(counts(&pool).idle, 1, "it stays where it is");
}

#[tokio::test(start_paused = true)]
async fn a_failed_check_leaves_the_waiter_at_the_head_and_destroys_as_unhealthy() {
    let gate = Gate::new();
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).check_after(secs(5)).check_interval(None).build().unwrap();
    one_idle(&pool).await;
    tokio::time::sleep(secs(6)).await;
    fake.health_check_script([Step::err("dead").at(&gate)]);
    let first = ask(&pool, 1).await;
    let second = ask(&pool, 1).await;
    assert_eq!(counts(&pool).checking, 1);
    gate.open();
    let lease = got(first).await;
    assert_eq!(lease.serial(), 2, "a new one was made");
    assert!(!second.is_finished());
    assert_eq!(fake.reasons(), [Reason::Unhealthy]);
    assert_eq!(pool.snapshot().counters.check_failures, 1);
    drop(lease);
    got(second).await;
}

#[tokio::test(start_paused = true)]
async fn a_ready_return_serves_a_waiter_before_its_check_is_done() {
    let gate = Gate::new();
    let fake = FakeManager::new().health_check_script([Step::ok().at(&gate)]);
    let pool = pool_of(2, &fake).check_after(secs(5)).check_interval(None).build().unwrap();
    let busy = pool.acquire(&1).await.unwrap();
    one_idle(&pool).await;
    tokio::time::sleep(secs(6)).await;
    let waiter = ask(&pool, 1).await;
    assert_eq!(counts(&pool).checking, 1);
    drop(busy);
    let lease = got(waiter).await;
    assert_eq!(lease.serial(), 1, "the returned one, not the one in check");
    gate.open();
    settle().await;
    assert_eq!(counts(&pool).idle, 1);
}

#[tokio::test(start_paused = true)]
async fn when_the_waiter_goes_away_its_checked_resource_goes_to_the_next() {
    let gate = Gate::new();
    let fake = FakeManager::new().health_check_script([Step::ok().at(&gate)]);
    let pool = pool_of(1, &fake).check_after(secs(5)).check_interval(None).build().unwrap();
    one_idle(&pool).await;
    tokio::time::sleep(secs(6)).await;
    let first = ask(&pool, 1).await;
    let second = ask(&pool, 1).await;
    first.abort();
    gate.open();
    assert_eq!(got(second).await.serial(), 1);
    assert_eq!(fake.count(Method::HealthCheck), 1);
}

#[tokio::test(start_paused = true)]
async fn a_check_past_its_deadline_ends_the_resource_as_unhealthy() {
    let fake = FakeManager::new().health_check_script([Step::hang()]);
    let pool = pool_of(1, &fake).check_after(secs(5)).check_interval(None).health_check_timeout(secs(2));
    let pool = pool.build().unwrap();
    one_idle(&pool).await;
    tokio::time::sleep(secs(6)).await;
    let start = tokio::time::Instant::now();
    assert_eq!(pool.acquire(&1).await.unwrap().serial(), 2);
    assert_eq!((start.elapsed().as_secs(), fake.reasons()), (2, vec![Reason::Unhealthy]));
    assert_eq!(pool.snapshot().counters.timed_out_calls, 1);
}

#[tokio::test(start_paused = true)]
async fn check_after_zero_checks_before_every_hand_out() {
    let fake = FakeManager::new().on_reuse(|_, _| Reuse::Now);
    let pool = pool_of(1, &fake).check_after(ms(0)).build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    for checks in 1..=3 {
        assert!(pool.try_acquire(&1).is_err(), "nothing is ready without a check");
        drop(pool.acquire(&1).await.unwrap());
        assert_eq!(fake.count(Method::HealthCheck), checks);
    }
}

/// A resource that is handed straight from its user to a waiter; how often it was checked.
async fn checks_at_hand_over(fake: &FakeManager) -> usize {
    let pool = pool_of(1, fake).check_after(ms(0)).build().unwrap();
    let lease = pool.acquire(&1).await.unwrap();
    let waiter = ask(&pool, 1).await;
    drop(lease);
    got(waiter).await;
    fake.count(Method::HealthCheck)
}

#[tokio::test(start_paused = true)]
async fn check_after_zero_checks_a_direct_hand_over_too() {
    let fake = FakeManager::new().on_reuse(|_, _| Reuse::Now);
    assert_eq!(checks_at_hand_over(&fake).await, 1);
}

#[tokio::test(start_paused = true)]
async fn check_after_zero_checks_a_hand_over_after_a_recycle_too() {
    assert_eq!(checks_at_hand_over(&FakeManager::new()).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_resource_is_checked_at_return_after_every_nth_recycle_of_its_own() {
    let fake = FakeManager::new();
    let pool = pool_of(2, &fake).check_every_recycles(3).build().unwrap();
    let other = pool.acquire(&2).await.unwrap();
    for round in 1..=9 {
        one_idle(&pool).await;
        assert_eq!(fake.count(Method::HealthCheck), round / 3, "after {round} recycles");
    }
    drop(other);
    settle().await;
    assert_eq!(fake.count(Method::HealthCheck), 3, "the other one has a counter of its own");
}

#[tokio::test(start_paused = true)]
async fn a_failed_check_at_return_is_nobodys_error() {
    let fake = FakeManager::new().health_check_script([Step::err("dead")]);
    let pool = pool_of(1, &fake).check_every_recycles(1).build().unwrap();
    let lease = pool.acquire(&1).await.unwrap();
    let waiter = ask(&pool, 1).await;
    drop(lease);
    assert_eq!(got(waiter).await.serial(), 2);
    assert_eq!(fake.reasons(), [Reason::Unhealthy]);
}

#[tokio::test(start_paused = true)]
async fn an_idle_resource_is_checked_periodically() {
    let fake = FakeManager::new();
    let pool = pool_of(2, &fake).check_interval(secs(10)).idle_timeout(None).build().unwrap();
    one_idle(&pool).await;
    tokio::time::sleep(secs(35)).await;
    assert_eq!(fake.count(Method::HealthCheck), 3);
    fake.health_check_script([Step::err("dead")]);
    tokio::time::sleep(secs(10)).await;
    assert_eq!((fake.reasons(), counts(&pool).live()), (vec![Reason::Unhealthy], 0));
}

#[tokio::test(start_paused = true)]
async fn a_periodic_check_is_no_use_and_keeps_the_resource_in_its_place() {
    let fake = FakeManager::new();
    let pool = pool_of(2, &fake).check_interval(secs(10)).idle_timeout(secs(25)).build().unwrap();
    one_idle(&pool).await;
    tokio::time::sleep(secs(24)).await;
    assert_eq!((fake.count(Method::HealthCheck), fake.live()), (2, 1));
    tokio::time::sleep(secs(1)).await;
    assert_eq!(fake.reasons(), [Reason::IdleTimeout], "it was idle all that time");
}

#[tokio::test(start_paused = true)]
async fn a_resource_in_a_periodic_check_is_given_out_after_it() {
    let gate = Gate::new();
    let fake = FakeManager::new().health_check_script([Step::ok().at(&gate)]);
    let pool = pool_of(1, &fake).check_interval(secs(10)).hedge_after(secs(9)).build().unwrap();
    one_idle(&pool).await;
    tokio::time::sleep(secs(11)).await;
    assert_eq!(counts(&pool).checking, 1);
    let waiter = ask(&pool, 1).await;
    assert!(!waiter.is_finished());
    gate.open();
    assert_eq!(got(waiter).await.serial(), 1);
}

#[tokio::test(start_paused = true)]
async fn periodic_checks_go_on_while_the_pool_is_suspended() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).check_interval(secs(10)).idle_timeout(None).build().unwrap();
    one_idle(&pool).await;
    pool.suspend();
    tokio::time::sleep(secs(35)).await;
    assert_eq!((fake.count(Method::HealthCheck), counts(&pool).idle), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn a_look_by_retain_does_not_replace_a_check() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).check_after(secs(5)).check_interval(None).build().unwrap();
    one_idle(&pool).await;
    tokio::time::sleep(secs(6)).await;
    let mut waiter = None;
    pool.retain(|_, _, _| {
        let asking = pool.clone();
        let mut asked = Box::pin(async move { asking.acquire(&1).await });
        assert!(poolyard_testkit::cancel::poll_once(asked.as_mut()).is_pending());
        waiter = Some(asked);
        true
    });
    let lease = waiter.unwrap().await.unwrap();
    assert_eq!((lease.serial(), fake.count(Method::HealthCheck)), (1, 1));
    Lease::discard(lease);
}

#[tokio::test(start_paused = true)]
async fn without_options_nothing_is_checked() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).check_after(None).check_interval(None).check_every_recycles(None);
    let pool = pool.idle_timeout(None).max_lifetime(None).build().unwrap();
    for _ in 0..5 {
        one_idle(&pool).await;
        tokio::time::sleep(secs(10_000)).await;
    }
    assert_eq!(fake.count(Method::HealthCheck), 0);
}
