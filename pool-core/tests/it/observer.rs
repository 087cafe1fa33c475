//! The observer sees what happens, as it happens.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use poolyard_core::{Lease, Observer, Phase, Reason, ResourceId};
use poolyard_testkit::{FakeManager, Step};

use crate::common::*;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn note(&self, text: impl Into<String>) {
        self.0.lock().unwrap().push(text.into());
    }
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Observer for Log {
    fn acquired(&self, id: ResourceId, waited: bool) {
        self.note(format!("acquired {id} waited {waited}"));
    }
    fn returned(&self, id: ResourceId) {
        self.note(format!("returned {id}"));
    }
    fn detached(&self, id: ResourceId) {
        self.note(format!("detached {id}"));
    }
    fn created(&self, id: ResourceId, _: Duration) {
        self.note(format!("created {id}"));
    }
    fn create_failed(&self, id: ResourceId, error: &str, _: Duration) {
        self.note(format!("create_failed {id} {error}"));
    }
    fn recycled(&self, id: ResourceId, failed: Option<Reason>, _: Duration) {
        self.note(format!("recycled {id} {failed:?}"));
    }
    fn checked(&self, id: ResourceId, failed: Option<Reason>, _: Duration) {
        self.note(format!("checked {id} {failed:?}"));
    }
    fn destroyed(&self, id: ResourceId, reason: Reason, _: Duration) {
        self.note(format!("destroyed {id} {reason}"));
    }
    fn abandoned(&self, id: ResourceId, reason: Reason) {
        self.note(format!("abandoned {id} {reason}"));
    }
    fn timed_out(&self, phase: Phase) {
        self.note(format!("timed_out {}", phase.as_str()));
    }
    fn blocked(&self, id: ResourceId, call: &'static str, held: Duration) {
        assert!(held >= ms(100));
        self.note(format!("blocked {id} {call}"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_observer_sees_the_life_of_a_resource() {
    let log = Log::default();
    let fake = FakeManager::new().create_script([Step::err("no")]);
    let pool = pool_of(1, &fake).check_every_recycles(1).observer(log.clone()).build().unwrap();
    assert!(pool.acquire(&1).await.is_err());
    drop(pool.acquire(&1).await.unwrap());
    settle().await;
    let lease = pool.acquire(&1).await.unwrap();
    Lease::discard(lease);
    settle().await;
    assert_eq!(
        log.take(),
        [
            "create_failed #1 Create failed as scripted: no",
            "created #2",
            "acquired #2 waited true",
            "returned #2",
            "recycled #2 None",
            "checked #2 None",
            "acquired #2 waited false",
            "returned #2",
            "destroyed #2 discarded",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn an_observer_sees_a_lease_that_never_comes_back() {
    let log = Log::default();
    let pool = pool_of(1, &FakeManager::new()).observer(log.clone()).build().unwrap();
    Lease::detach(pool.acquire(&1).await.unwrap()).end();
    assert_eq!(log.take(), ["created #1", "acquired #1 waited true", "detached #1"]);
}

#[tokio::test(start_paused = true)]
async fn an_observer_sees_what_goes_wrong() {
    let log = Log::default();
    let fake = FakeManager::new().recycle_script([Step::err("dirty")]).destroy_script([Step::hang()]);
    let pool = pool_of(1, &fake).wait_timeout(secs(1)).observer(log.clone()).build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    assert!(pool.acquire(&1).await.is_err());
    tokio::time::sleep(secs(20)).await;
    let seen = log.take();
    assert!(seen.contains(&"recycled #1 Some(RecycleFailed)".into()), "{seen:?}");
    assert!(seen.contains(&"timed_out destroy".into()), "{seen:?}");
    assert!(seen.contains(&"abandoned #1 recycle_failed".into()), "{seen:?}");
}

#[tokio::test]
async fn a_manager_that_blocks_its_thread_is_reported() {
    let log = Log::default();
    let fake = FakeManager::new().create_script([Step::block(ms(120))]);
    fake.recycle_script([Step::block(ms(120))]);
    let pool = pool_of(1, &fake).observer(log.clone()).build().unwrap();
    Lease::release(pool.acquire(&1).await.unwrap()).await.unwrap();
    let blocked: Vec<_> = log.take().into_iter().filter(|line| line.starts_with("blocked")).collect();
    assert_eq!(blocked, ["blocked #1 create", "blocked #1 recycle"]);
    assert_eq!(pool.snapshot().counters.blocked_polls, 2);
    assert_eq!(pool.observer().take(), Vec::<String>::new());
}
