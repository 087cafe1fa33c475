//! The brain of the pool: every decision about slots, keys, waiters, limits, eviction and expiry.
//!
//! A plain value: no lock, no clock (time is an argument), no `async`, no `Arc`. It sees ids, never
//! resources. Each event changes it and ends in [`Ledger::dispatch`], the one way out, which leaves
//! what is to be done in [`Out`]: orders for the driver, waiters whose fate is settled.
//!
//! - `slot`, `group`, `waiter`: the records; `list`: the lists that run through them
//! - `book`: the only functions that change states and counts
//! - `lease`: events of callers; `work`: events of the driver; `admin`: events of the owner
//! - `breaker`: what follows from failed creations; `pressure`: from shortage; `overdue`: long leases
//! - `dispatch`: who gets freed room; `clock`: what time brings; `retire`: replacement before the end
//! - `sleep`: hibernation; `donor`: generic resources; `barge`: throughput mode
//! - `demand`: the adaptive sizer; `sizing`: how its targets are followed
//! - `check`: the invariants, one assertion each

mod admin;
mod barge;
mod book;
mod breaker;
#[cfg(test)]
mod check;
mod clock;
mod demand;
mod dispatch;
mod donor;
mod group;
mod lease;
mod list;
#[cfg(test)]
mod model;
mod overdue;
mod pressure;
mod retire;
mod rules;
mod sizing;
mod sleep;
mod slot;
mod waiter;
mod work;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use slab::Slab;

pub(crate) use self::breaker::Circuit;
use self::group::Group;
pub(crate) use self::lease::{Acquired, Verdict};
use self::list::List;
pub(crate) use self::list::NIL;
pub(crate) use self::overdue::Overdue;
pub(crate) use self::rules::{KeyRules, Rules};
use self::sizing::Sizer;
pub(crate) use self::slot::{Origin, Slot, State};
pub(crate) use self::waiter::Fate;
use self::waiter::Waiter;
pub(crate) use self::work::Failed;
use crate::counters::Counters;
use crate::meta::{Reason, ResourceId};
use crate::time::Time;

/// Whether the pool gives resources out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    Open,
    Suspended,
    Closed,
}

/// What the driver is asked to do with a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    Create,
    Recycle,
    Check,
    Hibernate,
    Wake,
    Specialise,
    Destroy(Reason),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) id: ResourceId,
    pub(crate) job: Job,
}

/// A circuit that has opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    /// The creation that failed last.
    pub(crate) id: ResourceId,
    /// How many failed in a row.
    pub(crate) failures: u64,
    pub(crate) pause: Duration,
}

/// Why a call of `warm` is not met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unmet {
    NoRoom,
    CircuitOpen,
    Pressure,
    Closed,
}

/// What events leave to be done.
#[derive(Debug, Default)]
pub(crate) struct Out {
    /// There is something in here that nobody has looked at.
    pub(crate) news: bool,
    /// Work for the driver, in order.
    pub(crate) orders: VecDeque<Order>,
    /// Waiters whose fate is settled and who must be woken.
    pub(crate) settled: Vec<u32>,
    /// Groups that are gone; their keys can be forgotten.
    pub(crate) dead_groups: Vec<u32>,
    /// Calls of `warm` for which nothing is made, and why; once per resource.
    pub(crate) unmet_warm: Vec<(u64, Unmet)>,
    /// Circuits that have opened.
    pub(crate) opened: Vec<Opened>,
}

/// What is due at a certain time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// An idle slot expires or is to be checked.
    Slot(u32),
    /// A group below its minimum idle may be refilled again.
    Refill(u32),
    /// The breaker of a group is to be looked at.
    Breaker(u32),
    /// Adaptive targets are set anew.
    Sizing,
}

/// The oldest waiter for which there is no room.
#[derive(Clone, Copy, Debug)]
struct Starved {
    ticket: u64,
    waiter: u32,
}

/// Sums over all groups.
#[derive(Clone, Debug, Default)]
struct Totals {
    counts: [u32; State::KINDS],
    /// Of all slots.
    cost: u64,
    /// Of slots that are not being destroyed.
    cost_serving: u64,
    /// Of idle slots, awake or asleep.
    cost_idle: u64,
    /// Slots that are to be replaced, but for those being destroyed; those of them that are idle.
    retiring: u32,
    retiring_idle: u32,
    abandoned: u32,
    stuck: u32,
    /// Groups whose last creation failed.
    breakers: u32,
    /// Groups whose circuit is not closed.
    circuits_open: u32,
}

pub(crate) struct Ledger {
    rules: Rules,
    gate: Gate,
    slots: Slab<Slot>,
    groups: Slab<Group>,
    waiters: Slab<Waiter>,
    totals: Totals,
    /// Idle slots of all groups, least recently used first.
    by_age: List,
    /// Waiters with the common timeout, so in the order of their deadlines.
    by_arrival: List,
    /// Waiters with a deadline of their own.
    own_deadlines: BTreeSet<(Time, u32)>,
    /// How many waiters stand in the queue.
    waiting: u32,
    timers: BTreeSet<(Time, Timer)>,
    /// A lower bound of what is due next; the driver raises it when it has looked.
    alarm: Time,
    sizer: Sizer,
    /// Groups that want a creation and are not held back by limits of their own, by the ticket of
    /// the waiter whom it would serve.
    hungry: BTreeSet<(u64, u32)>,
    /// Groups below their minimum idle or adaptive target.
    lean: BTreeSet<u32>,
    /// Creations asked for by `warm`: group and number of the call.
    warming: VecDeque<(u32, u64)>,
    /// Slots that wait for a recycle or a check.
    to_clean: VecDeque<ResourceId>,
    /// Slots that wait for a destroy.
    to_destroy: VecDeque<ResourceId>,
    cleaning: u32,
    destroying: u32,
    starved: Option<Starved>,
    /// The smallest cost ever seen: nothing smaller can pass a waiter that does not fit.
    least_cost: u64,
    /// How many resources ever passed an older waiter of another key.
    passes: u64,
    tickets: u64,
    /// How many times `dispatch` had something to do.
    dispatches: u64,
    serials: u64,
    generation: u64,
    /// Something changed that `dispatch` must look at.
    dirty: bool,
    /// Something is short: no creation starts.
    pressed: bool,
    /// The limits were changed: what was there before may exceed them.
    resized: bool,
    pub(crate) out: Out,
    pub(crate) counters: Counters,
}

impl Ledger {
    pub(crate) fn new(rules: Rules) -> Ledger {
        Ledger {
            rules,
            gate: Gate::Open,
            slots: Slab::new(),
            groups: Slab::new(),
            waiters: Slab::new(),
            totals: Totals::default(),
            by_age: List::EMPTY,
            by_arrival: List::EMPTY,
            own_deadlines: BTreeSet::new(),
            waiting: 0,
            timers: BTreeSet::new(),
            alarm: Time::NEVER,
            sizer: Sizer::default(),
            hungry: BTreeSet::new(),
            lean: BTreeSet::new(),
            warming: VecDeque::new(),
            to_clean: VecDeque::new(),
            to_destroy: VecDeque::new(),
            cleaning: 0,
            destroying: 0,
            starved: None,
            least_cost: u64::MAX,
            passes: 0,
            tickets: 0,
            dispatches: 0,
            serials: 0,
            generation: 0,
            dirty: false,
            pressed: false,
            resized: false,
            out: Out::default(),
            counters: Counters::default(),
        }
    }

    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    pub(crate) fn gate(&self) -> Gate {
        self.gate
    }

    /// A new group, for a key that has none.
    pub(crate) fn add_group(&mut self, cost: u64, rules: KeyRules) -> u32 {
        self.least_cost = self.least_cost.min(cost);
        self.groups.insert(Group::new(cost, rules)) as u32
    }

    /// The slot of a resource, unless it has ended.
    pub(crate) fn find(&self, id: ResourceId) -> Option<&Slot> {
        self.slots.get(id.slot() as usize).filter(|slot| slot.id == id)
    }

    /// The id and generation of the resource in a slot.
    pub(crate) fn identity(&self, slot: u32) -> (ResourceId, u64) {
        let slot = &self.slots[slot as usize];
        (slot.id, slot.generation)
    }

    pub(crate) fn group_of_waiter(&self, waiter: u32) -> u32 {
        self.waiters[waiter as usize].group
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().map(|(_, slot)| slot)
    }

    pub(crate) fn group_slots(&self, group: u32) -> &[u32; State::KINDS] {
        &self.groups[group as usize].counts
    }

    pub(crate) fn group_waiters(&self, group: u32) -> u32 {
        self.groups[group as usize].waiters.len
    }

    /// What a resource of this group costs.
    pub(crate) fn cost_of(&self, group: u32) -> u64 {
        self.groups[group as usize].cost
    }

    pub(crate) fn counts(&self) -> &[u32; State::KINDS] {
        &self.totals.counts
    }

    pub(crate) fn cost(&self) -> u64 {
        self.totals.cost
    }

    pub(crate) fn abandoned(&self) -> u32 {
        self.totals.abandoned
    }

    pub(crate) fn stuck(&self) -> u32 {
        self.totals.stuck
    }

    pub(crate) fn waiting(&self) -> u32 {
        self.waiting
    }

    pub(crate) fn fate(&self, waiter: u32) -> Fate {
        self.waiters[waiter as usize].fate
    }

    /// The waiters that stand in the queue.
    pub(crate) fn waiting_ids(&self) -> Vec<u32> {
        let waiting = self.waiters.iter().filter(|(_, waiter)| waiter.fate == Fate::Waiting);
        waiting.map(|(index, _)| index as u32).collect()
    }

    /// The pool is closed and nothing is left in it but what cannot be destroyed.
    pub(crate) fn is_drained(&self) -> bool {
        self.gate == Gate::Closed && self.slots.len() as u32 == self.totals.stuck
    }

    fn slot(&mut self, index: u32) -> &mut Slot {
        &mut self.slots[index as usize]
    }

    fn group(&mut self, index: u32) -> &mut Group {
        &mut self.groups[index as usize]
    }

    fn waiter(&mut self, index: u32) -> &mut Waiter {
        &mut self.waiters[index as usize]
    }
}
