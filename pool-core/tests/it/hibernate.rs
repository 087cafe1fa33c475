//! Two-stage idleness.

use poolyard_core::{AcquireError, Builder, Phase, Pool, Reason, ResourceState, Shed};
use poolyard_testkit::{FakeManager, Gate, Method, Step};

use crate::common::*;

/// A pool whose resources sleep after ten idle seconds and end after a minute.
fn sleepy(max_total: usize, fake: &FakeManager) -> Builder<FakeManager> {
    pool_of(max_total, fake).hibernate_after(secs(10)).idle_timeout(secs(60)).check_interval(None)
}

/// A pool with one sleeping resource of key 1.
async fn asleep(builder: Builder<FakeManager>) -> FakePool {
    let pool = builder.build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    tokio::time::sleep(secs(11)).await;
    assert_eq!((counts(&pool).idle, counts(&pool).hibernated), (0, 1));
    pool
}

#[tokio::test(start_paused = true)]
async fn a_long_idle_resource_is_put_to_sleep_and_woken_by_who_wants_it() {
    let fake = FakeManager::new();
    let pool = asleep(sleepy(2, &fake)).await;
    assert_eq!(pool.resources()[0].state, ResourceState::Hibernated);
    let lease = pool.acquire(&1).await.unwrap();
    assert_eq!((lease.serial(), lease.is_asleep()), (1, false));
    let counters = pool.snapshot().counters;
    assert_eq!((counters.hibernated, counters.woken, counters.created), (1, 1, 1));
    drop(lease);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn a_resource_is_put_to_sleep_so_long_after_its_last_use() {
    let fake = FakeManager::new();
    let pool = sleepy(2, &fake).build().unwrap();
    for _ in 0..2 {
        drop(pool.acquire(&1).await.unwrap());
        tokio::time::sleep(secs(5)).await;
    }
    assert_eq!(counts(&pool).idle, 1);
    tokio::time::sleep(secs(6)).await;
    assert_eq!(counts(&pool).hibernated, 1);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn who_is_about_to_be_put_to_sleep_and_is_wanted_stays_awake() {
    let (fake, gate) = (FakeManager::new(), Gate::new());
    let pool = sleepy(2, &fake).max_recycling(1).recycle_timeout(secs(100)).build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    settle().await;
    // The only one who cleans and puts to sleep is busy when the time of key 1 comes.
    fake.recycle_script([Step::ok().at(&gate)]);
    drop(pool.acquire(&2).await.unwrap());
    tokio::time::sleep(secs(11)).await;
    assert_eq!((counts(&pool).recycling, counts(&pool).hibernating), (1, 1));
    let wanted = ask(&pool, 1).await;
    gate.open();
    let lease = got(wanted).await;
    assert_eq!((lease.serial(), fake.count(Method::Hibernate), fake.count(Method::Wake)), (1, 0, 0));
    assert_eq!(fake.count(Method::HealthCheck), 0, "it is not old enough for one");
    drop(lease);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn a_sleeper_ends_after_idle_timeout() {
    let fake = FakeManager::new();
    let pool = asleep(sleepy(2, &fake)).await;
    tokio::time::sleep(secs(50)).await;
    assert_eq!((fake.reasons(), fake.count(Method::Wake)), (vec![Reason::IdleTimeout], 0));
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn who_is_awake_is_handed_out_before_a_sleeper() {
    let fake = FakeManager::new();
    let pool = sleepy(2, &fake).order(poolyard_core::ReuseOrder::Fifo).build().unwrap();
    let mut leases = take(&pool, 1, 2).await;
    drop(leases.remove(0));
    tokio::time::sleep(secs(11)).await;
    drop(leases.remove(0));
    settle().await;
    assert_eq!((counts(&pool).idle, counts(&pool).hibernated), (1, 1));
    let lease = pool.acquire(&1).await.unwrap();
    assert_eq!((lease.serial(), fake.count(Method::Wake)), (2, 0));
    drop(lease);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn a_minimum_idle_stays_awake() {
    let fake = FakeManager::new();
    let pool = sleepy(5, &fake).min_idle_per_key(2).build().unwrap();
    drop(take(&pool, 1, 3).await);
    tokio::time::sleep(secs(30)).await;
    assert_eq!(counts(&pool).idle, 2);
    assert!(counts(&pool).hibernated > 0);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn a_manager_without_hibernation_has_its_resources_awake() {
    let pool = Pool::builder(poolyard_core::from_fn(|_: &u32| async { Ok::<_, std::io::Error>(()) }));
    let pool = pool.hibernate_after(secs(1)).build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    tokio::time::sleep(secs(5)).await;
    assert_eq!((pool.snapshot().counts.idle, pool.snapshot().counters.hibernated), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_resource_that_cannot_be_put_to_sleep_is_destroyed() {
    for step in [Step::err("no"), Step::panic(), Step::hang()] {
        let fake = FakeManager::new().script(Method::Hibernate, [step]);
        let pool = sleepy(2, &fake).build().unwrap();
        drop(pool.acquire(&1).await.unwrap());
        tokio::time::sleep(secs(30)).await;
        assert_eq!((fake.ended().len(), pool.snapshot().counters.hibernate_failures), (1, 1));
        end(pool, &fake).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_wake_that_fails_is_nobodys_error_and_the_next_resource_serves() {
    for step in [Step::err("no"), Step::panic(), Step::hang()] {
        let fake = FakeManager::new().script(Method::Wake, [step]);
        let pool = asleep(sleepy(2, &fake)).await;
        let lease = pool.acquire(&1).await.unwrap();
        // One that hangs is given up later than a creation takes.
        tokio::time::sleep(secs(11)).await;
        assert_eq!((lease.serial(), pool.snapshot().counters.wake_failures), (2, 1));
        drop(lease);
        end(pool, &fake).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_sleeper_makes_room_for_another_key() {
    let fake = FakeManager::new();
    let pool = asleep(sleepy(1, &fake)).await;
    let lease = pool.acquire(&2).await.unwrap();
    assert_eq!((lease.serial(), fake.reasons()), (2, vec![Reason::Evicted]));
    drop(lease);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn who_times_out_waiting_for_a_wake_is_told_so_and_the_sleeper_is_awake_for_the_next() {
    let gate = Gate::new();
    let fake = FakeManager::new().script(Method::Wake, [Step::ok().at(&gate)]);
    let pool = asleep(sleepy(1, &fake).wait_timeout(secs(1)).hedge_after(secs(9))).await;
    let error = pool.acquire(&1).await.unwrap_err();
    assert!(matches!(error, AcquireError::TimedOut { phase: Phase::Wake, .. }), "{error}");
    gate.open();
    settle().await;
    assert_eq!(pool.try_acquire(&1).unwrap().serial(), 1);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn warming_wakes_sleepers_before_it_makes_new_ones() {
    let fake = FakeManager::new();
    let pool = asleep(sleepy(2, &fake)).await;
    pool.warm(&1, 1).await;
    settle().await;
    assert_eq!((counts(&pool).idle, fake.count(Method::Create)), (1, 1));
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn what_sleeps_is_shed_before_what_is_awake() {
    let fake = FakeManager::new();
    let pool = sleepy(3, &fake).min_idle_per_key(1).build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    settle().await;
    drop(take(&pool, 2, 2).await);
    tokio::time::sleep(secs(11)).await;
    assert_eq!((counts(&pool).idle, counts(&pool).hibernated), (2, 1));
    pool.resize(|config| config.min_idle_per_key = 0).unwrap();
    let shed = pool.shed(Shed::Resources(1)).resources;
    assert_eq!((shed[0].key, shed[0].state), (2, ResourceState::Hibernated), "key 1 is older, but awake");
    end(pool, &fake).await;
}
