//! Events of the owner: limits, invalidation, suspension, warm-up, closing.

use super::group::NOT_HUNGRY;
use super::slot::{Check, State};
use super::waiter::Fate;
use super::{Gate, Ledger, NIL, Rules, Unmet};
use crate::meta::{Reason, ResourceId};
use crate::policy::KeyConfig;
use crate::time::Time;

impl Ledger {
    /// New limits. What exceeds them goes: idle resources now, leased ones at their return. `own`
    /// knows the options of groups whose keys have a policy.
    pub(crate) fn resize(&mut self, rules: Rules, own: impl Fn(u32) -> Option<KeyConfig>, now: Time) {
        for (index, group) in &mut self.groups {
            group.rules = own(index as u32).map_or(rules.key, |config| rules.for_key(&config));
        }
        self.rules = rules;
        self.restock();
        self.resized = true;
        self.shrink();
        let groups: Vec<u32> = self.groups.iter().map(|(index, _)| index as u32).collect();
        for group in groups {
            if !self.groups.contains(group as usize) {
                continue;
            }
            self.shrink_group(group);
            if self.rules.breaker_after.is_none() {
                self.forgive(group);
            }
            self.refresh(group);
        }
        for id in self.idle_ids() {
            self.set_expiry(id.slot());
        }
        self.dirty = true;
        self.dispatch(now);
    }

    fn shrink(&mut self) {
        loop {
            let over = self.serving() > self.serving_limit()
                || self.totals.cost_serving > self.rules.max_cost
                || self.resting() > self.rules.max_idle;
            match self.oldest_idle() {
                NIL => return,
                oldest if over => self.destroy(oldest, Reason::Shrunk),
                _ => return,
            }
        }
    }

    fn shrink_group(&mut self, group: u32) {
        loop {
            let record = &self.groups[group as usize];
            let over =
                record.serving() > self.serving_limit_of(record) || record.resting() > record.rules.max_idle;
            match self.oldest_idle_of(group) {
                NIL => return,
                oldest if over => self.destroy(oldest, Reason::Shrunk),
                _ => return,
            }
        }
    }

    /// Nothing made so far for this group is used again.
    pub(crate) fn invalidate(&mut self, group: u32, now: Time) {
        self.generation += 1;
        self.doom(|slot| slot.group == group, Reason::Invalidated);
        self.dispatch(now);
    }

    /// Nothing made so far is used again.
    pub(crate) fn invalidate_all(&mut self, now: Time) {
        self.generation += 1;
        self.doom(|_| true, Reason::Invalidated);
        self.dispatch(now);
    }

    /// Some slots must not be used again: those in nobody's hands are destroyed now, least recently
    /// used first, the others when they come back. Waiters no longer count on them.
    fn doom(&mut self, which: impl Fn(&super::Slot) -> bool, reason: Reason) {
        for id in self.idle_ids() {
            if which(&self.slots[id.slot() as usize]) {
                self.destroy(id.slot(), reason);
            }
        }
        let doomed: Vec<u32> =
            self.slots.iter().filter(|(_, slot)| which(slot)).map(|(index, _)| index as u32).collect();
        for index in doomed {
            let slot = self.slot(index);
            slot.doom.get_or_insert(reason);
            let (state, running, group) = (slot.state, slot.running, slot.group);
            if state.is_cleaning() && !running {
                self.destroy(index, reason);
            } else {
                self.hope(index, false);
                self.refresh(group);
            }
        }
    }

    /// All idle slots, awake or asleep, least recently used first.
    pub(crate) fn idle_ids(&self) -> Vec<ResourceId> {
        let mut ids = Vec::with_capacity(self.resting() as usize);
        let mut index = self.by_age.head;
        while index != NIL {
            let slot = &self.slots[index as usize];
            if slot.state.is_resting() {
                ids.push(slot.id);
            }
            index = slot.by_age.next;
        }
        ids
    }

    /// Takes an idle slot in hand for a look at its resource, if it is still idle. It keeps its
    /// place; [`put_down`](Ledger::put_down) ends the look.
    pub(crate) fn pick_idle(&mut self, id: ResourceId) -> bool {
        if self.find(id).is_none_or(|slot| slot.state != State::Idle) {
            return false;
        }
        let index = id.slot();
        self.set_state(index, State::Checking(Check::Periodic));
        self.hope(index, true);
        let slot = self.slot(index);
        slot.running = true;
        let group = slot.group;
        self.refresh(group);
        true
    }

    /// The look at an idle slot is over. It was no check: a waiter that came meanwhile gets one.
    pub(crate) fn put_down(&mut self, index: u32, result: Result<(), Reason>, now: Time) {
        let group = self.slots[index as usize].group;
        let wanted = !self.groups[group as usize].waiters.is_empty();
        if result.is_ok() && wanted && self.unfit(index, now).is_none() && self.needs_check(index, now) {
            self.slot(index).running = false;
            self.clean(index, State::Checking(Check::BeforeHandOut));
        } else {
            self.looked_at(index, result, now);
        }
        self.dispatch(now);
    }

    /// Nothing is given out until [`resume`](Ledger::resume); callers wait, returns become idle.
    pub(crate) fn suspend(&mut self) {
        if self.gate == Gate::Open {
            self.gate = Gate::Suspended;
            self.starve_all();
        }
    }

    pub(crate) fn resume(&mut self, now: Time) {
        if self.gate != Gate::Suspended {
            return;
        }
        self.gate = Gate::Open;
        let groups: Vec<u32> = self.groups.iter().map(|(index, _)| index as u32).collect();
        for group in groups {
            self.serve_if_known(group, now);
        }
        self.dirty = true;
        self.dispatch(now);
    }

    /// No group wants anything while the gate is not open.
    fn starve_all(&mut self) {
        self.starved = None;
        for (_, group) in std::mem::take(&mut self.hungry) {
            self.group(group).hungry_at = NOT_HUNGRY;
        }
        for group in std::mem::take(&mut self.lean) {
            self.group(group).lean = false;
        }
    }

    /// Nothing is given out any more; waiters are told, everything idle or queued is destroyed.
    /// Leased resources follow when they come back.
    pub(crate) fn close(&mut self, now: Time) {
        if self.gate == Gate::Closed {
            return;
        }
        self.gate = Gate::Closed;
        self.starve_all();
        for waiter in self.waiting_ids() {
            self.counters.closed += 1;
            self.settle(waiter, Fate::Closed);
        }
        for (group, call) in std::mem::take(&mut self.warming) {
            self.group(group).pins -= 1;
            self.out.news = true;
            self.out.unmet_warm.push((call, Unmet::Closed));
        }
        self.doom(|_| true, Reason::Closed);
        let groups: Vec<u32> = self.groups.iter().map(|(index, _)| index as u32).collect();
        for group in groups {
            // It may have gone with the last key that it was the generic one of.
            if self.groups.contains(group as usize) {
                self.forgive(group);
                self.refresh(group);
            }
        }
        self.dirty = true;
        self.dispatch(now);
    }

    /// Asks for resources of a group until `wanted` are idle. Expired ones are destroyed first, sleepers
    /// are woken, and count as there. Returns how many are there; the others are reported by `call`, one
    /// by one.
    pub(crate) fn warm(&mut self, group: u32, wanted: u32, call: u64, now: Time) -> u32 {
        for id in self.idle_ids() {
            let slot = &self.slots[id.slot() as usize];
            if slot.group == group && now >= slot.expires {
                self.expire(id.slot(), now);
            }
        }
        self.probe_if_due(group, now);
        let mut there = self.groups[group as usize].idle_count().min(wanted);
        let may_wake = self.gate == Gate::Open && !self.pressed;
        while may_wake && there < wanted && self.wake_one(group, now) {
            there += 1;
        }
        self.group(group).pins += wanted - there;
        for _ in there..wanted {
            self.warming.push_back((group, call));
        }
        self.dirty = true;
        self.dispatch(now);
        // Only what this has not made is missing from the minimum idle.
        if self.groups.contains(group as usize) {
            self.refresh(group);
            self.dispatch(now);
        }
        there
    }
}
