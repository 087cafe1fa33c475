//! Options by key.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use poolyard_core::{AcquireError, CreateFailure, InsertErrorKind, KeyPolicy, Phase, Reason};
use poolyard_testkit::{FakeManager, Gate, Method, Step};
use tokio::time::Instant;

use crate::common::*;

/// What `policy` says of key 1; other keys are as the builder says.
fn for_one(policy: KeyPolicy) -> impl Fn(&u32) -> KeyPolicy + Send + Sync + 'static {
    move |key| if *key == 1 { policy.clone() } else { KeyPolicy::new() }
}

#[tokio::test(start_paused = true)]
async fn a_policy_limits_one_key_and_leaves_the_others_as_the_builder_says() {
    let fake = FakeManager::new();
    let pool = pool_of(9, &fake).max_per_key(2).policy(for_one(KeyPolicy::new().max_per_key(3)));
    let pool = pool.build().unwrap();
    let (mut ones, mut twos) = (take(&pool, 1, 3).await, take(&pool, 2, 2).await);
    let (one, two) = (ask(&pool, 1).await, ask(&pool, 2).await);
    assert!(!one.is_finished() && !two.is_finished());
    assert_eq!(counts(&pool).live(), 5);
    ones.pop();
    twos.pop();
    drop((got(one).await, got(two).await));
    drop((ones, twos));
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn a_policy_bounds_the_idle_resources_of_its_key() {
    let fake = FakeManager::new();
    let pool = pool_of(9, &fake).policy(for_one(KeyPolicy::new().max_idle_per_key(1))).build().unwrap();
    drop((take(&pool, 1, 3).await, take(&pool, 2, 3).await));
    settle().await;
    assert_eq!((counts(&pool).idle, fake.reasons()), (4, vec![Reason::IdleLimit; 2]));
}

#[tokio::test(start_paused = true)]
async fn a_policy_keeps_a_minimum_idle_for_its_key_alone() {
    let fake = FakeManager::new();
    let pool = pool_of(9, &fake).policy(for_one(KeyPolicy::new().min_idle_per_key(2))).build().unwrap();
    let leases = (take(&pool, 1, 1).await, take(&pool, 2, 1).await);
    settle().await;
    let idle = |key| pool.keys().into_iter().find(|info| info.key == key).unwrap().counts.idle;
    assert_eq!((idle(1), idle(2)), (2, 0));
    drop(leases);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn a_policy_ends_the_resources_of_its_key_by_idle_time_lifetime_and_uses() {
    let fake = FakeManager::new();
    let pool = pool_of(9, &fake).lifetime_jitter(0.0).policy(|key| match key {
        1 => KeyPolicy::new().idle_timeout(secs(2)),
        2 => KeyPolicy::new().max_lifetime(secs(4)),
        3 => KeyPolicy::new().max_uses(1),
        _ => KeyPolicy::new(),
    });
    let pool = pool.build().unwrap();
    for key in 1..5 {
        drop(pool.acquire(&key).await.unwrap());
    }
    settle().await;
    assert_eq!(fake.reasons(), [Reason::MaxUses]);
    tokio::time::sleep(secs(2)).await;
    assert_eq!(fake.reasons(), [Reason::MaxUses, Reason::IdleTimeout]);
    tokio::time::sleep(secs(2)).await;
    assert_eq!(fake.reasons(), [Reason::MaxUses, Reason::IdleTimeout, Reason::MaxLifetime]);
    assert_eq!(counts(&pool).idle, 1);
}

#[tokio::test(start_paused = true)]
async fn a_policy_may_lift_an_end_that_the_builder_sets() {
    let fake = FakeManager::new();
    let pool = pool_of(9, &fake).max_lifetime(secs(5)).idle_timeout(secs(2));
    let for_ever = KeyPolicy::new().idle_timeout(None).max_lifetime(None);
    let pool = pool.policy(for_one(for_ever)).build().unwrap();
    drop((pool.acquire(&1).await.unwrap(), pool.acquire(&2).await.unwrap()));
    tokio::time::sleep(secs(7200)).await;
    assert_eq!((counts(&pool).idle, fake.reasons()), (1, vec![Reason::IdleTimeout]));
}

#[tokio::test(start_paused = true)]
async fn a_policy_gives_the_creations_of_its_key_a_deadline_of_their_own() {
    let fake = FakeManager::new().always(Method::Create, Step::hang());
    let pool = pool_of(9, &fake).create_timeout(secs(9)).wait_timeout(secs(60));
    let pool = pool.policy(for_one(KeyPolicy::new().create_timeout(secs(3)))).build().unwrap();
    for (key, seconds) in [(1, 3), (2, 9)] {
        let start = Instant::now();
        let error = pool.acquire(&key).await.unwrap_err();
        assert!(matches!(error, AcquireError::TimedOut { phase: Phase::Create, .. }), "{error}");
        assert_eq!(start.elapsed().as_secs(), seconds, "key {key}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_sets_how_often_idle_resources_of_its_key_are_checked() {
    let fake = FakeManager::new();
    let pool = pool_of(9, &fake).check_interval(None);
    let pool = pool.policy(for_one(KeyPolicy::new().check_interval(secs(5)))).build().unwrap();
    drop((pool.acquire(&1).await.unwrap(), pool.acquire(&2).await.unwrap()));
    tokio::time::sleep(secs(12)).await;
    let checked: Vec<u32> = fake
        .calls()
        .iter()
        .filter(|call| call.method == Method::HealthCheck)
        .filter_map(|call| call.key)
        .collect();
    assert_eq!(checked, [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_policy_is_asked_once_while_its_key_is_known_and_never_for_a_ready_resource() {
    let (fake, asked) = (FakeManager::new(), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&asked);
    let policy = move |_: &u32| {
        counter.fetch_add(1, SeqCst);
        KeyPolicy::new()
    };
    let pool = pool_of(9, &fake).policy(policy).build().unwrap();
    drop(take(&pool, 1, 3).await);
    settle().await;
    for _ in 0..5 {
        drop(pool.acquire(&1).await.unwrap());
    }
    pool.insert(&1, fake.resource(1)).unwrap();
    assert!(pool.warm(&1, 5).await.failures.is_empty());
    assert_eq!(asked.load(SeqCst), 1);
    drop(pool.acquire(&2).await.unwrap());
    assert_eq!(asked.load(SeqCst), 2);
    pool.retain(|_, _, _| false);
    settle().await;
    drop(pool.acquire(&1).await.unwrap());
    assert_eq!(asked.load(SeqCst), 3, "the key was forgotten");
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_cannot_work_is_refused_at_the_first_use_of_its_key() {
    let fake = FakeManager::new();
    let policy = KeyPolicy::new().min_idle_per_key(3).max_per_key(2);
    let pool = pool_of(9, &fake).policy(for_one(policy)).build().unwrap();
    let error = pool.acquire(&1).await.unwrap_err();
    assert!(matches!(error, AcquireError::Policy(_)), "{error}");
    let source = std::error::Error::source(&error).expect("it says what contradicts what").to_string();
    assert!(source.contains("min_idle_per_key 3") && source.contains("max_per_key 2"), "{source}");
    let refused = pool.insert(&1, fake.resource(1)).unwrap_err();
    assert_eq!(refused.kind, InsertErrorKind::Policy);
    refused.resource.end();
    let report = pool.warm(&1, 2).await;
    assert!(matches!(&report.failures[..], [CreateFailure::Policy(_), CreateFailure::Policy(_)]));
    assert_eq!((fake.count(Method::Create), pool.keys().len()), (0, 0));
    drop(pool.acquire(&2).await.unwrap());
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_panics_is_an_error_of_its_key_alone() {
    let fake = FakeManager::new();
    let pool = pool_of(9, &fake).policy(|key| match key {
        1 => panic!("no such tenant"),
        _ => KeyPolicy::new(),
    });
    let pool = pool.build().unwrap();
    let error = pool.acquire(&1).await.unwrap_err();
    let AcquireError::Policy(source) = &error else { panic!("{error}") };
    assert!(source.to_string().contains("no such tenant"), "{source}");
    drop(pool.acquire(&2).await.unwrap());
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn a_resize_changes_what_a_policy_leaves_open_and_lowers_what_it_says() {
    let fake = FakeManager::new();
    let pool = pool_of(9, &fake).max_per_key(2).idle_timeout(secs(50));
    let pool = pool.policy(for_one(KeyPolicy::new().max_per_key(4))).build().unwrap();
    let leases = take(&pool, 1, 4).await;
    pool.resize(|config| (config.max_total, config.idle_timeout) = (3, Some(secs(5)))).unwrap();
    drop(leases);
    settle().await;
    assert_eq!((counts(&pool).idle, fake.reasons()), (3, vec![Reason::Shrunk]));
    tokio::time::sleep(secs(5)).await;
    assert_eq!(counts(&pool).idle, 0, "the policy leaves the idle time to the pool");
    pool.resize(|config| config.max_total = 9).unwrap();
    drop(take(&pool, 1, 4).await);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn a_key_at_the_limit_of_its_policy_blocks_nobody_else() {
    let gate = Gate::new();
    let fake = FakeManager::new();
    let pool = pool_of(2, &fake).policy(for_one(KeyPolicy::new().max_per_key(1))).build().unwrap();
    let one = pool.acquire(&1).await.unwrap();
    fake.always(Method::Create, Step::ok().at(&gate));
    let waits = ask(&pool, 1).await;
    gate.open();
    drop(got(ask(&pool, 2).await).await);
    assert!(!waits.is_finished());
    drop(one);
    drop(got(waits).await);
    end(pool, &fake).await;
}
