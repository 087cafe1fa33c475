//! [`Observer`]: a user's eyes on the pool, without cost where they are closed.

use std::panic::Location;
use std::time::Duration;

use crate::error::Phase;
use crate::meta::{Reason, ResourceId};

/// Sees what happens in a pool, as it happens.
///
/// Static dispatch: `()` observes nothing and costs nothing. Methods run on the thread on which the
/// event happened, never under the pool's lock; they must not block. A panic in one is contained.
pub trait Observer: Send + Sync + 'static {
    /// A lease was given out; `waited` says whether its caller had to queue.
    fn acquired(&self, _id: ResourceId, _waited: bool) {}
    /// A lease came back.
    fn returned(&self, _id: ResourceId) {}
    /// A lease's resource was taken out of the pool for ever.
    fn detached(&self, _id: ResourceId) {}
    /// A creation was complete after `took`, all attempts together.
    fn created(&self, _id: ResourceId, _took: Duration) {}
    /// A creation failed for good.
    fn create_failed(&self, _id: ResourceId, _error: &str, _took: Duration) {}
    /// So many creations of one key have failed in a row, `id` the last, that none is tried for `pause`.
    fn circuit_opened(&self, _id: ResourceId, _failures: u64, _pause: Duration) {}
    /// A recycle ended; `failed` says why the resource is destroyed, if it is.
    fn recycled(&self, _id: ResourceId, _failed: Option<Reason>, _took: Duration) {}
    /// A health check ended; `failed` says why the resource is destroyed, if it is.
    fn checked(&self, _id: ResourceId, _failed: Option<Reason>, _took: Duration) {}
    /// A hibernation ended; `failed` says why the resource is destroyed, if it is.
    fn hibernated(&self, _id: ResourceId, _failed: Option<Reason>, _took: Duration) {}
    /// A wake ended; `failed` says why the resource is destroyed, if it is.
    fn woken(&self, _id: ResourceId, _failed: Option<Reason>, _took: Duration) {}
    /// A generic resource was turned into one of another key; `failed` says why it is destroyed
    /// instead, if it is.
    fn specialised(&self, _id: ResourceId, _failed: Option<Reason>, _took: Duration) {}
    /// A resource was destroyed.
    fn destroyed(&self, _id: ResourceId, _reason: Reason, _took: Duration) {}
    /// A destroy missed its deadline.
    fn abandoned(&self, _id: ResourceId, _reason: Reason) {}
    /// The pool has come under pressure, with the cause, or, `None`, it is over.
    fn pressure(&self, _cause: Option<&str>) {}
    /// A lease has been `held` for longer than `leak_after`; it was acquired `at`. Once for each lease.
    fn leaked(&self, _id: ResourceId, _held: Duration, _at: &'static Location<'static>) {}
    /// A caller's deadline passed.
    fn timed_out(&self, _phase: Phase) {}
    /// One poll of a manager's future held its thread for `held`.
    fn blocked(&self, _id: ResourceId, _call: &'static str, _held: Duration) {}
}

impl Observer for () {}
