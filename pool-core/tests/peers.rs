//! Bugs that other pools have had, and that cannot happen here. Each test names the pool and its
//! issue; `poolyard_core::guarantees` lists them.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use poolyard_core::{AcquireError, Builder, Context, Lease, Manager, Pool};
use poolyard_testkit::{FakeManager, Gate, Method, Step};
use tokio::time::{Instant, sleep};

const HOUR: Duration = Duration::from_secs(3600);

fn pool_of(max_total: usize, fake: &FakeManager) -> Builder<FakeManager> {
    Pool::builder(fake.clone()).max_total(max_total)
}

/// Time moves only when every task waits: afterwards, all that could happen has happened.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

/// Someone who asks for a key, and stands in the queue when this returns.
async fn ask(
    pool: &Pool<FakeManager>,
    key: u32,
) -> tokio::task::JoinHandle<Result<Lease<FakeManager>, AcquireError<poolyard_testkit::FakeError>>> {
    let pool = pool.clone();
    let asked = tokio::spawn(async move { pool.acquire(&key).await });
    settle().await;
    asked
}

async fn end(pool: Pool<FakeManager>, fake: &FakeManager) {
    let report = pool.close(HOUR).await;
    assert!(report.is_clean(), "{report:?}");
    fake.assert_clean();
}

// mobc#63, sqlx#622, sqlx#1129, boostorg/mysql#509, embassy#6964, shuttle#167.
#[tokio::test(start_paused = true)]
async fn a_chosen_waiter_that_goes_away_takes_nothing_with_it() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).build().unwrap();
    let lease = pool.acquire(&1).await.unwrap();
    let (chosen, next) = (ask(&pool, 1).await, ask(&pool, 1).await);
    drop(lease);
    chosen.abort();
    assert_eq!(next.await.unwrap().unwrap().serial(), 1);
    end(pool, &fake).await;
}

// bb8#67, bb8#59, sqlx#83: a caller that goes away while its connection is made leaks the place.
#[tokio::test(start_paused = true)]
async fn callers_that_go_away_during_creation_cost_no_place() {
    let gate = Gate::new();
    let fake = FakeManager::new().create_script([Step::ok().at(&gate)]);
    let pool = pool_of(1, &fake).build().unwrap();
    for _ in 0..100 {
        ask(&pool, 1).await.abort();
    }
    gate.open();
    assert_eq!(pool.acquire(&1).await.unwrap().serial(), 1);
    assert_eq!((fake.count(Method::Create), pool.snapshot().counts.waiters), (1, 0));
    end(pool, &fake).await;
}

// bb8 0.9.1: a panic in `connect` keeps its approval for ever.
#[tokio::test(start_paused = true)]
async fn creations_that_panic_do_not_brick_the_pool() {
    let fake = FakeManager::new().create_script((0..10).map(|_| Step::panic()));
    let pool = pool_of(2, &fake).breaker_after(None).build().unwrap();
    for _ in 0..10 {
        assert!(matches!(pool.acquire(&1).await, Err(AcquireError::CreatePanicked(_))));
    }
    pool.acquire(&1).await.unwrap();
    end(pool, &fake).await;
}

// deadpool 0.13, resize of a pool that is not full; deadpool#380.
#[tokio::test(start_paused = true)]
async fn a_pool_made_smaller_before_it_was_full_stays_within_its_new_size() {
    let fake = FakeManager::new();
    let pool = pool_of(10, &fake).build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    pool.resize(|config| config.max_total = 5).unwrap();
    let mut asked = Vec::new();
    for _ in 0..10 {
        asked.push(ask(&pool, 1).await);
    }
    assert_eq!((pool.snapshot().counts.live(), fake.live()), (5, 5));
    asked.iter().for_each(|caller| caller.abort());
    settle().await;
    drop(asked);
    end(pool, &fake).await;
}

// deadpool#205, syncstorage-rs#803, sqlx#3645: counters that disagree with each other or run below zero.
#[tokio::test(start_paused = true)]
async fn what_is_being_made_is_counted_and_no_count_runs_below_zero() {
    let gate = Gate::new();
    let fake = FakeManager::new().create_script([Step::ok().at(&gate)]);
    let pool = pool_of(2, &fake).build().unwrap();
    let asked = ask(&pool, 1).await;
    let counts = pool.snapshot().counts;
    assert_eq!((counts.creating, counts.live(), counts.waiters), (1, 1, 1));
    gate.open();
    drop(asked.await.unwrap().unwrap());
    settle().await;
    let counts = pool.snapshot().counts;
    assert_eq!((counts.creating, counts.leased, counts.idle, counts.waiters), (0, 0, 1, 0));
    end(pool, &fake).await;
}

// deadpool#201: recycling that fails again and again spins without an end.
#[tokio::test(start_paused = true)]
async fn resources_that_all_fail_do_not_keep_a_caller_past_its_deadline() {
    let fake = FakeManager::new().always(Method::HealthCheck, Step::err("the server was restarted"));
    let fake = fake.always(Method::Create, Step::hang());
    let pool = pool_of(4, &fake).check_after(Duration::ZERO).wait_timeout(Duration::from_secs(5));
    let pool = pool.build().unwrap();
    for _ in 0..4 {
        pool.insert(&1, fake.resource(1)).unwrap();
    }
    let start = Instant::now();
    assert!(matches!(pool.acquire(&1).await, Err(AcquireError::TimedOut { .. })));
    assert_eq!(start.elapsed().as_secs(), 5);
    assert!(fake.count(Method::HealthCheck) <= 4, "each was tried once at most");
    fake.clear_script();
    end(pool, &fake).await;
}

// sqlx#4349, sqlx#4350, sqlx#4363: a call in the return path that never ends pins the place.
#[tokio::test(start_paused = true)]
async fn a_return_that_hangs_gives_its_place_back() {
    let fake = FakeManager::new().recycle_script([Step::hang()]).destroy_script([Step::hang()]);
    let pool = pool_of(1, &fake).wait_timeout(HOUR).build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    assert_eq!(pool.acquire(&1).await.unwrap().serial(), 2);
    assert_eq!(pool.snapshot().counts.abandoned, 1);
}

// sqlx#3132, sqlx#2848, hyper#1584: what was made for a caller that gave up is thrown away.
#[tokio::test(start_paused = true)]
async fn a_creation_slower_than_every_callers_patience_serves_somebody_in_the_end() {
    let gate = Gate::new();
    let fake = FakeManager::new().create_script([Step::ok().at(&gate)]);
    let pool = pool_of(1, &fake).wait_timeout(Duration::from_secs(1)).build().unwrap();
    for _ in 0..5 {
        assert!(matches!(pool.acquire(&1).await, Err(AcquireError::TimedOut { .. })));
    }
    gate.open();
    assert_eq!(pool.acquire(&1).await.unwrap().serial(), 1);
    end(pool, &fake).await;
}

// fast_pool 1.0: the waiter is not told that a broken connection has made room.
#[tokio::test(start_paused = true)]
async fn a_waiter_hears_of_the_room_that_a_discarded_resource_leaves() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).build().unwrap();
    let lease = pool.acquire(&1).await.unwrap();
    let waiter = ask(&pool, 1).await;
    let start = Instant::now();
    Lease::discard(lease);
    assert_eq!(waiter.await.unwrap().unwrap().serial(), 2);
    assert_eq!(start.elapsed(), Duration::ZERO, "nobody waited for a timer");
    end(pool, &fake).await;
}

// commons-pool#113 (POOL-391): with all places in creations that fail, nobody is told.
#[tokio::test(start_paused = true)]
async fn a_creation_that_fails_lets_another_key_go_on() {
    let gate = Gate::new();
    let fake = FakeManager::new().create_script([Step::err("refused").at(&gate)]);
    let pool = pool_of(1, &fake).build().unwrap();
    let (first, second) = (ask(&pool, 1).await, ask(&pool, 2).await);
    gate.open();
    assert!(matches!(first.await.unwrap(), Err(AcquireError::Create(_))));
    assert_eq!(second.await.unwrap().unwrap().serial(), 1);
    end(pool, &fake).await;
}

// HikariCP#452: no creation, because "one is idle", while more than one waits.
#[tokio::test(start_paused = true)]
async fn as_many_are_made_as_there_are_waiters_that_nothing_else_will_serve() {
    let fake = FakeManager::new();
    let pool = pool_of(3, &fake).build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    let asked = [ask(&pool, 1).await, ask(&pool, 1).await, ask(&pool, 1).await];
    for caller in asked {
        // Held to the end, so that each needs its own.
        std::mem::forget(caller.await.unwrap().unwrap());
    }
    assert_eq!(fake.count(Method::Create), 3);
}

// golang/go#33850, golang/go#76784: callers that gave up stay in the queue.
#[tokio::test(start_paused = true)]
async fn callers_that_gave_up_leave_nothing_in_the_queue() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).max_waiters(3).build().unwrap();
    let lease = pool.acquire(&1).await.unwrap();
    let oldest = ask(&pool, 1).await;
    for key in 0..1000 {
        ask(&pool, key).await.abort();
        settle().await;
    }
    assert_eq!((pool.snapshot().counts.waiters, pool.keys().len()), (1, 1));
    drop(lease);
    oldest.await.unwrap().unwrap();
    end(pool, &fake).await;
}

// cloudflare/pingora#748: keys that were used once stay for ever.
#[tokio::test(start_paused = true)]
async fn two_thousand_keys_used_once_leave_no_more_than_fit() {
    let fake = FakeManager::new();
    let pool = pool_of(4, &fake).build().unwrap();
    for key in 0..2_000 {
        drop(pool.acquire(&key).await.unwrap());
    }
    settle().await;
    assert!(pool.keys().len() <= 4, "{} keys", pool.keys().len());
    assert_eq!(fake.live(), pool.snapshot().counts.live());
    end(pool, &fake).await;
}

// cloudflare/pingora#212 and pingora-pool 0.9.1: the limit holds per thread, or is lost in a race.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn threads_together_keep_no_more_than_the_limit() {
    let fake = FakeManager::new();
    let pool = pool_of(4, &fake).build().unwrap();
    let users: Vec<_> = (0..8u32)
        .map(|user| {
            let (pool, fake) = (pool.clone(), fake.clone());
            tokio::spawn(async move {
                for round in 0..200 {
                    let lease = pool.acquire(&((user + round) % 16)).await.unwrap();
                    assert!(fake.live() <= 4, "{} live", fake.live());
                    drop(lease);
                }
            })
        })
        .collect();
    for user in users {
        user.await.unwrap();
    }
    end(pool, &fake).await;
}

// sqlx#3051, sqlx#2854: resources made together all end together.
#[tokio::test(start_paused = true)]
async fn resources_made_together_do_not_all_end_at_once() {
    let fake = FakeManager::new();
    let pool = pool_of(20, &fake).max_lifetime(HOUR).idle_timeout(None).check_interval(None);
    let pool = pool.lifetime_jitter(0.5).build().unwrap();
    pool.warm(&1, 20).await;
    sleep(HOUR * 3 / 4).await;
    let left = pool.snapshot().counts.idle;
    assert!((1..20).contains(&left), "{left} of 20 are left half way through the spread");
    end(pool, &fake).await;
}

// bb8#157, bb8#158: a lifetime of a second does nothing for thirty.
#[tokio::test(start_paused = true)]
async fn a_lifetime_ends_when_it_ends_and_not_at_the_next_sweep() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).max_lifetime(Duration::from_secs(1)).idle_timeout(None).check_interval(None);
    let pool = pool.build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    sleep(Duration::from_millis(1_100)).await;
    assert_eq!(fake.live(), 0);
    end(pool, &fake).await;
}

// apache/openwhisk#2245: under load, what is warm is ended for what is wanted elsewhere.
#[tokio::test(start_paused = true)]
async fn what_somebody_waits_for_is_not_ended_for_another_key() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).build().unwrap();
    let lease = pool.acquire(&1).await.unwrap();
    let (same, other) = (ask(&pool, 1).await, ask(&pool, 2).await);
    drop(lease);
    let same = same.await.unwrap().unwrap();
    assert_eq!(same.serial(), 1, "the warm one serves its own key first");
    drop(same);
    other.await.unwrap().unwrap();
    end(pool, &fake).await;
}

// mobc 0.9: giving back needs a runtime, and panics without one.
#[test]
fn a_lease_can_be_given_back_where_no_runtime_is() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).build().unwrap();
    pool.insert(&1, fake.resource(1)).unwrap();
    let lease = pool.try_acquire(&1).unwrap();
    std::thread::spawn(move || drop(lease)).join().expect("giving back does not panic");
    drop(pool);
    fake.assert_clean();
}

/// Its resources ask their pool how it is when they are dropped.
struct Nosy(Arc<AtomicUsize>);

struct Looks(Option<Pool<Nosy>>, Arc<AtomicUsize>);

impl Drop for Looks {
    fn drop(&mut self) {
        if let Some(pool) = self.0.take() {
            self.1.fetch_add(1 + pool.snapshot().counts.leased, SeqCst);
        }
    }
}

impl Manager for Nosy {
    type Key = ();
    type Resource = Looks;
    type Error = Infallible;

    async fn create(&self, _: &(), _: &Context) -> Result<Looks, Infallible> {
        Ok(Looks(None, Arc::clone(&self.0)))
    }
}

// bb8#154: a resource that is dropped under the pool's lock, and asks the pool.
#[tokio::test(start_paused = true)]
async fn a_resource_whose_end_asks_the_pool_does_not_deadlock() {
    let looks = Arc::new(AtomicUsize::new(0));
    let pool = Pool::builder(Nosy(Arc::clone(&looks))).max_total(1).build().unwrap();
    let mut lease = pool.acquire(&()).await.unwrap();
    lease.0 = Some(pool.clone());
    Lease::discard(lease);
    drop(pool.acquire(&()).await.unwrap());
    assert_eq!(looks.load(SeqCst), 1);
}

/// Counts itself while it lives.
struct Counted(#[allow(dead_code, reason = "only held")] Arc<()>);

impl Manager for Counted {
    type Key = ();
    type Resource = ();
    type Error = Infallible;

    async fn create(&self, _: &(), _: &Context) -> Result<(), Infallible> {
        Ok(())
    }
}

// Our own: the driver that had run the last destroy slept on for a day. loom found it.
#[tokio::test(start_paused = true)]
async fn a_closed_and_empty_pool_keeps_no_task_and_no_manager() {
    let alive = Arc::new(());
    let pool = Pool::builder(Counted(Arc::clone(&alive))).max_total(2).build().unwrap();
    let (one, two) = (pool.acquire(&()).await.unwrap(), pool.acquire(&()).await.unwrap());
    drop(one);
    drop(pool);
    drop(two);
    settle().await;
    assert_eq!(Arc::strong_count(&alive), 1, "the manager is still there");
}

#[tokio::test(start_paused = true)]
async fn a_pool_closed_by_its_last_detach_keeps_no_manager() {
    let alive = Arc::new(());
    let pool = Pool::builder(Counted(Arc::clone(&alive))).max_total(1).build().unwrap();
    let lease = pool.acquire(&()).await.unwrap();
    drop(pool);
    Lease::detach(lease);
    settle().await;
    assert_eq!(Arc::strong_count(&alive), 1, "the manager is still there");
}

#[test]
fn the_page_of_guarantees_names_every_test_here_and_none_that_is_not() {
    let page = include_str!("../src/guarantees.rs");
    let sources = [include_str!("peers.rs"), include_str!("loom.rs"), include_str!("shuttle.rs")];
    let named: Vec<&str> = page.split('`').skip(1).step_by(2).filter(|name| !name.contains('/')).collect();
    for name in named.iter().filter(|name| name.contains('_')) {
        let function = format!("fn {name}(");
        assert!(sources.iter().any(|source| source.contains(&function)), "no test is called {name}");
    }
    let tests = sources[0].split("fn ").filter_map(|rest| rest.split_once("() {")).map(|(name, _)| name);
    for name in tests.filter(|name| !name.contains(' ') && name.matches('_').count() > 2) {
        assert!(named.contains(&name) || name.starts_with("the_page"), "the page does not name {name}");
    }
}
