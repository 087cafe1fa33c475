//! What the pool knows about one resource, and the reasons for which resources end.

use std::fmt;
use std::time::{Duration, Instant};

const SLOT_BITS: u32 = 24;

/// How many resources one pool can hold at most: what fits into the slot bits of an id.
pub(crate) const SLOTS: u32 = 1 << SLOT_BITS;

/// Names one resource of a pool; never used twice in it.
///
/// The upper 40 bits count the pool's creations, the lower 24 say which slot the resource lives in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceId(u64);

impl ResourceId {
    /// An id for a resource that stands outside any pool, in a test of a manager.
    pub const fn standalone(id: u64) -> Self {
        Self(id)
    }

    pub(crate) const fn new(serial: u64, slot: u32) -> Self {
        Self(serial << SLOT_BITS | slot as u64)
    }

    pub(crate) const fn slot(self) -> u32 {
        (self.0 & (SLOTS as u64 - 1)) as u32
    }

    /// The number behind the id.
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0 >> SLOT_BITS)
    }
}

/// What the pool knows about a resource while it is leased.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Meta {
    /// The resource's id.
    pub id: ResourceId,
    /// When its creation was complete.
    pub created: Instant,
    /// How many leases it has served, the current one included.
    pub uses: u64,
    /// How many times it went through [`Manager::recycle`](crate::Manager::recycle).
    pub recycles: u64,
    /// The generation that was valid when its creation started.
    pub generation: u64,
}

impl Meta {
    /// What the pool would say of a new resource. For tests of a manager outside any pool.
    pub fn standalone(id: ResourceId) -> Self {
        Self { id, created: Instant::now(), uses: 1, recycles: 0, generation: 0 }
    }

    /// How long ago its creation was complete.
    pub fn age(&self) -> Duration {
        self.created.elapsed()
    }
}

/// Why a resource is destroyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reason {
    /// [`Manager::reuse`](crate::Manager::reuse) said so.
    Broken,
    /// Recycling failed.
    RecycleFailed,
    /// A health check failed.
    Unhealthy,
    /// It could not be put to sleep.
    HibernateFailed,
    /// It could not be woken.
    WakeFailed,
    /// It could not be turned into a resource of another key.
    SpecialiseFailed,
    /// A call into the manager missed its deadline.
    TimedOut,
    /// A call into the manager panicked.
    Panicked,
    /// A call into the manager was interrupted because its runtime ended.
    Interrupted,
    /// It was idle for longer than `idle_timeout`.
    IdleTimeout,
    /// It was older than `max_lifetime`.
    MaxLifetime,
    /// It had served `max_uses` leases.
    MaxUses,
    /// It made room for a waiter of another key.
    Evicted,
    /// An idle limit was exceeded, or adaptive sizing had no use for it, and it was the least recently
    /// used.
    IdleLimit,
    /// The pool's limits became smaller.
    Shrunk,
    /// `shed` or memory pressure asked for it.
    Shed,
    /// Its key, or the whole pool, was invalidated after its creation had started.
    Invalidated,
    /// `retain` did not keep it.
    NotRetained,
    /// It was reported gone.
    Gone,
    /// Its user discarded it.
    Discarded,
    /// A replacement is ready.
    Replaced,
    /// The pool was closed, or its last handle was dropped.
    Closed,
}

impl Reason {
    /// All reasons, in the order of their counters.
    pub const ALL: [Reason; 22] = [
        Reason::Broken,
        Reason::RecycleFailed,
        Reason::Unhealthy,
        Reason::HibernateFailed,
        Reason::WakeFailed,
        Reason::SpecialiseFailed,
        Reason::TimedOut,
        Reason::Panicked,
        Reason::Interrupted,
        Reason::IdleTimeout,
        Reason::MaxLifetime,
        Reason::MaxUses,
        Reason::Evicted,
        Reason::IdleLimit,
        Reason::Shrunk,
        Reason::Shed,
        Reason::Invalidated,
        Reason::NotRetained,
        Reason::Gone,
        Reason::Discarded,
        Reason::Replaced,
        Reason::Closed,
    ];

    /// A stable name for events and metrics, in snake case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::Broken => "broken",
            Reason::RecycleFailed => "recycle_failed",
            Reason::Unhealthy => "unhealthy",
            Reason::HibernateFailed => "hibernate_failed",
            Reason::WakeFailed => "wake_failed",
            Reason::SpecialiseFailed => "specialise_failed",
            Reason::TimedOut => "timed_out",
            Reason::Panicked => "panicked",
            Reason::Interrupted => "interrupted",
            Reason::IdleTimeout => "idle_timeout",
            Reason::MaxLifetime => "max_lifetime",
            Reason::MaxUses => "max_uses",
            Reason::Evicted => "evicted",
            Reason::IdleLimit => "idle_limit",
            Reason::Shrunk => "shrunk",
            Reason::Shed => "shed",
            Reason::Invalidated => "invalidated",
            Reason::NotRetained => "not_retained",
            Reason::Gone => "gone",
            Reason::Discarded => "discarded",
            Reason::Replaced => "replaced",
            Reason::Closed => "closed",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
