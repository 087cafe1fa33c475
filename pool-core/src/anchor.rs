//! [`Anchor`]: how a lease reaches its pool.

use std::hash::BuildHasher;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::manager::Manager;
use crate::observer::Observer;
use crate::shared::{Inner, Shared};

/// A reference to the pool that a leased slot keeps valid.
///
/// It stands in the place of an `Arc`, whose count would cost two atomic operations for each lease, as
/// much as one of the two locks. The count of leases that the ledger has anyway serves instead: as long
/// as a slot is leased, the pool is held by a handle, or by [`Inner::keep`], where the last handle leaves
/// its reference when it goes. That is given up under the lock, when no slot is leased any more.
pub(crate) struct Anchor<M: Manager, O, S>(NonNull<Shared<M, O, S>>);

// SAFETY: an anchor gives what a reference-counted pointer to the same pool gives.
#[allow(unsafe_code)]
unsafe impl<M: Manager, O, S> Send for Anchor<M, O, S> where Arc<Shared<M, O, S>>: Send {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl<M: Manager, O, S> Sync for Anchor<M, O, S> where Arc<Shared<M, O, S>>: Sync {}

impl<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> Anchor<M, O, S> {
    /// For a slot that has just become leased, by a caller who has a handle of the pool.
    #[inline]
    pub(crate) fn new(shared: &Arc<Shared<M, O, S>>) -> Self {
        Anchor(NonNull::from(&**shared))
    }

    /// A counted reference. The slot is still leased, or the pool is locked.
    #[allow(unsafe_code)]
    pub(crate) fn counted(&self) -> Arc<Shared<M, O, S>> {
        let pool = self.0.as_ptr();
        // SAFETY: the pool lies in an `Arc` and is alive, so its count is at least one.
        unsafe {
            Arc::increment_strong_count(pool);
            Arc::from_raw(pool)
        }
    }

    /// [`Shared::event`] for the end of the lease. From the moment in which the lock is free, the pool
    /// may be gone: the guard's release is the last access to it, unless there is more to do, for which
    /// a count was taken before.
    #[inline]
    pub(crate) fn end(self, change: impl FnOnce(&mut Inner<M>)) {
        let mut inner = self.state.lock();
        change(&mut inner);
        let after = inner.settle().map(|after| (after, self.counted()));
        drop(inner);
        if let Some((after, shared)) = after {
            shared.carry_out(after);
        }
    }
}

impl<M: Manager, O, S> Deref for Anchor<M, O, S> {
    type Target = Shared<M, O, S>;

    #[inline]
    #[allow(unsafe_code)]
    fn deref(&self) -> &Shared<M, O, S> {
        // SAFETY: a slot is leased on behalf of whoever has an anchor, until `end` takes it away.
        unsafe { self.0.as_ref() }
    }
}
