//! Leases that are held for long.

use std::panic::Location;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use poolyard_core::{Observer, Pool, ResourceId};
use poolyard_testkit::FakeManager;

use crate::common::*;

#[derive(Clone, Default)]
struct Leaks(Arc<Mutex<Vec<(ResourceId, Duration, &'static Location<'static>)>>>);

impl Leaks {
    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl Observer for Leaks {
    fn leaked(&self, id: ResourceId, held: Duration, at: &'static Location<'static>) {
        self.0.lock().unwrap().push((id, held, at));
    }
}

fn watched(fake: &FakeManager, leaks: &Leaks, long: impl Into<Option<Duration>>) -> Pool<FakeManager, Leaks> {
    pool_of(9, fake).leak_after(long).observer(leaks.clone()).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_lease_held_for_long_is_reported_once_with_the_place_where_it_was_acquired() {
    let (fake, leaks) = (FakeManager::new(), Leaks::default());
    let pool = watched(&fake, &leaks, secs(10));
    let (asked, line) = (pool.acquire(&1), line!());
    let lease = asked.await.unwrap();
    tokio::time::sleep(secs(10) - ms(50)).await;
    assert_eq!(leaks.count(), 0);
    tokio::time::sleep(ms(100)).await;
    let (id, held, at) = leaks.0.lock().unwrap()[0];
    assert_eq!((id, at.file(), at.line()), (poolyard_core::Lease::meta(&lease).id, file!(), line));
    assert!(held >= secs(10) && held < secs(11), "{held:?}");
    tokio::time::sleep(secs(100)).await;
    assert_eq!((leaks.count(), pool.snapshot().counters.leaks), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn each_lease_of_a_resource_has_a_time_of_its_own() {
    let (fake, leaks) = (FakeManager::new(), Leaks::default());
    let pool = watched(&fake, &leaks, secs(10));
    for _ in 0..5 {
        let lease = pool.acquire(&1).await.unwrap();
        tokio::time::sleep(secs(9)).await;
        drop(lease);
    }
    assert_eq!(leaks.count(), 0);
    for reported in 1..3 {
        let lease = pool.acquire(&1).await.unwrap();
        tokio::time::sleep(secs(12)).await;
        assert_eq!(leaks.count(), reported, "the next user of the same resource is reported, too");
        drop(lease);
        settle().await;
    }
    assert_eq!(fake.live(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_lease_is_found_among_those_that_come_back() {
    let (fake, leaks) = (FakeManager::new(), Leaks::default());
    let pool = watched(&fake, &leaks, secs(10));
    let forgotten = pool.acquire(&1).await.unwrap();
    let id = poolyard_core::Lease::meta(&forgotten).id;
    std::mem::forget(forgotten);
    for _ in 0..30 {
        let lease = pool.acquire(&2).await.unwrap();
        tokio::time::sleep(secs(1)).await;
        drop(lease);
    }
    let found: Vec<_> = leaks.0.lock().unwrap().iter().map(|(id, _, _)| *id).collect();
    assert_eq!(found, [id]);
}

#[tokio::test(start_paused = true)]
async fn nobody_looks_for_long_leases_unless_asked_to() {
    let (fake, leaks) = (FakeManager::new(), Leaks::default());
    let pool = watched(&fake, &leaks, None);
    let _lease = pool.acquire(&1).await.unwrap();
    tokio::time::sleep(secs(100_000)).await;
    assert_eq!(leaks.count(), 0);
    pool.resize(|config| config.leak_after = Some(secs(5))).unwrap();
    tokio::time::sleep(secs(6)).await;
    assert_eq!(leaks.count(), 1, "asked while the pool runs");
}
