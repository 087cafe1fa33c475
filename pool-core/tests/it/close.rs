//! The end of a pool.

use poolyard_core::{AcquireError, InsertErrorKind, Lease, Reason, ResourceState, TryAcquireError};
use poolyard_testkit::cancel::poll_once;
use poolyard_testkit::{FakeManager, Gate, Method, Step};

use crate::common::*;

#[tokio::test(start_paused = true)]
async fn close_tells_waiters_and_later_callers() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).build().unwrap();
    let lease = pool.acquire(&1).await.unwrap();
    let waiter = ask(&pool, 1).await;
    let mut closing = Box::pin(pool.close(secs(60)));
    assert!(poll_once(closing.as_mut()).is_pending());
    assert!(matches!(waiter.await.unwrap(), Err(AcquireError::Closed)));
    assert!(matches!(pool.acquire(&1).await, Err(AcquireError::Closed)));
    assert_eq!(pool.try_acquire(&1).unwrap_err(), TryAcquireError::Closed);
    let refused = pool.insert(&1, fake.resource(1)).unwrap_err();
    assert_eq!(refused.kind, InsertErrorKind::Closed);
    refused.resource.end();
    drop(lease);
    assert!(closing.await.is_clean());
    assert!(pool.snapshot().closed);
    assert_eq!(pool.snapshot().counters.closed, 1);
    fake.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn close_waits_for_leases_and_destroys_all() {
    let fake = FakeManager::new();
    let pool = pool_of(4, &fake).build().unwrap();
    let leases = take(&pool, 1, 3).await;
    drop(pool.acquire(&2).await.unwrap());
    settle().await;
    tokio::spawn(async move {
        tokio::time::sleep(secs(5)).await;
        drop(leases);
    });
    let start = tokio::time::Instant::now();
    let report = pool.close(secs(60)).await;
    assert_eq!((start.elapsed().as_secs(), report.destroyed, report.is_clean()), (5, 4, true));
    assert_eq!(fake.reasons(), [Reason::Closed; 4]);
    assert_eq!(fake.count(Method::Recycle), 1, "what comes back to a closed pool is not recycled");
}

#[tokio::test(start_paused = true)]
async fn close_reports_what_it_left_when_its_patience_ends() {
    let fake = FakeManager::new();
    let pool = pool_of(3, &fake).build().unwrap();
    let lease = pool.acquire(&1).await.unwrap();
    drop(pool.acquire(&2).await.unwrap());
    settle().await;
    let start = tokio::time::Instant::now();
    let report = pool.close(secs(5)).await;
    assert_eq!(start.elapsed().as_secs(), 5);
    assert_eq!((report.left.len(), report.destroyed), (1, 1));
    let left = &report.left[0];
    assert_eq!((left.key, left.state, left.id), (1, ResourceState::Leased, Lease::meta(&lease).id));
    assert!(left.leased_at.is_some_and(|place| place.file().ends_with("close.rs")));
    drop(lease);
    fake.until(|fake| fake.live() == 0).await;
    assert!(pool.close(secs(5)).await.is_clean(), "closing again is harmless and only waits");
}

#[tokio::test(start_paused = true)]
async fn close_waits_for_calls_of_the_manager_under_way() {
    let (create, recycle) = (Gate::new(), Gate::new());
    let fake = FakeManager::new().create_script([Step::ok(), Step::ok().at(&create)]);
    fake.recycle_script([Step::ok().at(&recycle)]);
    let pool = pool_of(3, &fake).build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    let waiter = ask(&pool, 2).await;
    let report = pool.close(secs(1)).await;
    assert_eq!(report.left.len(), 2);
    assert!(waiter.await.unwrap().is_err());
    create.open();
    recycle.open();
    end(pool, &fake).await;
    assert_eq!(fake.reasons(), [Reason::Closed; 2]);
}

#[tokio::test(start_paused = true)]
async fn a_pool_is_closed_from_the_first_poll_of_close_on() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).build().unwrap();
    let lease = pool.acquire(&1).await.unwrap();
    let mut closing = Box::pin(pool.close(secs(60)));
    assert!(poll_once(closing.as_mut()).is_pending());
    drop(closing);
    assert!(matches!(pool.acquire(&1).await, Err(AcquireError::Closed)));
    drop(lease);
    fake.until(|fake| fake.live() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn the_last_handle_closes_the_pool() {
    let fake = FakeManager::new();
    let pool = pool_of(2, &fake).build().unwrap();
    let lease = pool.acquire(&1).await.unwrap();
    drop(pool.acquire(&2).await.unwrap());
    let other = pool.clone();
    drop(pool);
    settle().await;
    assert_eq!(fake.live(), 2, "there is another handle");
    drop(other);
    settle().await;
    assert_eq!(fake.live(), 1, "what was idle is destroyed");
    assert_eq!(*lease.key(), 1, "what is leased can be used");
    drop(lease);
    fake.until(|fake| fake.live() == 0).await;
    assert_eq!(fake.reasons(), [Reason::Closed; 2]);
    fake.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn a_weak_handle_does_not_keep_the_pool_open() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).build().unwrap();
    let weak = pool.downgrade();
    let again = weak.upgrade().unwrap();
    drop(pool);
    drop(again.acquire(&1).await.unwrap());
    let lease = again.acquire(&1).await.unwrap();
    drop(again);
    assert!(weak.clone().upgrade().is_none(), "a lease is no handle");
    drop(lease);
    fake.until(|fake| fake.live() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn an_empty_pool_closes_at_once() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).build().unwrap();
    assert!(pool.close(secs(0)).await.is_clean());
}

#[test]
fn an_unused_pool_needs_no_runtime_to_be_dropped() {
    let fake = FakeManager::new();
    drop(pool_of(1, &fake).build().unwrap());
    let pool = pool_of(1, &fake).build().unwrap();
    pool.insert(&1, fake.resource(1)).unwrap();
    drop(pool);
    assert_eq!((fake.count(Method::DestroyNow), fake.reasons()), (1, vec![Reason::Closed]));
    fake.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn a_creation_between_two_attempts_is_not_tried_again_once_the_pool_is_closed() {
    let fake = FakeManager::new().always(Method::Create, Step::err("no")).on_retry(|_, _| Some(secs(5)));
    let pool = pool_of(1, &fake).build().unwrap();
    let waits = ask(&pool, 1).await;
    pool.close(secs(20)).await;
    assert!(matches!(waits.await.unwrap(), Err(AcquireError::Closed)));
    assert_eq!(fake.count(Method::Create), 1);
}
