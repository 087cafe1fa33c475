//! The choice of a manager at run time.

use poolyard_core::{AcquireError, ErasedManager, Lease, Pool, Reason, from_fn};
use poolyard_testkit::{FakeError, FakeManager, FakeResource, Method, Step};

use crate::common::*;

#[tokio::test(start_paused = true)]
async fn pools_over_different_managers_fit_into_one_vec() {
    let one = from_fn(|_: &()| async { Ok::<_, std::io::Error>(1) });
    let two = from_fn(|_: &()| async { Ok::<_, std::fmt::Error>(2) });
    let managers = [ErasedManager::new(one), ErasedManager::new(two)];
    let pools: Vec<Pool<ErasedManager<(), i32>>> =
        managers.into_iter().map(|manager| Pool::builder(manager).build().unwrap()).collect();
    let mut sum = 0;
    for pool in &pools {
        sum += *pool.acquire(&()).await.unwrap();
    }
    assert_eq!(sum, 3);
}

#[tokio::test(start_paused = true)]
async fn an_erased_manager_is_called_like_the_one_inside() {
    let fake = FakeManager::new().create_script([Step::err("no"), Step::ok()]);
    fake.on_retry(|_, _| Some(ms(1))).on_cost(|_| 3);
    let erased: ErasedManager<u32, FakeResource> = ErasedManager::new(fake.clone());
    let pool = Pool::builder(erased).max_total(1).check_every_recycles(1).build().unwrap();
    Lease::release(pool.acquire(&1).await.unwrap()).await.unwrap();
    assert_eq!(pool.snapshot().cost, 3);
    pool.invalidate_all();
    settle().await;
    use Method::*;
    assert_eq!(fake.methods(), [Create, Create, Recycle, HealthCheck, Destroy]);
    assert_eq!(pool.snapshot().counters.destroyed_for(Reason::Invalidated), 1);
    fake.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn an_erased_error_can_be_turned_back() {
    let fake = FakeManager::new().create_script([Step::err("no")]);
    let pool = Pool::builder(ErasedManager::new(fake)).build().unwrap();
    let AcquireError::Create(error) = pool.acquire(&1).await.unwrap_err() else { panic!("it failed") };
    assert_eq!(error.downcast_ref::<FakeError>().unwrap().text, "no");
}

#[tokio::test(start_paused = true)]
async fn an_erased_manager_without_recycle_has_its_resource_ready_at_once() {
    let plain = from_fn(|_: &()| async { Ok::<_, std::io::Error>(1) });
    let pool = Pool::builder(ErasedManager::new(plain)).build().unwrap();
    drop(pool.acquire(&()).await.unwrap());
    assert_eq!((pool.snapshot().counts.idle, pool.snapshot().counters.recycled), (1, 0));
}
