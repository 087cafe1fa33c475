//! One slot: the ledger's record of one resource, from the start of its creation to its end.

use std::panic::Location;

use super::group::Group;
use super::list::{Link, Linked, NIL};
use super::rules::KeyRules;
use crate::meta::{Reason, ResourceId};
use crate::time::Time;

/// Where a resource is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The manager makes it.
    Creating,
    /// Ready for anyone.
    Idle,
    /// Promised to a waiter that has not picked it up yet.
    Granted,
    /// With a user.
    Leased,
    /// Being cleaned, or queued for it.
    Recycling,
    /// Being checked, or queued for it.
    Checking(Check),
    /// Being put to sleep, or queued for it. It keeps its place among the idle.
    Hibernating,
    /// Idle, and asleep.
    Asleep,
    /// Being woken, or queued for it.
    Waking,
    /// A generic resource that is being turned into one of its group's key.
    Specialising,
    /// Being destroyed, or queued for it.
    Destroying(Reason),
}

impl State {
    pub(crate) const KINDS: usize = 11;
    pub(crate) const CHECKING: usize = 5;
    pub(crate) const DESTROYING: usize = 10;

    pub(crate) const fn kind(self) -> usize {
        match self {
            State::Creating => 0,
            State::Idle => 1,
            State::Granted => 2,
            State::Leased => 3,
            State::Recycling => 4,
            State::Checking(_) => State::CHECKING,
            State::Hibernating => 6,
            State::Asleep => 7,
            State::Waking => 8,
            State::Specialising => 9,
            State::Destroying(_) => State::DESTROYING,
        }
    }

    /// In the hands that recycle, check, put to sleep and wake, or queued for them.
    pub(crate) const fn is_cleaning(self) -> bool {
        matches!(self, State::Recycling | State::Checking(_) | State::Hibernating | State::Waking)
    }

    /// With nobody, and there for whoever comes.
    pub(crate) const fn is_resting(self) -> bool {
        matches!(self, State::Idle | State::Asleep)
    }
}

/// What a health check is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// It was idle for long and somebody wants it.
    BeforeHandOut,
    /// It has just been recycled for the n-th time.
    AtReturn,
    /// It is idle, and its turn has come. It keeps its place among the idle.
    Periodic,
}

/// On whose behalf a creation was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// For a waiter.
    Demand,
    /// To keep a minimum idle, or to come to an adaptive target.
    MinIdle,
    /// For a call of `warm`, named by its number.
    Warm(u64),
    /// The user brought it.
    Inserted,
}

/// The lists a slot can be in.
pub(crate) const BY_KEY: u8 = 0;
pub(crate) const BY_AGE: u8 = 1;

#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) id: ResourceId,
    pub(crate) group: u32,
    pub(crate) cost: u64,
    pub(crate) state: State,
    pub(crate) origin: Origin,
    /// The generation that was valid when the creation started.
    pub(crate) generation: u64,
    pub(crate) uses: u64,
    pub(crate) recycles: u64,
    pub(crate) created: Time,
    /// When it last became idle through use; a periodic check does not count as use.
    pub(crate) idle_since: Time,
    /// When it was last known to be healthy: created, recycled or checked.
    pub(crate) known_good: Time,
    /// When its lifetime ends, jitter included.
    pub(crate) lifetime_end: Time,
    /// When it must no longer be handed out, as long as it stays idle.
    pub(crate) expires: Time,
    /// The timer that is set for it; never later than what is due, often earlier.
    pub(crate) timer: Time,
    /// Somebody said that it is dead.
    pub(crate) gone: bool,
    /// Why it must not be used again, as far as that is decided already.
    pub(crate) doom: Option<Reason>,
    /// It will probably serve the next waiter: creating, recycling or checking, and not overdue.
    pub(crate) hopeful: bool,
    /// It is in the two lists of idle slots.
    pub(crate) linked: bool,
    /// An order for it was given and has not been answered.
    pub(crate) running: bool,
    /// Its destroy passed its deadline, and quarantine is full.
    pub(crate) stuck: bool,
    /// Its end is near, and it is being replaced.
    pub(crate) retiring: bool,
    /// The waiter it is promised to.
    pub(crate) waiter: u32,
    pub(crate) leased_since: Time,
    pub(crate) leased_at: Option<&'static Location<'static>>,
    /// The use of which it was told that it lasts long.
    pub(crate) told_overdue: u64,
    pub(crate) by_key: Link,
    pub(crate) by_age: Link,
}

impl Slot {
    pub(crate) fn new(id: ResourceId, group: u32, cost: u64, origin: Origin, generation: u64) -> Slot {
        Slot {
            id,
            group,
            cost,
            state: State::Creating,
            origin,
            generation,
            uses: 0,
            recycles: 0,
            created: Time::ZERO,
            idle_since: Time::ZERO,
            known_good: Time::ZERO,
            lifetime_end: Time::NEVER,
            expires: Time::NEVER,
            timer: Time::NEVER,
            gone: false,
            doom: None,
            hopeful: false,
            linked: false,
            running: false,
            stuck: false,
            retiring: false,
            waiter: NIL,
            leased_since: Time::ZERO,
            leased_at: None,
            told_overdue: 0,
            by_key: Link::UNLINKED,
            by_age: Link::UNLINKED,
        }
    }
}

impl Slot {
    /// Says whether it will probably serve the next waiter of its group.
    #[inline]
    pub(super) fn hope(&mut self, group: &mut Group, hopeful: bool) {
        if self.hopeful == hopeful {
            return;
        }
        self.hopeful = hopeful;
        match hopeful {
            true => group.hopeful += 1,
            false => group.hopeful -= 1,
        }
    }

    /// Why it must not be used again.
    #[inline]
    pub(super) fn unfit(&self, rules: &KeyRules, now: Time) -> Option<Reason> {
        if self.doom.is_some() {
            self.doom
        } else if self.uses >= rules.max_uses {
            Some(Reason::MaxUses)
        } else if now >= self.lifetime_end {
            Some(Reason::MaxLifetime)
        } else {
            None
        }
    }
}

impl Linked<BY_KEY> for Slot {
    fn link(&self) -> &Link {
        &self.by_key
    }

    fn link_mut(&mut self) -> &mut Link {
        &mut self.by_key
    }
}

impl Linked<BY_AGE> for Slot {
    fn link(&self) -> &Link {
        &self.by_age
    }

    fn link_mut(&mut self) -> &mut Link {
        &mut self.by_age
    }
}
