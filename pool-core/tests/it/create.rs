//! Creation belongs to the pool.

use std::time::Duration;

use poolyard_core::{AcquireError, Phase};
use poolyard_testkit::{FakeManager, Gate, Method, Step};

use crate::common::*;

#[tokio::test(start_paused = true)]
async fn a_return_beats_a_slow_creation() {
    let gate = Gate::new();
    let fake = FakeManager::new().create_script([Step::ok(), Step::ok().at(&gate)]);
    let pool = pool_of(2, &fake).build().unwrap();
    let lease = pool.acquire(&1).await.unwrap();
    let waiter = ask(&pool, 1).await;
    assert_eq!(fake.running(Method::Create), 1);
    drop(lease);
    let served = got(waiter).await;
    assert_eq!(served.serial(), 1);
    gate.open();
    settle().await;
    assert_eq!(counts(&pool).idle, 1, "the creation went on and its resource is idle");
    drop(served);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn the_creation_of_a_caller_that_went_away_serves_the_next() {
    let gate = Gate::new();
    let fake = FakeManager::new().always(Method::Create, Step::ok().at(&gate));
    let pool = pool_of(1, &fake).build().unwrap();
    let first = ask(&pool, 1).await;
    let second = ask(&pool, 1).await;
    first.abort();
    settle().await;
    gate.release(1);
    got(second).await;
    assert_eq!(fake.count(Method::Create), 1);
}

#[tokio::test(start_paused = true)]
async fn the_creation_of_the_only_caller_that_went_away_becomes_idle() {
    let gate = Gate::new();
    let fake = FakeManager::new().always(Method::Create, Step::ok().at(&gate));
    let pool = pool_of(1, &fake).build().unwrap();
    ask(&pool, 1).await.abort();
    gate.open();
    settle().await;
    assert_eq!(pool.try_acquire(&1).unwrap().serial(), 1);
}

#[tokio::test(start_paused = true)]
async fn callers_with_less_patience_than_a_creation_needs_are_served_in_the_end() {
    let fake = FakeManager::new().always(Method::Create, Step::ok().after(ms(60)));
    let pool = pool_of(2, &fake).wait_timeout(ms(40)).build().unwrap();
    assert!(pool.acquire(&1).await.is_err());
    assert!(pool.acquire(&1).await.is_ok(), "the creation that the first caller began is there");
}

#[tokio::test(start_paused = true)]
async fn the_error_of_a_creation_goes_to_the_oldest_waiter_of_its_key() {
    let (gate, later) = (Gate::new(), Gate::new());
    let fake =
        FakeManager::new().create_script([Step::err("no space left").at(&gate), Step::ok().at(&later)]);
    let pool = pool_of(1, &fake).build().unwrap();
    let first = ask(&pool, 1).await;
    let second = ask(&pool, 1).await;
    gate.open();
    let error = first.await.unwrap().unwrap_err();
    assert!(matches!(&error, AcquireError::Create(error) if error.text == "no space left"), "{error}");
    assert!(!second.is_finished(), "a creation of its own is under way");
    later.open();
    got(second).await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_creation_frees_its_place() {
    let fake = FakeManager::new().create_script([Step::err("one"), Step::panic(), Step::panic_at_call()]);
    let pool = pool_of(1, &fake).build().unwrap();
    for _ in 0..3 {
        assert!(pool.acquire(&1).await.is_err());
    }
    assert!(pool.acquire(&1).await.is_ok());
    assert_eq!(pool.snapshot().counters.create_failures, 3);
}

#[tokio::test(start_paused = true)]
async fn create_timeout_ends_a_creation_that_hangs() {
    let fake = FakeManager::new().create_script([Step::hang()]);
    let pool = pool_of(1, &fake).create_timeout(secs(3)).build().unwrap();
    let start = tokio::time::Instant::now();
    let error = pool.acquire(&1).await.unwrap_err();
    assert!(matches!(error, AcquireError::TimedOut { phase: Phase::Create, .. }), "{error}");
    assert_eq!(start.elapsed().as_secs(), 3);
    assert!(pool.acquire(&1).await.is_ok(), "its place is free again");
    assert_eq!(pool.snapshot().counters.timed_out_calls, 1);
}

#[tokio::test(start_paused = true)]
async fn a_failed_creation_is_tried_again_as_the_manager_says() {
    let fake = FakeManager::new().create_script([Step::err("1"), Step::err("2"), Step::ok()]);
    fake.on_retry(|error, attempt| {
        assert_eq!(error.text, attempt.to_string());
        Some(secs(u64::from(attempt)))
    });
    let pool = pool_of(1, &fake).build().unwrap();
    let start = tokio::time::Instant::now();
    pool.acquire(&1).await.unwrap();
    let attempts: Vec<u32> =
        fake.calls().iter().filter(|call| call.method == Method::Create).map(|call| call.attempt).collect();
    assert_eq!(attempts, [1, 2, 3]);
    let pauses = start.elapsed();
    assert!(pauses >= secs(3), "a second after the first attempt, two after the second");
    assert!(pauses <= secs(3).mul_f64(1.2) + ms(4), "with at most a fifth of jitter: {pauses:?}");
    assert_eq!(pool.snapshot().counters.create_failures, 0);
}

#[tokio::test(start_paused = true)]
async fn pauses_between_attempts_are_spread() {
    let mut pauses = std::collections::HashSet::new();
    for _ in 0..20 {
        let fake = FakeManager::new().create_script([Step::err("no")]).on_retry(|_, _| Some(secs(10)));
        let pool = pool_of(1, &fake).build().unwrap();
        let start = tokio::time::Instant::now();
        pool.acquire(&1).await.unwrap();
        pauses.insert(start.elapsed());
    }
    assert!(pauses.len() > 1, "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn all_attempts_together_stay_within_create_timeout() {
    let fake = FakeManager::new().always(Method::Create, Step::err("never").after(ms(500)));
    fake.on_retry(|_, _| Some(secs(1)));
    let pool = pool_of(1, &fake).create_timeout(secs(5)).build().unwrap();
    let start = tokio::time::Instant::now();
    let error = pool.acquire(&1).await.unwrap_err();
    // The jitter decides whether time runs out in an attempt or leaves no room for another pause.
    let told = match &error {
        AcquireError::Create(error) => error.to_string(),
        error => error.to_string(),
    };
    assert!(told.contains("never"), "the last attempt's error is told: {told}");
    assert!(start.elapsed() <= secs(5));
    assert!(fake.count(Method::Create) >= 3);
}

/// A pool of four with one resource in use for ever and one in recycling for `recycle`; how many
/// resources there are when a waiter has been served.
async fn made_for_a_waiter(recycle: Duration, hedge_after: Duration) -> usize {
    let fake = FakeManager::new().always(Method::Recycle, Step::ok().after(recycle));
    let pool = pool_of(4, &fake).hedge_after(hedge_after).build().unwrap();
    let lease = pool.acquire(&1).await.unwrap();
    drop(lease);
    drop(pool.acquire(&1).await.unwrap());
    fake.count(Method::Create)
}

#[tokio::test(start_paused = true)]
async fn a_short_recycle_does_not_inflate_the_pool() {
    assert_eq!(made_for_a_waiter(ms(20), ms(50)).await, 1);
}

#[tokio::test(start_paused = true)]
async fn after_hedge_after_a_creation_starts_beside_a_slow_recycle() {
    assert_eq!(made_for_a_waiter(ms(200), ms(50)).await, 2);
}

#[tokio::test(start_paused = true)]
async fn many_users_of_a_pool_that_recycles_fast_need_no_more_than_there_are() {
    let fake = FakeManager::new().always(Method::Recycle, Step::ok().yields(3));
    let pool = pool_of(32, &fake).build().unwrap();
    let users = (0..2).map(|_| {
        let pool = pool.clone();
        tokio::spawn(async move {
            for _ in 0..200 {
                drop(pool.acquire(&1).await.unwrap());
                tokio::task::yield_now().await;
            }
        })
    });
    for user in users.collect::<Vec<_>>() {
        user.await.unwrap();
    }
    assert!(fake.count(Method::Create) <= 2, "{} for two users", fake.count(Method::Create));
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn hedge_after_is_the_observed_tail_of_recycling() {
    let fake = FakeManager::new().always(Method::Recycle, Step::ok().after(ms(5)));
    let pool = pool_of(1, &fake).build().unwrap();
    assert_eq!(pool.snapshot().hedge_after, ms(50), "nothing is known yet");
    for _ in 0..20 {
        drop(pool.acquire(&1).await.unwrap());
    }
    let tail = pool.snapshot().hedge_after;
    assert!(tail >= ms(5) && tail < ms(10), "{tail:?}");
}

#[tokio::test(start_paused = true)]
async fn a_manager_is_told_the_facts_of_each_call() {
    use poolyard_core::{Context, Manager, Pool};
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    struct Listens(Arc<Mutex<Vec<Context>>>);
    impl Manager for Listens {
        type Key = ();
        type Resource = ();
        type Error = Infallible;
        async fn create(&self, _: &(), cx: &Context) -> Result<(), Infallible> {
            self.0.lock().unwrap().push(cx.clone());
            Ok(())
        }
        async fn recycle(&self, _: &(), _: &mut (), cx: &Context) -> Result<(), Infallible> {
            self.0.lock().unwrap().push(cx.clone());
            Ok(())
        }
    }

    let told = Arc::new(Mutex::new(Vec::new()));
    let pool = Pool::builder(Listens(Arc::clone(&told))).create_timeout(secs(7)).build().unwrap();
    let start = tokio::time::Instant::now().into_std();
    pool.invalidate_all();
    let lease = pool.acquire(&()).await.unwrap();
    let meta = *poolyard_core::Lease::meta(&lease);
    drop(lease);
    settle().await;
    let told = told.lock().unwrap();
    let (create, recycle) = (&told[0], &told[1]);
    assert_eq!((create.id(), recycle.id()), (meta.id, meta.id));
    assert_eq!((create.uses(), recycle.uses()), (0, 1));
    assert_eq!((create.attempt(), create.generation(), meta.generation), (1, 1, 1));
    assert_eq!(create.deadline() - start, secs(7));
}
