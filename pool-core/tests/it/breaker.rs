//! The breaker of a key: what follows from creations that keep failing.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use poolyard_core::{AcquireError, Circuit, CreateFailure, KeyInfo, Lease, Observer, Reason, ResourceId};
use poolyard_testkit::{FakeError, FakeManager, Gate, Method, Step};

use crate::common::*;

/// How long none is tried, says the error.
#[track_caller]
fn refused(outcome: Result<FakeLease, AcquireError<FakeError>>) -> Duration {
    match outcome.expect_err("nothing is tried") {
        AcquireError::CircuitOpen { retry_after, .. } => retry_after,
        error => panic!("{error}"),
    }
}

#[track_caller]
fn failed(outcome: Result<FakeLease, AcquireError<FakeError>>) {
    let error = outcome.expect_err("creations fail");
    assert!(matches!(error, AcquireError::Create(_)), "{error}");
}

fn key(pool: &FakePool, key: u32) -> KeyInfo<u32> {
    pool.keys().into_iter().find(|info| info.key == key).expect("the key is known")
}

/// Opens the circuit of key 1, which takes three failures.
async fn opened(fake: &FakeManager) -> FakePool {
    let pool = pool_of(9, fake).breaker_after(3).build().unwrap();
    fake.always(Method::Create, Step::err("down"));
    for _ in 0..3 {
        failed(pool.acquire(&1).await);
    }
    pool
}

#[tokio::test(start_paused = true)]
async fn after_so_many_failed_creations_in_a_row_none_is_tried_for_a_while() {
    let fake = FakeManager::new();
    let pool = opened(&fake).await;
    let error = pool.acquire(&1).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("none is tried for") && text.contains("down"), "{text}");
    assert!(refused(pool.acquire(&1).await) <= secs(1));
    tokio::time::sleep(ms(600)).await;
    assert!(refused(pool.acquire(&1).await) <= ms(400), "the time that is left");
    assert_eq!(fake.count(Method::Create), 3);
    tokio::time::sleep(ms(400)).await;
    fake.clear_script();
    drop(pool.acquire(&1).await.unwrap());
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn a_creation_that_is_complete_starts_the_count_of_failures_anew() {
    let fake = FakeManager::new();
    let pool = pool_of(9, &fake).breaker_after(3).build().unwrap();
    for _ in 0..4 {
        fake.create_script([Step::err("no"), Step::err("no"), Step::ok()]);
        failed(pool.acquire(&1).await);
        failed(pool.acquire(&1).await);
        assert_eq!((key(&pool, 1).failures, key(&pool, 1).circuit), (2, Circuit::Closed));
        Lease::discard(pool.acquire(&1).await.unwrap());
        settle().await;
    }
    assert_eq!(pool.snapshot().keys, 0, "and nothing is remembered");
}

#[tokio::test(start_paused = true)]
async fn a_half_open_circuit_lets_exactly_one_creation_through() {
    let (fake, gate) = (FakeManager::new(), Gate::new());
    let pool = opened(&fake).await;
    tokio::time::sleep(secs(1)).await;
    fake.always(Method::Create, Step::ok().at(&gate));
    let mut asked = Vec::new();
    for _ in 0..4 {
        asked.push(ask(&pool, 1).await);
    }
    assert_eq!(fake.running(Method::Create), 1);
    assert_eq!(key(&pool, 1).circuit, Circuit::HalfOpen);
    gate.open();
    for asked in asked {
        got(asked).await;
    }
    assert_eq!((key(&pool, 1).circuit, key(&pool, 1).failures), (Circuit::Closed, 0));
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_probe_opens_the_circuit_for_twice_as_long_up_to_the_longest_pause() {
    let fake = FakeManager::new();
    let pool = opened(&fake).await;
    for seconds in [1, 2, 4, 8, 16, 30, 30] {
        let pause = refused(pool.acquire(&1).await);
        assert!(pause <= secs(seconds) && pause > secs(seconds) - ms(20), "{pause:?} of {seconds} s");
        tokio::time::sleep(secs(seconds)).await;
        failed(pool.acquire(&1).await);
    }
    assert_eq!(pool.snapshot().counters.circuits_opened, 8);
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_told_when_the_circuit_opens() {
    let (fake, gate) = (FakeManager::new(), Gate::new());
    let pool = pool_of(9, &fake).breaker_after(1).max_creating_per_key(1).build().unwrap();
    fake.create_script([Step::err("down").at(&gate)]);
    let (first, second, third) = (ask(&pool, 1).await, ask(&pool, 1).await, ask(&pool, 1).await);
    gate.open();
    failed(first.await.unwrap());
    assert!(refused(second.await.unwrap()) <= secs(1));
    let error = third.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("down"), "the cause is told: {error}");
    let counters = pool.snapshot().counters;
    assert_eq!((counters.failed, counters.circuit_refused, fake.count(Method::Create)), (1, 2, 1));
}

#[tokio::test(start_paused = true)]
async fn who_can_be_served_by_a_return_waits_for_it_while_the_circuit_is_open() {
    let fake = FakeManager::new().create_script([Step::ok()]);
    let pool = pool_of(9, &fake).breaker_after(1).build().unwrap();
    let lease = pool.acquire(&1).await.unwrap();
    fake.always(Method::Create, Step::err("too many connections"));
    failed(pool.acquire(&1).await);
    let waits = ask(&pool, 1).await;
    assert!(!waits.is_finished());
    drop(lease);
    let lease = got(waits).await;
    let waits = ask(&pool, 1).await;
    Lease::discard(lease);
    refused(waits.await.unwrap());
    assert_eq!(fake.count(Method::Create), 2);
}

#[tokio::test(start_paused = true)]
async fn an_idle_resource_is_given_out_while_the_circuit_is_open() {
    let fake = FakeManager::new();
    let pool = opened(&fake).await;
    pool.insert(&1, fake.resource(1)).unwrap();
    let lease = pool.acquire(&1).await.unwrap();
    assert!(matches!(key(&pool, 1).circuit, Circuit::Open { .. }));
    drop(lease);
    assert!(pool.try_acquire(&1).is_err(), "it is being recycled");
    settle().await;
    assert!(pool.try_acquire(&1).is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_circuit_of_one_key_is_nothing_to_others() {
    let fake = FakeManager::new();
    let pool = opened(&fake).await;
    fake.clear_script();
    drop(pool.acquire(&2).await.unwrap());
    refused(pool.acquire(&1).await);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn a_timeout_a_panic_and_a_death_count_as_failed_creations() {
    let gate = Gate::new();
    let steps = [Step::hang(), Step::panic(), Step::ok().at(&gate)];
    let fake = FakeManager::new().create_script(steps);
    let pool = pool_of(9, &fake).breaker_after(3).create_timeout(secs(1)).build().unwrap();
    assert!(pool.acquire(&1).await.is_err());
    assert!(pool.acquire(&1).await.is_err());
    assert_eq!(key(&pool, 1).failures, 2);
    let third = ask(&pool, 1).await;
    assert!(fake.gone(fake.creating_ids()[0]));
    gate.open();
    assert!(matches!(third.await.unwrap(), Err(AcquireError::CreateGone(_))));
    refused(pool.acquire(&1).await);
    settle().await;
    assert_eq!(fake.reasons(), [Reason::Gone]);
}

#[tokio::test(start_paused = true)]
async fn minimum_idle_and_warm_up_do_not_try_either_while_the_circuit_is_open() {
    let fake = FakeManager::new().always(Method::Create, Step::err("down"));
    let pool =
        pool_of(9, &fake).breaker_after(2).min_idle_per_key(1).breaker_pause(secs(20)).build().unwrap();
    failed(pool.acquire(&1).await);
    tokio::time::sleep(secs(1)).await;
    let tried = fake.count(Method::Create);
    assert!(matches!(key(&pool, 1).circuit, Circuit::Open { .. }));
    let report = pool.warm(&1, 2).await;
    assert!(matches!(&report.failures[..], [CreateFailure::CircuitOpen, CreateFailure::CircuitOpen]));
    tokio::time::sleep(secs(10)).await;
    assert_eq!(fake.count(Method::Create), tried);
    fake.clear_script();
    tokio::time::sleep(secs(30)).await;
    assert_eq!((counts(&pool).idle, key(&pool, 1).circuit), (1, Circuit::Closed), "the refill is the probe");
}

#[tokio::test(start_paused = true)]
async fn failures_that_lie_far_apart_are_not_in_a_row() {
    let fake = FakeManager::new().always(Method::Create, Step::err("down"));
    let pool = pool_of(9, &fake).breaker_after(3).build().unwrap();
    for _ in 0..6 {
        failed(pool.acquire(&1).await);
        tokio::time::sleep(secs(31)).await;
        assert_eq!(pool.snapshot().keys, 0, "the key is forgotten");
    }
}

#[tokio::test(start_paused = true)]
async fn a_breaker_can_be_turned_off() {
    let fake = FakeManager::new().always(Method::Create, Step::err("down"));
    let pool = pool_of(9, &fake).breaker_after(None).build().unwrap();
    for _ in 0..50 {
        failed(pool.acquire(&1).await);
    }
    let off = opened(&FakeManager::new()).await;
    off.resize(|config| config.breaker_after = None).unwrap();
    failed(off.acquire(&1).await);
    assert_eq!((pool.snapshot().circuits_open, off.snapshot().circuits_open), (0, 0));
}

#[derive(Clone, Default)]
struct Circuits(Arc<Mutex<Vec<(u64, Duration)>>>);

impl Observer for Circuits {
    fn circuit_opened(&self, _: ResourceId, failures: u64, pause: Duration) {
        self.0.lock().unwrap().push((failures, pause));
    }
}

#[tokio::test(start_paused = true)]
async fn a_circuit_that_opens_is_counted_shown_and_observed() {
    let fake = FakeManager::new().always(Method::Create, Step::err("down"));
    let circuits = Circuits::default();
    let pool = pool_of(9, &fake).breaker_after(2).observer(circuits.clone()).build().unwrap();
    for _ in 0..2 {
        assert!(pool.acquire(&1).await.is_err());
    }
    assert_eq!(*circuits.0.lock().unwrap(), [(2, secs(1))]);
    let snapshot = pool.snapshot();
    assert_eq!((snapshot.circuits_open, snapshot.counters.circuits_opened), (1, 1));
    let info = pool.keys().remove(0);
    assert_eq!(info.failures, 2);
    assert!(matches!(info.circuit, Circuit::Open { retry_after } if retry_after <= secs(1)));
    tokio::time::sleep(secs(1) + ms(2)).await;
    assert_eq!((pool.snapshot().circuits_open, pool.keys().remove(0).circuit), (1, Circuit::HalfOpen));
    tokio::time::sleep(secs(30) + ms(2)).await;
    assert_eq!((pool.snapshot().circuits_open, pool.snapshot().keys), (0, 0), "nobody asked again");
}

#[tokio::test(start_paused = true)]
async fn no_more_than_so_many_failing_keys_are_remembered() {
    let fake = FakeManager::new().always(Method::Create, Step::err("down"));
    let pool = pool_of(9, &fake).build().unwrap();
    for key in 0..5_000 {
        failed(pool.acquire(&key).await);
    }
    assert_eq!(pool.snapshot().keys, 4_096);
    tokio::time::sleep(secs(31)).await;
    assert_eq!(pool.snapshot().keys, 0);
}
