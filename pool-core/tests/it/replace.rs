//! Replacement before retirement.

use poolyard_core::{Builder, Reason};
use poolyard_testkit::{FakeManager, Step};

use crate::common::*;

/// A pool that keeps two resources of a key idle, which live for a minute and take a second to make.
fn keeping_two(max_total: usize, fake: &FakeManager) -> Builder<FakeManager> {
    let fake = fake.always(poolyard_testkit::Method::Create, Step::ok().after(secs(1)));
    pool_of(max_total, &fake).min_idle_per_key(2).idle_timeout(None).max_lifetime(secs(60))
}

/// The fewest that were ever idle over ten minutes in which nobody asks for anything.
async fn fewest_idle(pool: &FakePool) -> usize {
    pool.warm(&1, 2).await;
    assert_eq!(counts(pool).idle, 2, "the minimum is there to begin with");
    let mut fewest = usize::MAX;
    for _ in 0..6_000 {
        tokio::time::sleep(ms(100)).await;
        fewest = fewest.min(counts(pool).idle);
    }
    fewest
}

#[tokio::test(start_paused = true)]
async fn a_key_never_falls_below_its_minimum_idle_because_of_age() {
    let fake = FakeManager::new();
    let pool = keeping_two(8, &fake).build().unwrap();
    assert_eq!(fewest_idle(&pool).await, 2);
    assert!(destroyed_for(&pool, Reason::Replaced) >= 16, "{:?}", pool.snapshot());
    assert_eq!(destroyed_for(&pool, Reason::MaxLifetime), 0);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn in_a_full_pool_the_surge_makes_room_for_a_replacement() {
    let fake = FakeManager::new();
    let pool = keeping_two(2, &fake).max_surge(1).lifetime_jitter(0.0).build().unwrap();
    assert_eq!(fewest_idle(&pool).await, 2);
    assert_eq!(destroyed_for(&pool, Reason::MaxLifetime), 0);
    assert_eq!(fake.peak_held(), 3, "one at a time, as the surge allows");
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn a_full_pool_without_surge_ends_the_old_one_first() {
    let fake = FakeManager::new();
    let pool = keeping_two(2, &fake).build().unwrap();
    assert!(fewest_idle(&pool).await < 2);
    assert_eq!(fake.peak_held(), 2);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn costs_have_no_surge_for_replacements() {
    let fake = FakeManager::new().on_cost(|_| 10);
    let pool = keeping_two(8, &fake).max_cost(29).max_surge(5).build().unwrap();
    assert!(fewest_idle(&pool).await < 2);
    assert_eq!(fake.peak_held(), 2);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn without_a_minimum_idle_nothing_is_replaced() {
    let fake = FakeManager::new();
    let pool = keeping_two(8, &fake).min_idle_per_key(0).build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    tokio::time::sleep(secs(600)).await;
    assert_eq!(fake.reasons(), [Reason::MaxLifetime]);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn with_a_lead_of_zero_nothing_is_replaced_ahead() {
    let fake = FakeManager::new();
    let pool = keeping_two(8, &fake).replace_ahead(secs(0)).build().unwrap();
    assert!(fewest_idle(&pool).await < 2);
    assert_eq!(destroyed_for(&pool, Reason::Replaced), 0);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn a_retiring_resource_serves_until_its_replacement_is_there() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).min_idle_per_key(1).max_surge(1).idle_timeout(None).lifetime_jitter(0.0);
    let pool = pool.max_lifetime(secs(60)).replace_ahead(secs(20)).check_after(None).build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    fake.create_script([Step::ok().after(secs(10))]);
    tokio::time::sleep(secs(45)).await;
    assert_eq!(counts(&pool).creating, 1);
    assert_eq!(pool.try_acquire(&1).unwrap().serial(), 1, "the old one serves on");
    tokio::time::sleep(secs(10)).await;
    assert_eq!(fake.reasons(), [Reason::Replaced]);
    assert_eq!(pool.try_acquire(&1).unwrap().serial(), 2);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn a_resource_on_its_last_use_is_replaced_while_it_is_leased() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).min_idle_per_key(1).max_surge(1).max_uses(2).build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    settle().await;
    let last = pool.acquire(&1).await.unwrap();
    settle().await;
    assert_eq!((counts(&pool).leased, counts(&pool).idle), (1, 1));
    drop(last);
    settle().await;
    assert_eq!((fake.reasons(), counts(&pool).idle), (vec![Reason::MaxUses], 1));
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn a_resource_that_is_never_idle_is_replaced_in_time() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).min_idle_per_key(1).max_surge(1).idle_timeout(None).lifetime_jitter(0.0);
    let pool = pool.max_lifetime(secs(60)).build().unwrap();
    let lease = pool.acquire(&1).await.unwrap();
    tokio::time::sleep(secs(55)).await;
    assert_eq!((counts(&pool).leased, counts(&pool).idle), (1, 1));
    drop(lease);
    settle().await;
    assert_eq!((fake.reasons(), counts(&pool).idle), (vec![Reason::Replaced], 1));
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn a_replacement_that_cannot_be_made_leaves_the_old_one_until_its_end() {
    let fake = FakeManager::new();
    let pool = keeping_two(8, &fake).lifetime_jitter(0.0).build().unwrap();
    pool.warm(&1, 2).await;
    fake.always(poolyard_testkit::Method::Create, Step::err("no more"));
    tokio::time::sleep(secs(59)).await;
    assert_eq!(counts(&pool).idle, 2);
    tokio::time::sleep(secs(2)).await;
    assert_eq!((counts(&pool).idle, destroyed_for(&pool, Reason::MaxLifetime)), (0, 2));
    end(pool, &fake).await;
}
