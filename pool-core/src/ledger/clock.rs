//! What time brings: deadlines of waiters, expiry of idle slots, periodic checks.

use super::group::NOT_HUNGRY;
use super::rules::KeyRules;
use super::slot::{Check, Slot, State};
use super::waiter::Fate;
use super::{Gate, Ledger, NIL, Timer};
use crate::error::Phase;
use crate::meta::Reason;
use crate::time::Time;

impl Slot {
    /// An idle slot's turn for a periodic check.
    #[inline]
    fn check_at(&self, rules: &KeyRules) -> Time {
        self.known_good.max(self.idle_since).after(rules.check_interval)
    }

    /// Notes when it expires, and gives the time at which it must be looked at, but for sleep.
    #[inline]
    pub(super) fn rest(&mut self, rules: &KeyRules) -> Time {
        self.expires = self.idle_since.after(rules.idle_timeout).min(self.lifetime_end);
        self.expires.min(self.check_at(rules)).min(self.retires_at(rules))
    }
}

impl Ledger {
    /// When the driver must call [`tick`](Ledger::tick) at the latest.
    pub(crate) fn alarm(&self) -> Time {
        self.alarm
    }

    /// Time has come to `now`.
    pub(crate) fn tick(&mut self, now: Time) {
        self.time_waiters_out(now);
        while let Some(&(due, timer)) = self.timers.first() {
            if due > now {
                break;
            }
            self.timers.pop_first();
            match timer {
                Timer::Slot(index) => self.slot_is_due(index, now),
                Timer::Breaker(group) => self.breaker_is_due(group, now),
                Timer::Sizing => self.size_all(now),
                Timer::Refill(group) => {
                    self.dirty = true;
                    self.refresh(group);
                }
            }
        }
        self.dispatch(now);
        self.alarm = self.next_alarm();
    }

    fn next_alarm(&self) -> Time {
        let timer = self.timers.first().map_or(Time::NEVER, |&(due, _)| due);
        let own = self.own_deadlines.first().map_or(Time::NEVER, |&(due, _)| due);
        let common = match self.by_arrival.head {
            NIL => Time::NEVER,
            head => self.waiters[head as usize].deadline,
        };
        timer.min(own).min(common)
    }

    fn time_waiters_out(&mut self, now: Time) {
        while self.by_arrival.head != NIL && self.waiters[self.by_arrival.head as usize].deadline <= now {
            self.time_out(self.by_arrival.head);
        }
        while let Some(&(deadline, waiter)) = self.own_deadlines.first() {
            if deadline > now {
                break;
            }
            self.time_out(waiter);
        }
    }

    /// A waiter's deadline has passed.
    fn time_out(&mut self, waiter: u32) {
        let group = self.waiters[waiter as usize].group;
        let phase = self.phase(group);
        self.counters.timed_out += 1;
        self.settle(waiter, Fate::TimedOut(phase));
        self.refresh(group);
    }

    /// What the waiters of a group are waiting for.
    fn phase(&self, group: u32) -> Phase {
        let group = &self.groups[group as usize];
        let has = |state: State| group.counts[state.kind()] > 0;
        if self.gate == Gate::Suspended {
            Phase::Suspended
        } else if has(State::Creating) || has(State::Specialising) {
            Phase::Create
        } else if has(State::Waking) || has(State::Hibernating) {
            Phase::Wake
        } else if has(State::Recycling) {
            Phase::Recycle
        } else if has(State::Checking(Check::BeforeHandOut)) {
            Phase::HealthCheck
        } else if self.pressed && group.hungry_at != NOT_HUNGRY {
            Phase::Pressure
        } else if has(State::Destroying(Reason::Closed)) {
            Phase::Destroy
        } else if self.creating() >= self.rules.max_creating {
            Phase::Create
        } else if self.totals.counts[State::Destroying(Reason::Closed).kind()] > 0 {
            Phase::Destroy
        } else {
            Phase::Capacity
        }
    }

    /// A slot's timer has rung: it expires, is checked, or the timer is set anew.
    fn slot_is_due(&mut self, index: u32, now: Time) {
        self.slot(index).timer = Time::NEVER;
        match self.retires_at(index) {
            Time::NEVER => {}
            _ if self.slots[index as usize].state == State::Asleep => {}
            at if now >= at => self.retire(index),
            at => self.set_timer(index, at),
        }
        let slot = &self.slots[index as usize];
        if !slot.state.is_resting() || now >= slot.expires && self.expire(index, now) {
            return;
        }
        let slot = &self.slots[index as usize];
        let check_at = slot.check_at(&self.groups[slot.group as usize].rules);
        if slot.state == State::Asleep {
            let expires = slot.expires;
            return self.set_timer(index, expires);
        }
        if self.put_to_sleep(index, now) {
            return;
        }
        if now >= check_at {
            return self.clean(index, State::Checking(Check::Periodic));
        }
        self.set_expiry_after(index, now);
    }

    /// Destroys an idle slot whose time is over; `false` if it is needed as part of the minimum idle or
    /// of the adaptive target.
    pub(super) fn expire(&mut self, index: u32, now: Time) -> bool {
        let slot = &self.slots[index as usize];
        if now >= slot.lifetime_end {
            self.destroy(index, Reason::MaxLifetime);
            return true;
        }
        let spare = slot.state == State::Asleep || !self.is_needed_awake(index);
        if spare {
            self.destroy(index, Reason::IdleTimeout);
        }
        spare
    }

    /// Whether an idle slot that is awake is part of the minimum idle or of the adaptive target.
    pub(super) fn is_needed_awake(&self, index: u32) -> bool {
        let slot = &self.slots[index as usize];
        let group = &self.groups[slot.group as usize];
        let needed = group.rules.min_idle + u32::from(!slot.retiring);
        group.staying_idle() < needed || group.awake() <= group.target
    }

    /// Notes when an idle slot expires, and sets its timer.
    #[inline]
    pub(super) fn set_expiry(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        let sleeps_at = slot.sleeps_at(&self.rules);
        let due = slot.rest(&self.groups[slot.group as usize].rules).min(sleeps_at);
        self.set_timer(index, due);
    }

    /// As [`set_expiry`](Ledger::set_expiry), for a slot that outlives its idle timeout as part of
    /// the minimum idle: it is looked at again one idle timeout later.
    fn set_expiry_after(&mut self, index: u32, now: Time) {
        let slot = &mut self.slots[index as usize];
        if slot.expires <= now {
            slot.idle_since = now;
        }
        // Likewise one that was due to sleep: if it could be spared, it would sleep by now.
        let sleeps_at = match slot.sleeps_at(&self.rules) {
            past if past <= now => now.after(self.rules.hibernate_after),
            future => future,
        };
        let due = slot.rest(&self.groups[slot.group as usize].rules).min(sleeps_at);
        self.set_timer(index, due);
    }
}
