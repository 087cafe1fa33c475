//! Generic-then-specialised: a waiter may get a resource of its key's generic key, turned into one of
//! its own. That is a creation that consumes a donor: the slot moves to the waiter's group, with its
//! cost, when it starts. If it fails the donor is destroyed, and the next resource of that group is
//! made from nothing.

use super::dispatch::Spoken;
use super::slot::{Origin, State};
use super::{Job, Ledger, NIL, Order};
use crate::meta::Reason;
use crate::time::Time;

impl Ledger {
    /// Resources of `group` can be made of those of `generic`, of which a stock is kept.
    pub(crate) fn set_generic(&mut self, group: u32, generic: u32) {
        self.group(group).generic = generic;
        let donors = self.group(generic);
        donors.pins += 1;
        donors.is_generic = true;
        self.stock_up(generic);
        self.refresh(generic);
    }

    /// The group whose resources can be turned into those of `group`.
    pub(crate) fn generic_of(&self, group: u32) -> Option<u32> {
        Some(self.groups[group as usize].generic).filter(|generic| *generic != NIL)
    }

    /// A generic key has a minimum idle: its stock.
    pub(super) fn stock_up(&mut self, generic: u32) {
        let stock = self.rules.generic_stock;
        let rules = &mut self.group(generic).rules;
        rules.min_idle = rules.min_idle.max(stock.min(rules.max_idle));
    }

    /// As [`stock_up`](Ledger::stock_up), for all generic groups: the rules have changed.
    pub(super) fn restock(&mut self) {
        let generic: Vec<u32> =
            self.groups.iter().filter(|(_, group)| group.is_generic).map(|(index, _)| index as u32).collect();
        for group in generic {
            self.stock_up(group);
        }
    }

    /// A group is forgotten: it needs its donors no longer.
    pub(super) fn release_generic(&mut self, generic: u32) {
        if generic != NIL {
            self.group(generic).pins -= 1;
            self.bury(generic);
        }
    }

    /// A ready donor for a waiter of `group`, if its new cost fits, beside what is spoken for, and its new
    /// key allows it a use.
    pub(super) fn donor_for(&mut self, group: u32, spoken: Spoken, now: Time) -> Option<u32> {
        let record = &self.groups[group as usize];
        let (generic, cost, max_uses) = (record.generic, record.cost, record.rules.max_uses);
        if generic == NIL || record.plain > 0 {
            return None;
        }
        if !self.groups[generic as usize].waiters.is_empty() {
            return None;
        }
        let donor = self.next_idle(generic, now)?;
        let slot = &self.slots[donor as usize];
        let fits = |all: u64| (all - slot.cost).saturating_add(cost) <= self.rules.max_cost;
        let room = fits(self.totals.cost) && fits(self.totals.cost_serving + spoken.cost);
        (room && slot.uses < max_uses).then_some(donor)
    }

    /// The donor becomes a resource of `group`, if all goes well.
    pub(super) fn specialise(&mut self, donor: u32, group: u32) {
        self.unlink(donor);
        self.cancel_timer(donor);
        self.set_state(donor, State::Specialising);
        let from = self.move_to(donor, group);
        let slot = self.slot(donor);
        slot.origin = Origin::Demand;
        slot.running = true;
        let id = slot.id;
        self.hope(donor, true);
        self.out.news = true;
        self.out.orders.push_back(Order { id, job: Job::Specialise });
        self.refresh(from);
        self.refresh(group);
    }

    /// Moves a slot to another group, with the cost of that; returns the group that it leaves.
    fn move_to(&mut self, index: u32, group: u32) -> u32 {
        let cost = self.group(group).cost;
        let slot = self.slot(index);
        let from = std::mem::replace(&mut slot.group, group);
        let old_cost = std::mem::replace(&mut slot.cost, cost);
        let (kind, retiring) = (slot.state.kind(), u32::from(slot.retiring));
        self.totals.cost = self.totals.cost - old_cost + cost;
        self.totals.cost_serving = self.totals.cost_serving - old_cost + cost;
        let left = self.group(from);
        left.counts[kind] -= 1;
        left.retiring -= retiring;
        let joined = self.group(group);
        joined.counts[kind] += 1;
        joined.retiring += retiring;
        from
    }

    /// A specialisation has ended: with the end of its lifetime by the rules of its new key, or with the
    /// reason to destroy the donor if it failed. It still ends when the donor would have.
    pub(crate) fn specialised(&mut self, index: u32, result: Result<Time, Reason>, now: Time) {
        match result {
            Ok(lifetime_end) => {
                self.counters.specialised += 1;
                let slot = self.slot(index);
                slot.running = false;
                slot.known_good = now;
                slot.lifetime_end = slot.lifetime_end.min(lifetime_end);
                self.dirty = true;
                let retires_at = self.retires_at(index);
                self.set_timer(index, retires_at);
                let group = self.slots[index as usize].group;
                self.forgive(group);
                self.hand_out(index, now);
                self.serve(group, now);
            }
            Err(reason) => self.fail_specialisation(index, reason, now),
        }
        self.dispatch(now);
    }

    /// The donor is lost, and whoever waits for it waits for a creation.
    pub(super) fn fail_specialisation(&mut self, index: u32, reason: Reason, now: Time) {
        self.counters.specialise_failures += 1;
        let group = self.slots[index as usize].group;
        self.group(group).plain += 1;
        self.destroy(index, reason);
        self.serve(group, now);
    }
}
