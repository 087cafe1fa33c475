//! The naive reference: every decision recomputed from plain vectors.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::time::Duration;

use proptest::prelude::*;
use proptest_state_machine::ReferenceStateMachine;

use crate::config::{Fairness, PoolConfig};
use crate::policy::KeyPolicy;

const KEYS: u8 = 3;

/// How long a breaker pauses, whatever happened before.
pub(super) const PAUSE: Duration = Duration::from_nanos(1_000);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Life {
    Creating,
    Idle,
    Granted,
    Leased,
    Recycling,
    Hibernating,
    Asleep,
    Waking,
    Specialising,
    Destroying,
}

#[derive(Clone, Debug)]
struct Thing {
    serial: u64,
    key: u8,
    life: Life,
    running: bool,
    hopeful: bool,
    gone: bool,
    /// The order in which things became idle, or were promised.
    stamp: u64,
}

#[derive(Clone, Debug)]
struct Caller {
    ticket: u64,
    key: u8,
    passes_before: u64,
    robbed: u64,
    granted: Option<u64>,
}

#[derive(Clone, Debug)]
pub(crate) struct Limits {
    total: usize,
    cost: u64,
    per_key: [usize; KEYS as usize],
    idle: usize,
    idle_per_key: [usize; KEYS as usize],
    creating: usize,
    creating_per_key: usize,
    recycling: usize,
    destroying: usize,
    surge: usize,
    waiters: usize,
    overtakes: u64,
    throughput: bool,
    breaker: Option<u64>,
    costs: [u64; KEYS as usize],
}

#[derive(Clone, Debug)]
pub(crate) struct Model {
    limits: Limits,
    things: Vec<Thing>,
    callers: Vec<Caller>,
    to_clean: VecDeque<u64>,
    to_destroy: VecDeque<u64>,
    starved: Option<u64>,
    passes: u64,
    serials: u64,
    tickets: u64,
    stamps: u64,
    least_cost: u64,
    breakers: [Breaker; KEYS as usize],
    pressed: bool,
}

/// What failed creations of one key led to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Breaker {
    failures: u64,
    circuit: Circuit,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Circuit {
    #[default]
    Closed,
    Open,
    HalfOpen,
}

/// One event, in terms of serial numbers and tickets.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Acquire(u8),
    PickUp(u64),
    Cancel(u64),
    Return(u64),
    Recycle(u64),
    Discard(u64),
    Detach(u64),
    EndCreate(u64, bool),
    EndRecycle(u64, bool),
    EndDestroy(u64),
    Gone(u64),
    Hedge(u64),
    /// Every pause of a breaker passes.
    Pause,
    Shed(usize),
    Press,
    Relieve,
}

fn by_key(limit: Range<usize>) -> impl Strategy<Value = [usize; KEYS as usize]> {
    prop::array::uniform3(limit)
}

fn limits() -> impl Strategy<Value = Limits> {
    let counts =
        (1usize..5, by_key(1..5), 0usize..5, by_key(0..5), 1usize..4, 1usize..3, 1usize..3, 1usize..3);
    let rest = (
        0usize..3,
        1usize..8,
        0u64..4,
        prop::array::uniform3(1u64..4),
        (any::<bool>(), any::<bool>()),
        2u64..10,
    );
    let breaker = prop::option::of(1u64..4);
    (counts, rest, breaker).prop_map(
        |(
            (total, per_key, idle, idle_per_key, creating, creating_per_key, recycling, destroying),
            (surge, waiters, overtakes, costs, (weighted, throughput), cost),
            breaker,
        )| {
            let idle = idle.min(total);
            Limits {
                total,
                cost: if weighted { cost } else { 1 << 40 },
                per_key: per_key.map(|limit| limit.min(total)),
                idle,
                idle_per_key,
                creating,
                creating_per_key,
                recycling,
                destroying,
                surge,
                waiters,
                overtakes,
                throughput,
                breaker,
                costs: if weighted { costs } else { [1; KEYS as usize] },
            }
        },
    )
}

impl Model {
    fn new(limits: Limits) -> Model {
        Model {
            limits,
            things: Vec::new(),
            callers: Vec::new(),
            to_clean: VecDeque::new(),
            to_destroy: VecDeque::new(),
            starved: None,
            passes: 0,
            serials: 0,
            tickets: 0,
            stamps: 0,
            least_cost: u64::MAX,
            breakers: Default::default(),
            pressed: false,
        }
    }

    pub(super) fn config(&self) -> PoolConfig {
        let l = &self.limits;
        PoolConfig {
            max_total: l.total,
            max_cost: l.cost,
            max_idle: Some(l.idle),
            max_waiters: l.waiters,
            max_creating: l.creating,
            max_creating_per_key: l.creating_per_key,
            max_recycling: l.recycling,
            max_destroying: l.destroying,
            max_surge: l.surge,
            max_overtakes: l.overtakes,
            fairness: if l.throughput { Fairness::Throughput } else { Fairness::Fifo },
            breaker_after: l.breaker,
            breaker_pause: PAUSE,
            breaker_max_pause: PAUSE,
            check_after: None,
            check_every_recycles: None,
            check_interval: None,
            idle_timeout: None,
            ..PoolConfig::default()
        }
    }

    pub(super) fn policies(&self) -> Vec<KeyPolicy> {
        let limits = self.limits.per_key.into_iter().zip(self.limits.idle_per_key);
        limits.map(|(all, idle)| KeyPolicy::new().max_per_key(all).max_idle_per_key(idle.min(all))).collect()
    }

    fn idle_limit(&self, key: u8) -> usize {
        let l = &self.limits;
        l.idle_per_key[key as usize].min(l.idle).min(l.per_key[key as usize])
    }

    pub(super) fn cost(&self, key: u8) -> u64 {
        self.limits.costs[key as usize]
    }

    pub(super) fn lives(&self) -> Vec<(u64, Life, bool, bool)> {
        let life = |thing: &Thing| (thing.serial, thing.life, thing.running, thing.hopeful);
        let mut lives: Vec<_> = self.things.iter().map(life).collect();
        lives.sort_unstable();
        lives
    }

    pub(super) fn fates(&self) -> Vec<(u64, Option<u64>)> {
        let mut fates: Vec<_> = self.callers.iter().map(|caller| (caller.ticket, caller.granted)).collect();
        fates.sort_unstable();
        fates
    }

    fn thing(&mut self, serial: u64) -> &mut Thing {
        self.things.iter_mut().find(|thing| thing.serial == serial).expect("a known thing")
    }

    fn count(&self, which: impl Fn(&Thing) -> bool) -> usize {
        self.things.iter().filter(|thing| which(thing)).count()
    }

    fn sum(&self, which: impl Fn(&Thing) -> bool) -> u64 {
        self.things.iter().filter(|thing| which(thing)).map(|thing| self.cost(thing.key)).sum()
    }

    /// Those who wait for a key, oldest first.
    fn waiting(&self, key: u8) -> Vec<u64> {
        let waiting = self.callers.iter().filter(|caller| caller.key == key && caller.granted.is_none());
        let mut tickets: Vec<_> = waiting.map(|caller| caller.ticket).collect();
        tickets.sort_unstable();
        tickets
    }

    fn acquire(&mut self, key: u8) {
        self.least_cost = self.least_cost.min(self.cost(key));
        let idle = self.things.iter().filter(|thing| thing.key == key && thing.life == Life::Idle);
        let warmest = idle.max_by_key(|thing| thing.stamp).map(|thing| thing.serial);
        if let Some(serial) = warmest {
            self.thing(serial).life = Life::Leased;
            self.passes += u64::from(self.starved.is_some());
            return;
        }
        if self.limits.throughput && self.barge(key) {
            self.passes += u64::from(self.starved.is_some());
            return;
        }
        let waiting = self.callers.iter().filter(|caller| caller.granted.is_none()).count();
        let fits = self.cost(key) <= self.limits.cost && waiting < self.limits.waiters;
        if fits && !self.is_hopeless(key) {
            self.tickets += 1;
            let ticket = self.tickets;
            self.callers.push(Caller { ticket, key, passes_before: self.passes, robbed: 0, granted: None });
        }
    }

    /// Takes what was promised last for this key, unless the one who waits for it bore that too often.
    fn barge(&mut self, key: u8) -> bool {
        let promised = self.things.iter_mut().filter(|thing| thing.key == key && thing.life == Life::Granted);
        let Some(thing) = promised.max_by_key(|thing| thing.stamp) else { return false };
        let caller = self.callers.iter_mut().find(|caller| caller.granted == Some(thing.serial));
        let caller = caller.expect("a promised thing has a caller");
        if caller.robbed >= self.limits.overtakes {
            return false;
        }
        caller.robbed += 1;
        caller.granted = None;
        thing.life = Life::Leased;
        true
    }

    fn make_ready(&mut self, serial: u64) {
        let Thing { key, gone, .. } = *self.thing(serial);
        if gone {
            return self.destroy(serial);
        }
        let ticket = self.waiting(key).first().copied();
        if ticket.is_none() && self.is_overdue() {
            return self.destroy(serial);
        }
        if let (Some(starved), Some(ticket)) = (self.starved, ticket)
            && starved < ticket
        {
            if self.is_overdue() {
                return self.destroy(serial);
            }
            self.passes += 1;
        }
        self.hand_out(serial);
    }

    fn hand_out(&mut self, serial: u64) {
        let thing = self.thing(serial);
        thing.hopeful = false;
        thing.running = false;
        let (key, gone) = (thing.key, thing.gone);
        if gone {
            return self.destroy(serial);
        }
        let Some(&ticket) = self.waiting(key).first() else { return self.become_idle(serial) };
        self.stamps += 1;
        let stamp = self.stamps;
        let thing = self.thing(serial);
        (thing.life, thing.stamp) = (Life::Granted, stamp);
        let caller = self.callers.iter_mut().find(|caller| caller.ticket == ticket);
        caller.expect("it waits").granted = Some(serial);
    }

    fn become_idle(&mut self, serial: u64) {
        self.stamps += 1;
        let stamp = self.stamps;
        let thing = self.thing(serial);
        (thing.life, thing.stamp) = (Life::Idle, stamp);
        let key = thing.key;
        let oldest = |things: &[Thing], which: &dyn Fn(&Thing) -> bool| {
            let idle = things.iter().filter(|thing| thing.life == Life::Idle && which(thing));
            idle.min_by_key(|thing| thing.stamp).map(|thing| thing.serial).expect("one is idle")
        };
        if self.count(|thing| thing.key == key && thing.life == Life::Idle) > self.idle_limit(key) {
            self.destroy(oldest(&self.things, &|thing| thing.key == key));
        } else if self.count(|thing| thing.life == Life::Idle) > self.limits.idle {
            self.destroy(oldest(&self.things, &|_| true));
        }
    }

    fn destroy(&mut self, serial: u64) {
        let thing = self.thing(serial);
        (thing.life, thing.running, thing.hopeful) = (Life::Destroying, false, false);
        self.to_destroy.push_back(serial);
    }

    fn recycle(&mut self, serial: u64) {
        let key = self.thing(serial).key;
        let unwanted = match self.waiting(key).first() {
            Some(&ticket) => self.starved.is_some_and(|starved| starved < ticket) && self.is_overdue(),
            None if self.is_overdue() || self.would_end_the_wait(serial) => true,
            None => self.limits.idle == 0 || self.idle_limit(key) == 0,
        };
        if unwanted || self.thing(serial).gone {
            return self.destroy(serial);
        }
        let thing = self.thing(serial);
        (thing.life, thing.hopeful) = (Life::Recycling, true);
        self.to_clean.push_back(serial);
    }

    /// Whether the starved caller fits once this thing and all idle ones are gone.
    fn would_end_the_wait(&self, serial: u64) -> bool {
        let Some(starved) = self.callers.iter().find(|caller| Some(caller.ticket) == self.starved) else {
            return false;
        };
        let stays =
            |thing: &Thing| !matches!(thing.life, Life::Destroying | Life::Idle) && thing.serial != serial;
        self.count(stays) < self.limits.total && self.sum(stays) + self.cost(starved.key) <= self.limits.cost
    }

    fn end_create(&mut self, serial: u64, ok: bool) {
        let (key, gone) = (self.thing(serial).key, self.thing(serial).gone);
        if ok && !gone {
            self.breakers[key as usize] = Breaker::default();
            return self.hand_out(serial);
        }
        self.note_failure(key);
        if let Some(&oldest) = self.waiting(key).first() {
            self.forget(oldest);
        }
        match ok {
            true => self.destroy(serial),
            false => self.things.retain(|thing| thing.serial != serial),
        }
    }

    fn note_failure(&mut self, key: u8) {
        let Some(after) = self.limits.breaker else { return };
        let breaker = &mut self.breakers[key as usize];
        breaker.failures += 1;
        if breaker.circuit == Circuit::HalfOpen || breaker.failures >= after {
            breaker.circuit = Circuit::Open;
        }
    }

    /// Nobody but a creation could serve the key, and none is tried.
    fn is_hopeless(&self, key: u8) -> bool {
        let serves = |thing: &Thing| thing.key == key && thing.life != Life::Destroying;
        self.breakers[key as usize].circuit == Circuit::Open && self.count(serves) == 0
    }

    fn pause(&mut self) {
        for key in 0..KEYS {
            let trying = self.count(|thing| thing.key == key && thing.life == Life::Creating) > 0;
            let breaker = &mut self.breakers[key as usize];
            match breaker.circuit {
                Circuit::Open => breaker.circuit = Circuit::HalfOpen,
                _ if trying => {}
                _ => *breaker = Breaker::default(),
            }
        }
    }

    fn forget(&mut self, ticket: u64) {
        self.callers.retain(|caller| caller.ticket != ticket);
        if self.starved == Some(ticket) {
            self.starved = None;
        }
    }

    fn gone(&mut self, serial: u64) {
        let thing = self.thing(serial);
        thing.gone = true;
        let key = thing.key;
        match thing.life {
            Life::Idle => self.destroy(serial),
            Life::Granted => {
                let caller = self.callers.iter_mut().find(|caller| caller.granted == Some(serial));
                caller.expect("a promised thing has a caller").granted = None;
                self.destroy(serial);
                self.serve(key);
            }
            Life::Recycling if !thing.running => self.destroy(serial),
            Life::Recycling => thing.hopeful = false,
            _ => {}
        }
    }

    /// A caller waits again: an idle thing of its key is there for it.
    fn serve(&mut self, key: u8) {
        let ticket = self.waiting(key)[0];
        let idle = self.things.iter_mut().filter(|thing| thing.key == key && thing.life == Life::Idle);
        if let Some(thing) = idle.max_by_key(|thing| thing.stamp) {
            self.stamps += 1;
            (thing.life, thing.stamp) = (Life::Granted, self.stamps);
            let serial = thing.serial;
            let caller = self.callers.iter_mut().find(|caller| caller.ticket == ticket);
            caller.expect("it waits").granted = Some(serial);
        }
    }

    fn cancel(&mut self, ticket: u64) {
        let caller = self.callers.iter().find(|caller| caller.ticket == ticket).expect("a known caller");
        let granted = caller.granted;
        self.forget(ticket);
        if let Some(serial) = granted {
            self.make_ready(serial);
        }
    }

    fn is_overdue(&self) -> bool {
        let starved = self.callers.iter().find(|caller| Some(caller.ticket) == self.starved);
        starved.is_some_and(|caller| self.passes - caller.passes_before >= self.limits.overtakes)
    }

    /// Who may be given a creation: beyond those whom things in the making will serve, as many as
    /// the limits per key allow; oldest first.
    fn wanting(&self) -> Vec<(u64, u8)> {
        let mut wanting = Vec::new();
        for key in 0..KEYS {
            let of_key = |thing: &&Thing| thing.key == key;
            let live = self.things.iter().filter(of_key).count();
            let serving = self.count(|thing| thing.key == key && thing.life != Life::Destroying);
            let creating = self.count(|thing| thing.key == key && thing.life == Life::Creating);
            let hopeful = self.count(|thing| thing.key == key && thing.hopeful);
            let l = &self.limits;
            let per_key = l.per_key[key as usize];
            let room = per_key.saturating_sub(serving);
            let room = room.min((per_key + l.surge).saturating_sub(live));
            let room = room.min(l.creating_per_key.saturating_sub(creating));
            let room = match self.breakers[key as usize].circuit {
                Circuit::Closed => room,
                Circuit::Open => 0,
                Circuit::HalfOpen => room.min(1usize.saturating_sub(creating)),
            };
            let waiting = self.waiting(key);
            wanting.extend(waiting.into_iter().skip(hopeful).take(room).map(|ticket| (ticket, key)));
        }
        wanting.sort_unstable();
        wanting
    }

    fn will_fit(&self, cost: u64, spoken: (usize, u64)) -> bool {
        let serves = |thing: &Thing| thing.life != Life::Destroying;
        self.count(serves) + spoken.0 < self.limits.total
            && self.sum(serves) + spoken.1 + cost <= self.limits.cost
    }

    fn fits(&self, cost: u64, spoken: (usize, u64)) -> bool {
        self.things.len() < self.limits.total + self.limits.surge
            && self.sum(|_| true) + cost <= self.limits.cost
            && self.will_fit(cost, spoken)
    }

    fn can_evict_for(&self, cost: u64, spoken: (usize, u64)) -> bool {
        let stays = |thing: &Thing| !matches!(thing.life, Life::Destroying | Life::Idle);
        self.count(stays) + spoken.0 < self.limits.total
            && self.sum(stays) + spoken.1 + cost <= self.limits.cost
    }

    fn evict_for(&mut self, cost: u64, spoken: (usize, u64)) -> bool {
        while !self.will_fit(cost, spoken) {
            let idle = self.things.iter().filter(|thing| thing.life == Life::Idle);
            let Some(oldest) = idle.min_by_key(|thing| thing.stamp) else { return false };
            self.destroy(oldest.serial);
        }
        true
    }

    fn destroy_idle(&mut self) {
        let idle = |thing: &&Thing| thing.life == Life::Idle;
        while let Some(oldest) = self.things.iter().filter(idle).min_by_key(|thing| thing.stamp) {
            self.destroy(oldest.serial);
        }
    }

    /// Destroys the oldest that are idle.
    fn shed(&mut self, count: usize) {
        for _ in 0..count {
            let idle = self.things.iter().filter(|thing| thing.life == Life::Idle);
            let Some(oldest) = idle.min_by_key(|thing| thing.stamp) else { return };
            self.destroy(oldest.serial);
        }
    }

    fn create(&mut self, key: u8) {
        self.serials += 1;
        let serial = self.serials;
        let life = Life::Creating;
        self.things.push(Thing { serial, key, life, running: true, hopeful: true, gone: false, stamp: 0 });
    }

    fn dispatch(&mut self) {
        let hopeless: Vec<u8> = (0..KEYS).filter(|&key| self.is_hopeless(key)).collect();
        self.callers.retain(|caller| !hopeless.contains(&caller.key));
        self.starved = None;
        let mut spoken = (0, 0);
        let mut looked_at = BTreeSet::new();
        while !self.pressed {
            let next = self.wanting().into_iter().find(|(ticket, _)| !looked_at.contains(ticket));
            let Some((ticket, key)) = next else { break };
            looked_at.insert(ticket);
            let cost = self.cost(key);
            let room = self.will_fit(cost, spoken) || self.can_evict_for(cost, spoken);
            let creating = self.count(|thing| thing.life == Life::Creating);
            if room && creating + spoken.0 >= self.limits.creating {
                break;
            }
            if self.fits(cost, spoken) {
                if self.starved.is_some() {
                    if self.is_overdue() {
                        break;
                    }
                    self.passes += 1;
                }
                self.create(key);
            } else if room && self.evict_for(cost, spoken) {
                match self.fits(cost, spoken) {
                    true => self.create(key),
                    false => spoken = (spoken.0 + 1, spoken.1 + cost),
                }
            } else {
                self.starved.get_or_insert(ticket);
                if self.is_overdue() {
                    self.destroy_idle();
                    break;
                }
                if cost <= self.least_cost {
                    break;
                }
            }
        }
        self.start_work();
    }

    fn start_work(&mut self) {
        while self.count(|thing| thing.running && thing.life == Life::Recycling) < self.limits.recycling {
            let Some(serial) = self.to_clean.pop_front() else { break };
            if let Some(thing) = self.things.iter_mut().find(|thing| thing.serial == serial)
                && thing.life == Life::Recycling
            {
                thing.running = true;
            }
        }
        while self.count(|thing| thing.running && thing.life == Life::Destroying) < self.limits.destroying {
            let Some(serial) = self.to_destroy.pop_front() else { break };
            self.thing(serial).running = true;
        }
    }

    fn steps(&self) -> Vec<Step> {
        let mut steps: Vec<Step> = (0..KEYS).map(Step::Acquire).collect();
        steps.extend(self.breakers.iter().any(|breaker| breaker.failures > 0).then_some(Step::Pause));
        let idle = self.count(|thing| thing.life == Life::Idle);
        steps.extend((idle > 0).then_some(Step::Shed(1 + idle / 2)));
        steps.push(if self.pressed { Step::Relieve } else { Step::Press });
        for caller in &self.callers {
            steps.push(Step::Cancel(caller.ticket));
            steps.extend(caller.granted.map(|_| Step::PickUp(caller.ticket)));
        }
        for thing in &self.things {
            let serial = thing.serial;
            match thing.life {
                Life::Leased => steps.extend([
                    Step::Return(serial),
                    Step::Return(serial),
                    Step::Recycle(serial),
                    Step::Recycle(serial),
                    Step::Discard(serial),
                    Step::Detach(serial),
                ]),
                Life::Creating => {
                    steps.extend([Step::EndCreate(serial, true), Step::EndCreate(serial, false)])
                }
                Life::Recycling if thing.running => {
                    steps.extend([Step::EndRecycle(serial, true), Step::EndRecycle(serial, false)]);
                    steps.push(Step::Hedge(serial));
                }
                Life::Destroying if thing.running => steps.push(Step::EndDestroy(serial)),
                _ => {}
            }
            steps.extend((!thing.gone).then_some(Step::Gone(serial)));
        }
        steps
    }
}

impl ReferenceStateMachine for Model {
    type State = Model;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Model> {
        limits().prop_map(Model::new).boxed()
    }

    fn transitions(model: &Model) -> BoxedStrategy<Step> {
        prop::sample::select(model.steps()).boxed()
    }

    fn preconditions(model: &Model, step: &Step) -> bool {
        let caller = |ticket| model.callers.iter().find(|caller: &&Caller| caller.ticket == ticket);
        let is = |serial, life, running: Option<bool>| {
            model.things.iter().any(|thing| {
                thing.serial == serial && thing.life == life && running.is_none_or(|r| r == thing.running)
            })
        };
        match *step {
            Step::Acquire(_) | Step::Pause | Step::Shed(_) | Step::Press | Step::Relieve => true,
            Step::PickUp(ticket) => caller(ticket).is_some_and(|caller| caller.granted.is_some()),
            Step::Cancel(ticket) => caller(ticket).is_some(),
            Step::Return(s) | Step::Recycle(s) | Step::Discard(s) | Step::Detach(s) => {
                is(s, Life::Leased, None)
            }
            Step::EndCreate(serial, _) => is(serial, Life::Creating, None),
            Step::EndRecycle(s, _) | Step::Hedge(s) => is(s, Life::Recycling, Some(true)),
            Step::EndDestroy(serial) => is(serial, Life::Destroying, Some(true)),
            Step::Gone(serial) => model.things.iter().any(|thing| thing.serial == serial && !thing.gone),
        }
    }

    fn apply(mut model: Model, step: &Step) -> Model {
        match *step {
            Step::Acquire(key) => model.acquire(key),
            Step::PickUp(ticket) => {
                let caller = model.callers.iter().find(|caller| caller.ticket == ticket).expect("known");
                let serial = caller.granted.expect("granted");
                model.thing(serial).life = Life::Leased;
                model.callers.retain(|caller| caller.ticket != ticket);
            }
            Step::Cancel(ticket) => model.cancel(ticket),
            Step::Return(serial) => model.make_ready(serial),
            Step::Recycle(serial) => model.recycle(serial),
            Step::Discard(serial) => model.destroy(serial),
            Step::Detach(serial) => model.things.retain(|thing| thing.serial != serial),
            Step::EndCreate(serial, ok) => model.end_create(serial, ok),
            Step::EndRecycle(serial, true) => model.make_ready(serial),
            Step::EndRecycle(serial, false) => model.destroy(serial),
            Step::EndDestroy(serial) => model.things.retain(|thing| thing.serial != serial),
            Step::Gone(serial) => model.gone(serial),
            Step::Hedge(serial) => model.thing(serial).hopeful = false,
            Step::Pause => model.pause(),
            Step::Shed(count) => model.shed(count),
            Step::Press => {
                model.pressed = true;
                model.shed(model.count(|thing| thing.life == Life::Idle).div_ceil(2));
            }
            Step::Relieve => model.pressed = false,
        }
        model.dispatch();
        model
    }
}
