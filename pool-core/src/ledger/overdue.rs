//! Leases that are held for longer than somebody finds right. Found by looking, so that lending costs
//! nothing more.

use std::panic::Location;
use std::time::Duration;

use super::Ledger;
use super::slot::State;
use crate::meta::ResourceId;
use crate::time::Time;

/// A lease that is held for long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Overdue {
    pub(crate) id: ResourceId,
    pub(crate) held: Duration,
    pub(crate) at: &'static Location<'static>,
}

impl Ledger {
    /// The leases held for `long` that were not told of before, and when to look again: when the next
    /// one is due, but no sooner than after a sixteenth of `long`, since a look is O(resources).
    pub(crate) fn overdue(&mut self, long: Duration, now: Time) -> (Vec<Overdue>, Time) {
        let mut found = Vec::new();
        let mut next = now.plus(long);
        for (_, slot) in &mut self.slots {
            let Some(at) = slot.leased_at.filter(|_| slot.state == State::Leased) else { continue };
            if slot.told_overdue == slot.uses {
                continue;
            }
            let due = slot.leased_since.plus(long);
            if due > now {
                next = next.min(due);
                continue;
            }
            slot.told_overdue = slot.uses;
            found.push(Overdue { id: slot.id, held: now.since(slot.leased_since), at });
        }
        self.counters.leaks += found.len() as u64;
        (found, next.max(now.plus(long / 16)))
    }
}
