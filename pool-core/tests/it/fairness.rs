//! Who is served when.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use poolyard_core::{Lease, Reason};
use poolyard_testkit::{FakeManager, Gate, Method, Step};

use crate::common::*;

#[tokio::test(start_paused = true)]
async fn callers_of_one_key_are_served_in_the_order_they_came() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).build().unwrap();
    let mut lease = pool.acquire(&1).await.unwrap();
    let mut queue = std::collections::VecDeque::new();
    for _ in 0..5 {
        queue.push_back(ask(&pool, 1).await);
    }
    while let Some(next) = queue.pop_front() {
        drop(lease);
        lease = got(next).await;
        settle().await;
        assert!(queue.iter().all(|later| !later.is_finished()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_does_not_pass_a_waiter_of_its_key() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).build().unwrap();
    let lease = pool.acquire(&1).await.unwrap();
    let waiter = ask(&pool, 1).await;
    drop(lease);
    assert!(pool.try_acquire(&1).is_err(), "what comes back is the waiter's");
    let newcomer = ask(&pool, 1).await;
    let served = got(waiter).await;
    assert!(!newcomer.is_finished());
    drop(served);
    got(newcomer).await;
}

#[tokio::test(start_paused = true)]
async fn a_waiter_blocked_by_its_own_keys_limit_blocks_nobody_else() {
    let fake = FakeManager::new();
    let pool = pool_of(3, &fake).max_per_key(1).build().unwrap();
    let one = pool.acquire(&1).await.unwrap();
    let blocked = ask(&pool, 1).await;
    let other = got(ask(&pool, 2).await).await;
    assert!(!blocked.is_finished());
    drop((one, other));
    got(blocked).await;
}

#[tokio::test(start_paused = true)]
async fn between_keys_freed_room_goes_to_the_oldest_waiter_it_can_serve() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).build().unwrap();
    let mut lease = pool.acquire(&9).await.unwrap();
    let mut queue = Vec::new();
    for key in [3, 1, 2] {
        queue.push((key, ask(&pool, key).await));
    }
    for (key, asked) in queue {
        Lease::discard(lease);
        lease = got(asked).await;
        assert_eq!(*lease.key(), key);
    }
}

/// How many callers of key 1 are served before an older one of key 2.
async fn overtakes_of(max_overtakes: u64) -> usize {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).max_overtakes(max_overtakes).wait_timeout(None).build().unwrap();
    let first = pool.acquire(&1).await.unwrap();
    let older_served = Arc::new(AtomicBool::new(false));
    let overtakes = Arc::new(AtomicUsize::new(0));
    let older = tokio::spawn({
        let (pool, older_served) = (pool.clone(), Arc::clone(&older_served));
        async move {
            drop(pool.acquire(&2).await.unwrap());
            older_served.store(true, SeqCst);
        }
    });
    settle().await;
    let mut younger = Vec::new();
    for _ in 0..10 {
        let (pool, older_served, overtakes) = (pool.clone(), older_served.clone(), overtakes.clone());
        younger.push(tokio::spawn(async move {
            let lease = pool.acquire(&1).await.unwrap();
            overtakes.fetch_add(usize::from(!older_served.load(SeqCst)), SeqCst);
            drop(lease);
        }));
        settle().await;
    }
    drop(first);
    older.await.unwrap();
    for younger in younger {
        younger.await.unwrap();
    }
    assert_eq!(pool.snapshot().counters.overtakes, overtakes.load(SeqCst) as u64);
    end(pool, &fake).await;
    overtakes.load(SeqCst)
}

#[tokio::test(start_paused = true)]
async fn a_waiter_is_overtaken_by_another_key_at_most_max_overtakes_times() {
    for bound in [0, 1, 3, 7] {
        assert_eq!(overtakes_of(bound).await, bound as usize);
    }
}

#[tokio::test(start_paused = true)]
async fn a_resource_given_up_for_an_older_waiter_is_not_recycled_first() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).max_overtakes(0).build().unwrap();
    let lease = pool.acquire(&1).await.unwrap();
    let older = ask(&pool, 2).await;
    let younger = ask(&pool, 1).await;
    drop(lease);
    drop(got(older).await);
    let younger = got(younger).await;
    assert_eq!(fake.count(Method::Recycle), 0);
    assert_eq!(fake.reasons(), [Reason::Evicted, Reason::Evicted]);
    drop(younger);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn a_heavy_waiter_past_its_bound_reserves_what_becomes_free() {
    let fake = FakeManager::new().on_cost(|key| u64::from(*key));
    let pool = pool_of(10, &fake).max_cost(4).max_overtakes(2).build().unwrap();
    let mut light = take(&pool, 1, 4).await;
    let heavy = ask(&pool, 4).await;
    // Two creations of another light key fit into what becomes free, and pass the heavy one.
    for _ in 0..2 {
        Lease::discard(light.remove(0));
        light.push(got(ask(&pool, 1).await).await);
    }
    let third = ask(&pool, 1).await;
    Lease::discard(light.remove(0));
    settle().await;
    assert!(!third.is_finished(), "the bound is reached: what is free is kept for the heavy one");
    light.clear();
    let heavy = got(heavy).await;
    assert!(!third.is_finished());
    drop(heavy);
    got(third).await;
}

#[tokio::test(start_paused = true)]
async fn a_heavy_waiter_is_not_starved_by_light_users_that_never_wait() {
    let fake = FakeManager::new().on_cost(|key| u64::from(*key));
    fake.on_reuse(|_, _| poolyard_core::Reuse::Now);
    let pool = pool_of(10, &fake).max_cost(4).max_overtakes(5).wait_timeout(secs(3600)).build().unwrap();
    let mut light = take(&pool, 1, 4).await;
    let heavy = ask(&pool, 4).await;
    let mut served = 0;
    while !heavy.is_finished() && served < 100 {
        light.remove(0);
        // Takes at once what has just come back, if anything is there.
        light.extend(pool.try_acquire(&1).ok());
        served += 1;
        settle().await;
        if light.is_empty() {
            break;
        }
    }
    assert!(served <= 5 + 4, "{served} light users passed the heavy waiter");
    got(heavy).await;
}

#[tokio::test(start_paused = true)]
async fn a_light_waiter_passes_a_heavy_one_that_does_not_fit_yet() {
    let fake = FakeManager::new().on_cost(|key| u64::from(*key));
    let pool = pool_of(10, &fake).max_cost(4).build().unwrap();
    let two = pool.acquire(&2).await.unwrap();
    let heavy = ask(&pool, 3).await;
    let light = got(ask(&pool, 1).await).await;
    assert!(!heavy.is_finished());
    assert_eq!(pool.snapshot().counters.overtakes, 1);
    drop((two, light));
    got(heavy).await;
}

#[tokio::test(start_paused = true)]
async fn a_waiter_is_served_before_minimum_idle_and_warm_up() {
    let gate = Gate::new();
    let fake = FakeManager::new().always(Method::Create, Step::ok().at(&gate));
    let pool = pool_of(9, &fake).min_idle_per_key(1).max_creating(1).build().unwrap();
    let first = ask(&pool, 1).await;
    let second = ask(&pool, 2).await;
    let warm = tokio::spawn({
        let pool = pool.clone();
        async move { pool.warm(&3, 1).await.inserted }
    });
    settle().await;
    for _ in 0..2 {
        gate.release(1);
        settle().await;
    }
    assert!(first.is_finished() && second.is_finished(), "two creations served the two who waited");
    gate.open();
    assert_eq!(warm.await.unwrap(), 1);
}

/// One resource is taken and returned `times` times by a task that never lets others run, while
/// somebody waits; how many times it was served before the one who waits.
async fn served_before_the_waiter(fairness: poolyard_core::Fairness, times: usize) -> usize {
    let fake = FakeManager::new().on_reuse(|_, _| poolyard_core::Reuse::Now);
    let pool = pool_of(1, &fake).fairness(fairness).max_overtakes(5).build().unwrap();
    let first = pool.acquire(&1).await.unwrap();
    let waiter = ask(&pool, 1).await;
    drop(first);
    let served = (0..times).take_while(|_| pool.try_acquire(&1).is_ok()).count();
    drop(got(waiter).await);
    end(pool, &fake).await;
    served
}

#[tokio::test(start_paused = true)]
async fn in_throughput_mode_who_comes_along_passes_a_waiter_only_so_often() {
    assert_eq!(served_before_the_waiter(poolyard_core::Fairness::Throughput, 50).await, 5);
    assert_eq!(served_before_the_waiter(poolyard_core::Fairness::Fifo, 50).await, 0);
}
