//! Scenes that random walks seldom meet, each with the decision that is to be made in it.

use std::time::Duration;

use super::super::slot::Check;
use super::super::{Acquired, Origin, Slot, State, Verdict};
use super::{Real, serial_of};
use crate::config::{Fairness, PoolConfig};
use crate::meta::Reason;
use crate::policy::KeyPolicy;
use crate::pressure::Shed;
use crate::time::Time;

/// Nothing happens because time passes.
fn timeless() -> PoolConfig {
    PoolConfig { check_after: None, check_interval: None, idle_timeout: None, ..PoolConfig::default() }
}

fn scene(config: &PoolConfig) -> Real {
    Real::new(config, vec![KeyPolicy::new(); 4])
}

impl Real {
    /// Somebody waits for `key`; the ticket.
    fn queue(&mut self, key: u8, cost: u64) -> u64 {
        let acquired = self.acquire(key, cost, None, Time::NEVER);
        assert!(matches!(acquired, Acquired::Queued(_)), "{acquired:?}");
        self.settle();
        self.tickets
    }

    /// A new resource of `key`, leased; the serial.
    fn lease(&mut self, key: u8, cost: u64) -> u64 {
        self.lease_until(key, cost, Time::NEVER)
    }

    /// The same, which lives until `end`.
    fn lease_until(&mut self, key: u8, cost: u64, end: Time) -> u64 {
        let (ticket, now) = (self.queue(key, cost), self.now());
        let for_it = |slot: &&Slot| slot.state == State::Creating && slot.origin == Origin::Demand;
        let id = self.ledger.slots().find(for_it).expect("there is room").id;
        assert!(self.ledger.created(id.slot(), end, now));
        self.pick_up(ticket);
        self.settle();
        serial_of(id)
    }

    /// What is being made for the stock of key 0 is made, and taken; it lives until `end`.
    fn take_stock(&mut self, end: Time) -> u64 {
        let (now, made) = (self.now(), |slot: &&Slot| slot.state == State::Creating);
        let id = self.ledger.slots().find(made).expect("the stock is refilled").id;
        assert!(self.ledger.created(id.slot(), end, now));
        self.settle();
        assert!(matches!(self.acquire(0, 1, None, Time::NEVER), Acquired::Ready(_)));
        self.settle();
        serial_of(id)
    }

    fn end_lease(&mut self, serial: u64, verdict: Verdict) {
        let now = self.now();
        self.ledger.give_back(self.slot(serial), verdict, now);
        self.settle();
    }

    fn give_back(&mut self, serial: u64) {
        self.end_lease(serial, Verdict::Ready);
    }

    fn recycle(&mut self, serial: u64) {
        self.end_lease(serial, Verdict::Recycle);
    }

    fn discard(&mut self, serial: u64) {
        self.end_lease(serial, Verdict::Destroy(Reason::Discarded));
    }

    fn end_destroy(&mut self, serial: u64) {
        let now = self.now();
        self.ledger.destroyed(self.slot(serial), now);
        self.settle();
    }

    /// New resources, one of each of `keys`, idle, the least recently used first.
    fn idle<const N: usize>(&mut self, keys: [(u8, u64); N]) -> [u64; N] {
        let serials = keys.map(|(key, cost)| self.lease(key, cost));
        serials.into_iter().for_each(|serial| self.give_back(serial));
        serials
    }

    /// The time to sleep comes; so many of those that are put to sleep do so.
    fn fall_asleep(&mut self, count: usize) {
        self.tick(20);
        for _ in 0..count {
            let falling = self.ledger.slots().find(|slot| slot.state == State::Hibernating);
            let (slot, now) = (falling.expect("it can be spared").id.slot(), self.now());
            self.ledger.hibernated(slot, Ok(()), now);
        }
        self.settle();
    }

    fn tick(&mut self, nanos: u64) {
        self.pass(nanos);
        let now = self.now();
        self.ledger.tick(now);
        self.settle();
    }

    fn state(&self, serial: u64) -> State {
        self.ledger.find(self.id(serial)).expect("it exists").state
    }

    fn count(&self, state: State) -> u32 {
        self.ledger.counts()[state.kind()]
    }

    /// How many resources of `key` are being made.
    fn creating(&self, key: u8) -> usize {
        let group = self.known(key);
        let being_made = |slot: &&Slot| slot.state == State::Creating;
        self.ledger.slots().filter(being_made).filter(|slot| Some(slot.group) == group).count()
    }
}

#[test]
fn room_that_was_kept_for_a_waiter_who_leaves_is_there_for_another_key() {
    let mut real = scene(&PoolConfig { max_cost: 6, ..timeless() });
    real.idle([(0, 4)]);
    real.queue(1, 3);
    let leaves = real.queue(1, 3);
    real.queue(2, 1);
    assert_eq!((real.creating(2), real.count(State::Destroying(Reason::Evicted))), (0, 1));
    real.cancel(leaves);
    real.settle();
    assert_eq!((real.creating(1), real.creating(2)), (0, 1));
}

#[test]
fn who_was_passed_too_often_has_the_idle_kept_from_others_though_they_are_not_enough() {
    let mut real = scene(&PoolConfig { max_cost: 4, max_overtakes: 0, ..timeless() });
    let leases = [real.lease(0, 1), real.lease(0, 1)];
    real.give_back(leases[0]);
    real.queue(1, 4);
    assert_eq!(real.state(leases[0]), State::Destroying(Reason::Evicted));
}

#[test]
fn who_takes_an_idle_resource_passes_the_one_for_whom_there_is_no_room() {
    let mut real = scene(&PoolConfig { max_cost: 4, ..timeless() });
    let leases = [real.lease(0, 1), real.lease(0, 1)];
    real.give_back(leases[0]);
    real.queue(1, 4);
    assert!(matches!(real.acquire(0, 1, None, Time::NEVER), Acquired::Ready(_)));
    assert_eq!(real.ledger.counters.overtakes, 1);
}

/// How many of four idle resources are left when those who wait are looked at, oldest first: there may
/// be two creations, key 1 costs as much as one of the idle, and key 2 as two.
fn idle_left_after(waiting: [u8; 3]) -> u32 {
    let mut real = scene(&PoolConfig { max_cost: 4, max_creating: 2, ..timeless() });
    real.idle([(0, 1); 4]);
    real.ledger.suspend();
    waiting.into_iter().for_each(|key| _ = real.queue(key, key.into()));
    let now = real.now();
    real.ledger.resume(now);
    real.settle();
    real.count(State::Idle)
}

#[test]
fn room_is_made_for_the_oldest_first_also_behind_one_for_whom_it_is_being_made() {
    assert_eq!(idle_left_after([1, 1, 2]), 2);
    assert_eq!(idle_left_after([1, 2, 1]), 1);
}

#[test]
fn what_somebody_may_need_whose_check_is_not_over_makes_no_room_for_others() {
    let check_after = Some(Duration::from_nanos(10));
    let mut real = scene(&PoolConfig { max_total: 2, check_after, ..timeless() });
    let [checked, other] = real.idle([(0, 1); 2]).map(|serial| real.slot(serial));
    let [checked, other] = if real.ledger.rules().lifo { [other, checked] } else { [checked, other] };
    real.pass(20);
    real.queue(0, 1);
    real.queue(1, 1);
    assert_eq!((real.count(State::Idle), real.creating(1)), (1, 0));
    let now = real.now();
    real.ledger.checked(checked, Err(Reason::Unhealthy), now);
    real.settle();
    let states: Vec<_> = real.ledger.slots().map(|slot| (slot.id.slot(), slot.state.kind())).collect();
    assert!(states.contains(&(other, State::CHECKING)), "it is the next that is checked: {states:?}");
}

#[test]
fn only_a_look_that_was_no_check_and_delays_somebody_is_followed_by_one() {
    // What the look says, whether somebody waits meanwhile, whether a check is due, what follows.
    let next = [
        (Ok(()), true, true, State::Checking(Check::BeforeHandOut)),
        (Ok(()), true, false, State::Granted),
        (Ok(()), false, true, State::Idle),
        (Err(Reason::NotRetained), true, true, State::Destroying(Reason::NotRetained)),
    ];
    for (result, wanted, due, state) in next {
        let mut real = scene(&PoolConfig { check_after: Some(Duration::from_nanos(10)), ..timeless() });
        let [looked_at] = real.idle([(0, 1)]);
        assert!(real.ledger.pick_idle(real.id(looked_at)));
        real.pass(if due { 20 } else { 5 });
        wanted.then(|| real.queue(0, 1));
        let now = real.now();
        real.ledger.put_down(real.slot(looked_at), result, now);
        real.settle();
        assert_eq!(real.state(looked_at), state, "{result:?}, wanted: {wanted}, due: {due}");
    }
}

#[test]
fn of_generic_resources_the_least_recently_used_is_evicted_first() {
    let mut real = scene(&PoolConfig { max_total: 3, generic_stock: 2, ..timeless() });
    real.donors = Some(1);
    let [first] = real.idle([(1, 1)]);
    // The stock is made as soon as a key is known whose generic one it is of.
    let generic = [first - 2, first - 1];
    generic.into_iter().for_each(|serial| real.end_create(serial, true));
    real.settle();
    real.donors = None;
    real.queue(2, 1);
    assert_eq!(real.state(first), State::Destroying(Reason::Evicted));
    real.queue(3, 1);
    assert_eq!(generic.map(|serial| real.state(serial)), [State::Destroying(Reason::Evicted), State::Idle]);
}

#[test]
fn the_generic_stock_follows_a_resize() {
    let mut config = PoolConfig { generic_stock: 1, ..timeless() };
    let mut real = scene(&config);
    real.donors = Some(1);
    real.lease(1, 1);
    assert_eq!(real.creating(0), 1);
    config.generic_stock = 3;
    real.resize(&config);
    real.settle();
    assert_eq!(real.creating(0), 3);
}

#[test]
fn a_generic_key_is_forgotten_with_the_last_key_whose_generic_one_it_is() {
    let mut real = scene(&PoolConfig { generic_stock: 0, ..timeless() });
    real.donors = Some(1);
    let leases = [real.lease(1, 1), real.lease(2, 1)];
    let generic_of = |real: &Real, key| real.ledger.generic_of(real.known(key).unwrap());
    assert_eq!((generic_of(&real, 0), generic_of(&real, 2)), (None, real.known(0)));
    for (serial, forgotten) in leases.into_iter().zip([false, true]) {
        let now = real.now();
        real.ledger.detach(real.slot(serial), now);
        real.settle();
        assert_eq!(real.known(0).is_none(), forgotten);
    }
}

#[test]
fn what_a_lost_creation_has_made_is_destroyed_and_its_waiter_gets_another() {
    let mut real = scene(&timeless());
    real.queue(0, 1);
    let (serial, now) = (real.ledger.serials, real.now());
    real.ledger.lost(real.slot(serial), Reason::Interrupted, true, now);
    real.settle();
    assert_eq!(real.state(serial), State::Destroying(Reason::Interrupted));
    assert_eq!(serial_of(real.id(real.ledger.serials)), serial + 1);
    assert_eq!(real.creating(0), 1);
}

/// Long idle resources sleep.
fn sleepy() -> PoolConfig {
    PoolConfig { hibernate_after: Some(Duration::from_nanos(10)), ..timeless() }
}

#[test]
fn for_one_waiter_one_sleeper_is_woken() {
    let mut real = scene(&sleepy());
    real.idle([(0, 1); 2]);
    real.fall_asleep(2);
    real.queue(0, 1);
    assert_eq!((real.count(State::Asleep), real.count(State::Waking)), (1, 1));
    let waking = real.ledger.slots().find(|slot| slot.state == State::Waking).unwrap().id.slot();
    let now = real.now();
    real.ledger.woken(waking, Ok(()), now);
    real.settle();
    assert_eq!((real.count(State::Asleep), real.count(State::Granted)), (1, 1));
}

#[test]
fn who_is_wanted_before_it_is_put_to_sleep_is_not_checked_without_need() {
    let mut real = scene(&PoolConfig { max_recycling: 1, ..sleepy() });
    real.idle([(0, 1); 2]);
    real.tick(20);
    real.queue(0, 1);
    let falling = real.ledger.slots().find(|slot| slot.running).unwrap().id.slot();
    let now = real.now();
    real.ledger.hibernated(falling, Ok(()), now);
    real.settle();
    assert_eq!((real.count(State::Asleep), real.count(State::Granted)), (1, 1));
}

#[test]
fn a_stock_that_is_full_because_another_key_gave_way_lacks_nothing() {
    let mut policies = vec![KeyPolicy::new(); 4];
    policies[1] = KeyPolicy::new().min_idle_per_key(1);
    let mut real = Real::new(&PoolConfig { max_total: 2, max_idle: Some(1), ..timeless() }, policies);
    let leases = [real.lease(0, 1), real.lease(1, 1)];
    leases.into_iter().for_each(|serial| real.give_back(serial));
    let group = real.known(1).unwrap();
    assert_eq!((real.state(leases[1]), real.ledger.groups[group as usize].lean), (State::Idle, false));
}

#[test]
fn warming_wakes_no_more_sleepers_than_are_wanted_and_none_where_nothing_is_given_out() {
    let hold: [fn(&mut Real); 3] = [
        |_| {},
        |real| real.ledger.suspend(),
        |real| real.ledger.press(Shed::Resources(0), Time::from_nanos(50)),
    ];
    for (hold, woken) in hold.into_iter().zip([1, 0, 0]) {
        let mut real = scene(&sleepy());
        real.idle([(0, 1); 2]);
        real.fall_asleep(2);
        hold(&mut real);
        let (group, now) = (real.known(0).unwrap(), real.now());
        assert_eq!(real.ledger.warm(group, 1, 1, now), woken);
        real.settle();
        assert_eq!(real.count(State::Waking), woken);
    }
}

#[test]
fn who_sleeps_or_is_about_to_is_not_awake() {
    let mut real = scene(&sleepy());
    real.lease(0, 1);
    real.idle([(0, 1); 2]);
    real.fall_asleep(1);
    assert_eq!((real.count(State::Asleep), real.count(State::Hibernating)), (1, 1));
    let group = real.known(0).unwrap();
    assert_eq!(real.ledger.groups[group as usize].awake(), 1, "the leased one");
}

/// One resource of key 0 is kept idle, and is replaced 50 nanoseconds ahead of its end.
fn replaced(max_surge: usize) -> PoolConfig {
    let replace_ahead = Some(Duration::from_nanos(50));
    PoolConfig { max_total: 2, min_idle_per_key: 1, max_surge, replace_ahead, ..sleepy() }
}

#[test]
fn a_sleeper_is_not_replaced_ahead_of_its_end() {
    let mut real = scene(&replaced(1));
    let sleeper = real.lease_until(0, 1, Time::from_nanos(100));
    real.end_create(sleeper + 1, true);
    real.give_back(sleeper);
    real.fall_asleep(1);
    assert_eq!((real.state(sleeper), real.state(sleeper + 1)), (State::Asleep, State::Idle));
    real.tick(50);
    assert_eq!((real.state(sleeper), real.ledger.totals.retiring), (State::Asleep, 0));
}

#[test]
fn room_beside_the_retiring_goes_with_them() {
    let mut real = scene(&PoolConfig { hibernate_after: None, ..replaced(2) });
    let end = Time::from_nanos(100);
    let retiring = [real.lease_until(0, 1, end), real.take_stock(end)];
    real.tick(60);
    let others = [real.take_stock(Time::NEVER), real.take_stock(Time::NEVER)];
    real.give_back(retiring[0]);
    real.queue(1, 1);
    assert_eq!(real.state(retiring[0]), State::Idle, "two would be left: it would be evicted in vain");
    real.recycle(retiring[1]);
    assert_eq!(real.state(retiring[1]), State::Recycling, "and so would this one");
    real.recycle(others[0]);
    assert_eq!(real.state(others[0]), State::Destroying(Reason::Evicted), "one and a retiring one are left");
}

#[test]
fn what_comes_back_is_not_recycled_where_a_costly_waiter_could_have_its_room() {
    for (cost, state) in [(2, State::Destroying(Reason::Evicted)), (1, State::Recycling)] {
        let mut real = scene(&PoolConfig { max_total: 3, max_cost: 7, ..timeless() });
        let [back, _stays] = [real.lease(0, cost), real.lease(3, 4 - cost)];
        real.idle([(2, 1)]);
        real.queue(1, 5);
        real.recycle(back);
        assert_eq!(real.state(back), state, "of five, three and the cost of what stays");
    }
}

#[test]
fn what_must_end_anyway_ends_for_its_own_reason_though_somebody_needs_its_room() {
    let mut real = scene(&PoolConfig { max_cost: 4, max_overtakes: 0, max_uses: 1, ..timeless() });
    let used_up = real.lease(0, 1);
    real.queue(1, 4);
    real.give_back(used_up);
    assert_eq!(real.state(used_up), State::Destroying(Reason::MaxUses));
}

#[test]
fn who_is_served_before_a_younger_one_for_whom_there_is_no_room_does_not_pass_it() {
    let mut real = scene(&PoolConfig { max_cost: 4, max_per_key: Some(1), ..timeless() });
    let lease = real.lease(0, 1);
    real.queue(0, 1);
    real.queue(1, 4);
    real.give_back(lease);
    assert_eq!((real.state(lease), real.ledger.counters.overtakes), (State::Granted, 0));
}

#[test]
fn what_is_promised_may_be_taken_by_who_comes_along_unless_it_must_not_be_used_again() {
    for (pass, barged, state) in [(10, 1, State::Leased), (60, 0, State::Granted)] {
        let mut real = scene(&PoolConfig { fairness: Fairness::Throughput, max_total: 1, ..timeless() });
        let lease = real.lease_until(0, 1, Time::from_nanos(50));
        real.queue(0, 1);
        real.give_back(lease);
        real.pass(pass);
        real.acquire(0, 1, None, Time::NEVER);
        real.settle();
        assert_eq!((real.state(lease), real.ledger.counters.barged), (state, barged));
    }
}

#[test]
fn a_donor_takes_no_room_that_is_being_made_for_somebody_who_came_before() {
    let mut real = scene(&PoolConfig { max_cost: 10, generic_stock: 1, ..timeless() });
    real.donors = Some(1);
    let first = real.lease(2, 4);
    real.end_create(first - 1, true);
    real.discard(first);
    real.end_destroy(first);
    real.donors = None;
    let light = real.lease(3, 1);
    real.discard(light);
    // There will be room for nine beside the donor.
    real.queue(1, 9);
    real.donors = Some(1);
    real.queue(2, 4);
    assert_eq!(real.count(State::Specialising), 0);
    real.end_destroy(light);
    assert_eq!(real.creating(1), 1);
}

#[test]
fn a_donor_is_specialised_only_where_its_new_cost_fits_in_place_of_the_old_one() {
    for (other, specialised) in [(4, 1), (5, 0)] {
        let mut real = scene(&PoolConfig { max_cost: 9, generic_stock: 1, ..timeless() });
        real.donors = Some(4);
        let first = real.lease(1, 1);
        real.discard(first);
        real.end_destroy(first);
        real.end_create(first - 1, true);
        real.settle();
        real.donors = None;
        real.lease(2, other);
        real.donors = Some(4);
        real.queue(3, 5);
        assert_eq!(real.count(State::Specialising), specialised, "beside {other}");
    }
}

#[test]
fn a_target_that_is_met_as_far_as_may_be_idle_lacks_nothing() {
    let mut real = scene(&PoolConfig { max_total: 2, max_idle_per_key: Some(1), ..timeless() });
    let [lease, _] = [real.lease(0, 1), real.lease(1, 1)];
    let group = real.known(0).unwrap();
    real.ledger.groups[group as usize].target = 2;
    real.ledger.refresh(group);
    assert!(real.ledger.groups[group as usize].lean);
    real.give_back(lease);
    assert!(!real.ledger.groups[group as usize].lean);
}

#[test]
fn what_is_kept_as_a_target_is_not_replaced_on_its_last_use() {
    let mut real = scene(&PoolConfig { min_idle_per_key: 0, max_uses: 1, ..replaced(1) });
    let ticket = real.queue(0, 1);
    let group = real.known(0).unwrap();
    real.ledger.groups[group as usize].target = 1;
    real.end_create(real.ledger.serials, true);
    real.pick_up(ticket);
    real.settle();
    assert_eq!((real.count(State::Leased), real.ledger.totals.retiring), (1, 0));
}

#[test]
fn every_work_counts_once() {
    let mut real = scene(&PoolConfig { check_every_recycles: Some(1), ..timeless() });
    let leases = [real.lease(0, 1), real.lease(0, 1)];
    let now = real.now();
    for serial in leases {
        real.recycle(serial);
        real.ledger.recycled(real.slot(serial), Ok(()), now);
        real.ledger.checked(real.slot(serial), Ok(()), now);
    }
    real.ledger.shed(&real.ledger.idle_ids(), now);
    for serial in leases {
        real.ledger.destroy_hung(real.slot(serial), now);
        real.settle();
    }
    for _ in 0..2 {
        let ticket = real.queue(0, 1);
        real.ledger.lost(real.slot(real.ledger.serials), Reason::Interrupted, false, now);
        real.cancel(ticket);
        real.settle();
    }
    let counted = &real.ledger.counters;
    let done = (counted.created, counted.recycled, counted.checked, counted.abandoned);
    assert_eq!((done, counted.create_failures), ((2, 2, 2, 2), 2));
}

#[test]
fn every_event_counts_once() {
    let mut real = scene(&PoolConfig { breaker_after: Some(1), ..timeless() });
    let leases = [real.lease(0, 1), real.lease(0, 1), real.lease(0, 1)];
    let now = real.now();
    real.ledger.detach(real.slot(leases[0]), now);
    real.give_back(leases[1]);
    real.give_back(leases[2]);
    for _ in 0..2 {
        assert!(matches!(real.acquire(0, 1, None, Time::NEVER), Acquired::Ready(_)));
    }
    let waiting = [real.queue(0, 1), real.queue(0, 1)];
    waiting.into_iter().for_each(|ticket| real.cancel(ticket));
    real.queue(1, 1);
    let failing = real.ledger.serials;
    real.end_create(failing, false);
    real.settle();
    for _ in 0..2 {
        assert!(matches!(real.acquire(1, 1, None, Time::NEVER), Acquired::CircuitOpen(_)));
    }
    let counted = &real.ledger.counters;
    let leases = (counted.acquired_waited, counted.acquired_ready, counted.returned, counted.detached);
    assert_eq!(leases, (3, 2, 3, 1));
    let others = (counted.cancelled, counted.failed, counted.circuits_opened, counted.circuit_refused);
    assert_eq!(others, (2, 1, 1, 2));
}
