//! The pool seen from outside.

use poolyard_core::{Lease, ResourceState};
use poolyard_testkit::{FakeManager, Gate, Method, Step};

use crate::common::*;

#[tokio::test(start_paused = true)]
async fn a_snapshot_counts_every_resource_in_one_state() {
    let (recycle, create, destroy) = (Gate::new(), Gate::new(), Gate::new());
    let fake = FakeManager::new().always(Method::Recycle, Step::ok().at(&recycle));
    fake.always(Method::Destroy, Step::ok().at(&destroy));
    let pool = pool_of(8, &fake).build().unwrap();
    pool.insert(&1, fake.resource(1)).unwrap();
    let mut leases = take(&pool, 2, 3).await;
    drop(leases.pop());
    Lease::discard(leases.pop().unwrap());
    fake.always(Method::Create, Step::ok().at(&create));
    let waiter = ask(&pool, 3).await;
    let snapshot = pool.snapshot();
    let seen = snapshot.counts;
    assert_eq!((seen.idle, seen.leased, seen.recycling, seen.destroying, seen.creating), (1, 1, 1, 1, 1));
    assert_eq!((seen.live(), seen.waiters, snapshot.keys, snapshot.cost), (5, 1, 3, 5));
    let mut by_key: Vec<_> = pool.keys().iter().map(|info| (info.key, info.counts.live())).collect();
    by_key.sort_unstable();
    assert_eq!(by_key, [(1, 1), (2, 3), (3, 1)]);
    [recycle, create, destroy].iter().for_each(Gate::open);
    drop((leases, got(waiter).await));
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn each_key_knows_who_waits_for_it() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).build().unwrap();
    let lease = pool.acquire(&1).await.unwrap();
    let waiters = [ask(&pool, 2).await, ask(&pool, 3).await, ask(&pool, 3).await];
    let mut waiting: Vec<_> = pool.keys().iter().map(|info| (info.key, info.counts.waiters)).collect();
    waiting.sort_unstable();
    assert_eq!(waiting, [(1, 0), (2, 1), (3, 2)]);
    drop(lease);
    for waiter in waiters {
        drop(got(waiter).await);
    }
    end(pool, &fake).await;
}

#[tokio::test]
async fn a_snapshot_is_consistent_while_many_use_the_pool() {
    let fake = FakeManager::new().always(Method::Recycle, Step::ok().yields(1));
    let pool = pool_of(3, &fake).build().unwrap();
    let users: Vec<_> = (0..6)
        .map(|number| {
            let pool = pool.clone();
            tokio::spawn(async move {
                for _ in 0..50 {
                    drop(pool.acquire(&(number % 2)).await.unwrap());
                }
            })
        })
        .collect();
    while users.iter().any(|user| !user.is_finished()) {
        let snapshot = pool.snapshot();
        let c = &snapshot.counters;
        assert!(snapshot.counts.live() <= 3);
        assert_eq!(snapshot.cost, snapshot.counts.live() as u64);
        let out = c.acquired_ready + c.acquired_waited - c.returned;
        assert!(out <= snapshot.counts.leased as u64, "promised ones are counted as leased");
        tokio::task::yield_now().await;
    }
    let c = pool.snapshot().counters;
    assert_eq!((c.acquired_ready + c.acquired_waited, c.returned), (300, 300));
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn every_resource_can_be_looked_up() {
    let fake = FakeManager::new();
    let pool = pool_of(3, &fake).build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    tokio::time::sleep(secs(2)).await;
    let lease = pool.acquire(&2).await.unwrap();
    tokio::time::sleep(secs(3)).await;
    let mut infos = pool.resources();
    infos.sort_by_key(|info| info.key);
    let (idle, leased) = (&infos[0], &infos[1]);
    assert_eq!((idle.state, idle.uses, idle.recycles, idle.age.as_secs()), (ResourceState::Idle, 1, 1, 5));
    assert_eq!((idle.idle_for.unwrap().as_secs(), idle.leased_for), (5, None));
    assert_eq!((leased.state, leased.leased_for.unwrap().as_secs()), (ResourceState::Leased, 3));
    assert_eq!(leased.leased_at.unwrap().file(), file!());
    assert_eq!((leased.id, leased.description.as_deref()), (Lease::meta(&lease).id, Some("fake 2")));
    assert_eq!(Lease::key(&lease), &2);
}

#[tokio::test(start_paused = true)]
async fn a_resource_in_the_making_has_no_description_of_the_one_before() {
    let gate = Gate::new();
    let fake = FakeManager::new().create_script([Step::ok(), Step::ok().at(&gate)]);
    let pool = pool_of(1, &fake).build().unwrap();
    Lease::discard(pool.acquire(&1).await.unwrap());
    settle().await;
    let waiter = ask(&pool, 1).await;
    let infos = pool.resources();
    assert_eq!((infos[0].state, infos[0].description.as_deref()), (ResourceState::Creating, None));
    gate.open();
    got(waiter).await;
}

#[tokio::test(start_paused = true)]
async fn pool_lease_and_handles_can_be_printed() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).name("mine").build().unwrap();
    let lease = pool.acquire(&1).await.unwrap();
    let text = format!("{pool:?} {lease:?} {:?}", pool.downgrade());
    for word in ["mine", "leased: 1", "FakeResource", "WeakPool"] {
        assert!(text.contains(word), "{text}");
    }
}
