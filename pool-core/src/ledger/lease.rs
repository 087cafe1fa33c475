//! Events of callers: acquire, pick up, cancel, return, detach.

use std::panic::Location;

use super::list::NIL;
use super::slot::{Check, Origin, State};
use super::waiter::Fate;
use super::{Gate, Ledger};
use crate::meta::Reason;
use crate::time::{Span, Time};

/// The answer to an acquire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acquired {
    /// This slot is the caller's.
    Ready(u32),
    /// The caller has this place in the queue.
    Queued(u32),
    TooManyWaiters,
    TooCostly,
    /// Only a creation could serve the caller, and none is tried until then.
    CircuitOpen(Time),
    Closed,
}

/// What a returning lease says of its resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Ready,
    Recycle,
    Destroy(Reason),
}

impl Ledger {
    /// Takes an idle slot that is ready without a check; never waits, never creates.
    #[inline]
    pub(crate) fn try_acquire(
        &mut self,
        group: u32,
        now: Time,
        location: &'static Location<'static>,
    ) -> Option<u32> {
        if self.gate != Gate::Open {
            return None;
        }
        let record = &self.groups[group as usize];
        let (waited_for, promised) = (!record.waiters.is_empty(), !record.promised.is_empty());
        let ready = if waited_for { None } else { self.take_ready(group, now) };
        let barged = promised && ready.is_none();
        let slot = if barged { self.barge(group, now) } else { ready };
        let Some(slot) = slot else {
            // What has expired on the way is destroyed now.
            self.dispatch(now);
            return None;
        };
        self.lend(slot, now, location);
        self.counters.acquired_ready += 1;
        if self.rules.sizing.is_some() {
            let was_idle = !barged;
            self.note_demand(group, was_idle.then(|| self.slots[slot as usize].idle_since), now);
        }
        if barged {
            self.dirty = true;
            self.serve(group, now);
        }
        if !self.hungry.is_empty() {
            self.pass_the_hungry();
        }
        self.dispatch(now);
        Some(slot)
    }

    /// Takes an idle slot or a place in the queue. `deadline` is the caller's own, if it has one,
    /// else `common`, which grows from call to call.
    pub(crate) fn acquire(
        &mut self,
        group: u32,
        deadline: Option<Time>,
        common: Time,
        now: Time,
        location: &'static Location<'static>,
    ) -> Acquired {
        if self.gate == Gate::Closed {
            self.bury(group);
            return Acquired::Closed;
        }
        if let Some(slot) = self.try_acquire(group, now, location) {
            return Acquired::Ready(slot);
        }
        self.probe_if_due(group, now);
        if let Some(refusal) = self.refusal(group) {
            self.refresh(group);
            self.dispatch(now);
            return refusal;
        }
        let waiter = self.enqueue(group, deadline.unwrap_or(common), deadline.is_some(), location);
        if self.rules.sizing.is_some() {
            self.note_demand(group, None, now);
        }
        self.serve(group, now);
        // Where an older waiter finds no room, there is none for this one either.
        self.dirty |= self.starved.is_none() && !self.hungry.is_empty();
        self.dispatch(now);
        Acquired::Queued(waiter)
    }

    fn refusal(&mut self, group: u32) -> Option<Acquired> {
        if self.groups[group as usize].cost > self.rules.max_cost {
            return Some(Acquired::TooCostly);
        }
        if let Some(until) = self.hopeless_until(group) {
            self.counters.circuit_refused += 1;
            return Some(Acquired::CircuitOpen(until));
        }
        if self.waiting >= self.rules.max_waiters {
            self.counters.refused += 1;
            return Some(Acquired::TooManyWaiters);
        }
        None
    }

    /// The slot that is promised to `waiter` becomes its lease.
    pub(crate) fn pick_up(&mut self, waiter: u32, now: Time) -> Option<u32> {
        let Fate::Granted(slot) = self.fate(waiter) else { return None };
        let location = self.waiters.remove(waiter as usize).location;
        self.unpromise(slot);
        self.lend(slot, now, location);
        self.counters.acquired_waited += 1;
        self.dispatch(now);
        Some(slot)
    }

    /// A waiter whose fate was bad news has heard it.
    pub(crate) fn dismiss(&mut self, waiter: u32) {
        self.waiters.remove(waiter as usize);
    }

    /// A waiter goes away; what was promised to it goes to the next.
    pub(crate) fn cancel(&mut self, waiter: u32, now: Time) {
        let fate = self.fate(waiter);
        if fate == Fate::Waiting {
            self.dequeue(waiter);
        }
        let group = self.waiters.remove(waiter as usize).group;
        match fate {
            Fate::Waiting => {
                self.counters.cancelled += 1;
                self.refresh(group);
            }
            Fate::Granted(slot) => {
                self.counters.cancelled += 1;
                self.unpromise(slot);
                self.make_ready(slot, now);
            }
            _ => {}
        }
        self.dispatch(now);
    }

    /// A lease comes back.
    #[inline]
    pub(crate) fn give_back(&mut self, slot: u32, verdict: Verdict, now: Time) {
        self.counters.returned += 1;
        match verdict {
            Verdict::Ready if self.must_check_for_next(slot) => {
                self.clean(slot, State::Checking(Check::BeforeHandOut));
            }
            Verdict::Ready => self.make_ready(slot, now),
            Verdict::Destroy(reason) => self.destroy(slot, reason),
            Verdict::Recycle => self.recycle(slot, now),
        }
        self.dispatch(now);
    }

    /// Where every hand-out needs a check, one straight to the next waiter does, too.
    #[inline]
    pub(super) fn must_check_for_next(&self, slot: u32) -> bool {
        self.rules.check_after == Span::ZERO
            && !self.groups[self.slots[slot as usize].group as usize].waiters.is_empty()
    }

    /// Whether it is worth keeping is decided before it is recycled.
    fn recycle(&mut self, slot: u32, now: Time) {
        match self.unfit(slot, now).or_else(|| self.unwanted(slot)) {
            Some(reason) => self.destroy(slot, reason),
            None => self.clean(slot, State::Recycling),
        }
    }

    /// A lease leaves the pool with its resource, for ever.
    pub(crate) fn detach(&mut self, slot: u32, now: Time) {
        self.counters.detached += 1;
        self.counters.returned += 1;
        self.free_slot(slot);
        self.dispatch(now);
    }

    /// Takes in a resource that the user brings, if there is room.
    pub(crate) fn insert(&mut self, group: u32, lifetime_end: Time, now: Time) -> Option<u32> {
        let record = &self.groups[group as usize];
        let room = self.fits_now(record.cost) && record.serving() < record.rules.max_per_key;
        if self.gate == Gate::Closed || !room {
            self.refresh(group);
            self.dispatch(now);
            return None;
        }
        let index = self.add_slot(group, Origin::Inserted);
        self.counters.inserted += 1;
        self.born(index, lifetime_end, now);
        self.dispatch(now);
        Some(index)
    }

    #[inline]
    fn lend(&mut self, index: u32, now: Time, location: &'static Location<'static>) {
        let slot = &mut self.slots[index as usize];
        let group = &mut self.groups[slot.group as usize];
        self.totals.shift(slot, group, State::Leased);
        slot.uses += 1;
        slot.leased_since = now;
        slot.leased_at = Some(location);
        if group.keeps_stock() {
            let group = slot.group;
            self.retire_on_last_use(index);
            self.refresh_leanness(group);
        }
    }

    /// The next idle slot of the group that needs no check, out of the lists. Expired ones on the
    /// way are destroyed.
    #[inline]
    fn take_ready(&mut self, group: u32, now: Time) -> Option<u32> {
        let index = self.next_idle(group, now)?;
        if self.needs_check(index, now) {
            return None;
        }
        self.unlink(index);
        Some(index)
    }

    /// The idle slot to use next. Those in the hands of a periodic check are passed over.
    #[inline]
    pub(super) fn next_idle(&mut self, group: u32, now: Time) -> Option<u32> {
        let lifo = self.rules.lifo;
        let list = self.groups[group as usize].idle;
        let mut index = if lifo { list.tail } else { list.head };
        while index != NIL {
            let slot = &self.slots[index as usize];
            let link = slot.by_key;
            if slot.state == State::Idle {
                let expired = now >= slot.expires && self.expire(index, now);
                if !expired {
                    return Some(index);
                }
            }
            index = if lifo { link.prev } else { link.next };
        }
        None
    }

    #[inline]
    pub(super) fn needs_check(&self, index: u32, now: Time) -> bool {
        let slot = &self.slots[index as usize];
        now.is_past(self.rules.check_after, slot.known_good.max(slot.idle_since))
    }

    /// Gives idle slots of a group to its waiters: at once those that are ready, the others after
    /// a check, but no more checks than there are waiters.
    pub(super) fn serve(&mut self, group: u32, now: Time) {
        self.refresh(group);
        while self.gate == Gate::Open {
            let record = &self.groups[group as usize];
            if record.waiters.is_empty() {
                return;
            }
            let covered = record.uncovered_waiters() == 0;
            let Some(index) = self.next_idle(group, now) else {
                if self.wants_a_sleeper(group) && self.wake_one(group, now) {
                    continue;
                }
                return;
            };
            if !self.needs_check(index, now) {
                self.unlink(index);
                self.grant(index);
            } else if covered {
                return;
            } else {
                self.clean(index, State::Checking(Check::BeforeHandOut));
            }
        }
    }

    /// Promises a slot to the head of its group's queue.
    pub(super) fn grant(&mut self, index: u32) {
        let group = self.slots[index as usize].group;
        let waiter = self.groups[group as usize].waiters.head;
        self.settle(waiter, Fate::Granted(index));
        self.set_state(index, State::Granted);
        self.promise(index, waiter);
        self.refresh(group);
    }

    /// A slot is ready: for the oldest waiter of its key, for the room that an older waiter of
    /// another key needs, or to be idle.
    #[inline]
    pub(super) fn make_ready(&mut self, index: u32, now: Time) {
        if self.starved.is_some() && self.unfit(index, now).is_none() && self.must_give_way(index) {
            return self.destroy(index, Reason::Evicted);
        }
        self.hand_out(index, now);
    }

    /// As [`make_ready`](Ledger::make_ready), where passing an older waiter was counted before.
    #[inline]
    pub(super) fn hand_out(&mut self, index: u32, now: Time) {
        let slot = &mut self.slots[index as usize];
        let group = slot.group;
        let record = &mut self.groups[group as usize];
        slot.hope(record, false);
        let (waited_for, unfit) = (!record.waiters.is_empty(), slot.unfit(&record.rules, now));
        if let Some(reason) = unfit.or_else(|| self.surplus(group)) {
            return self.destroy(index, reason);
        }
        if !waited_for {
            return self.become_idle(index, now);
        }
        if self.gate != Gate::Open {
            self.become_idle(index, now);
            return self.refresh(group);
        }
        self.unlink(index);
        self.grant(index);
    }

    /// Whether an older waiter of another key has been passed often enough; if not, counts the pass.
    fn must_give_way(&mut self, index: u32) -> bool {
        let waiters = self.groups[self.slots[index as usize].group as usize].waiters;
        let overdue = self.is_overdue();
        if waiters.is_empty() {
            // Nor does it wait for a younger one to come along.
            return overdue;
        }
        let passes = self.passes_an_older(waiters.head);
        if passes && !overdue {
            self.count_pass();
        }
        passes && overdue
    }

    /// Whether giving a resource to `waiter` passes an older waiter of another key.
    fn passes_an_older(&self, waiter: u32) -> bool {
        self.starved.is_some_and(|starved| starved.ticket < self.waiters[waiter as usize].ticket)
    }

    /// Somebody who has just come took an idle slot, and is younger than all that wait.
    #[cold]
    fn pass_the_hungry(&mut self) {
        if self.starved.is_some() {
            self.count_pass();
        }
        self.dirty = true;
    }

    pub(super) fn count_pass(&mut self) {
        self.passes += 1;
        self.counters.overtakes += 1;
    }

    /// Whether the oldest waiter without room was passed as often as it has to bear.
    pub(super) fn is_overdue(&self) -> bool {
        self.starved.is_some_and(|starved| {
            let passes = self.passes - self.waiters[starved.waiter as usize].passes_before;
            passes >= self.rules.max_overtakes
        })
    }

    /// Why a slot must not be used again.
    #[inline]
    pub(super) fn unfit(&self, index: u32, now: Time) -> Option<Reason> {
        let slot = &self.slots[index as usize];
        let unfit = slot.unfit(&self.groups[slot.group as usize].rules, now);
        unfit.or_else(|| self.surplus(slot.group))
    }

    /// Why slots of a group must not be used again, fit as they are.
    #[inline]
    fn surplus(&self, group: u32) -> Option<Reason> {
        (self.resized && self.is_over_limit(group)).then_some(Reason::Shrunk)
    }

    /// Why nobody would have a use for a returned slot, even clean.
    fn unwanted(&self, index: u32) -> Option<Reason> {
        let group = &self.groups[self.slots[index as usize].group as usize];
        let waiters = group.waiters;
        if !waiters.is_empty() {
            return (self.passes_an_older(waiters.head) && self.is_overdue()).then_some(Reason::Evicted);
        }
        if self.starved.is_some() && (self.is_overdue() || self.would_end_the_wait(index)) {
            return Some(Reason::Evicted);
        }
        let none_idle = self.rules.max_idle == 0 || group.rules.max_idle == 0;
        none_idle.then_some(Reason::IdleLimit)
    }

    /// Whether the oldest waiter without room would have it if this slot and all idle ones went.
    fn would_end_the_wait(&self, index: u32) -> bool {
        self.starved.is_some_and(|starved| {
            let group = self.waiters[starved.waiter as usize].group;
            let cost = self.groups[group as usize].cost;
            let idle = self.resting();
            let this_retires = u32::from(self.slots[index as usize].retiring);
            let retiring = self.totals.retiring - self.totals.retiring_idle - this_retires;
            let cost_left =
                self.totals.cost_serving - self.totals.cost_idle - self.slots[index as usize].cost;
            self.serving() - idle - 1 < self.serving_limit_beside(retiring)
                && cost_left.saturating_add(cost) <= self.rules.max_cost
        })
    }

    /// The limits became smaller than what there is.
    fn is_over_limit(&self, group: u32) -> bool {
        let record = &self.groups[group as usize];
        self.serving() > self.serving_limit()
            || self.totals.cost_serving > self.rules.max_cost
            || record.serving() > self.serving_limit_of(record)
    }

    #[inline]
    fn become_idle(&mut self, index: u32, now: Time) {
        let slot = &mut self.slots[index as usize];
        if !slot.linked {
            slot.idle_since = now;
            self.link(index);
        }
        let slot = &mut self.slots[index as usize];
        let group = slot.group;
        let record = &mut self.groups[group as usize];
        self.totals.shift(slot, record, State::Idle);
        let due = slot.rest(&record.rules).min(slot.sleeps_at(&self.rules));
        let retiring = record.retiring_idle > 0;
        if due < slot.timer {
            self.set_timer(index, due);
        }
        if retiring {
            self.let_the_retiring_go(group);
        }
        self.trim_idle(group);
        if self.starved.is_some() {
            self.dirty = true;
        }
    }

    /// Keeps the idle limits: the least recently used goes.
    #[inline]
    pub(super) fn trim_idle(&mut self, group: u32) {
        let record = &self.groups[group as usize];
        if record.resting() > record.rules.max_idle {
            let oldest = self.oldest_idle_of(group);
            return self.destroy(oldest, Reason::IdleLimit);
        }
        let keeps_stock = record.keeps_stock();
        if self.resting() > self.rules.max_idle {
            let oldest = self.oldest_idle();
            self.destroy(oldest, Reason::IdleLimit);
        }
        if keeps_stock {
            self.refresh_leanness(group);
        }
    }

    /// The first of a group's sleepers, else the first that is idle and in nobody's hands.
    pub(super) fn oldest_idle_of(&self, group: u32) -> u32 {
        let group = &self.groups[group as usize];
        if !group.asleep.is_empty() {
            return group.asleep.head;
        }
        let mut index = group.idle.head;
        while index != NIL && self.slots[index as usize].state != State::Idle {
            index = self.slots[index as usize].by_key.next;
        }
        index
    }

    pub(super) fn oldest_idle(&self) -> u32 {
        let mut index = self.by_age.head;
        while index != NIL && !self.slots[index as usize].state.is_resting() {
            index = self.slots[index as usize].by_age.next;
        }
        index
    }

    /// All idle slots, awake or asleep.
    pub(super) fn resting(&self) -> u32 {
        self.totals.counts[State::Idle.kind()] + self.totals.counts[State::Asleep.kind()]
    }
}
