//! The ledger alone, in virtual time: what a configuration would have done with a trace of arrivals.
//!
//! Not part of the API: it changes with the ledger.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::panic::Location;
use std::time::Duration;

use crate::config::PoolConfig;
use crate::ledger::{Acquired, Fate, Job, KeyRules, Ledger, Order, Rules, State, Verdict};
use crate::meta::ResourceId;
use crate::time::Time;

/// One caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// When it comes, from the start of the trace.
    pub at: Duration,
    /// Which key it wants.
    pub key: u32,
    /// How long it keeps its lease.
    pub hold: Duration,
}

/// Callers in the order of their arrival, and what the manager's work takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// The callers.
    pub arrivals: Vec<Arrival>,
    /// How long the trace is; nothing is counted after that.
    pub length: Duration,
    /// How long one creation takes.
    pub create: Duration,
    /// How long one recycle takes.
    pub recycle: Duration,
    /// How long one destroy takes.
    pub destroy: Duration,
}

impl Trace {
    /// How many keys there are: one more than the highest.
    pub fn keys(&self) -> u32 {
        self.arrivals.iter().map(|arrival| arrival.key + 1).max().unwrap_or(0)
    }
}

/// What became of a trace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Replay {
    /// How many callers came.
    pub callers: u64,
    /// How many of them found an idle resource.
    pub warm: u64,
    /// How many of them went away without a resource.
    pub refused: u64,
    /// How long those who had to wait and were served waited, in the order in which they were.
    pub waits: Vec<Duration>,
    /// Resources of whatever state, summed over time.
    pub resource_seconds: f64,
    /// How many creations were started.
    pub creations: u64,
    /// At every step of the series: resources of whatever state, and those among them that are leased.
    pub series: Vec<(u32, u32)>,
}

impl Replay {
    /// Which share of the callers found an idle resource.
    pub fn warm_share(&self) -> f64 {
        self.warm as f64 / (self.callers.max(1)) as f64
    }
}

/// Replays `trace` over a pool of `config`. `warm`: how many resources of each key are there at the
/// start. `step`: how often a point of the series is taken.
pub fn replay(config: &PoolConfig, trace: &Trace, warm: u32, step: Duration) -> Replay {
    let mut simulation = Simulation::new(config, trace, step);
    simulation.warm(warm);
    simulation.run();
    simulation.replay
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive(usize),
    Return(u32),
    Done(ResourceId, u8),
    Alarm,
    Step,
}

struct Simulation<'a> {
    config: &'a PoolConfig,
    trace: &'a Trace,
    step: Duration,
    /// Those of every key.
    rules: KeyRules,
    ledger: Ledger,
    now: Time,
    end: Time,
    events: BinaryHeap<Reverse<(Time, u64, Event)>>,
    planned: u64,
    alarm: Time,
    /// Groups by key.
    groups: Vec<Option<u32>>,
    /// The caller behind each waiter.
    waiting: Vec<usize>,
    replay: Replay,
}

const CREATE: u8 = 0;
const RECYCLE: u8 = 1;
const CHECK: u8 = 2;
const DESTROY: u8 = 3;

impl<'a> Simulation<'a> {
    fn new(config: &'a PoolConfig, trace: &'a Trace, step: Duration) -> Self {
        let rules = Rules::new(config, false).always_awake();
        let mut simulation = Simulation {
            config,
            trace,
            step,
            rules: rules.key,
            ledger: Ledger::new(rules),
            now: Time::ZERO,
            end: Time::ZERO.plus(trace.length),
            events: BinaryHeap::new(),
            planned: 0,
            alarm: Time::NEVER,
            groups: vec![None; trace.keys() as usize],
            waiting: Vec::new(),
            replay: Replay::default(),
        };
        simulation.plan(Time::ZERO, Event::Step);
        if let Some(first) = trace.arrivals.first() {
            simulation.plan(Time::ZERO.plus(first.at), Event::Arrive(0));
        }
        simulation
    }

    fn warm(&mut self, wanted: u32) {
        if wanted > 0 {
            for key in 0..self.trace.keys() {
                let group = self.group(key);
                self.ledger.warm(group, wanted, 0, self.now);
            }
            self.follow();
        }
    }

    fn run(&mut self) {
        while let Some(Reverse((at, _, event))) = self.events.pop() {
            if at > self.end {
                break;
            }
            self.pass(at);
            self.happen(event);
            self.follow();
        }
        self.pass(self.end);
    }

    fn pass(&mut self, to: Time) {
        self.replay.resource_seconds += self.live() as f64 * to.since(self.now).as_secs_f64();
        self.now = to;
    }

    fn live(&self) -> u32 {
        self.ledger.counts().iter().sum()
    }

    fn plan(&mut self, at: Time, event: Event) {
        self.planned += 1;
        self.events.push(Reverse((at, self.planned, event)));
    }

    fn plan_in(&mut self, span: Duration, event: Event) {
        self.plan(self.now.plus(span), event);
    }

    fn happen(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Arrive(index) => self.arrive(index),
            Event::Return(slot) => self.ledger.give_back(slot, self.verdict(), now),
            Event::Done(id, job) => self.done(id, job),
            Event::Alarm if self.alarm == now => {
                self.alarm = Time::NEVER;
                self.ledger.tick(now);
            }
            Event::Alarm => {}
            Event::Step => {
                let leased = self.ledger.counts()[State::Leased.kind()];
                self.replay.series.push((self.live(), leased));
                self.plan_in(self.step, Event::Step);
            }
        }
    }

    fn verdict(&self) -> Verdict {
        if self.trace.recycle.is_zero() { Verdict::Ready } else { Verdict::Recycle }
    }

    fn arrive(&mut self, index: usize) {
        let arrival = self.trace.arrivals[index];
        if let Some(next) = self.trace.arrivals.get(index + 1) {
            self.plan(Time::ZERO.plus(next.at), Event::Arrive(index + 1));
        }
        self.replay.callers += 1;
        let group = self.group(arrival.key);
        let deadline = self.now.plus_maybe(self.config.wait_timeout);
        match self.ledger.acquire(group, None, deadline, self.now, Location::caller()) {
            Acquired::Ready(slot) => {
                self.replay.warm += 1;
                self.plan_in(arrival.hold, Event::Return(slot));
            }
            Acquired::Queued(waiter) => {
                if self.waiting.len() <= waiter as usize {
                    self.waiting.resize(waiter as usize + 1, 0);
                }
                self.waiting[waiter as usize] = index;
            }
            _ => self.replay.refused += 1,
        }
    }

    fn group(&mut self, key: u32) -> u32 {
        *self.groups[key as usize].get_or_insert_with(|| self.ledger.add_group(1, self.rules))
    }

    fn done(&mut self, id: ResourceId, job: u8) {
        let (slot, now) = (id.slot(), self.now);
        match job {
            CREATE => _ = self.ledger.created(slot, now.plus_maybe(self.config.max_lifetime), now),
            RECYCLE => self.ledger.recycled(slot, Ok(()), now),
            CHECK => self.ledger.checked(slot, Ok(()), now),
            _ => self.ledger.destroyed(slot, now),
        }
    }

    /// Carries out what the last event left to be done.
    fn follow(&mut self) {
        while let Some(order) = self.ledger.out.orders.pop_front() {
            self.begin(order);
        }
        for waiter in std::mem::take(&mut self.ledger.out.settled) {
            self.settle(waiter);
        }
        for dead in std::mem::take(&mut self.ledger.out.dead_groups) {
            let key = self.groups.iter().position(|group| *group == Some(dead));
            self.groups[key.expect("a group of a key")] = None;
        }
        if self.ledger.alarm() < self.alarm {
            self.alarm = self.ledger.alarm().max(self.now);
            self.plan(self.alarm, Event::Alarm);
        }
    }

    fn begin(&mut self, order: Order) {
        let (job, takes) = match order.job {
            Job::Create => (CREATE, self.trace.create),
            Job::Recycle => (RECYCLE, self.trace.recycle),
            Job::Check => (CHECK, Duration::ZERO),
            Job::Destroy(_) => (DESTROY, self.trace.destroy),
            Job::Hibernate | Job::Wake | Job::Specialise => {
                unreachable!("nothing sleeps here, and no key has a generic one")
            }
        };
        self.replay.creations += u64::from(job == CREATE);
        self.plan_in(takes, Event::Done(order.id, job));
    }

    /// A waiter's wait is over.
    fn settle(&mut self, waiter: u32) {
        let arrival = self.trace.arrivals[self.waiting[waiter as usize]];
        if let Fate::Granted(_) = self.ledger.fate(waiter) {
            let slot = self.ledger.pick_up(waiter, self.now).expect("a grant is for a slot");
            self.replay.waits.push(self.now.since(Time::ZERO.plus(arrival.at)));
            self.plan_in(arrival.hold, Event::Return(slot));
        } else {
            self.ledger.dismiss(waiter);
            self.replay.refused += 1;
        }
    }
}
