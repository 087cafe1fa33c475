//! Adaptive sizing.

use std::time::Duration;

use poolyard_core::{Adaptive, Builder, Lease, PoolConfig, Reason};
use poolyard_testkit::FakeManager;

use crate::common::*;

/// A pool that sizes itself; its resources are not ended for any other reason.
fn adaptive(fake: &FakeManager) -> Builder<FakeManager> {
    let config =
        PoolConfig { adaptive: Some(Adaptive::default()), check_interval: None, ..Default::default() };
    pool_of(32, fake).config(config).idle_timeout(None).max_lifetime(None)
}

/// `callers` at once, every five seconds for `span`.
async fn bursts(pool: &FakePool, key: u32, callers: usize, span: Duration) {
    for _ in 0..span.as_secs() / 5 {
        drop(take(pool, key, callers).await);
        tokio::time::sleep(secs(5)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_callers_need_is_there_again_before_they_come() {
    let fake = FakeManager::new();
    let pool = adaptive(&fake).build().unwrap();
    bursts(&pool, 1, 3, secs(60)).await;
    take(&pool, 1, 3).await.into_iter().for_each(Lease::discard);
    assert_eq!(counts(&pool).idle, 0);
    tokio::time::sleep(secs(2)).await;
    assert_eq!(counts(&pool).idle, 3, "nobody has asked, but somebody will");
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn without_adaptive_sizing_nothing_is_made_that_nobody_asked_for() {
    let fake = FakeManager::new();
    let pool = adaptive(&fake).adaptive(None).build().unwrap();
    bursts(&pool, 1, 3, secs(60)).await;
    take(&pool, 1, 3).await.into_iter().for_each(Lease::discard);
    tokio::time::sleep(secs(2)).await;
    assert_eq!(counts(&pool).idle, 0);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn what_callers_need_stays_awake() {
    let fake = FakeManager::new();
    let pool = adaptive(&fake).hibernate_after(secs(2)).build().unwrap();
    bursts(&pool, 1, 3, secs(60)).await;
    assert_eq!((counts(&pool).idle, pool.snapshot().counters.hibernated), (3, 0));
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_needed_once_goes_and_what_is_needed_stays() {
    let fake = FakeManager::new();
    let pool = adaptive(&fake).build().unwrap();
    bursts(&pool, 1, 2, secs(1200)).await;
    drop(take(&pool, 1, 10).await);
    settle().await;
    tokio::time::sleep(secs(3)).await;
    assert_eq!(counts(&pool).idle, 10, "not idle for long enough");
    bursts(&pool, 1, 2, secs(1200)).await;
    assert_eq!(counts(&pool).idle, 2);
    assert_eq!(destroyed_for(&pool, Reason::IdleLimit), 8);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn a_key_that_nobody_wants_any_more_is_forgotten() {
    let fake = FakeManager::new();
    let pool = adaptive(&fake).build().unwrap();
    bursts(&pool, 1, 1, secs(60)).await;
    assert_eq!(pool.snapshot().keys, 1);
    tokio::time::sleep(Adaptive::default().max_window + secs(10)).await;
    assert_eq!((pool.snapshot().keys, counts(&pool).idle), (0, 0));
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn the_minimum_idle_is_the_floor_and_the_idle_limit_the_ceiling() {
    let fake = FakeManager::new();
    let pool = adaptive(&fake).min_idle_per_key(1).max_idle_per_key(2).build().unwrap();
    bursts(&pool, 1, 5, secs(60)).await;
    assert_eq!(counts(&pool).idle, 2, "five are needed, two are allowed");
    let created = pool.snapshot().counters.created;
    tokio::time::sleep(secs(10)).await;
    assert_eq!(pool.snapshot().counters.created, created, "what may not be idle is not made");
    tokio::time::sleep(Adaptive::default().max_window + secs(10)).await;
    assert_eq!(counts(&pool).idle, 1, "nobody comes, and one is kept");
    assert_eq!(pool.snapshot().counters.created, created, "it was not ended and made again");
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn a_target_yields_to_those_who_wait() {
    let fake = FakeManager::new();
    let pool = adaptive(&fake).max_total(3).build().unwrap();
    bursts(&pool, 1, 3, secs(60)).await;
    let others = take(&pool, 2, 3).await;
    tokio::time::sleep(secs(5)).await;
    assert_eq!((counts(&pool).leased, counts(&pool).idle), (3, 0), "there is no room for the target");
    let third = ask(&pool, 3).await;
    drop(others);
    drop(got(third).await);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn sizing_can_be_turned_on_and_off_while_the_pool_runs() {
    let fake = FakeManager::new();
    let pool = adaptive(&fake).adaptive(None).build().unwrap();
    let on = |config: &mut PoolConfig| config.adaptive = Some(Adaptive::default());
    pool.resize(on).unwrap();
    bursts(&pool, 1, 3, secs(60)).await;
    pool.resize(|config| config.adaptive = None).unwrap();
    tokio::time::sleep(secs(2)).await;
    take(&pool, 1, 3).await.into_iter().for_each(Lease::discard);
    tokio::time::sleep(secs(2)).await;
    assert_eq!((counts(&pool).idle, pool.snapshot().keys), (0, 0));
    end(pool, &fake).await;
}
