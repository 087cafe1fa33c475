//! Contexts for calling a manager by hand, and a sink that remembers what was reported gone.

use std::borrow::Cow;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use poolyard_core::{Context, GoneSink, ResourceId};
use tokio::sync::Notify;

/// A context for resource `id` outside any pool, with a deadline in one minute. Reports that the
/// resource is gone are not heard; use a [`GoneLog`] where they matter.
pub fn context(id: u64) -> Context {
    let nobody: Weak<GoneLog> = Weak::new();
    Context::standalone(ResourceId::standalone(id), Duration::from_secs(60), nobody)
}

/// Remembers which resources were reported gone, in place of a pool.
#[derive(Default)]
pub struct GoneLog {
    reports: Mutex<Vec<(ResourceId, Cow<'static, str>)>>,
    changed: Notify,
}

impl GoneLog {
    /// An empty log.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A context whose reports arrive here.
    pub fn context(self: &Arc<Self>, id: u64, timeout: Duration) -> Context {
        let sink: Weak<Self> = Arc::downgrade(self);
        Context::standalone(ResourceId::standalone(id), timeout, sink)
    }

    /// What was reported, in that order, with the causes.
    pub fn reports(&self) -> Vec<(ResourceId, Cow<'static, str>)> {
        self.reports.lock().clone()
    }

    /// Waits until `id` is reported.
    pub async fn until_reported(&self, id: ResourceId) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Registered before the log is read, so that no report falls in between.
            changed.as_mut().enable();
            if self.reports.lock().iter().any(|(reported, _)| *reported == id) {
                return;
            }
            changed.await;
        }
    }
}

impl GoneSink for GoneLog {
    fn gone(&self, id: ResourceId, cause: Cow<'static, str>) {
        self.reports.lock().push((id, cause));
        self.changed.notify_waiters();
    }
}
