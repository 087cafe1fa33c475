//! The breaker of a key: after so many failed creations in a row, none is tried for a while; then one
//! is, as a probe, and its outcome decides.
//!
//! closed -> open, at `breaker_after` failures in a row -> half-open, when the pause is over -> closed
//! by the first creation that is complete, or open again for twice as long by one that fails.
//!
//! While it is open, whoever could only be served by a creation is told so at once. Who may still be
//! served by a resource that exists waits for it.

use super::waiter::Fate;
use super::{Gate, Ledger, NIL, Opened, Timer};
use crate::time::Time;

/// How many keys are remembered whose creations failed, at most: an endless stream of keys that fail
/// must not fill the machine.
pub(super) const MOST: u32 = 4_096;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Circuit {
    #[default]
    Closed,
    /// Until then nothing is tried.
    Open(Time),
    HalfOpen,
}

/// What is remembered of a key whose last creation failed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Breaker {
    /// Creations that failed since one was complete.
    pub(crate) failures: u64,
    pub(crate) circuit: Circuit,
    /// How often the circuit opened since one was complete.
    trips: u32,
    /// When it is looked at again; its timer.
    due: Time,
}

impl Ledger {
    /// How often creations of a group failed in a row, and what follows from that.
    pub(crate) fn breaker(&self, group: u32) -> (u64, Circuit) {
        let breaker = self.groups[group as usize].breaker.as_ref();
        breaker.map_or((0, Circuit::Closed), |breaker| (breaker.failures, breaker.circuit))
    }

    /// How many groups have a circuit that is not closed.
    pub(crate) fn circuits_open(&self) -> u32 {
        self.totals.circuits_open
    }

    /// A creation has failed for good. What follows for waiters is the next refresh's business.
    pub(super) fn note_failure(&mut self, index: u32, now: Time) {
        let group = self.slots[index as usize].group;
        let Some(after) = self.rules.breaker_after.filter(|_| self.gate != Gate::Closed) else {
            return;
        };
        let known = self.groups[group as usize].breaker.is_some();
        if !known && self.totals.breakers >= MOST {
            return;
        }
        self.totals.breakers += u32::from(!known);
        let breaker = self.group(group).breaker.get_or_insert_default();
        breaker.failures += 1;
        let opens = match breaker.circuit {
            Circuit::Closed => breaker.failures >= after,
            Circuit::HalfOpen => true,
            Circuit::Open(_) => return,
        };
        match opens {
            true => self.open(group, index, now),
            false => self.watch_breaker(group, now.plus(self.rules.breaker_max_pause)),
        }
    }

    fn open(&mut self, group: u32, slot: u32, now: Time) {
        let id = self.slots[slot as usize].id;
        let (first, longest) = (self.rules.breaker_pause, self.rules.breaker_max_pause);
        let breaker = self.group(group).breaker.as_mut().expect("creations of the group failed");
        let pause = first.saturating_mul(1 << breaker.trips.min(16)).min(longest);
        let until = now.plus(pause);
        let was = std::mem::replace(&mut breaker.circuit, Circuit::Open(until));
        breaker.trips += 1;
        let opened = Opened { id, failures: breaker.failures, pause };
        self.out.opened.push(opened);
        self.out.news = true;
        self.totals.circuits_open += u32::from(was == Circuit::Closed);
        self.counters.circuits_opened += 1;
        self.watch_breaker(group, until);
    }

    /// Creations work, or are nobody's business any more. `false` if nothing was known against them.
    pub(super) fn forgive(&mut self, group: u32) -> bool {
        let Some(breaker) = self.group(group).breaker.take() else { return false };
        self.timers.remove(&(breaker.due, Timer::Breaker(group)));
        self.totals.breakers -= 1;
        self.totals.circuits_open -= u32::from(breaker.circuit != Circuit::Closed);
        true
    }

    /// The pause of a group whose circuit is open may be over, though no timer has rung yet.
    pub(super) fn probe_if_due(&mut self, group: u32, now: Time) {
        if let (_, Circuit::Open(until)) = self.breaker(group)
            && now >= until
        {
            self.breaker_is_due(group, now);
        }
    }

    /// The pause is over: one creation is let through. Or nobody has asked for a long time: what was
    /// known is forgotten, unless it is being tried right now.
    pub(super) fn breaker_is_due(&mut self, group: u32, now: Time) {
        let again = now.plus(self.rules.breaker_max_pause);
        let record = self.group(group);
        let trying = record.creating() > 0;
        let breaker = record.breaker.as_mut().expect("a timer belongs to somebody");
        match breaker.circuit {
            Circuit::Open(_) => {
                breaker.circuit = Circuit::HalfOpen;
                self.watch_breaker(group, again);
            }
            _ if trying => self.watch_breaker(group, again),
            _ => _ = self.forgive(group),
        }
        self.dirty = true;
        self.refresh(group);
    }

    fn watch_breaker(&mut self, group: u32, due: Time) {
        let breaker = self.group(group).breaker.as_mut().expect("creations of the group failed");
        let before = std::mem::replace(&mut breaker.due, due);
        self.timers.remove(&(before, Timer::Breaker(group)));
        self.timers.insert((due, Timer::Breaker(group)));
        self.ring(due);
    }

    /// Until when nobody can be served whom only a creation could serve; `None` if somebody can.
    pub(super) fn hopeless_until(&self, group: u32) -> Option<Time> {
        match self.breaker(group).1 {
            Circuit::Open(until) if self.groups[group as usize].serving() == 0 => Some(until),
            _ => None,
        }
    }

    /// Nothing is left that could serve the waiters of a group, and nothing will be made for a while.
    pub(super) fn refuse_the_hopeless(&mut self, group: u32) {
        if self.groups[group as usize].breaker.is_none() {
            return;
        }
        let Some(until) = self.hopeless_until(group) else { return };
        loop {
            let waiter = self.groups[group as usize].waiters.head;
            if waiter == NIL {
                return;
            }
            self.counters.circuit_refused += 1;
            self.settle(waiter, Fate::CircuitOpen(until));
        }
    }
}

impl Breaker {
    /// How many creations may be under way beside `creating` others.
    pub(super) fn room(&self, creating: u32) -> u32 {
        match self.circuit {
            Circuit::Closed => u32::MAX,
            Circuit::Open(_) => 0,
            Circuit::HalfOpen => 1u32.saturating_sub(creating),
        }
    }
}
