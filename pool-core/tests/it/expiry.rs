//! Expiry by idleness, lifetime and uses.

use std::collections::HashSet;
use std::time::Duration;

use poolyard_core::{Lease, Reason};
use poolyard_testkit::{FakeManager, Method};
use tokio::time::Instant;

use crate::common::*;

#[tokio::test(start_paused = true)]
async fn an_idle_resource_ends_after_idle_timeout() {
    let fake = FakeManager::new();
    let pool = pool_of(2, &fake).idle_timeout(secs(5)).build().unwrap();
    let (one, two) = (pool.acquire(&1).await.unwrap(), pool.acquire(&1).await.unwrap());
    drop(one);
    tokio::time::sleep(secs(3)).await;
    drop(two);
    tokio::time::sleep(secs(2) + ms(2)).await;
    assert_eq!((fake.reasons(), fake.live()), (vec![Reason::IdleTimeout], 1));
    tokio::time::sleep(secs(3)).await;
    assert_eq!(fake.live(), 0);
}

#[tokio::test(start_paused = true)]
async fn use_starts_the_idle_time_anew() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).idle_timeout(secs(5)).build().unwrap();
    for _ in 0..5 {
        drop(pool.acquire(&1).await.unwrap());
        tokio::time::sleep(secs(4)).await;
    }
    assert_eq!(fake.count(Method::Create), 1);
}

#[tokio::test(start_paused = true)]
async fn a_resource_ends_at_the_end_of_its_lifetime_however_busy_it_is() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).max_lifetime(secs(10)).lifetime_jitter(0.0).idle_timeout(None);
    let pool = pool.build().unwrap();
    for _ in 0..4 {
        let lease = pool.acquire(&1).await.unwrap();
        tokio::time::sleep(secs(3)).await;
        drop(lease);
        settle().await;
    }
    assert_eq!((fake.reasons(), fake.count(Method::Recycle)), (vec![Reason::MaxLifetime], 3));
}

#[tokio::test(start_paused = true)]
async fn an_idle_resource_ends_at_the_end_of_its_lifetime() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).max_lifetime(secs(10)).lifetime_jitter(0.0).idle_timeout(None);
    let pool = pool.build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    tokio::time::sleep(secs(10) + ms(2)).await;
    assert_eq!(fake.reasons(), [Reason::MaxLifetime]);
}

#[tokio::test(start_paused = true)]
async fn jitter_only_shortens_a_lifetime_and_spreads_the_ends() {
    let fake = FakeManager::new();
    let pool = pool_of(30, &fake).max_lifetime(secs(100)).lifetime_jitter(0.2).idle_timeout(None);
    let pool = pool.max_creating(30).max_creating_per_key(30).build().unwrap();
    let start = Instant::now();
    drop(take(&pool, 1, 30).await);
    let mut ends = HashSet::new();
    let mut ended = 0;
    while ended < 30 {
        fake.until(|fake| fake.ended().len() > ended).await;
        ended = fake.ended().len();
        ends.insert(start.elapsed().as_secs());
    }
    assert!(ends.iter().all(|&end| (79..=100).contains(&end)), "{ends:?}");
    assert!(ends.len() > 5, "{ends:?}");
}

#[tokio::test(start_paused = true)]
async fn a_resource_serves_max_uses_leases() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).max_uses(3).build().unwrap();
    let mut serials = Vec::new();
    for _ in 0..7 {
        let lease = pool.acquire(&1).await.unwrap();
        serials.push((lease.serial(), Lease::meta(&lease).uses));
    }
    assert_eq!(serials, [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3), (3, 1)]);
    assert_eq!(fake.reasons(), [Reason::MaxUses, Reason::MaxUses]);
}

/// A pool whose driver lives on a runtime that nobody polls: what it should have ended is still there.
fn expired_under_a_stalled_driver(idle: Option<Duration>, lifetime: Option<Duration>) -> bool {
    let stalled =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).idle_timeout(idle).max_lifetime(lifetime).lifetime_jitter(0.0);
    let pool = pool.check_after(None).runtime(stalled.handle().clone()).build().unwrap();
    stalled.block_on(async {
        drop(pool.acquire(&1).await.unwrap());
        settle().await;
        assert_eq!(counts(&pool).idle, 1);
        // Time passes in one step, and the driver is not polled before the caller asks.
        tokio::time::advance(secs(5) + ms(1)).await;
    });
    let ready = stalled.block_on(async { pool.try_acquire(&1).is_ok() });
    !ready
}

#[test]
fn an_expired_resource_is_not_handed_out_even_if_the_driver_is_late() {
    assert!(expired_under_a_stalled_driver(Some(secs(5)), None));
    assert!(expired_under_a_stalled_driver(None, Some(secs(5))));
    assert!(!expired_under_a_stalled_driver(Some(secs(6)), Some(secs(6))), "and a young one is");
}

#[tokio::test(start_paused = true)]
async fn an_expired_resource_makes_way_for_a_new_one() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).idle_timeout(secs(5)).build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    settle().await;
    tokio::time::advance(secs(5)).await;
    assert_eq!(pool.acquire(&1).await.unwrap().serial(), 2);
}

#[tokio::test(start_paused = true)]
async fn without_time_options_nothing_expires() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).idle_timeout(None).max_lifetime(None).check_interval(None).build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    tokio::time::sleep(secs(365 * 24 * 3600)).await;
    assert_eq!((counts(&pool).idle, fake.count(Method::Destroy)), (1, 0));
}
