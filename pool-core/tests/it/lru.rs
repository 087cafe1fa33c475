//! Which idle resource is used next, and which one goes.

use poolyard_core::{Lease, Reason, ReuseOrder};
use poolyard_testkit::{FakeManager, Method};

use crate::common::*;

/// Three idle resources of key 1, returned in the order of their serial numbers.
async fn three_returned(pool: &FakePool) {
    for lease in take(pool, 1, 3).await {
        drop(lease);
        settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_one_returned_is_used_first() {
    let fake = FakeManager::new();
    let pool = pool_of(3, &fake).build().unwrap();
    three_returned(&pool).await;
    let serials: Vec<_> = take(&pool, 1, 3).await.iter().map(|lease| lease.serial()).collect();
    assert_eq!(serials, [3, 2, 1]);
}

#[tokio::test(start_paused = true)]
async fn in_fifo_order_the_first_one_returned_is_used_first() {
    let fake = FakeManager::new();
    let pool = pool_of(3, &fake).order(ReuseOrder::Fifo).build().unwrap();
    three_returned(&pool).await;
    let serials: Vec<_> = take(&pool, 1, 3).await.iter().map(|lease| lease.serial()).collect();
    assert_eq!(serials, [1, 2, 3]);
}

/// Idle resources of keys 1, 2 and 3, used in this order.
async fn one_of_each(pool: &FakePool) {
    for key in 1..=3 {
        drop(pool.acquire(&key).await.unwrap());
        settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_least_recently_used_of_all_keys_makes_room() {
    let fake = FakeManager::new();
    let pool = pool_of(3, &fake).build().unwrap();
    one_of_each(&pool).await;
    drop(pool.acquire(&1).await.unwrap());
    settle().await;
    drop(pool.acquire(&4).await.unwrap());
    settle().await;
    let mut keys: Vec<_> = pool.keys().into_iter().map(|info| info.key).collect();
    keys.sort_unstable();
    assert_eq!(keys, [1, 3, 4], "key 2 was used the longest ago");
    assert_eq!(fake.reasons(), [Reason::Evicted]);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn a_leased_resource_is_never_evicted() {
    let fake = FakeManager::new();
    let pool = pool_of(2, &fake).build().unwrap();
    let old = pool.acquire(&1).await.unwrap();
    drop(pool.acquire(&2).await.unwrap());
    settle().await;
    let new = pool.acquire(&3).await.unwrap();
    assert_eq!((old.serial(), fake.live()), (1, 2));
    assert_eq!(pool.keys().iter().filter(|info| info.key == 2).count(), 0);
    drop((old, new));
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn a_heavy_waiter_evicts_as_many_as_it_needs_and_no_more() {
    let fake = FakeManager::new().on_cost(|key| u64::from(*key));
    let pool = pool_of(10, &fake).max_cost(6).build().unwrap();
    one_of_each(&pool).await;
    drop(pool.acquire(&1).await.unwrap());
    settle().await;
    let lease = pool.acquire(&4).await.unwrap();
    let mut keys: Vec<_> = pool.keys().into_iter().map(|info| info.key).collect();
    keys.sort_unstable();
    assert_eq!(keys, [1, 4], "2 and 3 went, in this order, and 1 fits beside 4");
    drop(lease);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_evicted_for_a_waiter_that_would_not_fit_all_the_same() {
    let fake = FakeManager::new().on_cost(|key| u64::from(*key));
    let pool = pool_of(10, &fake).max_cost(6).build().unwrap();
    let held = pool.acquire(&3).await.unwrap();
    drop(pool.acquire(&2).await.unwrap());
    settle().await;
    let heavy = ask(&pool, 5).await;
    assert!(!heavy.is_finished());
    assert_eq!((fake.count(Method::Destroy), counts(&pool).idle), (0, 1));
    drop(held);
    drop(got(heavy).await);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn a_return_above_max_idle_sends_away_the_least_recently_used() {
    let fake = FakeManager::new();
    let pool = pool_of(5, &fake).max_idle(2).build().unwrap();
    let mut leases = Vec::new();
    for key in 1..=3 {
        leases.push(pool.acquire(&key).await.unwrap());
    }
    for lease in leases {
        drop(lease);
        settle().await;
    }
    let mut keys: Vec<_> = pool.keys().into_iter().map(|info| info.key).collect();
    keys.sort_unstable();
    assert_eq!(keys, [2, 3], "the returned one stays");
    assert_eq!(fake.reasons(), [Reason::IdleLimit]);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn a_return_above_max_idle_per_key_sends_away_the_least_recently_used_of_the_key() {
    let fake = FakeManager::new();
    let pool = pool_of(5, &fake).max_idle_per_key(2).build().unwrap();
    drop(pool.acquire(&9).await.unwrap());
    three_returned(&pool).await;
    let serials: Vec<_> = take(&pool, 1, 2).await.iter().map(|lease| lease.serial()).collect();
    assert_eq!(serials, [4, 3], "the first of key 1 went, the last returned stays");
    assert_eq!(destroyed_for(&pool, Reason::IdleLimit), 1);
    assert_eq!(pool.try_acquire(&9).unwrap().serial(), 1, "another key is not concerned");
}

#[tokio::test(start_paused = true)]
async fn where_nothing_may_be_idle_a_return_is_destroyed_without_a_recycle() {
    let fake = FakeManager::new();
    let pool = pool_of(5, &fake).max_idle(0).build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    settle().await;
    assert_eq!((fake.count(Method::Recycle), fake.reasons()), (0, vec![Reason::IdleLimit]));
}

#[tokio::test(start_paused = true)]
async fn only_a_waiter_evicts() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    settle().await;
    assert!(pool.try_acquire(&2).is_err());
    assert_eq!(pool.warm(&2, 1).await.failures.len(), 1);
    pool.insert(&2, fake.resource(2)).unwrap_err().resource.end();
    assert_eq!((fake.count(Method::Destroy), counts(&pool).idle), (0, 1));
    let lease = pool.try_acquire(&1).unwrap();
    Lease::discard(lease);
}
