//! The one way out of every event: who gets freed room, and what the driver is to do next.
//!
//! Order of precedence: waiters by age, then the minimum idle, then warm-up.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Bound::{Excluded, Unbounded};

use super::slot::{Origin, State};
use super::{Circuit, Gate, Job, Ledger, NIL, Order, Starved, Unmet};
use crate::meta::{Reason, ResourceId};
use crate::time::Time;

/// How many groups that do not fit are looked past for one that does, at most.
const LOOK_PAST: u32 = 64;

/// Room that destroys under way will free, and that is spoken for already.
#[derive(Clone, Copy, Default)]
pub(super) struct Spoken {
    slots: u32,
    pub(super) cost: u64,
}

/// A waiter for whom a creation may be started.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct InLine {
    ticket: u64,
    group: u32,
    waiter: u32,
    /// How many uncovered waiters of the group stand before it.
    nth: u32,
}

/// How far one dispatch has come along the waiters.
#[derive(Default)]
struct Line {
    /// The last entry of the hungry that was looked at.
    last: (u64, u32),
    /// Waiters behind one for whom room is spoken for.
    behind: BinaryHeap<Reverse<InLine>>,
}

impl Ledger {
    #[inline]
    pub(super) fn dispatch(&mut self, now: Time) {
        if self.dirty {
            self.dispatch_now(now);
        }
    }

    fn dispatch_now(&mut self, now: Time) {
        while self.dirty {
            self.dispatches += 1;
            self.starved = None;
            if self.pressed {
                self.refuse_warm_up();
            } else if self.gate == Gate::Open {
                self.create_for_waiters(now);
                if self.hungry.is_empty() {
                    self.refill(now);
                    self.warm_up();
                }
            }
            // All that has become hungry so far was looked at; what cleaning finds unfit makes new room.
            self.dirty = false;
            self.start_cleaning(now);
            self.start_destroying();
        }
        // Whoever waits for the end must hear of it.
        self.out.news |= self.is_drained();
    }

    /// Starts creations for waiters, oldest first; makes room by evicting idle slots of other keys.
    fn create_for_waiters(&mut self, now: Time) {
        let mut spoken = Spoken::default();
        let mut line = Line::default();
        let mut looked_past = 0;
        while let Some(next) = self.next_in_line(&mut line) {
            let cost = self.groups[next.group as usize].cost;
            let donor = self.donor_for(next.group, spoken, now);
            let room = donor.is_some() || self.will_fit(cost, spoken) || self.can_evict_for(cost, spoken);
            if room && self.creating() + spoken.slots >= self.rules.max_creating {
                return;
            }
            if donor.is_some() || self.fits_beside(cost, spoken) {
                if self.starved.is_some() {
                    if self.is_overdue() {
                        return;
                    }
                    self.count_pass();
                }
                match donor {
                    Some(donor) => self.specialise(donor, next.group),
                    None => self.start_creation(next.group, Origin::Demand),
                }
            } else if room && self.evict_for(cost, spoken) {
                if self.fits_beside(cost, spoken) {
                    self.start_creation(next.group, Origin::Demand);
                } else {
                    spoken.slots += 1;
                    spoken.cost += cost;
                    self.speak_for(next, &mut line);
                }
            } else {
                self.starved.get_or_insert(Starved { ticket: next.ticket, waiter: next.waiter });
                looked_past += 1;
                if self.is_overdue() {
                    return self.reserve_idle();
                }
                if cost <= self.least_cost || looked_past > LOOK_PAST {
                    return;
                }
            }
        }
    }

    /// The oldest waiter not looked at yet for whom a creation may be started.
    fn next_in_line(&self, line: &mut Line) -> Option<InLine> {
        let hungry = loop {
            let Some(&(ticket, group)) = self.hungry.range((Excluded(line.last), Unbounded)).next() else {
                break None;
            };
            let record = &self.groups[group as usize];
            if record.spoken_in != self.dispatches {
                break Some(InLine { ticket, group, waiter: record.uncovered, nth: 0 });
            }
            line.last = (ticket, group);
        };
        match (hungry, line.behind.peek()) {
            (Some(hungry), behind) if behind.is_none_or(|Reverse(behind)| hungry < *behind) => {
                line.last = (hungry.ticket, hungry.group);
                Some(hungry)
            }
            _ => line.behind.pop().map(|Reverse(behind)| behind),
        }
    }

    /// Room will be there for a waiter once destroys are complete; the one behind it in its queue
    /// comes into line.
    fn speak_for(&mut self, spoken: InLine, line: &mut Line) {
        let InLine { group, waiter, nth, .. } = spoken;
        self.groups[group as usize].spoken_in = self.dispatches;
        let behind = self.waiters[waiter as usize].in_group.next;
        if nth + 1 < self.wants(group) {
            let ticket = self.waiters[behind as usize].ticket;
            line.behind.push(Reverse(InLine { ticket, group, waiter: behind, nth: nth + 1 }));
        }
    }

    /// Whether evicting every idle slot would make room for one of `cost`.
    fn can_evict_for(&self, cost: u64, spoken: Spoken) -> bool {
        let idle = self.resting();
        let retiring = self.totals.retiring - self.totals.retiring_idle;
        let slots_left = self.serving() - idle + spoken.slots;
        let cost_left = self.totals.cost_serving - self.totals.cost_idle + spoken.cost;
        slots_left < self.serving_limit_beside(retiring)
            && cost_left.saturating_add(cost) <= self.rules.max_cost
    }

    /// Evicts least recently used idle slots until one of `cost` will fit.
    fn evict_for(&mut self, cost: u64, spoken: Spoken) -> bool {
        while !self.will_fit(cost, spoken) {
            match self.oldest_evictable() {
                NIL => return false,
                oldest => self.destroy(oldest, Reason::Evicted),
            }
        }
        true
    }

    /// All that is idle is not enough for a waiter that has been passed too often: keeps the room
    /// for it, so that nobody comes along and takes one of them.
    fn reserve_idle(&mut self) {
        loop {
            match self.oldest_evictable() {
                NIL => return,
                oldest => self.destroy(oldest, Reason::Evicted),
            }
        }
    }

    /// The least recently used idle slot of a key without waiters: a key with waiters has idle
    /// slots only while they wait for a check. Donors for other keys go last.
    fn oldest_evictable(&self) -> u32 {
        let mut index = self.by_age.head;
        let mut donor = NIL;
        while index != NIL {
            let slot = &self.slots[index as usize];
            let group = &self.groups[slot.group as usize];
            if slot.state.is_resting() && group.waiters.is_empty() {
                match group.is_generic {
                    false => return index,
                    true if donor == NIL => donor = index,
                    true => {}
                }
            }
            index = slot.by_age.next;
        }
        donor
    }

    /// Refills groups below their minimum idle, within what room there is.
    fn refill(&mut self, now: Time) {
        let mut last = None;
        loop {
            let next = match last {
                None => self.lean.first().copied(),
                Some(last) => self.lean.range((Excluded(last), Unbounded)).next().copied(),
            };
            let Some(group) = next else { return };
            last = Some(group);
            if self.groups[group as usize].refill_after > now {
                continue;
            }
            while self.lacks(group) > 0 {
                if !self.groups[group as usize].asleep.is_empty() {
                    self.wake_one(group, now);
                    continue;
                }
                let idle = self.resting() - self.totals.retiring_idle;
                let crowded = idle >= self.rules.max_idle;
                if crowded || !self.may_start(self.groups[group as usize].cost) {
                    return;
                }
                self.start_creation(group, Origin::MinIdle);
            }
        }
    }

    /// Starts creations that `warm` asked for; says so where there is no room for one.
    fn warm_up(&mut self) {
        while let Some(&(group, call)) = self.warming.front() {
            let record = &self.groups[group as usize];
            let idle = record.resting() + record.hopeful;
            let full = record.serving() >= record.rules.max_per_key
                || idle >= record.rules.max_idle
                || !self.will_fit(record.cost, Spoken::default());
            let may_start = self.may_start(record.cost) && self.room_for_key(record) > 0;
            let unmet = match self.breaker(group).1 {
                Circuit::Open(_) => Some(Unmet::CircuitOpen),
                _ => full.then_some(Unmet::NoRoom),
            };
            if unmet.is_none() && !may_start {
                return;
            }
            self.warming.pop_front();
            self.group(group).pins -= 1;
            match unmet {
                Some(unmet) => {
                    self.out.news = true;
                    self.out.unmet_warm.push((call, unmet));
                    self.refresh(group);
                }
                None => self.start_creation(group, Origin::Warm(call)),
            }
        }
    }

    fn start_creation(&mut self, group: u32, origin: Origin) {
        let index = self.add_slot(group, origin);
        let record = self.group(group);
        record.plain = record.plain.saturating_sub(1);
        self.hope(index, true);
        let slot = self.slot(index);
        slot.running = true;
        let id = slot.id;
        self.out.news = true;
        self.out.orders.push_back(Order { id, job: Job::Create });
        self.refresh(group);
    }

    /// Orders recycles and checks up to `max_recycling`. What is not worth it any more is destroyed.
    fn start_cleaning(&mut self, now: Time) {
        while self.cleaning < self.rules.max_recycling {
            let Some(id) = self.to_clean.pop_front() else { return };
            let Some(job) = self.cleaning_job(id) else { continue };
            let index = id.slot();
            let group = self.slots[index as usize].group;
            if let Some(reason) = self.unfit(index, now) {
                self.destroy(index, reason);
                self.serve(group, now);
                continue;
            }
            if self.is_wanted_awake(id, job) {
                self.stay_awake(index, now);
                self.serve(group, now);
                continue;
            }
            self.slot(index).running = true;
            self.cleaning += 1;
            self.out.news = true;
            self.out.orders.push_back(Order { id, job });
        }
    }

    /// What a queued slot is still waiting for; `None` if it was destroyed meanwhile.
    fn cleaning_job(&self, id: ResourceId) -> Option<Job> {
        match self.find(id)?.state {
            State::Recycling => Some(Job::Recycle),
            State::Checking(_) => Some(Job::Check),
            State::Hibernating => Some(Job::Hibernate),
            State::Waking => Some(Job::Wake),
            _ => None,
        }
    }

    fn start_destroying(&mut self) {
        while self.destroying < self.rules.max_destroying {
            let Some(id) = self.to_destroy.pop_front() else { return };
            let Some(State::Destroying(reason)) = self.find(id).map(|slot| slot.state) else { continue };
            self.slot(id.slot()).running = true;
            self.destroying += 1;
            self.out.news = true;
            self.out.orders.push_back(Order { id, job: Job::Destroy(reason) });
        }
    }

    pub(super) fn creating(&self) -> u32 {
        self.totals.counts[State::Creating.kind()] + self.totals.counts[State::Specialising.kind()]
    }

    /// Slots that serve or will: all but those on their way out.
    pub(super) fn serving(&self) -> u32 {
        self.slots.len() as u32 - self.totals.counts[State::Destroying(Reason::Closed).kind()]
    }

    /// Whether a creation for nobody in particular may start.
    fn may_start(&self, cost: u64) -> bool {
        self.creating() < self.rules.max_creating && self.fits_now(cost)
    }

    /// Whether one more slot of `cost` fits now.
    pub(super) fn fits_now(&self, cost: u64) -> bool {
        self.fits_beside(cost, Spoken::default())
    }

    /// Whether one more slot of `cost` fits now, without taking room that is spoken for.
    fn fits_beside(&self, cost: u64, spoken: Spoken) -> bool {
        let live = self.slots.len() as u32;
        live < self.rules.max_total.saturating_add(self.rules.max_surge)
            && self.totals.cost.saturating_add(cost) <= self.rules.max_cost
            && self.will_fit(cost, spoken)
    }

    /// Whether one more slot of `cost` fits once the destroys under way are complete.
    fn will_fit(&self, cost: u64, spoken: Spoken) -> bool {
        self.serving() + spoken.slots < self.serving_limit()
            && (self.totals.cost_serving + spoken.cost).saturating_add(cost) <= self.rules.max_cost
    }
}
