//! [`FakeResource`]: a resource that knows who it is and what its users did to it.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use poolyard_core::ResourceId;

use super::Shared;
use crate::script::Method;

/// A resource of a [`FakeManager`](super::FakeManager).
///
/// It knows who it is, and keeps marks that its users leave and that recycling removes.
pub struct FakeResource<K = u32> {
    pub(super) serial: u64,
    pub(super) key: K,
    pub(super) marks: Vec<u32>,
    pub(super) asleep: bool,
    pub(super) shared: Arc<Shared<K>>,
}

impl<K> FakeResource<K> {
    /// Its place in the order of creations, from 1; failed creations do not count.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// The id that the pool gave it.
    pub fn id(&self) -> ResourceId {
        self.shared.registry.lock().id_of(self.serial)
    }

    /// The key it was made for, or specialised for.
    pub fn key(&self) -> &K {
        &self.key
    }

    /// Leaves a mark that no later user may find.
    pub fn mark(&mut self, mark: u32) {
        self.marks.push(mark);
    }

    /// The marks that were left since the last recycling.
    pub fn marks(&self) -> &[u32] {
        &self.marks
    }

    /// Whether it hibernates.
    pub fn is_asleep(&self) -> bool {
        self.asleep
    }

    /// Breaks it: its recycling and its health checks fail from now on.
    pub fn kill(&mut self) {
        if let Some(entry) = self.shared.registry.lock().live.get_mut(&self.serial) {
            entry.dead = true;
        }
    }

    /// Ends a resource that was taken out of its pool for ever.
    pub fn end(self) {
        self.shared.registry.lock().live.remove(&self.serial);
    }

    pub(super) fn fail_if_dead(&self, method: Method) -> Result<(), FakeError> {
        let registry = self.shared.registry.lock();
        match registry.live.get(&self.serial) {
            Some(entry) if entry.dead => Err(FakeError { method, text: "the resource is dead" }),
            _ => Ok(()),
        }
    }
}

impl<K: fmt::Debug> fmt::Debug for FakeResource<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeResource")
            .field("serial", &self.serial)
            .field("key", &self.key)
            .field("marks", &self.marks)
            .finish_non_exhaustive()
    }
}

impl<K> Drop for FakeResource<K> {
    fn drop(&mut self) {
        self.shared.registry.lock().dropped(self.serial);
        self.shared.changed.notify_waiters();
    }
}

/// The error of a scripted call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FakeError {
    /// The method that failed.
    pub method: Method,
    /// What the script said.
    pub text: &'static str,
}

impl fmt::Display for FakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} failed as scripted: {}", self.method, self.text)
    }
}

impl Error for FakeError {}
