//! Laws of `create`.

use poolyard_core::{Manager, Reason, ResourceId};

use crate::cancel;
use crate::harness::Harness;
use crate::trial::Trial;

/// A new resource of every key passes its health check and does its job.
pub fn create_gives_a_healthy_resource<H: Harness>(trial: &Trial<H>) {
    trial.run(async {
        let manager = trial.harness().manager();
        let keys = trial.harness().keys();
        trial.check(!keys.is_empty(), "the harness has no key; it needs at least one");
        for key in keys {
            let mut subject = trial.create(&manager, &key).await;
            trial.expect_live(1, "after create").await;
            trial.expect_healthy(&manager, &mut subject, "after create").await;
            trial.destroy(&manager, subject, Reason::Closed).await;
            trial.expect_live(0, "after destroy").await;
        }
    });
}

/// A creation that is dropped after any number of polls leaves nothing, and the next one succeeds.
pub fn dropping_create_leaves_nothing<H: Harness>(trial: &Trial<H>) {
    trial.run(async {
        let manager = trial.harness().manager();
        trial.warm_up(&manager).await;
        let before = trial.census();
        cancel::up_to(H::MAX_CUTS, async |cut| {
            let when = format!("after a create was dropped at poll {}", cut.polls());
            let (key, cx) = (trial.key(), trial.context(ResourceId::standalone(u64::MAX)));
            let created = trial.in_time("create", cut.run(manager.create(&key, &cx))).await;
            if let Some(created) = created {
                let mut resource = created.unwrap_or_else(|error| trial.broken(error));
                let destroyed = manager.destroy(&key, &mut resource, Reason::Closed, &cx);
                trial.in_time("destroy", destroyed).await;
            }
            trial.expect_nothing_left(&before, &when).await;
        })
        .await;
        trial.warm_up(&manager).await;
    });
}
