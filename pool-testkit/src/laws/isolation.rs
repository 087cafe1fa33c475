//! Laws about what resources may know of each other.

use poolyard_core::Reason;

use crate::harness::{Capability, Harness};
use crate::trial::Trial;

/// A resource does the job of its own key and of no other, also after both were recycled.
pub fn keys_are_kept_apart<H: Harness>(trial: &Trial<H>) {
    let keys = trial.harness().keys();
    let enough = if keys.len() < 2 { Capability::No("there is only one key") } else { Capability::Yes };
    if !trial.can(trial.harness().capabilities().keys) || !trial.can(enough) {
        return;
    }
    trial.run(async {
        let manager = trial.harness().manager();
        let mut subjects = Vec::new();
        for key in &keys {
            subjects.push(trial.create(&manager, key).await);
        }
        for when in ["after create", "after recycle"] {
            for subject in &mut subjects {
                trial.expect_healthy(&manager, subject, when).await;
                expect_own_key_only(trial, &keys, subject, when).await;
            }
            for subject in &mut subjects {
                trial.recycle_well(&manager, subject).await;
            }
        }
        for subject in subjects {
            trial.destroy(&manager, subject, Reason::Closed).await;
        }
    });
}

async fn expect_own_key_only<H: Harness>(
    trial: &Trial<H>,
    keys: &[crate::harness::KeyOf<H>],
    subject: &mut crate::trial::Subject<H>,
    when: &str,
) {
    for key in keys.iter().filter(|key| **key != subject.key) {
        if trial.harness().works(key, &mut subject.resource).await {
            trial.broken(format_args!("{when}, a resource of one key does the job of another"));
        }
    }
}

/// What is done to one resource, marks and its end included, is not seen by another.
pub fn resources_do_not_see_each_other<H: Harness>(trial: &Trial<H>) {
    if !trial.can(trial.harness().capabilities().dirty) {
        return;
    }
    trial.run(async {
        let manager = trial.harness().manager();
        let keys = trial.harness().keys();
        for other in [keys.first(), keys.last()].into_iter().flatten() {
            let mut one = trial.create(&manager, &trial.key()).await;
            let mut two = trial.create(&manager, other).await;
            for mark in 0..8 {
                trial.harness().dirty(&mut one.resource, mark).await;
                let seen = trial.harness().is_dirty(&mut two.resource, mark).await;
                trial.check(!seen, "a mark on one resource is seen in another");
            }
            trial.destroy(&manager, one, Reason::Discarded).await;
            trial.expect_healthy(&manager, &mut two, "after destroy of another resource").await;
            trial.destroy(&manager, two, Reason::Discarded).await;
        }
        trial.expect_live(0, "after destroy").await;
    });
}
