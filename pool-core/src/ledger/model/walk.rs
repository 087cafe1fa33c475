//! Random walks through every event of the ledger, under every rule. No reference here: the
//! invariants are checked after each step, and in the end everybody who waits is served.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::super::{Acquired, Gate, Ledger, State, Verdict};
use super::{Real, cases, serial_of};
use crate::adaptive::Adaptive;
use crate::config::{Fairness, PoolConfig, ReuseOrder};
use crate::meta::{Reason, ResourceId};
use crate::policy::KeyPolicy;
use crate::pressure::Shed;
use crate::time::Time;

/// One event; the numbers choose among what the event can be about.
#[derive(Clone, Debug)]
enum Event {
    Acquire { key: u8, patience: u64 },
    TryAcquire { key: u8 },
    PickUp(usize),
    Cancel(usize),
    GiveBack(usize, Verdict),
    Detach(usize),
    Insert { key: u8, lifetime: u64 },
    Warm { key: u8, wanted: u32 },
    Work { nth: usize, ok: bool, hang: bool, lifetime: u64 },
    Lose(usize),
    Hedge(usize),
    Gone(usize),
    Pass(u64),
    Stall(u64),
    Resize { total: usize, per_key: usize },
    Invalidate(u8),
    InvalidateAll,
    Suspend,
    Resume,
    Shed { cost: u64, spare_minimum: bool },
    Press,
    Relieve,
    Overdue,
    Look { nth: usize, keep: bool },
    Close,
}

fn event() -> impl Strategy<Value = Event> {
    let key = 0u8..4;
    let nth = any::<usize>();
    let verdict = prop_oneof![
        4 => Just(Verdict::Ready),
        4 => Just(Verdict::Recycle),
        1 => Just(Verdict::Destroy(Reason::Broken)),
    ];
    prop_oneof![
        30 => (key.clone(), 1u64..200).prop_map(|(key, patience)| Event::Acquire { key, patience }),
        5 => key.clone().prop_map(|key| Event::TryAcquire { key }),
        20 => nth.prop_map(Event::PickUp),
        5 => nth.prop_map(Event::Cancel),
        20 => (nth, verdict).prop_map(|(nth, verdict)| Event::GiveBack(nth, verdict)),
        1 => nth.prop_map(Event::Detach),
        2 => (key.clone(), 1u64..300).prop_map(|(key, lifetime)| Event::Insert { key, lifetime }),
        2 => (key.clone(), 0u32..4).prop_map(|(key, wanted)| Event::Warm { key, wanted }),
        40 => (nth, prop::bool::weighted(0.85), prop::bool::weighted(0.1), 1u64..300)
            .prop_map(|(nth, ok, hang, lifetime)| Event::Work { nth, ok, hang, lifetime }),
        2 => nth.prop_map(Event::Lose),
        3 => nth.prop_map(Event::Hedge),
        3 => nth.prop_map(Event::Gone),
        10 => (1u64..60).prop_map(Event::Pass),
        2 => (1u64..60).prop_map(Event::Stall),
        1 => (1usize..6, 1usize..4).prop_map(|(total, per_key)| Event::Resize { total, per_key }),
        1 => key.prop_map(Event::Invalidate),
        1 => Just(Event::InvalidateAll),
        1 => Just(Event::Suspend),
        2 => Just(Event::Resume),
        2 => (0u64..6, any::<bool>()).prop_map(|(cost, spare_minimum)| Event::Shed { cost, spare_minimum }),
        1 => Just(Event::Press),
        2 => Just(Event::Relieve),
        1 => Just(Event::Overdue),
        2 => (nth, any::<bool>()).prop_map(|(nth, keep)| Event::Look { nth, keep }),
    ]
}

fn nanos(span: u64) -> Duration {
    Duration::from_nanos(span)
}

fn config() -> impl Strategy<Value = PoolConfig> {
    let counts = (1usize..6, 1usize..4, 0usize..4, 0usize..3, 1usize..4, 1usize..3, 1usize..3, 0usize..3);
    let times = (1u64..80, 1u64..60, 1u64..60, any::<bool>(), 1u64..4, 1u64..5, 0u64..4);
    let breaker = (prop::option::of(1u64..4), 1u64..40, 0u64..60);
    let cost = prop_oneof![Just(1u64 << 40), 4u64..10];
    (counts, times, breaker, cost, adaptive()).prop_map(|(counts, times, breaker, max_cost, adaptive)| {
        let (total, per_key, idle, min_idle, creating, recycling, destroying, surge) = counts;
        let (idle_timeout, check_after, check_interval, lifo, every, max_uses, overtakes) = times;
        let per_key = per_key.min(total);
        let idle_per_key = idle.max(min_idle).min(per_key);
        PoolConfig {
            max_total: total,
            max_cost,
            max_per_key: Some(per_key),
            max_idle_per_key: Some(idle_per_key),
            min_idle_per_key: min_idle.min(idle_per_key),
            max_waiters: 6,
            max_creating: creating,
            max_creating_per_key: 2,
            max_recycling: recycling,
            max_destroying: destroying,
            max_surge: surge,
            max_abandoned: 2,
            max_overtakes: overtakes,
            fairness: if destroying == 1 { Fairness::Fifo } else { Fairness::Throughput },
            breaker_after: breaker.0,
            breaker_pause: nanos(breaker.1),
            breaker_max_pause: nanos(breaker.1 + breaker.2),
            order: if lifo { ReuseOrder::Lifo } else { ReuseOrder::Fifo },
            idle_timeout: Some(nanos(idle_timeout)),
            check_after: Some(nanos(check_after)),
            check_interval: Some(nanos(check_interval)),
            check_every_recycles: Some(every),
            max_uses,
            hibernate_after: (creating % 2 == 0).then_some(nanos(check_after)),
            generic_stock: surge,
            adaptive,
            replace_ahead: (total % 2 == 0).then_some(nanos(idle_timeout)),
            ..PoolConfig::default()
        }
    })
}

fn adaptive() -> impl Strategy<Value = Option<Adaptive>> {
    let times = (1u64..50, 0u64..50, 1u64..200);
    let adaptive = times.prop_map(|(interval, linger, window)| Adaptive {
        share: 0.9,
        interval: nanos(interval),
        linger: nanos(linger),
        max_window: nanos(interval + window),
    });
    prop::option::of(adaptive)
}

fn policy() -> impl Strategy<Value = KeyPolicy> {
    let limits = (1usize..4, 0usize..4, 0usize..3);
    let own = (limits, 1u64..80, 1u64..60, 1u64..5).prop_map(|(limits, idle_timeout, interval, uses)| {
        let (all, idle, min_idle) = limits;
        let idle = idle.min(all);
        KeyPolicy::new()
            .max_per_key(all)
            .max_idle_per_key(idle)
            .min_idle_per_key(min_idle.min(idle))
            .idle_timeout(nanos(idle_timeout))
            .check_interval(nanos(interval))
            .max_uses(uses)
    });
    prop_oneof![2 => Just(KeyPolicy::new()), 1 => own]
}

fn cost(key: u8, config: &PoolConfig) -> u64 {
    if config.max_cost < 1 << 40 { u64::from(key) + 1 } else { 1 }
}

/// A walk: the ledger and what the shell would know.
struct Walk {
    real: Real,
    config: PoolConfig,
    calls: u64,
}

impl Walk {
    /// The serials of slots in some state, in a stable order.
    fn serials(&self, which: impl Fn(&super::super::Slot) -> bool) -> Vec<u64> {
        let mut serials: Vec<_> =
            self.real.ledger.slots().filter(|slot| which(slot)).map(|slot| serial_of(slot.id)).collect();
        serials.sort_unstable();
        serials
    }

    fn leased(&self) -> Vec<u64> {
        self.serials(|slot| slot.state == State::Leased)
    }

    fn running(&self) -> Vec<u64> {
        self.serials(|slot| slot.running && !slot.stuck)
    }

    fn granted(&self) -> Vec<u64> {
        self.real.fates().into_iter().filter_map(|(ticket, granted)| granted.map(|_| ticket)).collect()
    }

    fn happen(&mut self, event: &Event) {
        let now = self.real.now();
        let pick = |list: Vec<u64>, nth: usize| (!list.is_empty()).then(|| list[nth % list.len()]);
        match *event {
            Event::Acquire { key, patience } => self.acquire(key, now.plus(nanos(patience))),
            Event::TryAcquire { key } => {
                let location = std::panic::Location::caller();
                if let Some(group) = self.real.known(key) {
                    self.real.ledger.try_acquire(group, now, location);
                }
            }
            Event::PickUp(nth) => _ = pick(self.granted(), nth).map(|ticket| self.real.pick_up(ticket)),
            Event::Cancel(nth) => {
                let tickets = self.real.fates().into_iter().map(|(ticket, _)| ticket).collect();
                _ = pick(tickets, nth).map(|ticket| self.real.cancel(ticket));
            }
            Event::GiveBack(nth, verdict) => {
                if let Some(serial) = pick(self.leased(), nth) {
                    self.real.ledger.give_back(self.real.slot(serial), verdict, now);
                }
            }
            Event::Detach(nth) => {
                if let Some(serial) = pick(self.leased(), nth) {
                    self.real.ledger.detach(self.real.slot(serial), now);
                }
            }
            Event::Insert { key, lifetime } => {
                let group = self.real.group(key, cost(key, &self.config));
                self.real.ledger.insert(group, now.plus(nanos(lifetime)), now);
            }
            Event::Warm { key, wanted } => self.warm(key, wanted),
            Event::Work { nth, ok, hang, lifetime } => {
                if let Some(serial) = pick(self.running(), nth) {
                    self.work(serial, ok, hang, now.plus(nanos(lifetime)));
                }
            }
            Event::Lose(nth) => {
                if let Some(serial) = pick(self.running(), nth) {
                    let creating =
                        !self.serials(|s| s.state == State::Creating && serial_of(s.id) == serial).is_empty();
                    self.real.ledger.lost(self.real.slot(serial), Reason::Interrupted, !creating, now);
                }
            }
            Event::Hedge(nth) => {
                _ = pick(self.running(), nth).map(|s| self.real.ledger.hedge(self.real.id(s), now))
            }
            Event::Gone(nth) => {
                _ = pick(self.serials(|_| true), nth).map(|s| self.real.ledger.gone(self.real.id(s), now));
            }
            // Time passes, and the driver is late.
            Event::Stall(span) => self.real.pass(span),
            Event::Pass(span) => {
                self.real.pass(span);
                let now = self.real.now();
                self.real.ledger.tick(now);
            }
            Event::Resize { total, per_key } => self.resize(total, per_key),
            Event::Invalidate(key) => {
                if let Some(group) = self.real.known(key) {
                    self.real.ledger.invalidate(group, now);
                }
            }
            Event::InvalidateAll => self.real.ledger.invalidate_all(now),
            Event::Suspend => self.real.ledger.suspend(),
            Event::Resume => self.real.ledger.resume(now),
            Event::Shed { cost, spare_minimum } => self.shed(cost, spare_minimum),
            Event::Press => self.real.ledger.press(Shed::Half, now),
            Event::Relieve => self.real.ledger.relieve(now),
            Event::Overdue => {
                let (found, next) = self.real.ledger.overdue(nanos(20), now);
                assert!(next > now && found.iter().all(|overdue| overdue.held >= nanos(20)));
            }
            Event::Look { nth, keep } => self.look(nth, keep),
            Event::Close => self.real.ledger.close(now),
        }
        self.real.settle();
    }

    fn acquire(&mut self, key: u8, deadline: Time) {
        if self.real.ledger.gate() == Gate::Closed {
            return;
        }
        let own = (deadline > self.real.now().plus(nanos(100))).then_some(deadline);
        // The timeout of all is changed now and then.
        let timeout = if self.real.ledger.counts()[State::Idle.kind()] > 1 { 60 } else { 100 };
        let common = self.real.now().plus(nanos(timeout));
        let acquired = self.real.acquire(key, cost(key, &self.config), own, common);
        assert_ne!(acquired, Acquired::Closed);
    }

    fn warm(&mut self, key: u8, wanted: u32) {
        if self.real.ledger.gate() != Gate::Closed {
            self.calls += 1;
            let (now, group) = (self.real.now(), self.real.group(key, cost(key, &self.config)));
            self.real.ledger.warm(group, wanted, self.calls, now);
        }
    }

    fn work(&mut self, serial: u64, ok: bool, hang: bool, lifetime_end: Time) {
        let (slot, now) = (self.real.slot(serial), self.real.now());
        let state = self.real.ledger.find(self.real.id(serial)).unwrap().state;
        let result = if ok { Ok(()) } else { Err(Reason::Unhealthy) };
        match state {
            State::Creating if ok && !self.is_gone(serial) => {
                self.real.ledger.created(slot, lifetime_end, now);
            }
            State::Creating => self.real.end_create(serial, ok),
            State::Recycling => self.real.ledger.recycled(slot, result, now),
            State::Hibernating => self.real.ledger.hibernated(slot, result, now),
            State::Waking => self.real.ledger.woken(slot, result, now),
            State::Specialising => {
                let result = result.map(|()| lifetime_end);
                self.real.ledger.specialised(slot, result, now);
            }
            State::Checking(_) => self.real.ledger.checked(slot, result, now),
            State::Destroying(_) if hang => self.real.ledger.destroy_hung(slot, now),
            State::Destroying(_) => self.real.ledger.destroyed(slot, now),
            state => unreachable!("{state:?} does not run"),
        }
    }

    fn is_gone(&self, serial: u64) -> bool {
        !self.serials(|slot| slot.gone && serial_of(slot.id) == serial).is_empty()
    }

    fn resize(&mut self, total: usize, per_key: usize) {
        self.config.max_total = total;
        self.config.max_per_key = Some(per_key.min(total));
        let idle = self.config.max_idle_per_key.unwrap_or(0).min(per_key.min(total));
        self.config.max_idle_per_key = Some(idle);
        self.config.min_idle_per_key = self.config.min_idle_per_key.min(idle);
        self.real.resize(&self.config);
    }

    /// No more is shed than what costs enough; the minimum idle stays if it is to be spared.
    fn shed(&mut self, cost: u64, spare_minimum: bool) {
        let now = self.real.now();
        let ledger = &mut self.real.ledger;
        let ids = ledger.to_shed(Shed::Cost(cost), spare_minimum);
        let costs: Vec<_> = ids.iter().filter_map(|id| Some(ledger.find(*id)?.cost)).collect();
        assert!(ids.is_empty() || costs[..ids.len() - 1].iter().sum::<u64>() < cost);
        let of_minimum = |ledger: &Ledger| -> u32 {
            ledger.groups.iter().map(|(_, group)| group.idle_count().min(group.rules.min_idle)).sum()
        };
        let before = of_minimum(ledger);
        ledger.shed(&ids, now);
        assert!(!spare_minimum || of_minimum(ledger) >= before, "the minimum idle stays");
    }

    fn look(&mut self, nth: usize, keep: bool) {
        let awake =
            |id: &ResourceId| self.real.ledger.find(*id).is_some_and(|slot| slot.state == State::Idle);
        let ids: Vec<_> = self.real.ledger.idle_ids().into_iter().filter(awake).collect();
        if let Some(&id) = ids.get(nth % ids.len().max(1)) {
            assert!(self.real.ledger.pick_idle(id));
            let now = self.real.now();
            let result = if keep { Ok(()) } else { Err(Reason::NotRetained) };
            self.real.ledger.put_down(id.slot(), result, now);
        }
    }

    /// From now on everybody does what he should: work ends well, leases come back, time passes.
    /// Whoever waits must be served or time out, in a bounded number of steps.
    fn come_to_rest(&mut self) -> Result<(), TestCaseError> {
        self.happen(&Event::Resume);
        self.happen(&Event::Relieve);
        for _ in 0..2_000 {
            let closed = self.real.ledger.gate() == Gate::Closed;
            let served = self.real.fates().is_empty() && self.leased().is_empty();
            if served && (!closed || self.running().is_empty()) {
                return Ok(());
            }
            self.happen(&Event::PickUp(0));
            self.happen(&Event::GiveBack(0, Verdict::Recycle));
            let lifetime = 1_000_000;
            self.happen(&Event::Work { nth: 0, ok: true, hang: false, lifetime });
            if self.real.ledger.stuck() > 0 || self.real.ledger.waiting() > 0 {
                self.happen(&Event::Pass(5));
            }
        }
        let counts = self.real.ledger.counts();
        Err(TestCaseError::fail(format!("no rest: {counts:?}, waiting {:?}", self.real.fates())))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(4_000), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_invariants_hold_whatever_happens_and_everybody_is_served(
        config in config(),
        policies in prop::collection::vec(policy(), 4),
        events in prop::collection::vec(event(), 1..120),
        close in any::<bool>(),
        donors in any::<bool>(),
    ) {
        prop_assert_eq!(config.validate(), Ok(()));
        let mut walk = Walk { real: Real::new(&config, policies), config, calls: 0 };
        walk.real.donors = donors.then_some(1);
        for event in &events {
            walk.happen(event);
        }
        if close {
            walk.happen(&Event::Close);
        }
        walk.come_to_rest()?;
        if close {
            prop_assert!(walk.real.ledger.is_drained());
        }
    }
}
