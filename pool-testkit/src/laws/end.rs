//! The law about the manager's own end.

use poolyard_core::{Manager, Reason};

use crate::harness::Harness;
use crate::trial::Trial;

/// When a manager and its resources are gone, so is everything that it kept for them; and a
/// resource that is only dropped, as with `destroy_now`, may outlive its manager without a trace.
pub fn dropping_the_manager_leaves_nothing<H: Harness>(trial: &Trial<H>) {
    trial.run(async {
        let first = trial.harness().manager();
        trial.warm_up(&first).await;
        drop(first);
        trial.expect_live(0, "after the first manager").await;
        let before = trial.census();

        let manager = trial.harness().manager();
        let subject = trial.create(&manager, &trial.key()).await;
        trial.destroy(&manager, subject, Reason::Closed).await;
        drop(manager);
        trial.expect_nothing_left(&before, "after the manager was dropped").await;

        let manager = trial.harness().manager();
        let (kept, given) =
            (trial.create(&manager, &trial.key()).await, trial.create(&manager, &trial.key()).await);
        manager.destroy_now(&given.key, given.resource, Reason::Closed);
        drop(manager);
        drop(kept);
        trial.expect_nothing_left(&before, "after a resource that outlived its manager").await;
    });
}
