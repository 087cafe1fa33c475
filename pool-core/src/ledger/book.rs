//! Bookkeeping: the only functions that change states, counts and list membership.

use std::panic::Location;

use super::group::{Group, NOT_HUNGRY};
use super::list::{Link, NIL};
use super::slot::{BY_AGE, BY_KEY, Check, Origin, Slot, State};
use super::waiter::{BY_ARRIVAL, Fate, IN_GROUP, Waiter};
use super::{Gate, Ledger, Timer, Totals};
use crate::meta::{Reason, ResourceId};
use crate::time::Time;

impl Totals {
    /// A slot's state changes, and with it what the totals and its group count.
    #[inline]
    pub(super) fn shift(&mut self, slot: &mut Slot, group: &mut Group, to: State) {
        let from = std::mem::replace(&mut slot.state, to);
        group.counts[from.kind()] -= 1;
        group.counts[to.kind()] += 1;
        self.counts[from.kind()] -= 1;
        self.counts[to.kind()] += 1;
        match (from.is_resting(), to.is_resting()) {
            (true, false) => self.cost_idle -= slot.cost,
            (false, true) => self.cost_idle += slot.cost,
            _ => {}
        }
        if let State::Destroying(_) = to {
            self.cost_serving -= slot.cost;
        }
        if slot.retiring && (from == State::Idle) != (to == State::Idle) {
            self.count_retiring_idle(group, to == State::Idle);
        }
    }
}

impl Ledger {
    /// A new slot in state `Creating`; the limits are the caller's business.
    pub(super) fn add_slot(&mut self, group: u32, origin: Origin) -> u32 {
        let cost = self.group(group).cost;
        let entry = self.slots.vacant_entry();
        let index = entry.key() as u32;
        self.serials += 1;
        let id = ResourceId::new(self.serials, index);
        entry.insert(Slot::new(id, group, cost, origin, self.generation));
        self.totals.cost += cost;
        self.totals.cost_serving += cost;
        self.totals.counts[State::Creating.kind()] += 1;
        self.group(group).counts[State::Creating.kind()] += 1;
        index
    }

    /// Ends a slot's record: its resource is destroyed, detached or was never made, so it is not idle.
    pub(super) fn free_slot(&mut self, index: u32) {
        self.hope(index, false);
        self.unlink(index);
        self.cancel_timer(index);
        self.end_retirement(index);
        let slot = self.slots.remove(index as usize);
        self.totals.counts[slot.state.kind()] -= 1;
        self.group(slot.group).counts[slot.state.kind()] -= 1;
        self.totals.cost -= slot.cost;
        if !matches!(slot.state, State::Destroying(_)) {
            self.totals.cost_serving -= slot.cost;
        }
        self.dirty = true;
        self.refresh(slot.group);
    }

    #[inline]
    pub(super) fn set_state(&mut self, index: u32, to: State) {
        let slot = &mut self.slots[index as usize];
        self.totals.shift(slot, &mut self.groups[slot.group as usize], to);
    }

    /// Says whether a slot in the making will probably serve the next waiter.
    pub(super) fn hope(&mut self, index: u32, hopeful: bool) {
        let slot = &mut self.slots[index as usize];
        slot.hope(&mut self.groups[slot.group as usize], hopeful);
    }

    #[inline]
    pub(super) fn link(&mut self, index: u32) {
        let slot = &self.slots[index as usize];
        let list = self.groups[slot.group as usize].resting_list(slot.state);
        let by_key = list.append::<BY_KEY, _>(&mut self.slots, index);
        let by_age = self.by_age.append::<BY_AGE, _>(&mut self.slots, index);
        let slot = &mut self.slots[index as usize];
        (slot.by_key, slot.by_age, slot.linked) = (by_key, by_age, true);
    }

    #[inline]
    pub(super) fn unlink(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        if !std::mem::replace(&mut slot.linked, false) {
            return;
        }
        let by_key = std::mem::replace(&mut slot.by_key, Link::UNLINKED);
        let by_age = std::mem::replace(&mut slot.by_age, Link::UNLINKED);
        let list = self.groups[slot.group as usize].resting_list(slot.state);
        list.cut::<BY_KEY, _>(&mut self.slots, by_key);
        self.by_age.cut::<BY_AGE, _>(&mut self.slots, by_age);
    }

    pub(super) fn link_to_key(&mut self, index: u32) {
        let slot = &self.slots[index as usize];
        let list = self.groups[slot.group as usize].resting_list(slot.state);
        list.push_back::<BY_KEY, _>(&mut self.slots, index);
    }

    pub(super) fn unlink_from_key(&mut self, index: u32) {
        let slot = &self.slots[index as usize];
        let list = self.groups[slot.group as usize].resting_list(slot.state);
        list.remove::<BY_KEY, _>(&mut self.slots, index);
    }

    /// Notes to which waiter a slot is promised.
    pub(super) fn promise(&mut self, index: u32, waiter: u32) {
        let slot = &mut self.slots[index as usize];
        slot.waiter = waiter;
        self.groups[slot.group as usize].promised.push_back::<BY_KEY, _>(&mut self.slots, index);
    }

    /// The promise is kept, or cannot be.
    pub(super) fn unpromise(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        slot.waiter = NIL;
        self.groups[slot.group as usize].promised.remove::<BY_KEY, _>(&mut self.slots, index);
    }

    /// Sends a slot to its end, from whatever state. Its resource is the driver's to destroy.
    pub(super) fn destroy(&mut self, index: u32, reason: Reason) {
        self.unlink(index);
        self.hope(index, false);
        self.cancel_timer(index);
        let slot = &self.slots[index as usize];
        if slot.state.is_resting() && self.rules.sizing.is_some() {
            self.note_ended(slot.group, slot.idle_since);
        }
        self.end_retirement(index);
        self.set_state(index, State::Destroying(reason));
        self.counters.destroyed[reason as usize] += 1;
        let slot = self.slot(index);
        slot.running = false;
        let (id, group) = (slot.id, slot.group);
        self.to_destroy.push_back(id);
        self.dirty = true;
        self.refresh(group);
    }

    /// Queues a slot for the driver's hands that recycle, check, put to sleep and wake.
    pub(super) fn clean(&mut self, index: u32, state: State) {
        if !matches!(state, State::Checking(Check::Periodic) | State::Hibernating) {
            self.unlink(index);
        }
        self.set_state(index, state);
        self.hope(index, true);
        let slot = self.slot(index);
        let (id, group) = (slot.id, slot.group);
        self.to_clean.push_back(id);
        self.dirty = true;
        self.refresh(group);
    }

    pub(super) fn enqueue(
        &mut self,
        group: u32,
        deadline: Time,
        own_deadline: bool,
        location: &'static Location<'static>,
    ) -> u32 {
        self.tickets += 1;
        let own_deadline = own_deadline || self.common_deadline_is_out_of_order(deadline);
        let waiter = Waiter {
            group,
            ticket: self.tickets,
            deadline,
            own_deadline,
            passes_before: self.passes,
            robbed: 0,
            fate: Fate::Waiting,
            location,
            in_group: Link::UNLINKED,
            by_arrival: Link::UNLINKED,
        };
        let index = self.waiters.insert(waiter) as u32;
        let record = &mut self.groups[group as usize];
        record.waiters.push_back::<IN_GROUP, _>(&mut self.waiters, index);
        if record.uncovered == NIL {
            record.uncovered = index;
        }
        self.watch_deadline(index);
        self.waiting += 1;
        index
    }

    /// The list by arrival is in the order of deadlines as long as the common timeout does not shrink.
    fn common_deadline_is_out_of_order(&self, deadline: Time) -> bool {
        self.by_arrival.tail != NIL && deadline < self.waiters[self.by_arrival.tail as usize].deadline
    }

    /// Takes a waiter out of the queue, with its fate.
    pub(super) fn settle(&mut self, index: u32, fate: Fate) {
        self.dequeue(index);
        self.waiter(index).fate = fate;
        self.out.news = true;
        self.out.settled.push(index);
    }

    pub(super) fn dequeue(&mut self, index: u32) {
        let waiter = &self.waiters[index as usize];
        let (group, ticket, next) = (waiter.group, waiter.ticket, waiter.in_group.next);
        let record = &mut self.groups[group as usize];
        if record.uncovered == index {
            record.uncovered = next;
        } else if record.uncovered == NIL || ticket < self.waiters[record.uncovered as usize].ticket {
            record.covered -= 1;
        }
        record.waiters.remove::<IN_GROUP, _>(&mut self.waiters, index);
        self.unwatch_deadline(index);
        self.waiting -= 1;
        // Room that was kept for it is there for the next; it was hungry if it was starved.
        self.dirty |= !self.hungry.is_empty();
    }

    /// Puts a waiter whose promised slot has died back to where it stood: near the head, behind only
    /// those to whom the same has happened.
    pub(super) fn requeue(&mut self, index: u32) {
        let waiter = &mut self.waiters[index as usize];
        waiter.fate = Fate::Waiting;
        waiter.own_deadline = true;
        let (group, ticket) = (waiter.group, waiter.ticket);
        let mut behind = self.groups[group as usize].waiters.head;
        while behind != NIL && self.waiters[behind as usize].ticket < ticket {
            behind = self.waiters[behind as usize].in_group.next;
        }
        let record = &mut self.groups[group as usize];
        record.waiters.insert_before::<IN_GROUP, _>(&mut self.waiters, index, behind);
        record.uncovered = match record.uncovered {
            NIL => record.waiters.tail,
            uncovered if self.waiters[uncovered as usize].ticket < ticket => uncovered,
            uncovered => self.waiters[uncovered as usize].in_group.prev,
        };
        self.watch_deadline(index);
        self.waiting += 1;
    }

    fn watch_deadline(&mut self, index: u32) {
        let waiter = &self.waiters[index as usize];
        let deadline = waiter.deadline;
        match waiter.own_deadline {
            true => _ = self.own_deadlines.insert((deadline, index)),
            false => self.by_arrival.push_back::<BY_ARRIVAL, _>(&mut self.waiters, index),
        }
        self.ring(deadline);
    }

    fn unwatch_deadline(&mut self, index: u32) {
        let waiter = &self.waiters[index as usize];
        match waiter.own_deadline {
            true => _ = self.own_deadlines.remove(&(waiter.deadline, index)),
            false => self.by_arrival.remove::<BY_ARRIVAL, _>(&mut self.waiters, index),
        }
    }

    /// The driver must wake at `time` at the latest.
    pub(super) fn ring(&mut self, time: Time) {
        self.alarm = self.alarm.min(time);
    }

    /// Sets the slot's timer, unless an earlier one is set: that one will look again.
    #[inline]
    pub(super) fn set_timer(&mut self, index: u32, due: Time) {
        let timer = self.slots[index as usize].timer;
        if due < timer {
            self.cancel_timer(index);
            self.slot(index).timer = due;
            self.timers.insert((due, Timer::Slot(index)));
            self.ring(due);
        }
    }

    pub(super) fn cancel_timer(&mut self, index: u32) {
        let timer = std::mem::replace(&mut self.slot(index).timer, Time::NEVER);
        if timer != Time::NEVER {
            self.timers.remove(&(timer, Timer::Slot(index)));
        }
    }

    /// Brings everything that follows from a group's counts and queue up to date.
    pub(super) fn refresh(&mut self, index: u32) {
        self.refuse_the_hopeless(index);
        self.recover(index);
        self.refresh_hunger(index);
        self.refresh_leanness(index);
        self.bury(index);
    }

    /// Moves the boundary between covered and uncovered waiters to where it belongs.
    fn recover(&mut self, index: u32) {
        let group = &mut self.groups[index as usize];
        let target = group.hopeful.min(group.waiters.len);
        while group.covered < target {
            group.uncovered = self.waiters[group.uncovered as usize].in_group.next;
            group.covered += 1;
        }
        while group.covered > target {
            group.uncovered = match group.uncovered {
                NIL => group.waiters.tail,
                uncovered => self.waiters[uncovered as usize].in_group.prev,
            };
            group.covered -= 1;
        }
    }

    fn refresh_hunger(&mut self, index: u32) {
        let hungry_at = match self.gate == Gate::Open && self.wants(index) > 0 {
            true => self.waiters[self.groups[index as usize].uncovered as usize].ticket,
            false => NOT_HUNGRY,
        };
        let was = std::mem::replace(&mut self.group(index).hungry_at, hungry_at);
        if was == hungry_at {
            return;
        }
        if was != NOT_HUNGRY {
            self.hungry.remove(&(was, index));
        }
        if hungry_at != NOT_HUNGRY {
            self.hungry.insert((hungry_at, index));
        }
        // Room that was kept for a group that is not hungry any more is there for the next.
        self.dirty |= !self.hungry.is_empty();
    }

    /// All that a slot changes that only becomes idle, or stops being so.
    pub(super) fn refresh_leanness(&mut self, index: u32) {
        let group = self.group(index);
        if group.rules.min_idle == 0 && group.target == 0 && !group.lean {
            return;
        }
        let lean = self.gate == Gate::Open && self.lacks(index) > 0;
        let was = std::mem::replace(&mut self.group(index).lean, lean);
        match (was, lean) {
            (false, true) => {
                self.lean.insert(index);
                self.dirty = true;
            }
            (true, false) => _ = self.lean.remove(&index),
            _ => {}
        }
    }

    /// Forgets a group that nothing needs any more.
    pub(super) fn bury(&mut self, index: u32) {
        let group = &self.groups[index as usize];
        let kept = (group.rules.min_idle > 0 || group.demand.is_some()) && self.gate != Gate::Closed;
        if !kept && group.is_unused() {
            let (refill_after, generic) = (group.refill_after, group.generic);
            self.timers.remove(&(refill_after, Timer::Refill(index)));
            self.groups.remove(index as usize);
            self.out.news = true;
            self.out.dead_groups.push(index);
            self.release_generic(generic);
        }
    }

    /// How many creations a group wants for its waiters, within limits of its own.
    pub(super) fn wants(&self, index: u32) -> u32 {
        let group = &self.groups[index as usize];
        match group.uncovered_waiters() {
            0 => 0,
            uncovered => uncovered.min(self.room_for_key(group)),
        }
    }

    /// How many creations and wakes a group needs to have its minimum idle, and its adaptive target.
    pub(super) fn lacks(&self, index: u32) -> u32 {
        let group = &self.groups[index as usize];
        let coming = group.hopeful.saturating_sub(group.waiters.len);
        let lacking = group.rules.min_idle.saturating_sub(group.staying_idle() + coming);
        match lacking.max(group.lacks_target(coming)) {
            0 => 0,
            lacking => lacking.min(self.room_for_key(group).saturating_add(group.asleep.len)),
        }
    }

    /// How many creations the limits per key, and the breaker, leave room for.
    pub(super) fn room_for_key(&self, group: &Group) -> u32 {
        let serving = self.serving_limit_of(group).saturating_sub(group.serving());
        let live = group.rules.max_per_key.saturating_add(self.rules.max_surge).saturating_sub(group.live());
        let creating = self.rules.max_creating_per_key.saturating_sub(group.creating());
        let tried = group.breaker.as_ref().map_or(u32::MAX, |breaker| breaker.room(group.creating()));
        serving.min(live).min(creating).min(tried)
    }
}
