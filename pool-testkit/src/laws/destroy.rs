//! Laws of `destroy` and `destroy_now`.

use poolyard_core::{Manager, Reason};

use crate::harness::Harness;
use crate::trial::Trial;

/// When the last resource is destroyed, the operating system holds what it held before the first;
/// with `destroy_now` as well.
pub fn destroy_leaves_nothing<H: Harness>(trial: &Trial<H>) {
    trial.run(async {
        let manager = trial.harness().manager();
        trial.warm_up(&manager).await;
        let before = trial.census();
        let subjects = three(trial, &manager).await;
        for subject in subjects {
            trial.destroy(&manager, subject, Reason::IdleTimeout).await;
        }
        trial.expect_nothing_left(&before, "after destroy").await;

        for subject in three(trial, &manager).await {
            manager.destroy_now(&subject.key, subject.resource, Reason::TimedOut);
        }
        trial.expect_nothing_left(&before, "after destroy_now").await;
    });
}

async fn three<H: Harness>(trial: &Trial<H>, manager: &H::Manager) -> Vec<crate::trial::Subject<H>> {
    let mut subjects = Vec::new();
    for key in trial.harness().keys().iter().cycle().take(3) {
        subjects.push(trial.create(manager, key).await);
    }
    trial.expect_live(3, "after three times create").await;
    subjects
}

/// Resources that were broken from outside are destroyed without a trace, one after the other, and
/// a new one can be made afterwards.
pub fn destroy_works_on_broken_resources<H: Harness>(trial: &Trial<H>) {
    if !trial.can(trial.harness().capabilities().kill) {
        return;
    }
    trial.run(async {
        let manager = trial.harness().manager();
        trial.warm_up(&manager).await;
        let before = trial.census();
        for reason in [Reason::Unhealthy, Reason::Gone] {
            let mut subject = trial.create(&manager, &trial.key()).await;
            trial.harness().kill(&mut subject.resource).await;
            trial.destroy(&manager, subject, reason).await;
            trial.expect_nothing_left(&before, "after destroy of a broken resource").await;
        }
        trial.warm_up(&manager).await;
    });
}
