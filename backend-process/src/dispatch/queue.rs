//! [`Queue`]: who waits for a worker, which workers have room, and who gets which.
//!
//! A plain value: no lock, no clock, no worker is touched. All places are given by [`Queue::next`].

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hash, RandomState};

use super::Select;

/// One who waits.
pub(super) trait Waiting {
    /// Whether nobody wants the place any more.
    fn is_gone(&self) -> bool;
}

pub(super) struct Queue<W, G> {
    slots: Vec<Slot<W>>,
    waiting: VecDeque<Waiter<G>>,
    max_waiting: usize,
    select: Select,
    /// How many calls a worker may have at a time.
    room: usize,
    /// How often one was chosen, for those who take turns.
    turn: usize,
    hasher: RandomState,
    closed: bool,
}

struct Slot<W> {
    worker: Option<W>,
    open: usize,
    /// Counts the workers that this slot has had, so that a place at an old one frees nothing.
    serial: u64,
    generation: u64,
}

struct Waiter<G> {
    sticky: Option<u64>,
    grant: G,
}

/// A right to one call on the worker that a slot had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) slot: usize,
    serial: u64,
}

impl<W: Clone, G: Waiting> Queue<W, G> {
    pub(super) fn new(slots: usize, select: Select, room: usize, max_waiting: usize) -> Self {
        let slot = || Slot { worker: None, open: 0, serial: 0, generation: 0 };
        Self {
            slots: (0..slots).map(|_| slot()).collect(),
            waiting: VecDeque::new(),
            max_waiting,
            select,
            room,
            turn: 0,
            hasher: RandomState::new(),
            closed: false,
        }
    }

    /// What a sticky key is here.
    pub(super) fn sticky(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    /// Puts one at the end of the line. False if the line is full or closed.
    pub(super) fn push(&mut self, sticky: Option<u64>, grant: G) -> bool {
        if self.waiting.len() >= self.max_waiting {
            self.waiting.retain(|waiter| !waiter.grant.is_gone());
        }
        let accepted = !self.closed && self.waiting.len() < self.max_waiting;
        if accepted {
            self.waiting.push_back(Waiter { sticky, grant });
        }
        accepted
    }

    /// Gives a place at once, if nobody stands in line and a worker has room.
    pub(super) fn take_now(&mut self, sticky: Option<u64>) -> Option<(W, Place)> {
        if self.closed || !self.waiting.is_empty() {
            return None;
        }
        let slot = self.choose(sticky)?;
        self.occupy(slot)
    }

    /// Gives a place to the first in line who can have one.
    pub(super) fn next(&mut self) -> Option<(G, W, Place)> {
        while self.waiting.front().is_some_and(|waiter| waiter.grant.is_gone()) {
            self.waiting.pop_front();
        }
        // A sticky call whose worker is busy blocks nobody behind it.
        let reach = if self.select == Select::Sticky { self.waiting.len() } else { 1 };
        let waiting = self.waiting.iter().enumerate().take(reach);
        let mut wanted = waiting.filter(|(_, waiter)| !waiter.grant.is_gone());
        let (at, slot) = wanted.find_map(|(at, waiter)| Some((at, self.choose(waiter.sticky)?)))?;
        let waiter = self.waiting.remove(at)?;
        self.occupy(slot).map(|(worker, place)| (waiter.grant, worker, place))
    }

    fn occupy(&mut self, slot: usize) -> Option<(W, Place)> {
        self.turn = if self.select == Select::RoundRobin { slot + 1 } else { self.turn.wrapping_add(1) };
        let chosen = &mut self.slots[slot];
        chosen.open += 1;
        Some((chosen.worker.clone()?, Place { slot, serial: chosen.serial }))
    }

    /// The slot for a call, if one has room.
    fn choose(&self, sticky: Option<u64>) -> Option<usize> {
        let slots = &self.slots;
        let living = || (0..slots.len()).filter(|index| slots[*index].worker.is_some());
        let free = || living().filter(|index| slots[*index].open < self.room);
        match (self.select, sticky) {
            (Select::Sticky, Some(key)) => {
                // The highest of one draw per slot: when a slot drops out, only its own keys move.
                let best = living().max_by_key(|index| self.draw((key, *index)))?;
                (slots[best].open < self.room).then_some(best)
            }
            (Select::RoundRobin, _) => free().min_by_key(|index| (index < &self.turn, *index)),
            (Select::Random, _) => free().nth(self.draw(self.turn) as usize % free().count().max(1)),
            _ => free().min_by_key(|index| slots[*index].open),
        }
    }

    fn draw(&self, what: impl Hash) -> u64 {
        self.hasher.hash_one(what)
    }

    /// A call is over. True if that makes room.
    pub(super) fn give_back(&mut self, place: Place) -> bool {
        let slot = &mut self.slots[place.slot];
        let counts = slot.serial == place.serial;
        slot.open -= usize::from(counts);
        counts
    }

    /// Puts a worker into a slot, in place of the one before.
    pub(super) fn install(&mut self, index: usize, worker: W, generation: u64) {
        let slot = &mut self.slots[index];
        *slot = Slot { worker: Some(worker), open: 0, serial: slot.serial + 1, generation };
    }

    /// Empties a slot whose worker `is_it`.
    pub(super) fn remove(&mut self, index: usize, is_it: impl FnOnce(&W) -> bool) {
        let slot = &mut self.slots[index];
        if slot.worker.as_ref().is_some_and(is_it) {
            slot.worker = None;
        }
    }

    /// Whether every slot has been given a worker of this generation or a later one.
    pub(super) fn has_reached(&self, generation: u64) -> bool {
        self.slots.iter().all(|slot| slot.generation >= generation)
    }

    /// How many calls each worker has under way.
    pub(super) fn load(&self) -> Vec<Option<usize>> {
        self.slots.iter().map(|slot| slot.worker.as_ref().map(|_| slot.open)).collect()
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.iter().filter(|waiter| !waiter.grant.is_gone()).count()
    }

    /// Those who wait, if there is no worker for anyone.
    pub(super) fn give_up(&mut self) -> Vec<G> {
        let waiting = if self.is_deserted() { std::mem::take(&mut self.waiting) } else { VecDeque::new() };
        waiting.into_iter().map(|waiter| waiter.grant).collect()
    }

    /// Whether there is no worker at all.
    pub(super) fn is_deserted(&self) -> bool {
        self.slots.iter().all(|slot| slot.worker.is_none())
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Ends the line. Returns who stood in it, and the workers.
    pub(super) fn close(&mut self) -> (Vec<G>, Vec<W>) {
        self.closed = true;
        let workers = self.slots.iter_mut().filter_map(|slot| slot.worker.take()).collect();
        let waiting = std::mem::take(&mut self.waiting);
        (waiting.into_iter().map(|waiter| waiter.grant).collect(), workers)
    }
}

#[cfg(test)]
mod tests;
