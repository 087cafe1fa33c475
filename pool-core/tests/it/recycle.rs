//! Recycle at return, reuse, and the end of resources.

use poolyard_core::{Lease, Pool, Reason, Reuse, from_fn};
use poolyard_testkit::{FakeManager, Gate, Method, Step};

use crate::common::*;

#[tokio::test(start_paused = true)]
async fn a_returned_resource_is_recycled_and_used_again() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).build().unwrap();
    let mut first = pool.acquire(&1).await.unwrap();
    first.mark(7);
    let serial = first.serial();
    drop(first);
    let second = pool.acquire(&1).await.unwrap();
    assert_eq!((second.serial(), second.marks()), (serial, [].as_slice()));
    assert_eq!((fake.count(Method::Create), fake.count(Method::Recycle)), (1, 1));
    drop(second);
    end(pool, &fake).await;
    assert_eq!(fake.reasons(), [Reason::Closed]);
}

#[tokio::test(start_paused = true)]
async fn a_return_is_recycled_without_anybody_waiting_for_it() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    settle().await;
    assert_eq!((counts(&pool).idle, fake.count(Method::Recycle)), (1, 1));
    assert!(pool.try_acquire(&1).is_ok(), "the next user finds it ready");
}

#[tokio::test(start_paused = true)]
async fn a_failed_recycle_is_never_the_next_users_error() {
    let fake = FakeManager::new().recycle_script([Step::err("dirty"), Step::panic(), Step::panic_at_call()]);
    let pool = pool_of(1, &fake).build().unwrap();
    for serial in 1..=3 {
        let lease = pool.acquire(&1).await.unwrap();
        assert_eq!(lease.serial(), serial);
        drop(lease);
    }
    assert_eq!(pool.acquire(&1).await.unwrap().serial(), 4);
    assert_eq!(fake.reasons(), [Reason::RecycleFailed, Reason::Panicked, Reason::Panicked]);
    assert_eq!(pool.snapshot().counters.recycle_failures, 3);
}

#[tokio::test(start_paused = true)]
async fn a_recycle_past_its_deadline_ends_the_resource() {
    let fake = FakeManager::new().recycle_script([Step::hang()]);
    let pool = pool_of(1, &fake).recycle_timeout(secs(2)).build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    let start = tokio::time::Instant::now();
    assert_eq!(pool.acquire(&1).await.unwrap().serial(), 2);
    assert_eq!((start.elapsed().as_secs(), fake.reasons()), (2, vec![Reason::TimedOut]));
}

#[tokio::test(start_paused = true)]
async fn a_resource_that_can_be_used_as_it_is_is_not_recycled() {
    let fake = FakeManager::new().on_reuse(|_, _| Reuse::Now);
    let pool = pool_of(1, &fake).build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    assert_eq!(pool.try_acquire(&1).unwrap().serial(), 1, "it is ready at once");
    assert_eq!(fake.count(Method::Recycle), 0);
}

#[tokio::test(start_paused = true)]
async fn a_resource_that_the_manager_calls_broken_is_destroyed() {
    let fake = FakeManager::new().on_reuse(|_, meta| if meta.uses == 2 { Reuse::Broken } else { Reuse::Now });
    let pool = pool_of(1, &fake).build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    drop(pool.acquire(&1).await.unwrap());
    assert_eq!(pool.acquire(&1).await.unwrap().serial(), 2);
    assert_eq!(fake.reasons(), [Reason::Broken]);
    assert_eq!(fake.count(Method::Recycle), 0);
}

#[tokio::test(start_paused = true)]
async fn a_manager_without_recycle_has_its_resource_ready_at_once() {
    let pool = Pool::builder(from_fn(|_: &()| async { Ok::<_, std::io::Error>(1) })).build().unwrap();
    drop(pool.acquire(&()).await.unwrap());
    assert_eq!(pool.snapshot().counts.idle, 1);
    assert_eq!(pool.snapshot().counters.recycled, 0);
}

#[tokio::test(start_paused = true)]
async fn a_discarded_resource_is_destroyed_without_a_recycle() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).build().unwrap();
    Lease::discard(pool.acquire(&1).await.unwrap());
    let lease = pool.acquire(&1).await.unwrap();
    assert_eq!(lease.serial(), 2);
    assert_eq!(fake.reasons(), [Reason::Discarded]);
    assert_eq!(fake.count(Method::Recycle), 0);
}

#[tokio::test(start_paused = true)]
async fn a_detached_resource_is_its_users_for_ever_and_its_place_is_free_at_once() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).build().unwrap();
    let mine = Lease::detach(pool.acquire(&1).await.unwrap());
    assert_eq!(counts(&pool).live(), 0);
    let lease = pool.acquire(&1).await.unwrap();
    drop(lease);
    let report = pool.close(secs(1)).await;
    assert!(report.is_clean());
    assert_eq!(fake.count(Method::Destroy), 1, "the manager does not see the detached one again");
    assert_eq!(pool.snapshot().counters.detached, 1);
    mine.end();
    fake.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn detaching_serves_a_waiter_with_a_creation() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).build().unwrap();
    let lease = pool.acquire(&1).await.unwrap();
    let waiter = ask(&pool, 2).await;
    Lease::detach(lease).end();
    assert_eq!(*got(waiter).await.key(), 2);
}

#[tokio::test(start_paused = true)]
async fn release_waits_until_the_resource_is_clean() {
    let gate = Gate::new();
    let fake = FakeManager::new().always(Method::Recycle, Step::ok().at(&gate));
    let pool = pool_of(1, &fake).build().unwrap();
    let lease = pool.acquire(&1).await.unwrap();
    let released = tokio::spawn(Lease::release(lease));
    settle().await;
    assert!(!released.is_finished());
    gate.open();
    assert_eq!(released.await.unwrap(), Ok(()));
    assert_eq!(counts(&pool).idle, 1);
}

#[tokio::test(start_paused = true)]
async fn release_says_why_the_resource_is_destroyed_instead() {
    let fake = FakeManager::new().recycle_script([Step::err("dirty"), Step::hang()]);
    fake.always(Method::HealthCheck, Step::err("ill"));
    let pool = pool_of(1, &fake).check_every_recycles(1).build().unwrap();
    for reason in [Reason::RecycleFailed, Reason::TimedOut, Reason::Unhealthy] {
        assert_eq!(Lease::release(pool.acquire(&1).await.unwrap()).await, Err(reason));
    }
    pool.invalidate_all();
    let lease = pool.acquire(&1).await.unwrap();
    pool.invalidate(&1);
    assert_eq!(Lease::release(lease).await, Err(Reason::Invalidated));
}

#[tokio::test(start_paused = true)]
async fn release_of_what_goes_straight_to_a_waiter_is_a_success() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).build().unwrap();
    let lease = pool.acquire(&1).await.unwrap();
    let waiter = ask(&pool, 1).await;
    assert_eq!(Lease::release(lease).await, Ok(()));
    assert_eq!(got(waiter).await.serial(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_destroy_that_panics_is_ended_by_destroy_now_and_frees_its_place() {
    let fake = FakeManager::new().destroy_script([Step::panic(), Step::panic_at_call()]);
    let pool = pool_of(1, &fake).build().unwrap();
    for _ in 0..2 {
        Lease::discard(pool.acquire(&1).await.unwrap());
    }
    let lease = pool.acquire(&1).await.unwrap();
    assert_eq!((lease.serial(), fake.count(Method::DestroyNow)), (3, 2));
    assert_eq!(pool.snapshot().counters.panicked_calls, 2);
    assert_eq!(counts(&pool).abandoned, 0);
    drop(lease);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn a_destroy_past_its_deadline_is_abandoned_and_its_place_given_free() {
    let fake = FakeManager::new().destroy_script([Step::hang()]);
    let pool = pool_of(1, &fake).destroy_timeout(secs(2)).build().unwrap();
    Lease::discard(pool.acquire(&1).await.unwrap());
    let start = tokio::time::Instant::now();
    let lease = pool.acquire(&1).await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 2);
    assert_eq!((counts(&pool).abandoned, pool.snapshot().stuck), (1, 0));
    assert_eq!(fake.count(Method::DestroyNow), 1);
    drop(lease);
    let report = pool.close(secs(60)).await;
    assert_eq!((report.abandoned, report.left.len()), (1, 0));
    assert!(!report.is_clean());
}

#[tokio::test(start_paused = true)]
async fn beyond_max_abandoned_a_hung_destroy_keeps_its_place() {
    let fake = FakeManager::new().destroy_script([Step::hang(), Step::hang()]);
    let pool = pool_of(2, &fake).max_abandoned(1).build().unwrap();
    take(&pool, 1, 2).await.into_iter().for_each(Lease::discard);
    tokio::time::sleep(secs(11)).await;
    assert_eq!((counts(&pool).abandoned, pool.snapshot().stuck), (1, 1));
    assert_eq!(counts(&pool).destroying, 1, "the stuck one counts");
    let lease = pool.acquire(&1).await.unwrap();
    let error = pool.acquire(&2).await.unwrap_err();
    assert!(error.to_string().contains("1 abandoned"), "{error}");
    drop(lease);
    let report = pool.close(secs(60)).await;
    assert_eq!((report.abandoned, report.left.len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn nothing_of_max_abandoned_zero_is_given_free() {
    let fake = FakeManager::new().destroy_script([Step::hang()]);
    let pool = pool_of(1, &fake).max_abandoned(0).build().unwrap();
    Lease::discard(pool.acquire(&1).await.unwrap());
    assert!(pool.acquire(&1).await.is_err());
    assert_eq!((counts(&pool).abandoned, pool.snapshot().stuck, fake.live()), (0, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn hung_destroys_do_not_take_the_hands_of_others() {
    let fake = FakeManager::new().destroy_script([Step::hang(), Step::hang()]);
    let pool = pool_of(6, &fake).max_destroying(1).max_abandoned(0).build().unwrap();
    take(&pool, 1, 4).await.into_iter().for_each(Lease::discard);
    tokio::time::sleep(secs(25)).await;
    assert_eq!((pool.snapshot().stuck, fake.live()), (2, 0));
    assert_eq!(counts(&pool).destroying, 2);
}

#[tokio::test(start_paused = true)]
async fn whether_it_is_kept_is_decided_before_recycling() {
    let fake = FakeManager::new();
    let pool = pool_of(4, &fake).max_uses(1).build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    let lease = pool.acquire(&2).await.unwrap();
    pool.invalidate(&2);
    drop(lease);
    settle().await;
    assert_eq!(fake.count(Method::Recycle), 0);
    assert_eq!(fake.reasons(), [Reason::MaxUses, Reason::Invalidated]);
}

#[tokio::test(start_paused = true)]
async fn what_is_invalidated_while_it_waits_for_its_recycle_is_not_recycled() {
    let gate = Gate::new();
    let fake = FakeManager::new().always(Method::Recycle, Step::ok().at(&gate));
    let pool = pool_of(2, &fake).max_recycling(1).build().unwrap();
    drop(take(&pool, 1, 2).await);
    settle().await;
    assert_eq!((fake.running(Method::Recycle), counts(&pool).recycling), (1, 2));
    pool.invalidate(&1);
    gate.open();
    settle().await;
    assert_eq!(fake.count(Method::Recycle), 1, "the second one was destroyed without it");
    assert_eq!(fake.reasons(), [Reason::Invalidated, Reason::Invalidated]);
    assert_eq!(counts(&pool).live(), 0);
}
