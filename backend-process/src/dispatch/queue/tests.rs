//! Whatever happens in whatever order, against a book kept beside it.

use std::cell::Cell;
use std::rc::Rc;

use proptest::collection::vec;
use proptest::prelude::*;

use super::{Place, Queue, Select, Waiting};

#[derive(Clone, Debug)]
enum Op {
    Ask(Option<u8>),
    GoAway(usize),
    GiveBack(usize),
    Install(usize),
    Remove(usize),
}

fn ops() -> impl Strategy<Value = Op> {
    let index = || 0..8_usize;
    prop_oneof![
        6 => prop::option::of(0..4_u8).prop_map(Op::Ask),
        2 => index().prop_map(Op::GoAway),
        5 => index().prop_map(Op::GiveBack),
        2 => index().prop_map(Op::Install),
        1 => index().prop_map(Op::Remove),
    ]
}

fn selects() -> impl Strategy<Value = Select> {
    let all = [Select::LeastBusy, Select::RoundRobin, Select::Random, Select::Sticky, Select::KernelQueue];
    prop::sample::select(all.to_vec())
}

/// One who waits, as the book knows him.
#[derive(Clone, Debug)]
struct Caller {
    number: usize,
    key: Option<u8>,
    gone: Rc<Cell<bool>>,
}

impl Waiting for Caller {
    fn is_gone(&self) -> bool {
        self.gone.get()
    }
}

/// The book: everything that the queue should know, found by looking through all of it.
struct Book {
    queue: Queue<u64, Caller>,
    select: Select,
    room: usize,
    max_waiting: usize,
    waiting: Vec<Caller>,
    /// Who has a place at which worker.
    places: Vec<(u64, Place)>,
    /// The worker of each slot.
    workers: Vec<Option<u64>>,
    /// Where each sticky key was served last, and which workers lived then.
    homes: std::collections::HashMap<u8, (u64, Vec<Option<u64>>)>,
    count: usize,
}

impl Book {
    fn new(slots: usize, select: Select, room: usize, max_waiting: usize) -> Self {
        let (waiting, places, homes) = Default::default();
        let workers = vec![None; slots];
        let queue = Queue::new(slots, select, room, max_waiting);
        Self { queue, select, room, max_waiting, waiting, places, workers, homes, count: 0 }
    }

    fn take(&mut self, op: &Op) {
        self.count += 1;
        match *op {
            Op::Ask(key) => self.ask(key),
            Op::GoAway(index) if !self.waiting.is_empty() => {
                let caller = self.waiting.remove(index % self.waiting.len());
                caller.gone.set(true);
            }
            Op::GiveBack(index) if !self.places.is_empty() => {
                let (worker, place) = self.places.remove(index % self.places.len());
                let lives = self.workers[place.slot] == Some(worker);
                assert!(self.queue.give_back(place) || !lives, "a place at a living worker frees one");
            }
            Op::Install(index) => {
                let (index, worker) = (index % self.workers.len(), self.count as u64);
                self.workers[index] = Some(worker);
                self.queue.install(index, worker, worker);
            }
            Op::Remove(index) => {
                let index = index % self.workers.len();
                self.queue.remove(index, |worker| Some(*worker) == self.workers[index]);
                self.workers[index] = None;
            }
            Op::GoAway(_) | Op::GiveBack(_) => {}
        }
        while let Some((caller, worker, place)) = self.queue.next() {
            self.served(&caller, worker, place);
        }
        self.check();
    }

    fn ask(&mut self, key: Option<u8>) {
        let caller = Caller { number: self.count, key, gone: Rc::default() };
        let sticky = key.map(|key| self.queue.sticky(&[key]));
        if let Some((worker, place)) = self.queue.take_now(sticky) {
            assert!(self.waiting.is_empty(), "nobody is passed");
            self.waiting.push(caller.clone());
            return self.served(&caller, worker, place);
        }
        let accepted = self.queue.push(sticky, caller.clone());
        assert_eq!(accepted, self.waiting.len() < self.max_waiting, "those who have gone take no room");
        self.waiting.extend(accepted.then_some(caller));
    }

    fn open(&self, worker: u64) -> usize {
        self.places.iter().filter(|(at, _)| *at == worker).count()
    }

    fn served(&mut self, caller: &Caller, worker: u64, place: Place) {
        assert!(!caller.is_gone(), "nobody who has gone is served");
        let at = self.waiting.iter().position(|waiter| waiter.number == caller.number);
        let at = at.expect("one who waits is served, and once");
        let bound = |key: Option<u8>| self.select == Select::Sticky && key.is_some();
        let passed = &self.waiting[..at];
        let equal = |older: &&Caller| !bound(older.key) || bound(caller.key) && older.key == caller.key;
        assert!(passed.iter().find(equal).is_none(), "nobody is passed by one who wants the same");
        assert_eq!(self.workers[place.slot], Some(worker), "the worker lives");
        assert!(self.open(worker) < self.room, "the worker had room");
        if self.select == Select::LeastBusy {
            let least = self.workers.iter().flatten().map(|worker| self.open(*worker)).min();
            assert_eq!(least, Some(self.open(worker)));
        }
        if let Some(key) = caller.key.filter(|_| self.select == Select::Sticky) {
            let lived: Vec<_> = self.workers.iter().map(|worker| worker.is_some().then_some(0)).collect();
            let slot = place.slot as u64;
            if let Some((home, then)) = self.homes.insert(key, (slot, lived.clone())) {
                assert!(home == slot || then != lived, "a key keeps its slot while none comes or goes");
            }
        }
        self.waiting.remove(at);
        self.places.push((worker, place));
    }

    fn check(&self) {
        let free = |worker: &&u64| self.open(**worker) < self.room;
        let has_room = self.workers.iter().flatten().any(|worker| free(&worker));
        let movable = self.waiting.iter().any(|caller| self.select != Select::Sticky || caller.key.is_none());
        assert!(!(has_room && movable), "nobody waits who could be served");
        let all_free = self.workers.iter().flatten().all(|worker| free(&worker));
        let some = self.workers.iter().flatten().next().is_some();
        assert!(!(some && all_free) || self.waiting.is_empty(), "a key whose worker has room does not wait");
        let load: Vec<_> = self.workers.iter().map(|worker| worker.map(|worker| self.open(worker))).collect();
        assert_eq!(self.queue.load(), load);
        assert_eq!(self.queue.waiting(), self.waiting.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn places_are_given_in_order_to_those_who_are_there_and_never_twice(
        slots in 1..4_usize,
        select in selects(),
        room in 1..3_usize,
        max_waiting in 1..6_usize,
        ops in vec(ops(), 0..60),
    ) {
        let mut book = Book::new(slots, select, room, max_waiting);
        ops.iter().for_each(|op| book.take(op));
    }

    #[test]
    fn round_robin_takes_all_in_turn(slots in 1..6_usize, rounds in 1..20_usize) {
        let mut queue = Queue::new(slots, Select::RoundRobin, 1, 10);
        (0..slots).for_each(|slot| queue.install(slot, slot, 1));
        for round in 0..rounds {
            let caller = Caller { number: round, key: None, gone: Rc::default() };
            prop_assert!(queue.push(None, caller));
            let (_, worker, place) = queue.next().expect("a place");
            prop_assert_eq!(worker, round % slots);
            queue.give_back(place);
        }
    }
}

#[test]
fn a_closed_line_takes_nobody_and_lets_everyone_go() {
    let mut queue: Queue<u64, Caller> = Queue::new(1, Select::LeastBusy, 1, 10);
    let caller = |number| Caller { number, key: None, gone: Rc::default() };
    assert!(queue.push(None, caller(1)));
    queue.install(0, 7, 1);
    let (left, workers) = queue.close();
    assert_eq!((left.len(), workers), (1, vec![7]));
    assert!(!queue.push(None, caller(2)) && queue.is_closed());
}
