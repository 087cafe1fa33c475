//! [`Context`]: what a manager is told with each call. [`Gone`]: how it reports a death.

use std::borrow::Cow;
use std::fmt;
use std::sync::Weak;
use std::time::{Duration, Instant};

use crate::meta::ResourceId;

/// What the pool tells a manager with each call.
///
/// Cloning it is cheap. It may be kept, but its numbers describe the call it came with.
#[derive(Clone)]
pub struct Context {
    pub(crate) id: ResourceId,
    pub(crate) generation: u64,
    pub(crate) uses: u64,
    pub(crate) attempt: u32,
    pub(crate) deadline: Instant,
    pub(crate) sink: Weak<dyn GoneSink>,
}

impl Context {
    /// A context outside any pool, to call a manager by hand in its tests. Reports of
    /// [`Gone`] handles go to `sink`.
    pub fn standalone(id: ResourceId, timeout: Duration, sink: Weak<dyn GoneSink>) -> Self {
        let deadline = Instant::now() + timeout;
        Self { id, generation: 0, uses: 0, attempt: 1, deadline, sink }
    }

    /// The resource's id. A creation knows it before the resource exists.
    pub fn id(&self) -> ResourceId {
        self.id
    }

    /// The generation that was valid when the resource's creation started.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How many leases the resource has served.
    pub fn uses(&self) -> u64 {
        self.uses
    }

    /// Which attempt of a creation this is, from 1. Always 1 for other calls.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// When the pool gives this call up and drops its future.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// How much time is left until [`deadline`](Context::deadline); zero when it has passed.
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// A handle with which anyone may report that this resource is gone.
    pub fn gone(&self) -> Gone {
        Gone { id: self.id, sink: self.sink.clone() }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("id", &self.id)
            .field("generation", &self.generation)
            .field("uses", &self.uses)
            .field("attempt", &self.attempt)
            .field("remaining", &self.remaining())
            .finish()
    }
}

/// Reports the death of one resource to its pool, at any time and from any thread.
///
/// The handle does not keep the pool alive. A report never blocks on a manager's code and works
/// even before `create` has returned; that creation then counts as failed. Reports about a
/// resource that has already ended do nothing.
#[derive(Clone)]
pub struct Gone {
    id: ResourceId,
    sink: Weak<dyn GoneSink>,
}

impl Gone {
    pub(crate) fn new(id: ResourceId, sink: Weak<dyn GoneSink>) -> Self {
        Gone { id, sink }
    }

    /// The id of the resource it speaks for.
    pub fn id(&self) -> ResourceId {
        self.id
    }

    /// Tells the pool that the resource is gone: an idle one leaves the pool, a leased one is
    /// marked and destroyed at its return, one in the manager's hands is destroyed afterwards.
    pub fn report(&self, cause: impl Into<Cow<'static, str>>) {
        if let Some(sink) = self.sink.upgrade() {
            sink.gone(self.id, cause.into());
        }
    }
}

impl fmt::Debug for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Gone").field(&self.id).finish()
    }
}

/// Receives the reports of [`Gone`] handles. The pool is one; tests of a manager bring their own.
pub trait GoneSink: Send + Sync {
    /// The resource `id` is gone.
    fn gone(&self, id: ResourceId, cause: Cow<'static, str>);
}
