//! Every limit holds.

use poolyard_core::{AcquireError, InsertErrorKind, Pool, Reason, UNLIMITED, from_fn};
use poolyard_testkit::{FakeManager, Gate, Method, Step};

use crate::common::*;

#[tokio::test(start_paused = true)]
async fn max_total_bounds_what_exists_in_whatever_state() {
    let fake = FakeManager::new().always(Method::Create, Step::ok().after(ms(7)));
    fake.always(Method::Recycle, Step::ok().after(ms(3)));
    fake.always(Method::Destroy, Step::ok().after(ms(5)));
    let pool = pool_of(3, &fake).max_overtakes(1).build().unwrap();
    let users: Vec<_> = (0..40)
        .map(|number| {
            let pool = pool.clone();
            tokio::spawn(async move {
                let lease = pool.acquire(&(number % 5)).await.unwrap();
                tokio::time::sleep(ms(2)).await;
                drop(lease);
            })
        })
        .collect();
    for user in users {
        user.await.unwrap();
    }
    assert_eq!(fake.peak_held(), 3);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn max_per_key_bounds_the_resources_of_one_key() {
    let fake = FakeManager::new();
    let pool = pool_of(5, &fake).max_per_key(2).build().unwrap();
    let mut leases = take(&pool, 1, 2).await;
    let third = ask(&pool, 1).await;
    assert!(!third.is_finished());
    assert_eq!(fake.count(Method::Create), 2);
    leases.pop();
    drop(got(third).await);
    assert_eq!(fake.count(Method::Create), 2);
}

#[tokio::test(start_paused = true)]
async fn max_cost_bounds_the_sum_of_all_costs() {
    let fake = FakeManager::new().on_cost(|key| u64::from(*key));
    let pool = pool_of(10, &fake).max_cost(10).build().unwrap();
    let six = pool.acquire(&6).await.unwrap();
    let four = pool.acquire(&4).await.unwrap();
    assert_eq!(pool.snapshot().cost, 10);
    let five = ask(&pool, 5).await;
    drop(four);
    settle().await;
    assert!(!five.is_finished(), "6 and 5 are above 10");
    drop(six);
    let five = got(five).await;
    assert!(pool.snapshot().cost <= 10);
    drop(five);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_given_up_for_a_waiter_to_whom_it_would_not_give_enough() {
    let fake = FakeManager::new().on_cost(|key| u64::from(*key));
    let pool = pool_of(10, &fake).max_cost(10).build().unwrap();
    let (five, four) = (pool.acquire(&5).await.unwrap(), pool.acquire(&4).await.unwrap());
    let nine = ask(&pool, 9).await;
    drop(four);
    settle().await;
    assert_eq!(fake.reasons(), [], "5 and 9 are above 10, whether the 4 is there or not");
    drop(five);
    drop(got(nine).await);
    end(pool, &fake).await;
}

#[tokio::test]
async fn a_cost_above_the_maximum_is_an_error_at_once() {
    let fake = FakeManager::new().on_cost(|key| u64::from(*key));
    let pool = pool_of(10, &fake).max_cost(10).build().unwrap();
    let error = pool.acquire(&11).await.unwrap_err();
    assert!(matches!(error, AcquireError::TooCostly { cost: 11, max_cost: 10 }), "{error}");
    assert_eq!((fake.count(Method::Create), pool.keys().len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn max_waiters_refuses_the_next_caller_at_once() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).max_waiters(1).build().unwrap();
    let lease = pool.acquire(&1).await.unwrap();
    let waiter = ask(&pool, 1).await;
    let error = pool.acquire(&1).await.unwrap_err();
    assert!(matches!(error, AcquireError::TooManyWaiters { max_waiters: 1 }), "{error}");
    assert_eq!(pool.snapshot().counters.refused, 1);
    drop(lease);
    got(waiter).await;
}

#[tokio::test(start_paused = true)]
async fn max_creating_bounds_creations_under_way() {
    let gate = Gate::new();
    let fake = FakeManager::new().always(Method::Create, Step::ok().at(&gate));
    let pool = pool_of(20, &fake).max_creating(3).build().unwrap();
    let mut asked = Vec::new();
    for key in 0..8 {
        asked.push(ask(&pool, key).await);
    }
    assert_eq!(counts(&pool).creating, 3);
    gate.open();
    for asked in asked {
        got(asked).await;
    }
    assert_eq!(fake.peak_running(Method::Create), 3);
}

#[tokio::test(start_paused = true)]
async fn max_creating_per_key_leaves_creations_for_other_keys() {
    let gate = Gate::new();
    let fake = FakeManager::new().always(Method::Create, Step::ok().at(&gate));
    let pool = pool_of(20, &fake).max_creating(3).max_creating_per_key(2).build().unwrap();
    let mut asked = Vec::new();
    for key in [1, 1, 1, 1, 2] {
        asked.push(ask(&pool, key).await);
    }
    let by_key = |key| pool.keys().into_iter().find(|info| info.key == key).unwrap().counts.creating;
    assert_eq!((by_key(1), by_key(2)), (2, 1));
    gate.open();
    for asked in asked {
        got(asked).await;
    }
}

#[tokio::test(start_paused = true)]
async fn max_recycling_bounds_recycles_and_checks_together() {
    let gate = Gate::new();
    let fake = FakeManager::new().always(Method::Recycle, Step::ok().at(&gate));
    fake.always(Method::HealthCheck, Step::ok().at(&gate));
    let pool = pool_of(6, &fake).max_recycling(2).check_interval(secs(5)).build().unwrap();
    for _ in 0..2 {
        pool.insert(&9, fake.resource(9)).unwrap();
    }
    let leases = take(&pool, 1, 4).await;
    tokio::time::sleep(secs(4)).await;
    drop(leases);
    tokio::time::sleep(secs(2)).await;
    assert_eq!((counts(&pool).recycling, counts(&pool).checking), (4, 2));
    assert_eq!(fake.running(Method::Recycle) + fake.running(Method::HealthCheck), 2);
    gate.open();
    settle().await;
    assert_eq!(counts(&pool).idle, 6);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn max_destroying_bounds_destroys_under_way() {
    let fake = FakeManager::new().always(Method::Destroy, Step::ok().after(ms(50)));
    let pool = pool_of(9, &fake).max_destroying(2).build().unwrap();
    drop(take(&pool, 1, 9).await);
    end(pool, &fake).await;
    assert_eq!(fake.peak_running(Method::Destroy), 2);
}

#[tokio::test(start_paused = true)]
async fn without_surge_a_creation_waits_for_the_destroy_that_makes_room() {
    let gate = Gate::new();
    let fake = FakeManager::new().always(Method::Destroy, Step::ok().at(&gate));
    let pool = pool_of(1, &fake).build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    settle().await;
    let other = ask(&pool, 2).await;
    assert_eq!((fake.running(Method::Destroy), fake.running(Method::Create)), (1, 0));
    gate.open();
    drop(got(other).await);
    assert_eq!(fake.peak_held(), 1);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn max_surge_lets_a_creation_start_while_the_evicted_one_is_destroyed() {
    let gate = Gate::new();
    let fake = FakeManager::new().always(Method::Destroy, Step::ok().at(&gate));
    let pool = pool_of(1, &fake).max_surge(1).build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    settle().await;
    let second = got(ask(&pool, 2).await).await;
    assert_eq!((counts(&pool).destroying, counts(&pool).leased), (1, 1));
    drop(second);
    settle().await;
    let third = ask(&pool, 3).await;
    assert_eq!(fake.peak_held(), 2, "the surge is used up until a destroy is complete");
    gate.open();
    drop(got(third).await);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn unlimited_means_without_a_limit() {
    let fake = FakeManager::new();
    let pool = pool_of(UNLIMITED, &fake).max_cost(u64::MAX).max_creating(UNLIMITED);
    let pool = pool.max_creating_per_key(UNLIMITED).max_recycling(UNLIMITED).max_waiters(UNLIMITED);
    let pool = pool.max_destroying(UNLIMITED).max_idle(UNLIMITED).max_per_key(UNLIMITED).build().unwrap();
    let leases = take(&pool, 1, 500).await;
    assert_eq!(counts(&pool).leased, 500);
    drop(leases);
    settle().await;
    assert_eq!(counts(&pool).idle, 500);
    end(pool, &fake).await;
}

#[tokio::test]
async fn an_inserted_resource_counts_against_the_limits() {
    let fake = FakeManager::new();
    let pool = pool_of(2, &fake).max_per_key(1).build().unwrap();
    let id = pool.insert(&1, fake.resource(1)).unwrap();
    let refused = pool.insert(&1, fake.resource(1)).unwrap_err();
    assert_eq!(refused.kind, InsertErrorKind::NoRoom);
    refused.resource.end();
    pool.insert(&2, fake.resource(2)).unwrap();
    let refused = pool.insert(&3, fake.resource(3)).unwrap_err();
    assert_eq!(refused.kind, InsertErrorKind::NoRoom);
    refused.resource.end();
    let lease = pool.acquire(&1).await.unwrap();
    assert_eq!(poolyard_core::Lease::meta(&lease).id, id);
    assert_eq!((pool.snapshot().counters.inserted, fake.count(Method::Create)), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn an_inserted_resource_serves_the_oldest_waiter() {
    let gate = Gate::new();
    let fake = FakeManager::new().always(Method::Create, Step::ok().at(&gate));
    let pool = pool_of(2, &fake).build().unwrap();
    let waiter = ask(&pool, 1).await;
    let brought = fake.resource(1);
    let serial = brought.serial();
    pool.insert(&1, brought).unwrap();
    assert_eq!(got(waiter).await.serial(), serial);
}

#[tokio::test]
async fn a_pool_without_keys_is_a_pool_with_the_empty_key() {
    let pool = Pool::builder(from_fn(|_: &()| async { Ok::<_, std::io::Error>(7) })).build().unwrap();
    let mut lease = pool.acquire(&()).await.unwrap();
    *lease += 1;
    drop(lease);
    assert_eq!(*pool.try_acquire(&()).unwrap(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_key_without_resources_or_waiters_is_forgotten() {
    let fake = FakeManager::new();
    let pool = pool_of(4, &fake).build().unwrap();
    for key in 0..100 {
        poolyard_core::Lease::discard(pool.acquire(&key).await.unwrap());
    }
    settle().await;
    assert_eq!((pool.snapshot().keys, pool.keys().len()), (0, 0));
    assert_eq!(destroyed_for(&pool, Reason::Discarded), 100);
}

#[tokio::test(start_paused = true)]
async fn a_cost_is_read_once_and_stays_with_the_resource() {
    let cost = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(3));
    let now = std::sync::Arc::clone(&cost);
    let fake = FakeManager::new().on_cost(move |_| now.load(std::sync::atomic::Ordering::SeqCst));
    let pool = pool_of(4, &fake).max_cost(10).build().unwrap();
    let lease = pool.acquire(&1).await.unwrap();
    cost.store(9, std::sync::atomic::Ordering::SeqCst);
    drop(lease);
    settle().await;
    assert_eq!(pool.snapshot().cost, 3);
    end(pool, &fake).await;
}
