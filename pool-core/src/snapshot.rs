//! What the pool looks like from outside: one consistent picture, taken under the one lock.

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use crate::counters::Counters;
use crate::error::Counts;
use crate::ledger::{self, Slot, State};
use crate::manager::Manager;
use crate::meta::ResourceId;
use crate::shared::Inner;
use crate::time::Time;

/// A pool at one moment. All numbers belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Resources by state, and waiters.
    pub counts: Counts,
    /// What all resources cost together, in the unit of `max_cost`.
    pub cost: u64,
    /// How many keys have resources or waiters, or creations that failed lately.
    pub keys: usize,
    /// How many keys have a breaker that is open or half-open: their creations keep failing.
    pub circuits_open: usize,
    /// Resources whose destroy hung, beyond `max_abandoned`: their places stay taken.
    pub stuck: usize,
    /// What is short, while the pool is under [pressure](crate::PressureSource).
    pub pressure: Option<Arc<str>>,
    /// The pool is suspended.
    pub suspended: bool,
    /// The pool is closed.
    pub closed: bool,
    /// After how long a waiter stops counting on a recycle or check under way.
    pub hedge_after: Duration,
    /// What the pool has done so far.
    pub counters: Counters,
}

/// Where a resource is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResourceState {
    /// The manager makes it.
    Creating,
    /// Ready.
    Idle,
    /// With a user, or promised to a waiter.
    Leased,
    /// Being cleaned, or queued for it.
    Recycling,
    /// Being checked, or queued for it.
    Checking,
    /// Being put to sleep, or queued for it.
    Hibernating,
    /// Idle, and asleep.
    Hibernated,
    /// Being woken, or queued for it.
    Waking,
    /// A generic resource that is being turned into one of its new key.
    Specialising,
    /// Being destroyed, or queued for it.
    Destroying,
}

/// One resource at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ResourceInfo<K> {
    /// Its id.
    pub id: ResourceId,
    /// Its key.
    pub key: K,
    /// Where it is in its life.
    pub state: ResourceState,
    /// How long ago its creation was complete; zero while it is being created.
    pub age: Duration,
    /// How long it has been idle, if it is.
    pub idle_for: Option<Duration>,
    /// How long it has been leased, if it is.
    pub leased_for: Option<Duration>,
    /// Where in the program it was acquired, if it is leased.
    pub leased_at: Option<&'static Location<'static>>,
    /// How many leases it has served.
    pub uses: u64,
    /// How many times it was recycled.
    pub recycles: u64,
    /// The generation that was valid when its creation started.
    pub generation: u64,
    /// Somebody reported it gone; it leaves the pool as soon as it comes back.
    pub gone: bool,
    /// What the manager says of it, for people.
    pub description: Option<Arc<str>>,
}

/// One key at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyInfo<K> {
    /// The key.
    pub key: K,
    /// Its resources by state, and its waiters. `abandoned` is not kept by key.
    pub counts: Counts,
    /// How many of its creations failed since the last one that did not.
    pub failures: u64,
    /// What follows from that.
    pub circuit: Circuit,
}

impl<K> KeyInfo<K> {
    pub(crate) fn with_key<L>(self, key: impl FnOnce(K) -> L) -> KeyInfo<L> {
        let KeyInfo { key: of, counts, failures, circuit } = self;
        KeyInfo { key: key(of), counts, failures, circuit }
    }
}

/// Whether creations of a key are tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Circuit {
    /// They are.
    #[default]
    Closed,
    /// They failed so often that none is tried.
    Open {
        /// When one is tried again; zero when that time has come.
        retry_after: Duration,
    },
    /// A single one is tried, as a probe.
    HalfOpen,
}

/// What [`Pool::close`](crate::Pool::close) left behind.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CloseReport<K> {
    /// What is still there: leased resources, and manager calls under way. They end when they come
    /// back; the pool sees to it in the background.
    pub left: Vec<ResourceInfo<K>>,
    /// How many resources were given up because their destroy hung.
    pub abandoned: usize,
    /// How many resources left the pool by being destroyed, from its beginning.
    pub destroyed: u64,
}

impl<K> CloseReport<K> {
    /// Nothing was left behind.
    pub fn is_clean(&self) -> bool {
        self.left.is_empty() && self.abandoned == 0
    }
}

impl<K> ResourceInfo<K> {
    pub(crate) fn with_key<L>(self, convert: impl FnOnce(K) -> L) -> ResourceInfo<L> {
        ResourceInfo {
            id: self.id,
            key: convert(self.key),
            state: self.state,
            age: self.age,
            idle_for: self.idle_for,
            leased_for: self.leased_for,
            leased_at: self.leased_at,
            uses: self.uses,
            recycles: self.recycles,
            generation: self.generation,
            gone: self.gone,
            description: self.description,
        }
    }
}

impl<M: Manager> Inner<M> {
    /// Every resource; keys are cloned outside the lock.
    pub(crate) fn resource_infos(&self, now: Time) -> Vec<ResourceInfo<Arc<M::Key>>> {
        self.ledger.slots().map(|slot| self.resource_info(slot, now)).collect()
    }

    pub(crate) fn resource_info(&self, slot: &Slot, now: Time) -> ResourceInfo<Arc<M::Key>> {
        let leased = slot.state == State::Leased;
        // Until its own is there, the note is that of the slot's last resource.
        let described = slot.state != State::Creating;
        let note = self.notes.get(slot.id.slot() as usize);
        ResourceInfo {
            id: slot.id,
            key: self.key(slot.group),
            state: match slot.state {
                State::Creating => ResourceState::Creating,
                State::Idle => ResourceState::Idle,
                State::Granted | State::Leased => ResourceState::Leased,
                State::Recycling => ResourceState::Recycling,
                State::Checking(_) => ResourceState::Checking,
                State::Hibernating => ResourceState::Hibernating,
                State::Asleep => ResourceState::Hibernated,
                State::Waking => ResourceState::Waking,
                State::Specialising => ResourceState::Specialising,
                State::Destroying(_) => ResourceState::Destroying,
            },
            age: match slot.state {
                State::Creating => Duration::ZERO,
                _ => now.since(slot.created),
            },
            idle_for: slot.state.is_resting().then(|| now.since(slot.idle_since)),
            leased_for: leased.then(|| now.since(slot.leased_since)),
            leased_at: slot.leased_at.filter(|_| leased),
            uses: slot.uses,
            recycles: slot.recycles,
            generation: slot.generation,
            gone: slot.gone,
            description: described.then(|| note?.description.clone()).flatten(),
        }
    }

    pub(crate) fn key_infos(&self, now: Time) -> Vec<KeyInfo<Arc<M::Key>>> {
        let groups = self.groups.iter().enumerate();
        let known = groups.filter_map(|(index, shell)| Some((index as u32, shell.as_ref()?)));
        known
            .map(|(group, shell)| {
                let waiters = self.ledger.group_waiters(group) as usize;
                let counts = counts_of(self.ledger.group_slots(group), waiters);
                let (failures, circuit) = self.ledger.breaker(group);
                let circuit = match circuit {
                    ledger::Circuit::Closed => Circuit::Closed,
                    ledger::Circuit::Open(until) => Circuit::Open { retry_after: until.since(now) },
                    ledger::Circuit::HalfOpen => Circuit::HalfOpen,
                };
                KeyInfo { key: Arc::clone(&shell.key), counts, failures, circuit }
            })
            .collect()
    }
}

/// Public counts from the ledger's, which are by kind of state.
pub(crate) fn counts_of(counts: &[u32; State::KINDS], waiters: usize) -> Counts {
    let at = |state: State| counts[state.kind()] as usize;
    Counts {
        creating: at(State::Creating),
        idle: at(State::Idle),
        leased: at(State::Granted) + at(State::Leased),
        recycling: at(State::Recycling),
        checking: counts[State::CHECKING] as usize,
        hibernating: at(State::Hibernating),
        hibernated: at(State::Asleep),
        waking: at(State::Waking),
        specialising: at(State::Specialising),
        destroying: counts[State::DESTROYING] as usize,
        abandoned: 0,
        waiters,
    }
}
