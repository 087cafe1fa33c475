//! Events of the driver: what became of its orders, and reports of death.

use super::slot::{Check, Origin, State};
use super::waiter::Fate;
use super::{Ledger, Timer};
use crate::meta::{Reason, ResourceId};
use crate::time::Time;

use std::time::Duration;

/// Who hears of a failed creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    /// The oldest waiter of the key.
    Waiter(u32),
    /// The call of `warm` that asked for it.
    Warm(u64),
    /// Nobody asked; it is counted and traced.
    Nobody,
}

impl Ledger {
    /// A creation is complete. `lifetime_end` carries the jitter, rolled by the caller.
    /// `false`: the resource is not wanted any more and is destroyed.
    pub(crate) fn created(&mut self, index: u32, lifetime_end: Time, now: Time) -> bool {
        self.counters.created += 1;
        let group = self.slots[index as usize].group;
        self.group(group).refill_failures = 0;
        if self.forgive(group) {
            self.refresh(group);
        }
        self.born(index, lifetime_end, now);
        self.dispatch(now);
        !matches!(self.slots[index as usize].state, State::Destroying(_))
    }

    /// A resource exists and enters the pool.
    pub(super) fn born(&mut self, index: u32, lifetime_end: Time, now: Time) {
        let slot = self.slot(index);
        slot.running = false;
        slot.created = now;
        slot.known_good = now;
        slot.lifetime_end = lifetime_end;
        self.dirty = true;
        // Also one that is never idle must be replaced in time.
        let retires_at = self.retires_at(index);
        self.set_timer(index, retires_at);
        self.hand_out(index, now);
    }

    /// A creation has failed for good.
    pub(crate) fn create_failed(&mut self, index: u32, now: Time) -> Failed {
        let group = self.slots[index as usize].group;
        let failed = self.fail_creation(index, now);
        self.free_slot(index);
        self.serve_if_known(group, now);
        self.dispatch(now);
        failed
    }

    /// A creation was reported gone before it was complete: it failed, and what it made is destroyed.
    pub(crate) fn created_but_gone(&mut self, index: u32, now: Time) -> Failed {
        let group = self.slots[index as usize].group;
        let failed = self.fail_creation(index, now);
        self.destroy(index, Reason::Gone);
        self.serve(group, now);
        self.dispatch(now);
        failed
    }

    fn fail_creation(&mut self, index: u32, now: Time) -> Failed {
        self.counters.create_failures += 1;
        self.hope(index, false);
        let slot = &self.slots[index as usize];
        let (group, origin) = (slot.group, slot.origin);
        self.note_failure(index, now);
        if let Origin::Warm(call) = origin {
            return Failed::Warm(call);
        }
        if origin == Origin::MinIdle {
            self.delay_refill(group, now);
        }
        let waiter = self.groups[group as usize].waiters.head;
        if waiter == super::NIL {
            return Failed::Nobody;
        }
        self.counters.failed += 1;
        self.settle(waiter, Fate::CreateFailed);
        Failed::Waiter(waiter)
    }

    /// After a failure, a minimum idle is not refilled at once: 100 ms, doubling up to 30 s.
    fn delay_refill(&mut self, group: u32, now: Time) {
        let record = self.group(group);
        let doublings = record.refill_failures.min(9);
        record.refill_failures += 1;
        let before = record.refill_after;
        let after = now.plus(Duration::from_millis(100 << doublings).min(Duration::from_secs(30)));
        record.refill_after = after;
        self.timers.remove(&(before, Timer::Refill(group)));
        self.timers.insert((after, Timer::Refill(group)));
        self.ring(after);
    }

    /// A recycle has ended, with the reason to destroy the resource if it failed.
    pub(crate) fn recycled(&mut self, index: u32, result: Result<(), Reason>, now: Time) {
        self.cleaning -= 1;
        self.dirty = true;
        let every = self.rules.check_every_recycles;
        let group = self.slots[index as usize].group;
        let slot = self.slot(index);
        slot.running = false;
        match result {
            Err(reason) => {
                self.counters.recycle_failures += 1;
                self.destroy(index, reason);
            }
            Ok(()) => {
                slot.recycles += 1;
                slot.known_good = now;
                let check = every.is_some_and(|every| slot.recycles.is_multiple_of(every));
                self.counters.recycled += 1;
                match self.unfit(index, now) {
                    Some(reason) => self.destroy(index, reason),
                    None if check => self.clean(index, State::Checking(Check::AtReturn)),
                    None if self.must_check_for_next(index) => {
                        self.clean(index, State::Checking(Check::BeforeHandOut));
                    }
                    None => self.make_ready(index, now),
                }
            }
        }
        self.serve(group, now);
        self.dispatch(now);
    }

    /// A health check has ended, with the reason to destroy the resource if it failed.
    pub(crate) fn checked(&mut self, index: u32, result: Result<(), Reason>, now: Time) {
        self.cleaning -= 1;
        self.dirty = true;
        match result {
            Ok(()) => {
                self.counters.checked += 1;
                self.slot(index).known_good = now;
            }
            Err(_) => self.counters.check_failures += 1,
        }
        self.looked_at(index, result, now);
        self.dispatch(now);
    }

    /// An idle slot was in somebody's hands and comes back.
    pub(super) fn looked_at(&mut self, index: u32, result: Result<(), Reason>, now: Time) {
        let slot = self.slot(index);
        slot.running = false;
        let group = slot.group;
        match result {
            Ok(()) => self.make_ready(index, now),
            Err(reason) => self.destroy(index, reason),
        }
        self.serve(group, now);
    }

    /// A destroy is complete.
    pub(crate) fn destroyed(&mut self, index: u32, now: Time) {
        self.destroying -= 1;
        self.free_slot(index);
        self.dispatch(now);
    }

    /// A destroy has missed its deadline. Up to `max_abandoned` such places are given free again;
    /// beyond that they count for ever, so that a manager that hangs cannot fill the machine.
    pub(crate) fn destroy_hung(&mut self, index: u32, now: Time) {
        self.destroying -= 1;
        self.dirty = true;
        if self.totals.abandoned < self.rules.max_abandoned {
            self.totals.abandoned += 1;
            self.counters.abandoned += 1;
            self.free_slot(index);
        } else {
            self.totals.stuck += 1;
            self.slot(index).stuck = true;
        }
        self.dispatch(now);
    }

    /// The driver lost a job with its runtime, or to a panic. `true`: a resource is left to destroy.
    pub(crate) fn lost(&mut self, index: u32, reason: Reason, resource_left: bool, now: Time) {
        match self.slots[index as usize].state {
            State::Creating if resource_left => {
                self.slot(index).running = false;
                self.destroy(index, reason);
            }
            State::Creating => {
                self.counters.create_failures += 1;
                let group = self.slots[index as usize].group;
                self.free_slot(index);
                self.serve_if_known(group, now);
            }
            State::Specialising => self.fail_specialisation(index, reason, now),
            State::Destroying(_) => {
                self.destroying -= 1;
                match resource_left {
                    true => {
                        let slot = self.slot(index);
                        slot.running = false;
                        let id = slot.id;
                        self.to_destroy.push_back(id);
                        self.dirty = true;
                    }
                    false => self.free_slot(index),
                }
            }
            _ => {
                self.cleaning -= 1;
                let group = self.slots[index as usize].group;
                self.destroy(index, reason);
                self.serve(group, now);
            }
        }
        self.dispatch(now);
    }

    /// A recycle or check takes longer than most: waiters count on it no longer.
    pub(crate) fn hedge(&mut self, id: ResourceId, now: Time) {
        if self.find(id).is_some_and(|slot| slot.hopeful) {
            let index = id.slot();
            self.hope(index, false);
            let group = self.slots[index as usize].group;
            self.serve(group, now);
            self.dispatch(now);
        }
    }

    /// Somebody says that a resource is dead. Returns whether it is leased right now.
    pub(crate) fn gone(&mut self, id: ResourceId, now: Time) -> bool {
        let Some(slot) = self.find(id) else { return false };
        let index = id.slot();
        let (state, running, waiter, group) = (slot.state, slot.running, slot.waiter, slot.group);
        let record = self.slot(index);
        record.gone = true;
        record.doom.get_or_insert(Reason::Gone);
        match state {
            State::Idle | State::Asleep => self.destroy(index, Reason::Gone),
            State::Granted => {
                self.unpromise(index);
                self.requeue(waiter);
                self.destroy(index, Reason::Gone);
                self.serve(group, now);
            }
            _ if state.is_cleaning() && !running => {
                self.destroy(index, Reason::Gone);
                self.serve(group, now);
            }
            _ if state.is_cleaning() || state == State::Specialising => {
                self.hope(index, false);
                self.refresh(group);
                self.serve(group, now);
            }
            // A creation fails at its end, and tells its waiter: no replacement is made for it as well.
            _ => {}
        }
        self.dispatch(now);
        state == State::Leased
    }

    /// As [`serve`](Ledger::serve), where the group may have been forgotten with its last slot.
    pub(super) fn serve_if_known(&mut self, group: u32, now: Time) {
        if self.groups.contains(group as usize) {
            self.serve(group, now);
        }
    }
}
