//! Plain threads in the same queue.

use std::time::Instant;

use poolyard_core::{Acquire, AcquireError, Phase};
use poolyard_testkit::{FakeManager, Step};

use crate::common::*;

#[test]
fn a_plain_thread_acquires_without_any_runtime() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).build().unwrap();
    for _ in 0..3 {
        drop(pool.acquire_blocking(&1).unwrap());
    }
    assert_eq!(fake.live(), 1);
}

#[tokio::test]
async fn acquire_blocking_inside_a_runtime_is_a_clear_error() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).build().unwrap();
    let error = pool.acquire_blocking(&1).unwrap_err();
    assert!(matches!(error, AcquireError::InsideRuntime), "{error}");
    assert!(error.to_string().contains("await acquire instead"), "{error}");
    let lease = pool.acquire(&1).await.unwrap();
    drop(lease);
}

#[test]
fn threads_and_tasks_stand_in_one_queue() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).build().unwrap();
    let lease = pool.acquire_blocking(&1).unwrap();
    let (order, served) = std::sync::mpsc::channel();
    let mut threads = Vec::new();
    for number in 0..4 {
        let (pool, order) = (pool.clone(), order.clone());
        let waiters = counts(&pool).waiters;
        let handle = pool.clone();
        threads.push(std::thread::spawn(move || {
            let lease = match number % 2 {
                0 => pool.acquire_blocking(&1).unwrap(),
                _ => tokio::runtime::Builder::new_current_thread()
                    .enable_time()
                    .build()
                    .unwrap()
                    .block_on(pool.acquire(&1))
                    .unwrap(),
            };
            order.send(number).unwrap();
            drop(lease);
        }));
        while counts(&handle).waiters == waiters {
            std::thread::yield_now();
        }
    }
    drop(lease);
    let order: Vec<_> = (0..4).map(|_| served.recv().unwrap()).collect();
    assert_eq!(order, [0, 1, 2, 3]);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_plain_thread_has_a_deadline_too() {
    let fake = FakeManager::new().create_script([Step::ok(), Step::hang()]);
    let pool = pool_of(1, &fake).build().unwrap();
    let _lease = pool.acquire_blocking(&1).unwrap();
    let deadline = Some(Instant::now() + ms(20));
    let error = pool.acquire_blocking_with(&1, Acquire { deadline }).unwrap_err();
    assert!(matches!(error, AcquireError::TimedOut { phase: Phase::Capacity, .. }), "{error}");
}
