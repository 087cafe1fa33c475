//! What a pool counts from its beginning. All counters only grow.

use crate::meta::Reason;

/// What a pool has done since it was built. Exact: counted under the one lock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Leases given out at once, from an idle resource.
    pub acquired_ready: u64,
    /// Leases given out after a wait.
    pub acquired_waited: u64,
    /// Waiters whose deadline passed.
    pub timed_out: u64,
    /// Waiters that went away.
    pub cancelled: u64,
    /// Callers refused because `max_waiters` waited.
    pub refused: u64,
    /// Waiters that got the error of a creation.
    pub failed: u64,
    /// Callers and waiters that only a creation could have served, while none was tried.
    pub circuit_refused: u64,
    /// Times that creations of a key failed so often that none was tried for a while.
    pub circuits_opened: u64,
    /// Waiters that were told that the pool is closed.
    pub closed: u64,
    /// Leases returned, in whatever way.
    pub returned: u64,
    /// Creations that were complete.
    pub created: u64,
    /// Creations that failed, for whatever reason.
    pub create_failures: u64,
    /// Resources that a user put in.
    pub inserted: u64,
    /// Resources taken out for ever.
    pub detached: u64,
    /// Recycles that were complete.
    pub recycled: u64,
    /// Recycles that failed, timed out or panicked.
    pub recycle_failures: u64,
    /// Health checks passed.
    pub checked: u64,
    /// Health checks that failed, timed out or panicked.
    pub check_failures: u64,
    /// Resources that were put to sleep.
    pub hibernated: u64,
    /// Hibernations that failed, timed out or panicked.
    pub hibernate_failures: u64,
    /// Resources that were woken.
    pub woken: u64,
    /// Wakes that failed, timed out or panicked.
    pub wake_failures: u64,
    /// Generic resources that were turned into ones of another key.
    pub specialised: u64,
    /// Generic resources that were lost in the attempt.
    pub specialise_failures: u64,
    /// Calls into the manager that missed their deadline.
    pub timed_out_calls: u64,
    /// Calls into the manager that panicked.
    pub panicked_calls: u64,
    /// Polls of the manager's futures that held their thread for more than 100 ms.
    pub blocked_polls: u64,
    /// Resources that left the pool, by [`Reason`], in the order of [`Reason::ALL`].
    pub destroyed: [u64; Reason::ALL.len()],
    /// Destroys that missed their deadline.
    pub abandoned: u64,
    /// Leases held for longer than `leak_after`.
    pub leaks: u64,
    /// Leases that were promised to a waiter and taken by a caller that came along, in throughput mode.
    pub barged: u64,
    /// Times that a resource passed an older waiter of another key.
    pub overtakes: u64,
}

impl Counters {
    /// How many resources left the pool for `reason`.
    pub fn destroyed_for(&self, reason: Reason) -> u64 {
        self.destroyed[reason as usize]
    }

    /// How many resources left the pool by being destroyed.
    pub fn destroyed_total(&self) -> u64 {
        self.destroyed.iter().sum()
    }
}
