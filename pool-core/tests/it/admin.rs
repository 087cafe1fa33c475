//! Resize, retain, invalidate, suspend.

use std::panic::AssertUnwindSafe;

use poolyard_core::{Lease, Reason, TryAcquireError};
use poolyard_testkit::{FakeManager, Gate, Method, Step};

use crate::common::*;

#[tokio::test(start_paused = true)]
async fn a_larger_limit_serves_waiters_at_once() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).build().unwrap();
    let lease = pool.acquire(&1).await.unwrap();
    let waiter = ask(&pool, 1).await;
    pool.resize(|config| config.max_total = 2).unwrap();
    assert_eq!(got(waiter).await.serial(), 2);
    assert_eq!(pool.config().max_total, 2);
    drop(lease);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn a_smaller_limit_ends_idle_resources_now_and_leased_ones_at_return() {
    let fake = FakeManager::new();
    let pool = pool_of(5, &fake).build().unwrap();
    let mut leases = take(&pool, 1, 5).await;
    drop(leases.split_off(3));
    settle().await;
    pool.resize(|config| config.max_total = 2).unwrap();
    settle().await;
    assert_eq!((counts(&pool).idle, counts(&pool).leased), (0, 3));
    drop(leases.pop());
    settle().await;
    assert_eq!(fake.reasons(), [Reason::Shrunk; 3]);
    drop(leases);
    settle().await;
    assert_eq!((counts(&pool).idle, fake.live()), (2, 2));
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn a_smaller_idle_limit_sends_away_the_least_recently_used() {
    let fake = FakeManager::new();
    let pool = pool_of(5, &fake).build().unwrap();
    for lease in take(&pool, 1, 4).await {
        drop(lease);
        settle().await;
    }
    pool.resize(|config| config.max_idle = Some(2)).unwrap();
    settle().await;
    let serials: Vec<_> = take(&pool, 1, 2).await.iter().map(|lease| lease.serial()).collect();
    assert_eq!(serials, [4, 3]);
}

/// Idle resources of keys 1, 2 and 3, used in this order; each costs as much as its key says.
async fn one_of_each(fake: &FakeManager) -> FakePool {
    let pool = pool_of(3, &fake.on_cost(|key| u64::from(*key))).max_cost(100).build().unwrap();
    for key in 1..=3 {
        drop(pool.acquire(&key).await.unwrap());
        settle().await;
    }
    pool
}

fn idle_keys(pool: &FakePool) -> Vec<u32> {
    let mut keys: Vec<_> = pool.resources().iter().map(|resource| resource.key).collect();
    keys.sort_unstable();
    keys
}

#[tokio::test(start_paused = true)]
async fn a_smaller_limit_of_any_kind_costs_the_least_recently_used_of_all_keys() {
    let smaller: [fn(&mut poolyard_core::PoolConfig); 3] =
        [|config| config.max_total = 2, |config| config.max_idle = Some(2), |config| config.max_cost = 5];
    for smaller in smaller {
        let fake = FakeManager::new();
        let pool = one_of_each(&fake).await;
        pool.resize(smaller).unwrap();
        settle().await;
        assert_eq!((idle_keys(&pool), fake.reasons()), (vec![2, 3], vec![Reason::Shrunk]));
        end(pool, &fake).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_met_exactly_costs_nothing() {
    let fake = FakeManager::new();
    let pool = one_of_each(&fake).await;
    pool.resize(|config| {
        (config.max_total, config.max_cost) = (3, 6);
        (config.max_idle, config.max_per_key, config.max_idle_per_key) = (Some(3), Some(1), Some(1));
    })
    .unwrap();
    settle().await;
    assert_eq!((idle_keys(&pool), fake.reasons()), (vec![1, 2, 3], vec![]));
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn a_smaller_limit_per_key_costs_each_key_its_least_recently_used() {
    let smaller: [fn(&mut poolyard_core::PoolConfig); 2] =
        [|config| config.max_per_key = Some(1), |config| config.max_idle_per_key = Some(1)];
    for smaller in smaller {
        let fake = FakeManager::new();
        let pool = pool_of(4, &fake).build().unwrap();
        for lease in take(&pool, 1, 2).await.into_iter().chain(take(&pool, 2, 2).await) {
            drop(lease);
            settle().await;
        }
        pool.resize(smaller).unwrap();
        settle().await;
        assert_eq!((idle_keys(&pool), fake.reasons()), (vec![1, 2], vec![Reason::Shrunk; 2]));
        let left = [pool.acquire(&1).await.unwrap().serial(), pool.acquire(&2).await.unwrap().serial()];
        assert_eq!(left, [2, 4], "the last ones returned");
        end(pool, &fake).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_smaller_limit_of_any_kind_ends_leased_resources_at_their_return_until_it_is_met() {
    let smaller: [fn(&mut poolyard_core::PoolConfig); 3] = [
        |config| config.max_total = 2,
        |config| config.max_per_key = Some(2),
        |config| (config.max_total, config.max_cost) = (4, 2),
    ];
    for smaller in smaller {
        let fake = FakeManager::new();
        let pool = pool_of(4, &fake).build().unwrap();
        let leases = take(&pool, 1, 4).await;
        pool.resize(smaller).unwrap();
        for lease in leases {
            drop(lease);
            settle().await;
        }
        assert_eq!((counts(&pool).idle, fake.reasons()), (2, vec![Reason::Shrunk; 2]));
        end(pool, &fake).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_resize_that_contradicts_itself_changes_nothing() {
    let fake = FakeManager::new();
    let pool = pool_of(3, &fake).build().unwrap();
    let before = pool.config();
    let error = pool.resize(|config| config.max_per_key = Some(9)).unwrap_err();
    assert!(error.to_string().contains("max_per_key 9"), "{error}");
    assert_eq!(pool.config(), before);
}

#[tokio::test(start_paused = true)]
async fn every_other_option_can_be_changed_too() {
    let fake = FakeManager::new();
    let pool = pool_of(3, &fake).build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    settle().await;
    pool.resize(|config| config.idle_timeout = Some(secs(5))).unwrap();
    tokio::time::sleep(secs(6)).await;
    assert_eq!(fake.reasons(), [Reason::IdleTimeout], "of what is idle already, too");
    let _lease = pool.acquire(&1).await.unwrap();
    pool.resize(|config| {
        config.min_idle_per_key = 1;
        config.wait_timeout = Some(secs(1));
    })
    .unwrap();
    settle().await;
    assert_eq!(counts(&pool).idle, 1);
}

#[tokio::test(start_paused = true)]
async fn retain_destroys_what_it_does_not_keep() {
    let fake = FakeManager::new();
    let pool = pool_of(5, &fake).build().unwrap();
    let mut leases = take(&pool, 1, 4).await;
    let busy = leases.remove(0);
    drop(leases);
    settle().await;
    let gone = pool.retain(|key, resource, meta| {
        assert_eq!((*key, meta.uses), (1, 1));
        resource.serial() != 3
    });
    settle().await;
    assert_eq!((gone, counts(&pool).idle, fake.reasons()), (1, 2, vec![Reason::NotRetained]));
    assert_eq!(busy.serial(), 1, "what is leased is not shown");
}

#[tokio::test(start_paused = true)]
async fn a_look_by_retain_is_no_use() {
    let fake = FakeManager::new();
    let pool = pool_of(3, &fake).idle_timeout(secs(5)).check_interval(None).build().unwrap();
    for key in 1..=3 {
        drop(pool.acquire(&key).await.unwrap());
        settle().await;
    }
    tokio::time::sleep(secs(3)).await;
    pool.retain(|_, _, _| true);
    drop(pool.acquire(&4).await.unwrap());
    assert!(pool.try_acquire(&1).is_err(), "key 1 was the least recently used all the same");
    tokio::time::sleep(secs(3)).await;
    assert_eq!(destroyed_for(&pool, Reason::IdleTimeout), 2);
}

#[tokio::test(start_paused = true)]
async fn retain_may_use_the_pool_it_looks_at() {
    let fake = FakeManager::new();
    let pool = pool_of(3, &fake).build().unwrap();
    drop(take(&pool, 1, 2).await);
    settle().await;
    let kept = std::panic::catch_unwind(AssertUnwindSafe(|| {
        pool.retain(|_, _, _| {
            _ = pool.snapshot();
            drop(pool.try_acquire(&1));
            true
        })
    }));
    assert_eq!(kept.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_of_an_invalidated_key_is_used_again() {
    let fake = FakeManager::new();
    let pool = pool_of(5, &fake).build().unwrap();
    let leased = pool.acquire(&1).await.unwrap();
    let other = pool.acquire(&2).await.unwrap();
    drop(take(&pool, 1, 2).await);
    settle().await;
    pool.invalidate(&1);
    settle().await;
    assert_eq!(fake.reasons(), [Reason::Invalidated; 2], "idle ones go now");
    drop((leased, other));
    settle().await;
    assert_eq!(fake.reasons(), [Reason::Invalidated; 3], "leased ones at their return");
    assert_eq!(pool.try_acquire(&2).unwrap().serial(), 2, "another key is not concerned");
    assert!(pool.acquire(&1).await.unwrap().serial() > 4);
}

#[tokio::test(start_paused = true)]
async fn a_creation_under_way_counts_as_made_when_its_key_is_invalidated() {
    let gate = Gate::new();
    let fake = FakeManager::new().create_script([Step::ok().at(&gate)]);
    let pool = pool_of(2, &fake).build().unwrap();
    let waiter = ask(&pool, 1).await;
    pool.invalidate(&1);
    let lease = got(waiter).await;
    assert_eq!(Lease::meta(&lease).generation, 1, "the waiter gets one that was begun afterwards");
    gate.open();
    settle().await;
    assert_eq!(fake.reasons(), [Reason::Invalidated]);
}

#[tokio::test(start_paused = true)]
async fn invalidate_all_spares_no_key() {
    let fake = FakeManager::new();
    let pool = pool_of(5, &fake).build().unwrap();
    let leased = pool.acquire(&1).await.unwrap();
    for key in 1..=3 {
        drop(pool.acquire(&key).await.unwrap());
    }
    settle().await;
    pool.invalidate_all();
    drop(leased);
    settle().await;
    assert_eq!((fake.live(), destroyed_for(&pool, Reason::Invalidated)), (0, 4));
    assert_eq!(pool.keys().len(), 0);
    pool.acquire(&1).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_suspended_pool_gives_nothing_out_until_it_is_resumed() {
    let fake = FakeManager::new();
    let pool = pool_of(2, &fake).build().unwrap();
    let lease = pool.acquire(&1).await.unwrap();
    drop(pool.acquire(&1).await.unwrap());
    settle().await;
    pool.suspend();
    assert!(pool.snapshot().suspended);
    assert_eq!(pool.try_acquire(&1).unwrap_err(), TryAcquireError::Suspended);
    let mut asked = Vec::new();
    for key in [1, 1, 2] {
        asked.push(ask(&pool, key).await);
    }
    drop(lease);
    settle().await;
    assert!(asked.iter().all(|asked| !asked.is_finished()));
    assert_eq!((counts(&pool).idle, counts(&pool).waiters), (2, 3));
    pool.resume();
    let mut leases = Vec::new();
    for asked in asked.drain(..2) {
        leases.push(got(asked).await);
    }
    drop(leases);
    got(asked.remove(0)).await;
    assert_eq!(fake.count(Method::Create), 3);
}

#[tokio::test(start_paused = true)]
async fn suspending_and_resuming_twice_is_harmless() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).build().unwrap();
    pool.resume();
    pool.suspend();
    pool.suspend();
    pool.resume();
    drop(pool.acquire(&1).await.unwrap());
    pool.suspend();
    end(pool.clone(), &fake).await;
    pool.resume();
    assert!(pool.acquire(&1).await.is_err(), "a closed pool stays closed");
}

#[tokio::test(start_paused = true)]
async fn of_two_resizes_at_once_neither_is_lost() {
    let fake = FakeManager::new();
    let pool = pool_of(4, &fake).build().unwrap();
    let mut asked = 0;
    pool.resize(|config| {
        asked += 1;
        if asked == 1 {
            pool.resize(|other| other.max_idle = Some(1)).unwrap();
        }
        config.max_total = 2;
    })
    .unwrap();
    let config = pool.config();
    assert_eq!((config.max_total, config.max_idle, asked), (2, Some(1), 2));
}
