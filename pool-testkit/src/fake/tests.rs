use poolyard_core::Manager;

use super::*;
use crate::by_hand::{GoneLog, context};
use crate::cancel::{self, HandPolled};
use crate::gate::Gate;
use futures_panic::panics;

/// Polls a future by hand and tells whether it panicked.
mod futures_panic {
    use crate::cancel::HandPolled;
    use std::future::Future;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    pub(super) fn panics<F: Future>(future: impl FnOnce() -> F) -> bool {
        catch_unwind(AssertUnwindSafe(|| HandPolled::new(future()).run().is_ready())).is_err()
    }
}

async fn made(fake: &FakeManager, key: u32, id: u64) -> FakeResource {
    fake.create(&key, &context(id)).await.expect("the script lets it succeed")
}

#[tokio::test]
async fn steps_are_taken_in_order_and_then_the_default() {
    let fake = FakeManager::new()
        .create_script([Step::ok(), Step::err("first")])
        .always(Method::Create, Step::err("later"));
    let resource = made(&fake, 1, 1).await;
    let errors = [fake.create(&1, &context(2)).await, fake.create(&1, &context(3)).await];
    let texts = errors.map(|result| result.expect_err("scripted").text);
    assert_eq!(texts, ["first", "later"]);
    resource.end();
}

#[tokio::test]
async fn a_call_can_be_held_at_a_gate_and_is_seen_running() {
    let gate = Gate::new();
    let fake = FakeManager::new().create_script([Step::ok().at(&gate)]);
    let task = tokio::spawn({
        let fake = fake.clone();
        async move { made(&fake, 1, 1).await.end() }
    });
    gate.until_waiting(1).await;
    assert_eq!((fake.running(Method::Create), fake.creating_ids().len()), (1, 1));
    gate.release(1);
    task.await.expect("nothing panics");
    assert_eq!(fake.count_of(Method::Create, Outcome::Ok), 1);
    assert_eq!((fake.running(Method::Create), fake.peak_held()), (0, 1));
}

#[tokio::test]
async fn dropping_a_create_leaves_nothing() {
    cancel::everywhere(async |cut| {
        let fake = FakeManager::new().create_script([Step::ok().yields(3)]);
        let made = cut.run(fake.create(&1, &context(1))).await;
        if let Some(resource) = made {
            resource.expect("the script lets it succeed").end();
        }
        fake.assert_clean();
    })
    .await;
}

#[test]
fn panics_come_at_the_call_or_at_a_poll() {
    let fake = FakeManager::new().create_script([Step::panic_at_call(), Step::panic().yields(1)]);
    let cx = context(1);
    assert!(panics(|| fake.create(&1, &cx)));
    assert!(panics(|| fake.create(&1, &cx)));
    assert_eq!(fake.count_of(Method::Create, Outcome::Panicked), 2);
    fake.assert_clean();
}

#[test]
fn a_hanging_call_is_logged_as_dropped() {
    let fake = FakeManager::new().create_script([Step::hang()]);
    let cx = context(1);
    let mut call = HandPolled::new(fake.create(&1, &cx));
    assert!(call.run().is_pending());
    assert_eq!(fake.count_of(Method::Create, Outcome::Running), 1);
    drop(call);
    assert_eq!(fake.count_of(Method::Create, Outcome::Dropped), 1);
}

#[tokio::test]
async fn a_second_destroy_is_seen() {
    let fake = FakeManager::new();
    let mut resource = made(&fake, 1, 1).await;
    for _ in 0..2 {
        fake.destroy(&1, &mut resource, Reason::Closed, &context(1)).await;
    }
    assert_eq!(fake.violations(), [Violation::DestroyedTwice { serial: 1 }]);
}

#[tokio::test]
async fn a_call_after_the_end_is_seen() {
    let fake = FakeManager::new();
    let mut resource = made(&fake, 1, 1).await;
    fake.destroy(&1, &mut resource, Reason::Closed, &context(1)).await;
    fake.recycle(&1, &mut resource, &context(1)).await.expect("scripted");
    let used = Violation::UsedAfterEnd { serial: 1, method: Method::Recycle };
    assert_eq!(fake.violations(), [used]);
}

#[tokio::test]
async fn a_drop_without_destroy_is_seen() {
    let fake = FakeManager::new();
    drop(made(&fake, 1, 1).await);
    assert_eq!(fake.violations(), [Violation::DroppedAlive { serial: 1 }]);
}

#[tokio::test]
async fn a_foreign_key_or_id_is_seen() {
    let fake = FakeManager::new();
    let mut resource = made(&fake, 1, 1).await;
    fake.recycle(&2, &mut resource, &context(1)).await.expect("scripted");
    fake.recycle(&1, &mut resource, &context(2)).await.expect("scripted");
    let method = Method::Recycle;
    let expected = [Violation::WrongKey { serial: 1, method }, Violation::WrongId { serial: 1, method }];
    assert_eq!(fake.violations(), expected);
    resource.end();
}

#[tokio::test]
async fn a_killed_resource_fails_recycling_and_checks() {
    let fake = FakeManager::new();
    let mut resource = made(&fake, 1, 1).await;
    resource.mark(9);
    fake.recycle(&1, &mut resource, &context(1)).await.expect("it lives");
    assert!(resource.marks().is_empty());
    assert!(fake.kill(resource.id()));
    assert!(fake.recycle(&1, &mut resource, &context(1)).await.is_err());
    assert!(fake.health_check(&1, &mut resource, &context(1)).await.is_err());
    fake.destroy_now(&1, resource, Reason::Unhealthy);
    assert_eq!(fake.reasons(), [Reason::Unhealthy]);
    fake.assert_clean();
}

#[tokio::test]
async fn a_death_is_reported_in_creation_and_in_life() {
    let log = GoneLog::new();
    let gate = Gate::new();
    let fake = FakeManager::new().create_script([Step::ok().at(&gate)]);
    let cx = log.context(5, Duration::from_secs(1));
    let mut create = HandPolled::new(fake.create(&1, &cx));
    assert!(create.run().is_pending());
    assert!(fake.gone(cx.id()));
    gate.open();
    let std::task::Poll::Ready(Ok(resource)) = create.run() else { panic!("it is let through") };
    assert!(fake.gone(resource.id()));
    assert_eq!(log.reports().len(), 2);
    resource.end();
    assert!(!fake.gone(cx.id()));
}

#[tokio::test]
async fn until_sees_every_change() {
    let fake = FakeManager::new();
    let watcher = tokio::spawn({
        let fake = fake.clone();
        async move { fake.until(|fake| fake.count_of(Method::Create, Outcome::Ok) == 2).await }
    });
    for id in 1..=2 {
        tokio::task::yield_now().await;
        made(&fake, 1, id).await.end();
    }
    watcher.await.expect("nothing panics");
}

#[tokio::test]
async fn a_resource_made_by_hand_gets_its_id_from_the_first_call() {
    let fake = FakeManager::new();
    let mut resource = fake.resource(3);
    fake.recycle(&3, &mut resource, &context(8)).await.expect("scripted");
    assert_eq!(resource.id(), ResourceId::standalone(8));
    fake.assert_rules_kept();
    resource.end();
}

#[tokio::test]
async fn a_specialised_resource_has_its_new_key() {
    let fake = FakeManager::new().on_generic_key(|key| (*key != 0).then_some(0));
    let mut donor = made(&fake, 0, 1).await;
    assert_eq!(fake.generic_key(&4), Some(0));
    fake.specialise(&0, &4, &mut donor, &context(2)).await.expect("scripted");
    fake.destroy(&4, &mut donor, Reason::Closed, &context(2)).await;
    assert_eq!(*donor.key(), 4);
    drop(donor);
    fake.assert_clean();
}
