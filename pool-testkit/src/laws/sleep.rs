//! Laws of `hibernate`, `wake` and `specialise`. A manager that overrides none of them keeps them.

use poolyard_core::{Manager, Reason};

use crate::harness::Harness;
use crate::trial::Trial;

/// A resource that was put to sleep and woken, again and again, still does its job.
pub fn a_hibernated_resource_wakes_as_it_was<H: Harness>(trial: &Trial<H>) {
    trial.run(async {
        let manager = trial.harness().manager();
        let key = trial.key();
        let mut subject = trial.create(&manager, &key).await;
        for _ in 0..3 {
            trial.hibernate_well(&manager, &mut subject).await;
            let cx = trial.context(subject.id());
            let wake = manager.wake(&key, &mut subject.resource, &cx);
            if let Err(error) = trial.in_time("wake", wake).await {
                trial.broken(format_args!("wake failed: {error}"));
            }
            let works = trial.harness().works(&key, &mut subject.resource).await;
            trial.check(works, "a resource that was woken does not do its job");
        }
        trial.destroy(&manager, subject, Reason::Closed).await;
    });
}

/// A sleeping resource is destroyed without a trace, and without being woken first.
pub fn destroy_works_on_hibernated_resources<H: Harness>(trial: &Trial<H>) {
    trial.run(async {
        let manager = trial.harness().manager();
        trial.warm_up(&manager).await;
        let before = trial.census();
        let mut subject = trial.create(&manager, &trial.key()).await;
        trial.hibernate_well(&manager, &mut subject).await;
        trial.destroy(&manager, subject, Reason::IdleTimeout).await;
        trial.expect_nothing_left(&before, "after destroy of a sleeping resource").await;
    });
}

/// A generic resource that was specialised does the job of its new key, and ends under that.
pub fn specialise_gives_a_healthy_resource<H: Harness>(trial: &Trial<H>) {
    trial.run(async {
        let manager = trial.harness().manager();
        trial.warm_up(&manager).await;
        let before = trial.census();
        for key in trial.harness().keys() {
            let Some(generic) = manager.generic_key(&key) else { continue };
            let mut subject = trial.create(&manager, &generic).await;
            let cx = trial.context(subject.id());
            let specialise = manager.specialise(&generic, &key, &mut subject.resource, &cx);
            if let Err(error) = trial.in_time("specialise", specialise).await {
                trial.broken(format_args!("specialise failed: {error}"));
            }
            subject.key = key.clone();
            let works = trial.harness().works(&key, &mut subject.resource).await;
            trial.check(works, "a specialised resource does not do the job of its key");
            trial.destroy(&manager, subject, Reason::Closed).await;
        }
        trial.expect_nothing_left(&before, "after destroy of what was specialised").await;
    });
}
