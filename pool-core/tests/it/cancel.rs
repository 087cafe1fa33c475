//! A caller that goes away, at every point where it can.

use poolyard_core::Lease;
use poolyard_testkit::cancel::{HandPolled, every_pair, everywhere};
use poolyard_testkit::{FakeManager, Method, Step};

use crate::common::*;

/// After whatever was cancelled: nothing is lost, and the pool serves as many as before.
async fn still_serves(pool: FakePool, fake: &FakeManager, places: usize) {
    let leases = take(&pool, 1, places).await;
    assert_eq!((counts(&pool).waiters, counts(&pool).leased), (0, places));
    drop(leases);
    end(pool, fake).await;
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_during_a_creation_loses_only_its_place() {
    let runs = everywhere(async |cut| {
        let fake = FakeManager::new().always(Method::Create, Step::ok().yields(2));
        let pool = pool_of(1, &fake).build().unwrap();
        drop(cut.run(pool.acquire(&1)).await);
        still_serves(pool, &fake, 1).await;
        assert_eq!(fake.count(Method::Create), 1);
    })
    .await;
    assert!(runs > 2);
}

#[tokio::test(start_paused = true)]
async fn two_callers_that_go_away_at_any_two_points_lose_nothing_of_the_pool() {
    let runs = every_pair(async |first, second| {
        let fake = FakeManager::new().always(Method::Recycle, Step::ok().yields(1));
        let pool = pool_of(1, &fake).build().unwrap();
        let lease = pool.acquire(&1).await.unwrap();
        let back = tokio::spawn(async move { drop(lease) });
        tokio::join!(async { drop(first.run(pool.acquire(&1)).await) }, async {
            drop(second.run(pool.acquire(&1)).await)
        });
        back.await.unwrap();
        still_serves(pool, &fake, 1).await;
    })
    .await;
    assert!(runs > 4);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_during_its_check_leaves_the_resource_to_the_next() {
    everywhere(async |cut| {
        let fake = FakeManager::new().always(Method::HealthCheck, Step::ok().yields(2));
        let pool = pool_of(1, &fake).check_after(ms(0)).build().unwrap();
        drop(pool.acquire(&1).await.unwrap());
        settle().await;
        drop(cut.run(pool.acquire(&1)).await);
        still_serves(pool, &fake, 1).await;
        assert_eq!(fake.count(Method::Create), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_release_has_given_the_resource_back() {
    everywhere(async |cut| {
        let fake = FakeManager::new().always(Method::Recycle, Step::ok().yields(2));
        let pool = pool_of(1, &fake).build().unwrap();
        let lease = pool.acquire(&1).await.unwrap();
        cut.run(Lease::release(lease)).await;
        still_serves(pool, &fake, 1).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_warm_up_and_a_cancelled_close_leave_the_pool_in_order() {
    everywhere(async |cut| {
        let fake = FakeManager::new().always(Method::Create, Step::ok().yields(1));
        let pool = pool_of(3, &fake).build().unwrap();
        cut.run(pool.warm(&1, 2)).await;
        still_serves(pool, &fake, 3).await;
    })
    .await;
    everywhere(async |cut| {
        let fake = FakeManager::new().always(Method::Destroy, Step::ok().yields(1));
        let pool = pool_of(3, &fake).build().unwrap();
        drop(take(&pool, 1, 2).await);
        cut.run(pool.close(secs(60))).await;
        end(pool, &fake).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_waiter_passes_its_grant_on() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).build().unwrap();
    let lease = pool.acquire(&1).await.unwrap();
    let mut first = HandPolled::new(pool.acquire(&1));
    let mut second = HandPolled::new(pool.acquire(&1));
    assert!(first.poll().is_pending() && second.poll().is_pending());
    drop(lease);
    settle().await;
    assert!(first.is_woken() && !second.is_woken());
    drop(first);
    assert!(second.is_woken(), "what was promised to the first is the second's");
    assert!(second.run().is_ready());
    assert_eq!(pool.snapshot().counters.cancelled, 1);
}

#[tokio::test(start_paused = true)]
async fn a_future_that_was_never_polled_asked_for_nothing() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).build().unwrap();
    drop(pool.acquire(&1));
    settle().await;
    assert_eq!((fake.calls().len(), pool.snapshot().counters.cancelled), (0, 0));
}
