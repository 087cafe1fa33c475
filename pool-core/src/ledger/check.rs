//! The invariants of the ledger, one assertion each. This list is the law; the model test checks it
//! after every step, and every test that holds a ledger may.

use std::collections::HashSet;

use super::group::NOT_HUNGRY;
use super::slot::{Check, State};
use super::waiter::Fate;
use super::{Circuit, Gate, Ledger, NIL, Timer};
use crate::meta::Reason;
use crate::time::Time;

impl Ledger {
    /// Panics at the first invariant that does not hold.
    pub(crate) fn check(&self) {
        self.every_count_is_the_sum_of_what_it_counts();
        self.limits_hold();
        self.idle_lists_hold_the_idle();
        self.queues_hold_the_waiting_in_order_of_arrival();
        self.covered_waiters_are_those_that_hopeful_slots_will_serve();
        self.nobody_waits_while_something_is_idle();
        self.nobody_waits_while_there_is_room();
        self.nobody_waits_for_a_creation_that_is_not_tried();
        self.grants_and_waiters_agree();
        self.timers_belong_to_somebody_and_are_never_late();
        self.an_unused_group_is_forgotten();
        self.a_closed_pool_starts_nothing();
        self.nothing_is_put_off();
    }

    fn nothing_is_put_off(&self) {
        assert!(!self.dirty, "every event ends in a dispatch if it changed anything");
    }

    fn every_count_is_the_sum_of_what_it_counts(&self) {
        let mut counts = [0; State::KINDS];
        let (mut cost, mut serving, mut idle) = (0, 0, 0);
        for (_, slot) in &self.slots {
            counts[slot.state.kind()] += 1;
            cost += slot.cost;
            serving += if matches!(slot.state, State::Destroying(_)) { 0 } else { slot.cost };
            idle += if slot.state.is_resting() { slot.cost } else { 0 };
        }
        assert_eq!(counts, self.totals.counts, "the totals count every slot once");
        assert_eq!(cost, self.totals.cost, "the cost is that of all slots");
        assert_eq!(serving, self.totals.cost_serving, "the serving cost leaves out the dying");
        assert_eq!(idle, self.totals.cost_idle, "the idle cost is that of idle slots");
        for (index, group) in &self.groups {
            let mut counts = [0; State::KINDS];
            let (mut hopeful, mut retiring, mut retiring_idle) = (0, 0, 0);
            for (_, slot) in self.slots.iter().filter(|(_, slot)| slot.group as usize == index) {
                counts[slot.state.kind()] += 1;
                hopeful += u32::from(slot.hopeful);
                retiring += u32::from(slot.retiring);
                retiring_idle += u32::from(slot.retiring && slot.state == State::Idle);
            }
            assert_eq!(counts, group.counts, "group {index} counts its slots");
            assert_eq!(hopeful, group.hopeful, "group {index} counts its hopeful slots");
            let counted = (group.retiring, group.retiring_idle);
            assert_eq!((retiring, retiring_idle), counted, "group {index} counts its retiring slots");
            let warming = self.warming.iter().filter(|(group, _)| *group as usize == index).count();
            let made_of = self.groups.iter().filter(|(_, group)| group.generic as usize == index).count();
            assert_eq!((warming + made_of) as u32, group.pins, "group {index} counts who names it");
        }
        let retiring: u32 = self.groups.iter().map(|(_, group)| group.retiring).sum();
        let retiring_idle: u32 = self.groups.iter().map(|(_, group)| group.retiring_idle).sum();
        assert_eq!(
            (retiring, retiring_idle),
            (self.totals.retiring, self.totals.retiring_idle),
            "the retiring are counted"
        );
        let running = |kind: fn(State) -> bool| {
            self.slots.iter().filter(|(_, slot)| kind(slot.state) && slot.running && !slot.stuck).count()
        };
        assert_eq!(
            self.destroying as usize,
            running(|state| matches!(state, State::Destroying(_))),
            "destroys under way are counted"
        );
        // A look at an idle slot is in the hands of whoever looks.
        assert!(
            self.cleaning as usize <= running(State::is_cleaning),
            "whoever cleans, checks, puts to sleep or wakes has something in hand"
        );
        assert!(self.destroying <= self.rules.max_destroying || self.resized, "max_destroying holds");
    }

    fn limits_hold(&self) {
        if self.resized {
            return;
        }
        let rules = &self.rules;
        assert!(
            self.slots.len() as u32 <= rules.max_total.saturating_add(rules.max_surge),
            "live resources never exceed max_total + max_surge"
        );
        assert!(
            self.serving() <= self.serving_limit(),
            "serving resources never exceed max_total, but beside retiring ones"
        );
        assert!(self.totals.cost <= rules.max_cost, "the cost of all never exceeds max_cost");
        assert!(self.resting() <= rules.max_idle, "max_idle holds");
        assert!(self.totals.abandoned <= rules.max_abandoned, "max_abandoned holds");
        for (_, group) in &self.groups {
            assert!(group.serving() <= self.serving_limit_of(group), "max_per_key holds");
            assert!(group.resting() <= group.rules.max_idle, "max_idle_per_key holds");
            assert!(group.creating() <= rules.max_creating_per_key, "max_creating_per_key holds");
        }
        assert!(self.creating() <= rules.max_creating, "max_creating holds");
    }

    fn idle_lists_hold_the_idle(&self) {
        let mut by_age = Vec::new();
        let mut index = self.by_age.head;
        while index != NIL {
            by_age.push(index);
            index = self.slots[index as usize].by_age.next;
        }
        assert_eq!(by_age.len(), self.by_age.len as usize, "the list by age knows its length");
        let aged: HashSet<u32> = by_age.iter().copied().collect();
        for (index, slot) in &self.slots {
            let listed = slot.state.is_resting()
                || matches!(slot.state, State::Checking(Check::Periodic) | State::Hibernating);
            assert_eq!(slot.linked, listed, "slot {index} {:?} is listed if and only if idle", slot.state);
            assert_eq!(aged.contains(&(index as u32)), listed, "slot {index} is in the list by age");
        }
        for (number, group) in &self.groups {
            let mut keyed = Vec::new();
            let mut index = group.idle.head;
            while index != NIL {
                keyed.push(index);
                index = self.slots[index as usize].by_key.next;
            }
            let expected: Vec<u32> = by_age
                .iter()
                .copied()
                .filter(|&index| self.slots[index as usize].group as usize == number)
                .filter(|&index| self.slots[index as usize].state != State::Asleep)
                .collect();
            assert_eq!(keyed, expected, "both lists hold group {number} in the same order");
            let asleep = group.counts[State::Asleep.kind()];
            assert_eq!(asleep, group.asleep.len, "group {number} knows its sleepers");
            let promised = group.counts[State::Granted.kind()];
            assert_eq!(promised, group.promised.len, "group {number} knows what it has promised");
        }
    }

    fn queues_hold_the_waiting_in_order_of_arrival(&self) {
        let mut queued = HashSet::new();
        for (number, group) in &self.groups {
            let mut last = 0;
            let mut index = group.waiters.head;
            while index != NIL {
                let waiter = &self.waiters[index as usize];
                assert_eq!(waiter.group as usize, number, "a waiter stands in the queue of its key");
                assert!(waiter.ticket > last, "a queue is in the order of arrival");
                last = waiter.ticket;
                queued.insert(index);
                index = waiter.in_group.next;
            }
        }
        assert_eq!(queued.len(), self.waiting as usize, "the waiting are counted");
        if let Some(starved) = self.starved {
            assert!(queued.contains(&starved.waiter), "who is starved waits");
            assert_eq!(self.waiters[starved.waiter as usize].ticket, starved.ticket, "and has its ticket");
        }
        for (index, waiter) in &self.waiters {
            let waiting = waiter.fate == Fate::Waiting;
            assert_eq!(waiting, queued.contains(&(index as u32)), "waiter {index} is queued while it waits");
        }
    }

    fn covered_waiters_are_those_that_hopeful_slots_will_serve(&self) {
        for (number, group) in &self.groups {
            assert_eq!(group.covered, group.hopeful.min(group.waiters.len), "group {number} is covered");
            let mut index = group.waiters.head;
            for _ in 0..group.covered {
                index = self.waiters[index as usize].in_group.next;
            }
            assert_eq!(group.uncovered, index, "group {number} knows its first uncovered waiter");
            let hungry = self.gate == Gate::Open && self.wants(number as u32) > 0;
            assert_eq!(group.hungry_at != NOT_HUNGRY, hungry, "group {number} is hungry if it wants");
            let lean = self.gate == Gate::Open && self.lacks(number as u32) > 0;
            assert_eq!(group.lean, lean, "group {number} is lean if it lacks");
            assert_eq!(self.lean.contains(&(number as u32)), lean, "group {number} stands among the lean");
            assert_eq!(
                self.hungry.contains(&(group.hungry_at, number as u32)),
                hungry,
                "group {number} stands among the hungry"
            );
        }
    }

    fn nobody_waits_while_something_is_idle(&self) {
        for (_, group) in self.groups.iter().filter(|_| self.gate == Gate::Open) {
            let unserved = group.uncovered_waiters() > 0 && group.resting() > 0;
            let only_creations = group.waiters.len > group.hopeful.saturating_sub(group.creating());
            assert!(
                group.asleep.is_empty() || !only_creations,
                "a sleeper is woken rather than a creation awaited"
            );
            assert!(!unserved, "no waiter is without hope while its key has an idle resource");
        }
    }

    fn nobody_waits_while_there_is_room(&self) {
        if self.gate != Gate::Open || self.creating() >= self.rules.max_creating {
            return;
        }
        if self.is_overdue() || self.pressed {
            return;
        }
        let dying = self.totals.counts[State::Destroying(Reason::Closed).kind()];
        if let Some(&(_, group)) = self.hungry.first() {
            let cost = self.groups[group as usize].cost;
            assert!(!self.fits_now(cost), "the oldest waiter does not wait while there is room");
            let idle = self.slots.iter().any(|(_, slot)| {
                let beside = slot.retiring && self.totals.retiring <= self.rules.max_surge;
                let spare = self.groups[slot.group as usize].waiters.is_empty();
                slot.state.is_resting() && spare && !beside
            });
            let evictable = idle && dying == 0 && self.rules.max_cost >= 1 << 40;
            assert!(!evictable, "the oldest waiter does not wait while room can be made");
        }
    }

    fn nobody_waits_for_a_creation_that_is_not_tried(&self) {
        let (mut breakers, mut open) = (0, 0);
        for (index, group) in &self.groups {
            let Some(breaker) = &group.breaker else { continue };
            breakers += 1;
            open += u32::from(breaker.circuit != Circuit::Closed);
            assert!(breaker.failures > 0, "a breaker remembers failures");
            let timers = self.timers.iter().filter(|(_, timer)| *timer == Timer::Breaker(index as u32));
            assert_eq!(timers.count(), 1, "the breaker of group {index} is looked at again");
            let hopeless = self.hopeless_until(index as u32).is_some();
            assert!(!hopeless || group.waiters.is_empty(), "nobody waits for a creation that is not tried");
        }
        assert_eq!(
            (breakers, open),
            (self.totals.breakers, self.totals.circuits_open),
            "breakers are counted"
        );
    }

    fn grants_and_waiters_agree(&self) {
        for (index, slot) in &self.slots {
            match slot.state {
                State::Granted => {
                    let fate = self.waiters[slot.waiter as usize].fate;
                    assert_eq!(fate, Fate::Granted(index as u32), "a promised slot knows its waiter");
                }
                _ => assert_eq!(slot.waiter, NIL, "only a promised slot has a waiter"),
            }
            let working = slot.state.is_cleaning()
                || matches!(slot.state, State::Creating | State::Specialising | State::Destroying(_));
            assert!(working || !slot.running, "only a slot in the manager's hands is running");
            assert!(!slot.hopeful || working, "only a slot in the making gives hope");
        }
    }

    fn timers_belong_to_somebody_and_are_never_late(&self) {
        for (index, slot) in &self.slots {
            let set = slot.timer != crate::time::Time::NEVER;
            let stands = self.timers.contains(&(slot.timer, Timer::Slot(index as u32)));
            assert_eq!(set, stands, "slot {index} has the timer it knows of");
            if slot.state.is_resting() {
                assert!(slot.timer <= slot.expires, "slot {index} is looked at before it expires");
            }
        }
        for (index, waiter) in self.waiters.iter().filter(|(_, waiter)| waiter.fate == Fate::Waiting) {
            assert!(self.alarm <= waiter.deadline, "the alarm rings for waiter {index}");
            let own = self.own_deadlines.contains(&(waiter.deadline, index as u32));
            assert_eq!(own, waiter.own_deadline, "waiter {index} has its deadline in the set");
        }
        let mut index = self.by_arrival.head;
        let mut last = Time::ZERO;
        while index != NIL {
            let deadline = self.waiters[index as usize].deadline;
            assert!(last <= deadline, "the list by arrival is in the order of deadlines");
            (last, index) = (deadline, self.waiters[index as usize].by_arrival.next);
        }
        for &(due, timer) in &self.timers {
            assert!(self.alarm <= due, "the alarm rings before {timer:?}");
            if let Timer::Slot(index) = timer {
                assert!(self.slots.contains(index as usize), "no timer outlives its slot");
            }
        }
    }

    fn an_unused_group_is_forgotten(&self) {
        for (index, group) in &self.groups {
            let wanted = group.rules.min_idle > 0 || group.demand.is_some();
            let kept = wanted && self.gate != Gate::Closed;
            assert!(kept || !group.is_unused(), "group {index} without slots and waiters is forgotten");
        }
    }

    fn a_closed_pool_starts_nothing(&self) {
        if self.gate == Gate::Closed {
            assert_eq!(self.waiting, 0, "nobody waits in a closed pool");
            assert_eq!(self.resting(), 0, "nothing is idle in a closed pool");
            assert!(self.hungry.is_empty() && self.lean.is_empty() && self.warming.is_empty());
        }
    }
}
