//! The ledger against a naive reference: a few vectors, scanned from end to end at every step, that
//! must come to the same decisions. After each step the invariants are checked, too.
//!
//! A failure prints the shortest sequence of steps found; `PROPTEST_CASES` sets how many sequences
//! are tried.

mod reference;
mod scenes;
mod walk;

use std::collections::HashMap;
use std::panic::Location;

use proptest::test_runner::Config;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest};

use self::reference::{Life, Model, PAUSE, Step};
use super::{Acquired, Fate, Ledger, Rules, State, Verdict};
use crate::config::PoolConfig;
use crate::meta::{Reason, ResourceId};
use crate::policy::KeyPolicy;
use crate::pressure::Shed;
use crate::time::Time;

/// The real ledger, spoken to in the model's terms: serial numbers, tickets and keys.
pub(super) struct Real {
    pub(super) ledger: Ledger,
    config: PoolConfig,
    /// By key.
    policies: Vec<KeyPolicy>,
    groups: HashMap<u8, u32>,
    waiters: HashMap<u64, u32>,
    tickets: u64,
    now: u64,
    /// Resources of key 0, which cost so much, can be turned into those of other keys.
    pub(super) donors: Option<u64>,
}

impl Real {
    pub(super) fn new(config: &PoolConfig, policies: Vec<KeyPolicy>) -> Real {
        let (ledger, config) = (Ledger::new(Rules::new(config, true)), config.clone());
        let (groups, waiters) = (HashMap::new(), HashMap::new());
        Real { ledger, config, policies, groups, waiters, tickets: 0, now: 1, donors: None }
    }

    pub(super) fn now(&self) -> Time {
        Time::from_nanos(self.now)
    }

    pub(super) fn pass(&mut self, nanos: u64) {
        self.now += nanos;
    }

    /// The group of a key, if it has one.
    pub(super) fn known(&self, key: u8) -> Option<u32> {
        self.groups.get(&key).copied()
    }

    pub(super) fn group(&mut self, key: u8, cost: u64) -> u32 {
        if let Some(group) = self.groups.get(&key) {
            return *group;
        }
        let generic = self.donors.filter(|_| key > 0).map(|cost| self.group(0, cost));
        let own = self.policies[key as usize].resolve(&self.config);
        let rules = self.ledger.rules().for_key(&own);
        let group = self.ledger.add_group(cost, rules);
        self.groups.insert(key, group);
        if let Some(generic) = generic {
            self.ledger.set_generic(group, generic);
        }
        group
    }

    pub(super) fn resize(&mut self, config: &PoolConfig) {
        self.config = config.clone();
        let (rules, now) = (Rules::new(config, true), self.now());
        let (groups, policies) = (&self.groups, &self.policies);
        let own = |group| {
            let (key, _) = groups.iter().find(|(_, known)| **known == group)?;
            Some(policies[*key as usize].resolve(config))
        };
        self.ledger.resize(rules, own, now);
    }

    pub(super) fn slot(&self, serial: u64) -> u32 {
        self.id(serial).slot()
    }

    pub(super) fn id(&self, serial: u64) -> ResourceId {
        let slot = self.ledger.slots().find(|slot| serial_of(slot.id) == serial);
        slot.expect("the model knows only resources that exist").id
    }

    pub(super) fn acquire(&mut self, key: u8, cost: u64, deadline: Option<Time>, common: Time) -> Acquired {
        let group = self.group(key, cost);
        let acquired = self.ledger.acquire(group, deadline, common, self.now(), Location::caller());
        if let Acquired::Queued(waiter) = acquired {
            self.tickets += 1;
            self.waiters.insert(self.tickets, waiter);
        }
        acquired
    }

    pub(super) fn pick_up(&mut self, ticket: u64) {
        let waiter = self.waiters.remove(&ticket).expect("a known ticket");
        let now = self.now();
        self.ledger.pick_up(waiter, now).expect("a granted waiter");
    }

    pub(super) fn cancel(&mut self, ticket: u64) {
        let waiter = self.waiters.remove(&ticket).expect("a known ticket");
        let now = self.now();
        self.ledger.cancel(waiter, now);
    }

    pub(super) fn end_create(&mut self, serial: u64, ok: bool) {
        let (slot, now) = (self.slot(serial), self.now());
        let gone = self.ledger.slots().any(|slot| serial_of(slot.id) == serial && slot.gone);
        match ok {
            true if gone => _ = self.ledger.created_but_gone(slot, now),
            true => _ = self.ledger.created(slot, Time::NEVER, now),
            false => _ = self.ledger.create_failed(slot, now),
        }
    }

    /// Does what the shell does after every event: carries out what is left in `out`.
    pub(super) fn settle(&mut self) {
        for group in std::mem::take(&mut self.ledger.out.dead_groups) {
            self.groups.retain(|_, known| *known != group);
        }
        self.ledger.out.orders.clear();
        self.ledger.out.settled.clear();
        self.dismiss_the_failed();
        assert_eq!(self.ledger.waiters.len(), self.waiters.len(), "who has heard his fate is forgotten");
        self.ledger.check();
    }

    /// Waiters with bad news hear it at once.
    fn dismiss_the_failed(&mut self) {
        let ledger = &mut self.ledger;
        self.waiters.retain(|_, waiter| match ledger.fate(*waiter) {
            Fate::Waiting | Fate::Granted(_) => true,
            _ => {
                ledger.dismiss(*waiter);
                false
            }
        });
    }

    /// The waiters, by ticket, and the serial of what each was granted.
    pub(super) fn fates(&self) -> Vec<(u64, Option<u64>)> {
        let fate = |waiter| match self.ledger.fate(waiter) {
            Fate::Granted(slot) => Some(serial_of(self.ledger.identity(slot).0)),
            _ => None,
        };
        let mut fates: Vec<_> =
            self.waiters.iter().map(|(ticket, waiter)| (*ticket, fate(*waiter))).collect();
        fates.sort_unstable();
        fates
    }

    fn lives(&self) -> Vec<(u64, Life, bool, bool)> {
        let mut lives: Vec<_> = self
            .ledger
            .slots()
            .map(|slot| (serial_of(slot.id), life_of(slot.state), slot.running, slot.hopeful))
            .collect();
        lives.sort_unstable();
        lives
    }
}

pub(super) fn serial_of(id: ResourceId) -> u64 {
    id.as_u64() >> 24
}

fn life_of(state: State) -> Life {
    match state {
        State::Creating => Life::Creating,
        State::Idle => Life::Idle,
        State::Granted => Life::Granted,
        State::Leased => Life::Leased,
        State::Recycling => Life::Recycling,
        State::Checking(_) => unreachable!("the reference has no checks"),
        State::Hibernating => Life::Hibernating,
        State::Asleep => Life::Asleep,
        State::Waking => Life::Waking,
        State::Specialising => Life::Specialising,
        State::Destroying(_) => Life::Destroying,
    }
}

impl StateMachineTest for Real {
    type SystemUnderTest = Real;
    type Reference = Model;

    fn init_test(model: &Model) -> Real {
        Real::new(&model.config(), model.policies())
    }

    fn apply(mut real: Real, model: &Model, step: Step) -> Real {
        let now = real.now();
        match step {
            Step::Acquire(key) => _ = real.acquire(key, model.cost(key), None, Time::NEVER),
            Step::PickUp(ticket) => real.pick_up(ticket),
            Step::Cancel(ticket) => real.cancel(ticket),
            Step::Return(serial) => real.ledger.give_back(real.slot(serial), Verdict::Ready, now),
            Step::Recycle(serial) => real.ledger.give_back(real.slot(serial), Verdict::Recycle, now),
            Step::Discard(serial) => {
                real.ledger.give_back(real.slot(serial), Verdict::Destroy(Reason::Discarded), now);
            }
            Step::Detach(serial) => real.ledger.detach(real.slot(serial), now),
            Step::EndCreate(serial, ok) => real.end_create(serial, ok),
            Step::EndRecycle(serial, ok) => {
                let result = if ok { Ok(()) } else { Err(Reason::RecycleFailed) };
                real.ledger.recycled(real.slot(serial), result, now);
            }
            Step::EndDestroy(serial) => real.ledger.destroyed(real.slot(serial), now),
            Step::Gone(serial) => _ = real.ledger.gone(real.id(serial), now),
            Step::Hedge(serial) => real.ledger.hedge(real.id(serial), now),
            Step::Shed(count) => {
                let ids = real.ledger.to_shed(Shed::Resources(count), true);
                real.ledger.shed(&ids, now);
            }
            Step::Press => real.ledger.press(Shed::Half, now),
            Step::Relieve => real.ledger.relieve(now),
            Step::Pause => {
                real.pass(PAUSE.as_nanos() as u64);
                let now = real.now();
                real.ledger.tick(now);
            }
        }
        real.settle();
        assert_eq!(real.lives(), model.lives(), "resources: (serial, state, running, hopeful)");
        assert_eq!(real.fates(), model.fates(), "waiters: (ticket, granted)");
        real
    }
}

proptest_state_machine::prop_state_machine! {
    #![proptest_config(Config { cases: cases(10_000), failure_persistence: None, ..Config::default() })]

    #[test]
    fn the_ledger_decides_like_the_naive_reference(sequential 1..60 => Real);
}

/// `PROPTEST_CASES`, or `default`.
pub(super) fn cases(default: u32) -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(default)
}

#[test]
fn the_reference_reaches_every_state() {
    use proptest::strategy::{Strategy, ValueTree};
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..2_000 {
        let sequence = Model::sequential_strategy(1..60);
        let (mut model, steps, _) = sequence.new_tree(&mut runner).unwrap().current();
        for step in steps {
            model = Model::apply(model, &step);
            seen.extend(model.lives().into_iter().map(|(_, life, running, _)| (life, running)));
        }
    }
    assert!(seen.len() == 8, "the walks see too little of the ledger: {seen:?}");
}
