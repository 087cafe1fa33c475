//! Throughput mode: who comes along may take what was promised to a waiter that has not yet come to
//! pick it up. The waiter keeps its place, and each waiter bears that `max_overtakes` times at most.

use super::Ledger;
use crate::time::Time;

impl Ledger {
    /// Takes the slot that was promised last to a waiter of the group, if that may be. One is promised.
    pub(super) fn barge(&mut self, group: u32, now: Time) -> Option<u32> {
        let index = self.groups[group as usize].promised.tail;
        if !self.rules.throughput || self.unfit(index, now).is_some() {
            return None;
        }
        let waiter = self.slots[index as usize].waiter;
        let robbed = &mut self.waiters[waiter as usize].robbed;
        if *robbed >= self.rules.max_overtakes {
            return None;
        }
        *robbed += 1;
        self.counters.barged += 1;
        self.unpromise(index);
        self.requeue(waiter);
        Some(index)
    }
}
