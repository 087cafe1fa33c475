//! One group: everything the ledger knows about one key.

use super::breaker::Breaker;
use super::demand::Demand;
use super::list::{List, NIL};
use super::rules::KeyRules;
use super::slot::State;
use crate::time::Time;

/// No ticket: the group is not in the set of the hungry.
pub(crate) const NOT_HUNGRY: u64 = u64::MAX;

#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) cost: u64,
    pub(crate) rules: KeyRules,
    /// Slots by kind of state.
    pub(crate) counts: [u32; State::KINDS],
    /// Idle slots, and those that a periodic check or a hibernation has in hand; least recently used
    /// first.
    pub(crate) idle: List,
    /// Those that are asleep, in the order in which they fell asleep.
    pub(crate) asleep: List,
    /// Those that are promised to a waiter.
    pub(crate) promised: List,
    /// In order of arrival.
    pub(crate) waiters: List,
    /// How many slots will probably serve a waiter soon.
    pub(crate) hopeful: u32,
    /// How many waiters, from the head, are covered by hopeful slots.
    pub(crate) covered: u32,
    /// The first waiter that is not covered: the one a new creation would be for.
    pub(crate) uncovered: u32,
    /// The ticket under which the group stands in the set of the hungry.
    pub(crate) hungry_at: u64,
    /// Stands in the set of those below their minimum idle or adaptive target.
    pub(crate) lean: bool,
    /// The minimum idle is not refilled before this, after failures.
    pub(crate) refill_after: Time,
    pub(crate) refill_failures: u32,
    /// The last creation failed.
    pub(crate) breaker: Option<Box<Breaker>>,
    /// Slots that are to be replaced, but for those being destroyed; those of them that are idle.
    pub(crate) retiring: u32,
    pub(crate) retiring_idle: u32,
    /// The group whose resources can be turned into its own.
    pub(crate) generic: u32,
    /// Its resources can be turned into those of other groups.
    pub(crate) is_generic: bool,
    /// How many of its next resources are made from nothing, because a donor failed.
    pub(crate) plain: u32,
    /// How many entries of the warm-up queue name it, and groups whose generic one it is.
    pub(crate) pins: u32,
    /// The last dispatch in which room was spoken for on its behalf.
    pub(crate) spoken_in: u64,
    /// What its callers needed lately, where sizing is adaptive.
    pub(crate) demand: Option<Box<Demand>>,
    /// How many resources sizing wants there to be, idle or not.
    pub(crate) target: u32,
}

impl Group {
    pub(crate) fn new(cost: u64, rules: KeyRules) -> Group {
        Group {
            cost,
            rules,
            counts: [0; State::KINDS],
            idle: List::EMPTY,
            asleep: List::EMPTY,
            promised: List::EMPTY,
            waiters: List::EMPTY,
            hopeful: 0,
            covered: 0,
            uncovered: NIL,
            hungry_at: NOT_HUNGRY,
            lean: false,
            refill_after: Time::ZERO,
            refill_failures: 0,
            breaker: None,
            retiring: 0,
            retiring_idle: 0,
            generic: NIL,
            is_generic: false,
            plain: 0,
            pins: 0,
            spoken_in: 0,
            demand: None,
            target: 0,
        }
    }

    /// Where its slots that rest are listed: those that sleep are apart.
    #[inline]
    pub(crate) fn resting_list(&mut self, state: State) -> &mut List {
        if state == State::Asleep { &mut self.asleep } else { &mut self.idle }
    }

    /// All slots.
    pub(crate) fn live(&self) -> u32 {
        self.counts.iter().sum()
    }

    /// Slots that serve, or will: all but those on their way out.
    pub(crate) fn serving(&self) -> u32 {
        self.counts[..State::KINDS - 1].iter().sum()
    }

    pub(crate) fn creating(&self) -> u32 {
        self.counts[State::Creating.kind()] + self.counts[State::Specialising.kind()]
    }

    pub(crate) fn idle_count(&self) -> u32 {
        self.counts[State::Idle.kind()]
    }

    /// Idle slots, awake or asleep.
    pub(crate) fn resting(&self) -> u32 {
        self.idle_count() + self.asleep.len
    }

    /// Slots that serve, or will, and neither sleep nor are being put to sleep.
    pub(crate) fn awake(&self) -> u32 {
        self.serving() - self.asleep.len - self.counts[State::Hibernating.kind()]
    }

    /// Idle slots that are not about to be replaced.
    pub(crate) fn staying_idle(&self) -> u32 {
        self.idle_count() - self.retiring_idle
    }

    /// There shall be idle slots before anybody asks.
    pub(crate) fn keeps_stock(&self) -> bool {
        self.rules.min_idle > 0 || self.target > 0
    }

    /// Waiters that no slot in the making will serve.
    pub(crate) fn uncovered_waiters(&self) -> u32 {
        self.waiters.len - self.covered
    }

    pub(crate) fn is_unused(&self) -> bool {
        self.pins == 0
            && self.breaker.is_none()
            && self.waiters.is_empty()
            && self.counts == [0; State::KINDS]
    }
}
