//! Small scenes over the real pool in which loom tries every order of the threads' steps, up to a
//! bound on preemptions (`LOOM_MAX_PREEMPTIONS`, here 2). CONTRIBUTING.md has the command.
//!
//! A step that can be lost shows as a deadlock: all threads wait, and loom says so.
#![cfg(poolyard_loom)]

mod schedules;

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use loom::future::block_on;
use loom::thread;
use poolyard_core::{AcquireError, Lease, Pool};

use schedules::{Maker, Thing, using};

/// Longer than any model; no timer rings in one.
const PATIENCE: Duration = Duration::from_secs(3600);

fn model(scene: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(2);
    builder.max_branches = 10_000;
    builder.check(scene);
}

/// Asks, waits, uses, and gives back; the serial number of what it got.
fn served(pool: &Pool<Maker>, key: u32, max_total: usize) -> usize {
    let lease = block_on(pool.acquire(&key)).expect("an open pool serves everybody");
    using(&lease, key, max_total, thread::yield_now);
    lease.serial
}

/// Asks, and goes away if the answer is not there at once.
fn asks_and_goes(pool: &Pool<Maker>, key: u32) {
    block_on(async {
        let mut asked = pin!(pool.acquire(&key));
        std::future::poll_fn(|cx| Poll::Ready(drop(asked.as_mut().poll(cx)))).await;
    });
}

fn in_thread<T: 'static>(
    pool: &Pool<Maker>,
    run: impl FnOnce(Pool<Maker>) -> T + 'static,
) -> thread::JoinHandle<T> {
    let pool = pool.clone();
    thread::spawn(move || run(pool))
}

/// Nothing is left of the pool when it says that it is closed.
fn end(pool: Pool<Maker>, maker: &Maker) {
    let report = block_on(pool.close(PATIENCE));
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(maker.live(), 0, "close has reported too early");
}

#[test]
fn two_threads_that_share_one_resource_are_both_served() {
    model(|| {
        let maker = Maker::default();
        let pool = maker.pool_with(1, &[1]);
        let other = in_thread(&pool, |pool| served(&pool, 1, 1));
        served(&pool, 1, 1);
        other.join().unwrap();
        assert_eq!((pool.snapshot().counts.idle, maker.made()), (1, 1), "one was enough for both");
        end(pool, &maker);
    });
}

#[test]
fn a_waiter_that_goes_away_while_a_resource_is_returned_passes_it_on() {
    model(|| {
        let maker = Maker::default();
        let pool = maker.pool_with(1, &[1]);
        let lease = pool.try_acquire(&1).unwrap();
        let gone = in_thread(&pool, |pool| asks_and_goes(&pool, 1));
        let stays = in_thread(&pool, |pool| served(&pool, 1, 1));
        drop(lease);
        gone.join().unwrap();
        assert_eq!(stays.join().unwrap(), 1);
        assert_eq!((pool.snapshot().counts.idle, pool.snapshot().counts.waiters), (1, 0));
    });
}

#[test]
fn a_waiter_that_goes_away_while_its_resource_is_made_passes_it_on() {
    model(|| {
        let maker = Maker::default();
        let pool = maker.pool_with(1, &[]);
        let gone = in_thread(&pool, |pool| asks_and_goes(&pool, 1));
        served(&pool, 1, 1);
        gone.join().unwrap();
        assert_eq!(maker.made(), 1, "what was made for the one served the other");
        end(pool, &maker);
    });
}

#[test]
fn a_caller_at_a_closing_pool_is_served_or_told() {
    model(|| {
        let maker = Maker::default();
        let pool = maker.pool_with(1, &[1]);
        let caller = in_thread(&pool, |pool| match block_on(pool.acquire(&1)) {
            Ok(lease) => using(&lease, 1, 1, thread::yield_now),
            Err(error) => assert!(matches!(error, AcquireError::Closed), "{error}"),
        });
        let report = block_on(pool.close(PATIENCE));
        assert!(report.is_clean(), "{report:?}");
        assert!(matches!(block_on(pool.acquire(&1)), Err(AcquireError::Closed)));
        caller.join().unwrap();
        assert_eq!(maker.live(), 0);
    });
}

#[test]
fn a_waiter_at_a_closing_pool_is_served_or_told() {
    model(|| {
        let maker = Maker::default();
        let pool = maker.pool_with(1, &[1]);
        let lease = pool.try_acquire(&1).unwrap();
        let waiter = in_thread(&pool, |pool| match block_on(pool.acquire(&1)) {
            Ok(lease) => using(&lease, 1, 1, thread::yield_now),
            Err(error) => assert!(matches!(error, AcquireError::Closed), "{error}"),
        });
        let holder = thread::spawn(move || drop(lease));
        end(pool, &maker);
        holder.join().unwrap();
        waiter.join().unwrap();
    });
}

#[test]
fn a_waiter_gets_a_new_resource_for_one_that_is_discarded() {
    model(|| {
        let maker = Maker::default();
        let pool = maker.pool_with(1, &[1]);
        let lease = pool.try_acquire(&1).unwrap();
        let waiter = in_thread(&pool, |pool| served(&pool, 1, 1));
        Lease::discard(lease);
        assert_eq!(waiter.join().unwrap(), 2, "what was discarded was served again");
        end(pool, &maker);
    });
}

#[test]
fn a_waiter_gets_a_new_resource_for_one_that_is_taken_out() {
    model(|| {
        let maker = Maker::default();
        let pool = maker.pool_with(1, &[1]);
        let lease = pool.try_acquire(&1).unwrap();
        let waiter = in_thread(&pool, |pool| served(&pool, 1, 2));
        let taken: Thing = Lease::detach(lease);
        assert_eq!(waiter.join().unwrap(), 2);
        drop(taken);
        end(pool, &maker);
    });
}

#[test]
fn of_two_resources_returned_at_once_one_serves_the_waiter_and_none_is_lost() {
    model(|| {
        let maker = Maker::default();
        let pool = maker.pool_with(2, &[1, 1]);
        let (one, two) = (pool.try_acquire(&1).unwrap(), pool.try_acquire(&1).unwrap());
        let returns = [thread::spawn(move || drop(one)), thread::spawn(move || drop(two))];
        served(&pool, 1, 2);
        returns.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!((pool.snapshot().counts.idle, maker.made()), (2, 2));
    });
}

#[test]
fn a_resource_is_used_again_or_makes_room_for_another_key_and_never_both() {
    model(|| {
        let maker = Maker::default();
        let pool = maker.pool_with(1, &[1]);
        let other = in_thread(&pool, |pool| served(&pool, 2, 1));
        served(&pool, 1, 1);
        other.join().unwrap();
        assert_eq!(pool.snapshot().counts.live(), 1);
        end(pool, &maker);
    });
}

#[test]
fn a_resource_that_was_reported_gone_is_given_to_nobody_afterwards() {
    model(|| {
        let maker = Maker::default();
        let pool = maker.pool_with(1, &[]);
        let id = pool.insert(&1, maker.thing(1)).unwrap();
        let gone = pool.gone_handle(id);
        let reporter = thread::spawn(move || gone.report("its other side has hung up"));
        served(&pool, 1, 1);
        reporter.join().unwrap();
        assert_eq!(served(&pool, 1, 1), 2, "the gone one was served");
        end(pool, &maker);
    });
}

#[test]
fn the_last_handle_and_the_last_lease_that_go_at_once_leave_nothing() {
    model(|| {
        let maker = Maker::default();
        let pool = maker.pool_with(2, &[1, 1]);
        let lease = pool.try_acquire(&1).unwrap();
        let holder = thread::spawn(move || drop(lease));
        drop(pool);
        holder.join().unwrap();
        assert_eq!(maker.live(), 0, "nobody is left who could end it");
    });
}
