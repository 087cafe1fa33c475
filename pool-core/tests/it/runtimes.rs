//! Real runtimes that begin and end, plain threads, and leases that outlive everything.

use std::sync::Arc;

use poolyard_core::{AcquireError, Lease, Pool, Reason, from_fn};
use poolyard_testkit::{FakeManager, Gate, Method, Step};
use tokio::runtime::{Builder, Runtime};

use crate::common::*;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

#[test]
fn a_pool_serves_two_runtimes_one_after_the_other() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).build().unwrap();
    for _ in 0..2 {
        runtime().block_on(async {
            let lease = pool.acquire(&1).await.unwrap();
            Lease::release(lease).await.unwrap();
        });
    }
    assert_eq!(fake.count(Method::Create), 1, "what was idle survived its runtime");
    runtime().block_on(end(pool, &fake));
}

#[test]
fn a_runtime_that_ends_in_the_middle_of_a_creation_gives_its_place_back() {
    let gate = Gate::new();
    let fake = FakeManager::new().create_script([Step::ok().at(&gate)]);
    let pool = pool_of(1, &fake).build().unwrap();
    let first = runtime();
    first.block_on(async {
        tokio::spawn({
            let pool = pool.clone();
            async move { pool.acquire(&1).await.map(drop) }
        });
        gate.until_waiting(1).await;
    });
    drop(first);
    runtime().block_on(async {
        drop(pool.acquire(&1).await.unwrap());
        end(pool, &fake).await;
    });
}

#[test]
fn a_runtime_that_ends_in_the_middle_of_a_recycle_loses_the_resource_and_nothing_else() {
    let gate = Gate::new();
    let fake = FakeManager::new().recycle_script([Step::ok().at(&gate)]);
    let pool = pool_of(1, &fake).build().unwrap();
    let first = runtime();
    first.block_on(async {
        drop(pool.acquire(&1).await.unwrap());
        gate.until_waiting(1).await;
    });
    drop(first);
    runtime().block_on(async {
        assert_eq!(pool.acquire(&1).await.unwrap().serial(), 2);
        assert_eq!(fake.reasons(), [Reason::Interrupted]);
        end(pool, &fake).await;
    });
}

#[test]
fn a_destroy_that_its_runtime_interrupts_is_done_again() {
    let gate = Gate::new();
    let fake = FakeManager::new().destroy_script([Step::ok().at(&gate)]);
    let pool = pool_of(1, &fake).build().unwrap();
    let first = runtime();
    first.block_on(async {
        Lease::discard(pool.acquire(&1).await.unwrap());
        gate.until_waiting(1).await;
    });
    drop(first);
    runtime().block_on(end(pool, &fake));
    assert_eq!((fake.count(Method::Destroy), fake.reasons()), (2, vec![Reason::Discarded]));
}

#[test]
fn a_waiter_survives_the_end_of_the_drivers_runtime() {
    let gate = Gate::new();
    let fake = FakeManager::new().create_script([Step::ok().at(&gate)]);
    let pool = pool_of(1, &fake).build().unwrap();
    let drivers = Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let begun = drivers.spawn({
        let pool = pool.clone();
        async move { pool.acquire(&1).await.map(drop) }
    });
    runtime().block_on(async {
        gate.until_waiting(1).await;
        let waiter = tokio::spawn({
            let pool = pool.clone();
            async move { pool.acquire(&1).await.unwrap().serial() }
        });
        while counts(&pool).waiters < 2 {
            tokio::task::yield_now().await;
        }
        drivers.shutdown_background();
        assert_eq!(waiter.await.unwrap(), 1, "it started a driver where it is");
        assert!(begun.await.is_err(), "the other caller went down with its runtime");
        end(pool, &fake).await;
    });
}

#[test]
fn twenty_runtimes_share_a_global_pool_and_end_in_any_order() {
    let fake = FakeManager::new().always(Method::Create, Step::ok().yields(3));
    let pool = pool_of(4, &fake).own_thread().build().unwrap();
    let users = (0..20).map(|number| {
        let pool = pool.clone();
        std::thread::spawn(move || {
            let runtime = runtime();
            let last = runtime.block_on(async {
                for _ in 0..5 {
                    drop(pool.acquire(&(number % 3)).await.unwrap());
                }
                pool.acquire(&(number % 3)).await.unwrap()
            });
            // Each gives its lease back after its runtime has ended.
            drop(runtime);
            drop(last);
        })
    });
    for user in users.collect::<Vec<_>>() {
        user.join().unwrap();
    }
    assert!(fake.peak_held() <= 4);
    runtime().block_on(end(pool, &fake));
}

#[test]
fn a_lease_can_be_dropped_on_a_plain_thread_after_its_runtime_has_ended() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).build().unwrap();
    let lease = runtime().block_on(pool.acquire(&1)).unwrap();
    std::thread::spawn(move || drop(lease)).join().unwrap();
    runtime().block_on(async {
        let lease = pool.acquire(&1).await.unwrap();
        assert_eq!((lease.serial(), fake.count(Method::Recycle)), (1, 1), "recycled by the next driver");
        drop(lease);
        end(pool, &fake).await;
    });
}

#[test]
fn a_lease_that_outlives_pool_and_runtime_is_ended_at_its_return() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).build().unwrap();
    let lease = runtime().block_on(pool.acquire(&1)).unwrap();
    drop(pool);
    assert_eq!(*lease.key(), 1);
    std::thread::spawn(move || drop(lease)).join().unwrap();
    assert_eq!((fake.count(Method::DestroyNow), fake.reasons()), (1, vec![Reason::Closed]));
    fake.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_lease_costs_one_place_and_nothing_else() {
    let fake = FakeManager::new();
    let pool = pool_of(2, &fake).build().unwrap();
    std::mem::forget(pool.acquire(&1).await.unwrap());
    for _ in 0..3 {
        drop(pool.acquire(&2).await.unwrap());
    }
    assert_eq!(counts(&pool).leased, 1);
    let report = pool.close(secs(5)).await;
    assert_eq!((report.left.len(), report.destroyed), (1, 1));
}

#[test]
fn the_driver_lives_on_the_runtime_it_was_given() {
    let fake = FakeManager::new();
    let mut drivers = Builder::new_multi_thread();
    let drivers = drivers.worker_threads(1).thread_name("drivers").enable_time().build().unwrap();
    let names = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&names);
    fake.on_describe(move |_| {
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        seen.lock().unwrap().push(name);
        String::new()
    });
    let pool = pool_of(1, &fake).runtime(drivers.handle().clone()).build().unwrap();
    runtime().block_on(async {
        drop(pool.acquire(&1).await.unwrap());
        end(pool, &fake).await;
    });
    assert_eq!(*names.lock().unwrap(), ["drivers"]);
}

#[test]
fn an_own_thread_has_the_pools_name_and_ends_with_the_pool() {
    let fake = FakeManager::new();
    let name = Arc::new(std::sync::Mutex::new(String::new()));
    let seen = Arc::clone(&name);
    fake.on_describe(move |_| {
        *seen.lock().unwrap() = std::thread::current().name().unwrap_or_default().to_owned();
        String::new()
    });
    let pool = Pool::builder(fake.clone()).name("global").own_thread().build().unwrap();
    drop(pool.acquire_blocking(&1).unwrap());
    runtime().block_on(end(pool, &fake));
    assert_eq!(*name.lock().unwrap(), "poolyard-global");
}

#[test]
fn the_last_lease_of_a_pool_without_handles_takes_it_along() {
    for _ in 0..500 {
        let token = Arc::new(());
        let inside = Arc::clone(&token);
        let manager = from_fn(move |_: &()| {
            _ = Arc::strong_count(&inside);
            async { Ok::<_, std::io::Error>(0) }
        });
        let pool = Pool::builder(manager).build().unwrap();
        for number in 1..=2 {
            pool.insert(&(), number).unwrap();
        }
        let first = pool.try_acquire(&()).unwrap();
        let last = pool.try_acquire(&()).unwrap();
        let holder = std::thread::spawn(move || drop(first));
        drop(pool);
        holder.join().unwrap();
        assert!(Arc::strong_count(&token) > 1 && *last > 0, "a lease keeps its pool");
        drop(last);
        assert_eq!(Arc::strong_count(&token), 1, "something of the pool is left");
    }
}

#[test]
fn a_caller_elsewhere_times_out_though_the_drivers_runtime_stands_still() {
    let fake = FakeManager::new();
    let stalled = runtime();
    let pool = pool_of(1, &fake).runtime(stalled.handle().clone()).wait_timeout(ms(20)).build().unwrap();
    let lease = stalled.block_on(pool.acquire(&1)).unwrap();
    let outcome = runtime().block_on(pool.acquire(&1));
    assert!(matches!(outcome, Err(AcquireError::TimedOut { .. })));
    drop(lease);
    stalled.block_on(end(pool, &fake));
}
