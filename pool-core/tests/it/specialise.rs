//! Generic resources, turned into those of a key when somebody wants one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use poolyard_core::{Builder, KeyPolicy, Lease, Pressed, Reason, Shed};
use poolyard_testkit::{FakeManager, Method, Step};

use crate::common::*;

/// Key 0 is generic for all others; a creation takes ten seconds, a specialisation one.
fn fake() -> FakeManager {
    let fake = FakeManager::new().on_generic_key(|key| (*key != 0).then_some(0));
    fake.always(Method::Create, Step::ok().after(secs(10)));
    fake.always(Method::Specialise, Step::ok().after(secs(1)))
}

/// A pool with a stock of one generic resource, known through key 1.
async fn stocked(builder: Builder<FakeManager>) -> FakePool {
    let pool = builder.build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    tokio::time::sleep(secs(11)).await;
    pool
}

#[tokio::test(start_paused = true)]
async fn a_generic_resource_is_turned_into_one_of_the_key_that_is_wanted() {
    let fake = fake();
    let pool = stocked(pool_of(8, &fake)).await;
    let donor = pool.resources().into_iter().find(|r| r.key == 0).unwrap().id;
    let start = tokio::time::Instant::now();
    let lease = pool.acquire(&2).await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 1, "as long as a specialisation takes");
    assert_eq!((*Lease::key(&lease), *lease.key(), Lease::meta(&lease).id), (2, 2, donor));
    assert_eq!(pool.snapshot().counters.specialised, 1);
    drop(lease);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_specialised_is_described_anew() {
    let fake = fake().on_describe(|resource| format!("for key {}", resource.key()));
    let pool = stocked(pool_of(8, &fake)).await;
    let lease = pool.acquire(&2).await.unwrap();
    let described = |id| pool.resources().into_iter().find(|r| r.id == id).unwrap().description;
    assert_eq!(described(Lease::meta(&lease).id).as_deref(), Some("for key 2"));
    drop(lease);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn a_specialised_resource_ends_when_its_new_key_says_so_and_when_the_donor_would_have() {
    for (own, ends) in [(secs(100), 100), (secs(100_000), 1000)] {
        let fake = fake();
        let builder = pool_of(8, &fake).max_lifetime(secs(1000)).lifetime_jitter(0.0).idle_timeout(None);
        let policy = move |key: &u32| match key {
            2 => KeyPolicy::default().max_lifetime(own),
            _ => KeyPolicy::default(),
        };
        let pool = stocked(builder.policy(policy)).await;
        let lease = pool.acquire(&2).await.unwrap();
        let id = Lease::meta(&lease).id;
        drop(lease);
        tokio::time::sleep(secs(ends - 30)).await;
        assert!(pool.resources().iter().any(|r| r.id == id));
        tokio::time::sleep(secs(60)).await;
        assert!(!pool.resources().iter().any(|r| r.id == id));
        end(pool, &fake).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_donor_is_not_used_more_often_than_its_new_key_allows() {
    let fake = fake();
    let policy = |key: &u32| match key {
        2 => KeyPolicy::default().max_uses(1),
        _ => KeyPolicy::default(),
    };
    let pool = stocked(pool_of(8, &fake).policy(policy)).await;
    drop(pool.acquire(&0).await.unwrap());
    settle().await;
    drop(pool.acquire(&2).await.unwrap());
    assert_eq!(pool.snapshot().counters.specialised, 0);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn a_manager_is_asked_for_a_keys_generic_key_once() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let fake = FakeManager::new().on_generic_key(move |key| {
        count.fetch_add(1, SeqCst);
        (*key != 0).then_some(0)
    });
    let pool = pool_of(8, &fake).build().unwrap();
    for _ in 0..3 {
        assert_eq!(pool.warm(&1, 2).await.failures.len(), 0);
        drop(pool.acquire(&1).await.unwrap());
        assert!(pool.insert(&1, fake.resource(1)).is_ok());
    }
    assert_eq!(asked.load(SeqCst), 1);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn the_generic_stock_is_replenished() {
    let fake = fake();
    let pool = stocked(pool_of(8, &fake).generic_stock(2)).await;
    tokio::time::sleep(secs(11)).await;
    let generic = || pool.resources().iter().filter(|r| r.key == 0).count();
    assert_eq!(generic(), 2);
    drop(pool.acquire(&2).await.unwrap());
    tokio::time::sleep(secs(11)).await;
    assert_eq!(generic(), 2);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn the_generic_stock_counts_against_the_limits() {
    let fake = fake();
    let pool = stocked(pool_of(2, &fake).generic_stock(5)).await;
    tokio::time::sleep(secs(60)).await;
    assert_eq!((fake.peak_held(), counts(&pool).live()), (2, 2));
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_specialisation_falls_back_to_a_creation() {
    for step in [Step::err("no"), Step::panic(), Step::hang()] {
        let fake = fake().script(Method::Specialise, [step]);
        let pool = stocked(pool_of(8, &fake).wait_timeout(secs(90))).await;
        let lease = pool.acquire(&2).await.unwrap();
        assert_eq!(*lease.key(), 2);
        let counters = pool.snapshot().counters;
        assert_eq!((counters.specialise_failures, counters.specialised, counters.failed), (1, 0, 0));
        drop(lease);
        end(pool, &fake).await;
    }
}

#[tokio::test(start_paused = true)]
async fn generic_resources_are_evicted_last() {
    let fake = fake();
    let pool = stocked(pool_of(3, &fake).wait_timeout(secs(90))).await;
    fake.on_generic_key(|key| (*key != 0 && *key < 9).then_some(0));
    drop(pool.acquire(&0).await.unwrap());
    tokio::time::sleep(secs(11)).await;
    // What is younger than the generic ones goes before them.
    drop(pool.acquire(&1).await.unwrap());
    settle().await;
    let lease = pool.acquire(&9).await.unwrap();
    let mut keys: Vec<_> = pool.resources().iter().map(|r| r.key).collect();
    keys.sort_unstable();
    assert_eq!((fake.reasons(), keys), (vec![Reason::Evicted], vec![0, 0, 9]));
    drop(lease);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn a_donor_keeps_the_costs_within_their_maximum() {
    let fake = fake().on_cost(|key| if *key == 0 { 1 } else { 4 });
    let pool = stocked(pool_of(8, &fake).max_cost(9)).await;
    let one = pool.acquire(&1).await.unwrap();
    assert_eq!(pool.snapshot().cost, 5);
    let two = pool.acquire(&2).await.unwrap();
    assert_eq!((*two.key(), pool.snapshot().counters.specialised), (2, 1));
    assert!((8..=9).contains(&pool.snapshot().cost), "{:?}", pool.snapshot());
    drop((one, two));
    end(pool, &fake).await;
}

/// Something is short, as long as it is true; what is idle stays.
fn shortage() -> (Arc<AtomicBool>, impl Fn() -> Option<Pressed> + Send + Sync + 'static) {
    let short = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&short);
    let pressed = || Pressed { shed: Shed::Resources(0), cause: "the attic is full".into() };
    (short, move || seen.load(SeqCst).then(pressed))
}

#[tokio::test(start_paused = true)]
async fn under_pressure_nothing_is_specialised() {
    let (fake, (short, source)) = (fake(), shortage());
    let pool = stocked(pool_of(8, &fake).pressure(source)).await;
    short.store(true, SeqCst);
    tokio::time::sleep(secs(2)).await;
    let waits = ask(&pool, 2).await;
    tokio::time::sleep(secs(5)).await;
    assert_eq!((counts(&pool).waiters, fake.count(Method::Specialise)), (1, 0));
    short.store(false, SeqCst);
    drop(got(waits).await);
    assert_eq!(pool.snapshot().counters.specialised, 1);
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn under_pressure_the_generic_stock_is_not_replenished() {
    let (fake, (short, source)) = (fake(), shortage());
    let pool = stocked(pool_of(8, &fake).pressure(source)).await;
    short.store(true, SeqCst);
    tokio::time::sleep(secs(2)).await;
    Lease::discard(pool.acquire(&0).await.unwrap());
    tokio::time::sleep(secs(30)).await;
    let generic = || pool.resources().iter().filter(|r| r.key == 0).count();
    assert_eq!(generic(), 0);
    short.store(false, SeqCst);
    tokio::time::sleep(secs(12)).await;
    assert_eq!(generic(), 1);
    end(pool, &fake).await;
}
