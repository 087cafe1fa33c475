//! Idle slots that go because somebody needs what they hold: `shed`, and pressure, under which no
//! creation starts either, no stock is refilled and nothing is specialised.

use std::collections::HashMap;

use super::list::NIL;
use super::slot::State;
use super::{Ledger, Unmet};
use crate::meta::{Reason, ResourceId};
use crate::pressure::Shed;
use crate::time::Time;

impl Ledger {
    /// What there is to shed: those that sleep, then those that are awake, least recently used first. A
    /// key that somebody waits for keeps its idle slots, which are about to be checked for him;
    /// `spare_minimum`: also those of a minimum idle.
    pub(crate) fn to_shed(&self, amount: Shed, spare_minimum: bool) -> Vec<ResourceId> {
        let mut ids = Vec::new();
        let mut left = HashMap::new();
        let (resting, mut cost) = (self.resting(), 0);
        for state in [State::Asleep, State::Idle] {
            let mut index = self.by_age.head;
            while index != NIL && !amount.is_met(ids.len(), cost, resting) {
                let slot = &self.slots[index as usize];
                let group = &self.groups[slot.group as usize];
                let awake = left.entry(slot.group).or_insert(group.idle_count());
                let needed = state == State::Idle && spare_minimum && *awake <= group.rules.min_idle;
                if slot.state == state && group.waiters.is_empty() && !needed {
                    *awake -= u32::from(state == State::Idle);
                    cost += slot.cost;
                    ids.push(slot.id);
                }
                index = slot.by_age.next;
            }
        }
        ids
    }

    /// Destroys idle slots.
    pub(crate) fn shed(&mut self, ids: &[ResourceId], now: Time) {
        for id in ids {
            self.destroy(id.slot(), Reason::Shed);
        }
        self.dispatch(now);
    }

    /// Something is short: idle slots go, even those of a minimum idle, and no creation starts until
    /// [`relieve`](Ledger::relieve).
    pub(crate) fn press(&mut self, amount: Shed, now: Time) {
        self.pressed = true;
        self.dirty = true;
        let ids = self.to_shed(amount, false);
        self.shed(&ids, now);
    }

    pub(crate) fn relieve(&mut self, now: Time) {
        self.pressed = false;
        self.dirty = true;
        self.dispatch(now);
    }

    /// Nobody's call of `warm` waits for the end of the pressure: it has no deadline.
    pub(super) fn refuse_warm_up(&mut self) {
        for (group, call) in std::mem::take(&mut self.warming) {
            self.group(group).pins -= 1;
            self.out.news = true;
            self.out.unmet_warm.push((call, Unmet::Pressure));
            self.refresh(group);
        }
    }
}
