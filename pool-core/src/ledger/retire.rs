//! Replacement before retirement: a resource that is part of a minimum idle and near its end is
//! marked as retiring. It serves on, but no longer counts towards the minimum, so that the ordinary
//! refill makes its replacement; when that is idle, the retiring one goes.
//!
//! Every retiring resource lets one more resource in beside `max_total` and `max_per_key`, up to
//! `max_surge`. That staggers replacements in a full pool: as many at once as there is surge. Costs
//! have no surge: where `max_cost` leaves no room for both, the old one ends first.

use super::group::Group;
use super::rules::KeyRules;
use super::slot::{Slot, State};
use super::{Ledger, NIL, Totals};
use crate::meta::Reason;
use crate::time::Time;

impl Slot {
    /// When it begins to retire; never where nothing is kept idle, or twice.
    #[inline]
    pub(super) fn retires_at(&self, rules: &KeyRules) -> Time {
        match rules.replace_ahead {
            // Not before half of its life is over: else a long lead would replace one new resource
            // by the next.
            Some(ahead) if rules.min_idle > 0 && !self.retiring => {
                self.lifetime_end.before(ahead).max(self.created.half_way_to(self.lifetime_end))
            }
            _ => Time::NEVER,
        }
    }
}

impl Totals {
    /// A retiring slot has become idle, or is idle no longer.
    #[cold]
    pub(super) fn count_retiring_idle(&mut self, group: &mut Group, becomes_idle: bool) {
        let count = |of: &mut u32| if becomes_idle { *of += 1 } else { *of -= 1 };
        count(&mut self.retiring_idle);
        count(&mut group.retiring_idle);
    }
}

impl Ledger {
    /// When a slot begins to retire.
    pub(super) fn retires_at(&self, index: u32) -> Time {
        let slot = &self.slots[index as usize];
        slot.retires_at(&self.groups[slot.group as usize].rules)
    }

    /// A slot was lent: if that is its last use, and something is kept idle, it retires.
    pub(super) fn retire_on_last_use(&mut self, index: u32) {
        let slot = &self.slots[index as usize];
        let rules = &self.groups[slot.group as usize].rules;
        let last = slot.uses >= rules.max_uses && rules.min_idle > 0;
        if last && rules.replace_ahead.is_some() && !slot.retiring {
            self.retire(index);
        }
    }

    pub(super) fn retire(&mut self, index: u32) {
        let slot = self.slot(index);
        slot.retiring = true;
        let (group, idle) = (slot.group, u32::from(slot.state == State::Idle));
        self.totals.retiring += 1;
        self.totals.retiring_idle += idle;
        let record = self.group(group);
        record.retiring += 1;
        record.retiring_idle += idle;
        self.dirty = true;
        self.refresh(group);
    }

    /// A slot leaves the pool: if it was retiring, it is not any more.
    pub(super) fn end_retirement(&mut self, index: u32) {
        let slot = self.slot(index);
        if std::mem::replace(&mut slot.retiring, false) {
            let (group, idle) = (slot.group, u32::from(slot.state == State::Idle));
            self.totals.retiring -= 1;
            self.totals.retiring_idle -= idle;
            let record = self.group(group);
            record.retiring -= 1;
            record.retiring_idle -= idle;
        }
    }

    /// More than the minimum is idle: retiring slots are needed no longer.
    #[cold]
    pub(super) fn let_the_retiring_go(&mut self, group: u32) {
        loop {
            let record = &self.groups[group as usize];
            if record.retiring_idle == 0 || record.idle_count() <= record.rules.min_idle {
                return;
            }
            let mut index = record.idle.head;
            while index != NIL && !self.is_retiring_idle(index) {
                index = self.slots[index as usize].by_key.next;
            }
            self.destroy(index, Reason::Replaced);
        }
    }

    fn is_retiring_idle(&self, index: u32) -> bool {
        let slot = &self.slots[index as usize];
        slot.retiring && slot.state == State::Idle
    }

    /// How many slots may serve: one more for each that retires, up to the surge.
    pub(super) fn serving_limit(&self) -> u32 {
        self.serving_limit_beside(self.totals.retiring)
    }

    /// How many slots may serve while `retiring` of them retire.
    pub(super) fn serving_limit_beside(&self, retiring: u32) -> u32 {
        self.rules.max_total.saturating_add(retiring.min(self.rules.max_surge))
    }

    /// How many slots of one key may serve.
    pub(super) fn serving_limit_of(&self, group: &Group) -> u32 {
        group.rules.max_per_key.saturating_add(group.retiring.min(self.rules.max_surge))
    }
}
