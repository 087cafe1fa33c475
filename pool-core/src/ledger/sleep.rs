//! Two-stage idleness: what nobody has used for `hibernate_after` is put to sleep, and woken when
//! somebody wants it. Sleepers are idle in every other way: they count against the idle limits, make
//! room for waiters of other keys, and end after `idle_timeout`. A minimum idle stays awake, and so
//! does what adaptive sizing keeps.

use super::slot::{Check, Slot, State};
use super::{Job, Ledger, NIL, Rules};
use crate::meta::{Reason, ResourceId};
use crate::time::Time;

impl Slot {
    /// When it is put to sleep, if it stays idle.
    #[inline]
    pub(super) fn sleeps_at(&self, rules: &Rules) -> Time {
        self.idle_since.after(rules.hibernate_after)
    }
}

impl Ledger {
    /// Puts an idle slot to sleep whose time has come; `false` if it is needed awake.
    pub(super) fn put_to_sleep(&mut self, index: u32, now: Time) -> bool {
        let group = &self.groups[self.slots[index as usize].group as usize];
        let due = now >= self.slots[index as usize].sleeps_at(&self.rules);
        let spare = due && group.waiters.is_empty() && !self.is_needed_awake(index);
        if spare {
            self.clean(index, State::Hibernating);
        }
        spare
    }

    /// A hibernation has ended, with the reason to destroy the resource if it failed.
    pub(crate) fn hibernated(&mut self, index: u32, result: Result<(), Reason>, now: Time) {
        self.cleaning -= 1;
        self.dirty = true;
        self.hope(index, false);
        let slot = self.slot(index);
        slot.running = false;
        let group = slot.group;
        if result.is_err() {
            self.counters.hibernate_failures += 1;
        }
        match result.err().or_else(|| self.unfit(index, now)) {
            Some(reason) => self.destroy(index, reason),
            None => self.fall_asleep(index),
        }
        self.serve(group, now);
        self.dispatch(now);
    }

    /// The slot moves from its group's awake to its sleepers, and keeps its age.
    fn fall_asleep(&mut self, index: u32) {
        self.counters.hibernated += 1;
        self.unlink_from_key(index);
        self.set_state(index, State::Asleep);
        let group = self.slots[index as usize].group;
        self.link_to_key(index);
        self.set_expiry(index);
        self.refresh(group);
        self.trim_idle(group);
    }

    /// Wakes a sleeper of the group; `false` if there is none. Expired ones on the way are destroyed.
    pub(super) fn wake_one(&mut self, group: u32, now: Time) -> bool {
        loop {
            let sleepers = self.groups[group as usize].asleep;
            let index = if self.rules.lifo { sleepers.tail } else { sleepers.head };
            if index == NIL {
                return false;
            }
            let expired = now >= self.slots[index as usize].expires && self.expire(index, now);
            if !expired {
                self.clean(index, State::Waking);
                return true;
            }
        }
    }

    /// Whether a waiter of the group would do better with a sleeper: nothing but creations will
    /// serve it, and they take longer.
    pub(super) fn wants_a_sleeper(&self, group: u32) -> bool {
        let group = &self.groups[group as usize];
        !group.asleep.is_empty() && group.waiters.len > group.hopeful.saturating_sub(group.creating())
    }

    /// A wake has ended, with the reason to destroy the resource if it failed.
    pub(crate) fn woken(&mut self, index: u32, result: Result<(), Reason>, now: Time) {
        self.cleaning -= 1;
        self.dirty = true;
        match result {
            Ok(()) => {
                self.counters.woken += 1;
                self.slot(index).known_good = now;
            }
            Err(_) => self.counters.wake_failures += 1,
        }
        self.looked_at(index, result, now);
        self.dispatch(now);
    }

    /// A slot that was queued to be put to sleep is wanted after all.
    pub(super) fn stay_awake(&mut self, index: u32, now: Time) {
        if self.unfit(index, now).is_none() && self.needs_check(index, now) {
            self.clean(index, State::Checking(Check::BeforeHandOut));
        } else {
            self.make_ready(index, now);
        }
    }

    /// Whether a job that is about to start would put a resource to sleep that somebody waits for.
    pub(super) fn is_wanted_awake(&self, id: ResourceId, job: Job) -> bool {
        let group = self.slots[id.slot() as usize].group;
        job == Job::Hibernate && !self.groups[group as usize].waiters.is_empty()
    }
}
