//! Laws of `recycle` and `health_check`.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;
use poolyard_core::{Manager, Reason};
use proptest::collection::vec;
use proptest::num::u32;

use crate::cancel;
use crate::harness::Harness;
use crate::trial::{Subject, Trial};

/// Whatever marks a user leaves, the next user of a recycled resource finds none of them.
///
/// A recycle may fail on a dirty resource, for then nobody gets it; but not every time.
pub fn recycle_removes_every_trace<H: Harness>(trial: &Trial<H>) {
    if !trial.can(trial.harness().capabilities().dirty) {
        return;
    }
    let recycled = AtomicUsize::new(0);
    let refusal = Mutex::new(String::new());
    trial.property(H::CASES, &vec(u32::ANY, 1..6), |trial, marks| {
        trial.run(async {
            let manager = trial.harness().manager();
            let mut subject = trial.create(&manager, &trial.key()).await;
            leave_marks(trial, &mut subject, &marks).await;
            match trial.recycle(&manager, &mut subject).await {
                Ok(()) => {
                    recycled.fetch_add(1, Relaxed);
                    expect_no_marks(trial, &mut subject, &marks).await;
                }
                Err(error) => *refusal.lock() = error,
            }
            trial.destroy(&manager, subject, Reason::Closed).await;
        });
    });
    let last = refusal.into_inner();
    trial.check(recycled.into_inner() > 0, &format!("every recycle failed, the last with: {last}"));
}

async fn leave_marks<H: Harness>(trial: &Trial<H>, subject: &mut Subject<H>, marks: &[u32]) {
    for &mark in marks {
        trial.harness().dirty(&mut subject.resource, mark).await;
        let seen = trial.harness().is_dirty(&mut subject.resource, mark).await;
        trial.check(seen, "the harness does not see the mark it has just left: repair the harness");
    }
}

async fn expect_no_marks<H: Harness>(trial: &Trial<H>, subject: &mut Subject<H>, marks: &[u32]) {
    for &mark in marks {
        if trial.harness().is_dirty(&mut subject.resource, mark).await {
            trial.broken(format_args!("mark {mark} of the last user is still there after recycle"));
        }
    }
}

/// A resource that is recycled again and again stays healthy.
pub fn recycle_is_repeatable<H: Harness>(trial: &Trial<H>) {
    trial.property(H::CASES.div_ceil(4), &(1..50u32), |trial, times| {
        trial.run(async {
            let manager = trial.harness().manager();
            let mut subject = trial.create(&manager, &trial.key()).await;
            for _ in 0..times {
                trial.recycle_well(&manager, &mut subject).await;
            }
            let when = format!("after {times} times recycle");
            trial.expect_healthy(&manager, &mut subject, &when).await;
            trial.destroy(&manager, subject, Reason::Closed).await;
        });
    });
}

/// After a resource was broken from outside, its recycling or its health check fails.
pub fn a_dead_resource_is_noticed<H: Harness>(trial: &Trial<H>) {
    if !trial.can(trial.harness().capabilities().kill) {
        return;
    }
    trial.run(async {
        let manager = trial.harness().manager();
        let mut subject = trial.create(&manager, &trial.key()).await;
        trial.harness().kill(&mut subject.resource).await;
        let checked = trial.health_check(&manager, &mut subject).await;
        let recycled = trial.recycle(&manager, &mut subject).await;
        trial.check(
            checked.is_err() || recycled.is_err(),
            "the resource was killed, and neither recycle nor health_check noticed",
        );
        trial.destroy(&manager, subject, Reason::Unhealthy).await;
    });
}

/// After a recycle that was dropped after any number of polls, destroy leaves nothing.
pub fn dropping_recycle_leaves_it_destroyable<H: Harness>(trial: &Trial<H>) {
    trial.run(async {
        let manager = trial.harness().manager();
        trial.warm_up(&manager).await;
        let before = trial.census();
        cancel::up_to(H::MAX_CUTS, async |cut| {
            let when = format!("after destroy of a recycle that was dropped at poll {}", cut.polls());
            let mut subject = trial.create(&manager, &trial.key()).await;
            let cx = trial.context(subject.id());
            let recycle = manager.recycle(&subject.key, &mut subject.resource, &cx);
            let _ = trial.in_time("recycle", cut.run(recycle)).await;
            trial.destroy(&manager, subject, Reason::TimedOut).await;
            trial.expect_nothing_left(&before, &when).await;
        })
        .await;
    });
}
