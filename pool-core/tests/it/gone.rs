//! A death that somebody reports, in every state of a resource.

use std::task::Poll;

use poolyard_core::{AcquireError, Lease, Reason, ResourceState};
use poolyard_testkit::cancel::HandPolled;
use poolyard_testkit::{FakeManager, Gate, Method, Step};

use crate::common::*;

#[tokio::test(start_paused = true)]
async fn gone_while_creating_fails_that_creation() {
    let gate = Gate::new();
    let fake = FakeManager::new().create_script([Step::ok().at(&gate)]);
    let pool = pool_of(1, &fake).build().unwrap();
    let waiter = ask(&pool, 1).await;
    assert!(fake.gone(fake.creating_ids()[0]));
    gate.open();
    let error = waiter.await.unwrap().unwrap_err();
    assert!(matches!(&error, AcquireError::CreateGone(cause) if cause == "reported by the test"), "{error}");
    settle().await;
    assert_eq!(fake.reasons(), [Reason::Gone], "what was made is destroyed");
    assert_eq!(pool.snapshot().counters.create_failures, 1);
}

#[tokio::test(start_paused = true)]
async fn a_creation_reported_gone_fails_its_waiter_and_starts_no_replacement() {
    let gate = Gate::new();
    let fake = FakeManager::new().create_script([Step::ok().at(&gate)]);
    let pool = pool_of(2, &fake).build().unwrap();
    let waiter = ask(&pool, 1).await;
    assert!(fake.gone(fake.creating_ids()[0]));
    settle().await;
    assert_eq!(fake.creating_ids().len(), 1, "there is room, but the waiter is told instead");
    gate.open();
    assert!(matches!(waiter.await.unwrap(), Err(AcquireError::CreateGone(_))));
    settle().await;
    assert_eq!((fake.count(Method::Create), counts(&pool).live()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn gone_while_idle_leaves_the_pool() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    settle().await;
    assert!(fake.gone(fake.live_ids()[0]));
    assert!(pool.try_acquire(&1).is_err(), "from this moment on nobody is given it");
    settle().await;
    assert_eq!((fake.reasons(), counts(&pool).live()), (vec![Reason::Gone], 0));
}

#[tokio::test(start_paused = true)]
async fn gone_while_leased_marks_the_lease_and_ends_it_at_return() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).build().unwrap();
    let lease = pool.acquire(&1).await.unwrap();
    assert!(!Lease::is_gone(&lease));
    pool.gone_handle(Lease::meta(&lease).id).report("reported by the test");
    assert!(Lease::is_gone(&lease));
    assert_eq!(&*Lease::gone(&lease).await, "reported by the test");
    assert!(pool.resources()[0].gone);
    assert_eq!(lease.serial(), 1, "it can still be looked at");
    drop(lease);
    settle().await;
    assert_eq!((fake.reasons(), fake.count(Method::Recycle)), (vec![Reason::Gone], 0));
}

#[tokio::test(start_paused = true)]
async fn a_lease_can_wait_for_the_report() {
    let fake = FakeManager::new();
    let pool = pool_of(2, &fake).build().unwrap();
    let (one, two) = (pool.acquire(&1).await.unwrap(), pool.acquire(&1).await.unwrap());
    let mut first = HandPolled::new(Lease::gone(&one));
    let mut second = HandPolled::new(Lease::gone(&two));
    assert!(first.poll().is_pending() && second.poll().is_pending());
    pool.gone_handle(Lease::meta(&one).id).report("unplugged");
    assert!(matches!(first.run(), Poll::Ready(cause) if &*cause == "unplugged"));
    assert!(!second.is_woken(), "the other resource lives");
}

#[tokio::test(start_paused = true)]
async fn gone_while_promised_puts_the_waiter_back_at_the_head() {
    let fake = FakeManager::new();
    let pool = pool_of(2, &fake).max_per_key(1).build().unwrap();
    let lease = pool.acquire(&1).await.unwrap();
    let id = Lease::meta(&lease).id;
    let mut first = HandPolled::new(pool.acquire(&1));
    let mut second = HandPolled::new(pool.acquire(&1));
    assert!(first.poll().is_pending() && second.poll().is_pending());
    drop(lease);
    settle().await;
    assert!(first.is_woken() && !second.is_woken());
    pool.gone_handle(id).report("too late");
    assert!(first.run().is_pending(), "the promise is void");
    settle().await;
    let Poll::Ready(Ok(lease)) = first.run() else { panic!("the replacement is the first one's") };
    assert_eq!(lease.serial(), 2);
    assert!(!second.is_woken());
}

#[tokio::test(start_paused = true)]
async fn gone_while_recycling_ends_it_afterwards() {
    let gate = Gate::new();
    let fake = FakeManager::new().recycle_script([Step::ok().at(&gate)]);
    let pool = pool_of(2, &fake).build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    settle().await;
    fake.gone(fake.live_ids()[0]);
    let lease = got(ask(&pool, 1).await).await;
    assert_eq!(lease.serial(), 2, "nobody counts on it any more");
    gate.open();
    settle().await;
    assert_eq!(fake.reasons(), [Reason::Gone]);
}

#[tokio::test(start_paused = true)]
async fn gone_while_queued_for_its_recycle_is_destroyed_without_it() {
    let gate = Gate::new();
    let fake = FakeManager::new().recycle_script([Step::ok().at(&gate)]);
    let pool = pool_of(2, &fake).max_recycling(1).build().unwrap();
    let leases = take(&pool, 1, 2).await;
    let second = Lease::meta(&leases[1]).id;
    for lease in leases {
        drop(lease);
        settle().await;
    }
    pool.gone_handle(second).report("gone");
    settle().await;
    assert_eq!((fake.reasons(), fake.count(Method::Recycle)), (vec![Reason::Gone], 1));
    gate.open();
}

#[tokio::test(start_paused = true)]
async fn gone_while_checking_ends_it_afterwards() {
    let gate = Gate::new();
    let fake = FakeManager::new().health_check_script([Step::ok().at(&gate)]);
    let pool = pool_of(1, &fake).check_after(secs(5)).check_interval(None).build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    tokio::time::sleep(secs(6)).await;
    let waiter = ask(&pool, 1).await;
    assert_eq!(pool.resources()[0].state, ResourceState::Checking);
    fake.gone(fake.live_ids()[0]);
    gate.open();
    assert_eq!(got(waiter).await.serial(), 2);
    assert_eq!(fake.reasons(), [Reason::Gone]);
}

#[tokio::test(start_paused = true)]
async fn a_late_report_does_nothing() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).build().unwrap();
    let lease = pool.acquire(&1).await.unwrap();
    let gone = pool.gone_handle(Lease::meta(&lease).id);
    Lease::discard(lease);
    let successor = pool.acquire(&1).await.unwrap();
    assert_ne!(Lease::meta(&successor).id, gone.id());
    gone.report("of the one before, whose slot is in use again");
    assert!(!Lease::is_gone(&successor));
    drop(successor);
    end(pool, &fake).await;
    gone.report("of a pool that is closed");
}

#[tokio::test(start_paused = true)]
async fn only_the_first_report_counts() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).build().unwrap();
    let lease = pool.acquire(&1).await.unwrap();
    let gone = pool.gone_handle(Lease::meta(&lease).id);
    gone.report("first");
    gone.report("second");
    assert_eq!(&*Lease::gone(&lease).await, "first");
}

#[tokio::test]
async fn a_report_works_from_any_thread_and_does_not_keep_the_pool_alive() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).build().unwrap();
    let lease = pool.acquire(&1).await.unwrap();
    let gone = pool.gone_handle(Lease::meta(&lease).id);
    let again = gone.clone();
    std::thread::spawn(move || gone.report("from a plain thread")).join().unwrap();
    assert_eq!(&*Lease::gone(&lease).await, "from a plain thread");
    drop((lease, pool));
    fake.until(|fake| fake.live() == 0).await;
    again.report("of a pool that is dropped");
}
