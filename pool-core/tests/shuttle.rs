//! More threads than loom can exhaust, in random orders of their steps. A failure prints the schedule
//! that replays it. `POOLYARD_SCHEDULES` sets how many are tried; CONTRIBUTING.md has the command.
#![cfg(poolyard_shuttle)]

mod schedules;

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use poolyard_core::{Lease, Pool};
use shuttle::future::block_on;
use shuttle::rand::Rng;
use shuttle::thread;

use schedules::{Maker, using};

const THREADS: usize = 5;
const SLOTS: usize = 2;
const KEYS: u32 = 3;
const ROUNDS: usize = 3;

/// One caller: asks for random keys, sometimes goes away, sometimes spoils what it got.
fn caller(pool: &Pool<Maker>) {
    for _ in 0..ROUNDS {
        let mut random = shuttle::rand::thread_rng();
        let key = random.gen_range(0..KEYS);
        let patience = random.gen_range(0..6usize);
        match random.gen_range(0..4u32) {
            0 => ask(pool, key, Some(patience), drop),
            1 => ask(pool, key, None, Lease::discard),
            _ => ask(pool, key, None, drop),
        }
    }
}

/// Asks, and goes away after `patience` polls if there is such a limit.
fn ask(pool: &Pool<Maker>, key: u32, patience: Option<usize>, end: impl FnOnce(Lease<Maker>)) {
    let lease = block_on(async {
        let mut asked = pin!(pool.acquire(&key));
        let mut polls = 0;
        std::future::poll_fn(|cx| match asked.as_mut().poll(cx) {
            Poll::Ready(lease) => Poll::Ready(Some(lease)),
            Poll::Pending if patience.is_some_and(|patience| polls >= patience) => Poll::Ready(None),
            Poll::Pending => {
                polls += 1;
                if patience.is_some() {
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            }
        })
        .await
    });
    if let Some(lease) = lease {
        let lease = lease.expect("an open pool serves everybody");
        using(&lease, key, SLOTS, thread::yield_now);
        end(lease);
    }
}

fn five_callers() {
    let maker = Maker::default();
    let pool = maker.pool_with(SLOTS, &[]);
    let callers: Vec<_> = (0..THREADS)
        .map(|_| {
            let pool = pool.clone();
            thread::spawn(move || caller(&pool))
        })
        .collect();
    callers.into_iter().for_each(|thread| thread.join().expect("the caller is content"));
    let counts = pool.snapshot().counts;
    assert_eq!((counts.leased, counts.waiters), (0, 0), "everything is back and nobody waits");
    let report = block_on(pool.close(Duration::from_secs(3600)));
    assert!(report.is_clean() && maker.live() == 0, "{report:?}");
}

fn schedules(default: usize) -> usize {
    std::env::var("POOLYARD_SCHEDULES").ok().and_then(|number| number.parse().ok()).unwrap_or(default)
}

#[test]
fn five_callers_of_three_keys_share_two_places_in_random_orders() {
    shuttle::check_random(five_callers, schedules(20_000));
}

#[test]
fn five_callers_of_three_keys_share_two_places_where_few_threads_are_held_back() {
    shuttle::check_pct(five_callers, schedules(20_000), 3);
}
