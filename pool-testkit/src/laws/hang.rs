//! The law about calls that never end.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use poolyard_core::{Manager, Reason};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::harness::Harness;
use crate::trial::{Subject, Trial};

/// How long a call on a stopped resource is waited for. It may be dropped at any time, so that a
/// short time cannot make a right manager fail.
const PATIENCE: Duration = Duration::from_millis(300);

/// With a resource that answers no more, `recycle` and `health_check` end, or can at least be
/// dropped at their deadline, and `destroy` ends by itself and leaves nothing.
///
/// A manager that blocks its thread cannot be dropped: this is where it is found.
pub fn no_call_hangs<H: Harness>(trial: &Trial<H>) {
    if !trial.can(trial.harness().capabilities().stop) {
        return;
    }
    trial.run(async {
        let manager = Arc::new(trial.harness().manager());
        trial.warm_up(&manager).await;
        let before = trial.census();
        let mut subject = trial.create(&manager, &trial.key()).await;
        trial.harness().stop(&mut subject.resource).await;
        let cx = trial.context(subject.id());

        let subject = Arc::new(Mutex::new(subject));
        let (m, s, c) = (manager.clone(), subject.clone(), cx.clone());
        let recycle = async move {
            let Subject { key, resource, .. } = &mut *s.lock().await;
            let _ = m.recycle(key, resource, &c).await;
        };
        end_or_drop(trial, "recycle", recycle).await;

        let (m, s, c) = (manager.clone(), subject.clone(), cx);
        let check = async move {
            let Subject { key, resource, .. } = &mut *s.lock().await;
            let _ = m.health_check(key, resource, &c).await;
        };
        end_or_drop(trial, "health_check", check).await;

        let subject = Arc::into_inner(subject).map(Mutex::into_inner);
        let subject = subject.unwrap_or_else(|| trial.broken("a dropped call still holds its resource"));
        trial.destroy(&manager, subject, Reason::TimedOut).await;
        trial.expect_nothing_left(&before, "after destroy of a stopped resource").await;
    });
}

/// Waits for a call for a while and then drops it, from another thread than the call's own.
async fn end_or_drop<H: Harness>(
    trial: &Trial<H>,
    what: &str,
    call: impl Future<Output = ()> + Send + 'static,
) {
    let mut task = tokio::spawn(call);
    if timeout(PATIENCE, &mut task).await.is_ok() {
        return;
    }
    task.abort();
    if timeout(H::CALL_DEADLINE, task).await.is_err() {
        trial.broken(format_args!("{what} on a stopped resource blocks its thread and cannot be dropped"));
    }
}
