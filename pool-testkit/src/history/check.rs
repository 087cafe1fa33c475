//! The judgement on a [`History`].

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::Hash;

use poolyard_core::ResourceId;

use super::{Event, History, Record};

/// What a pool has promised.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    max_total: usize,
    max_overtaking: Option<usize>,
    still_open: bool,
}

impl Rules {
    /// At most `max_total` resources exist at once, and in the end, all are destroyed.
    pub fn new(max_total: usize) -> Self {
        Self { max_total, max_overtaking: None, still_open: false }
    }

    /// While no resource of its key is created, returned or recycled, at most `count` younger waits
    /// of other keys are served before a wait.
    ///
    /// Outside, the choice of a victim is seen only by what the manager is called for next: choose
    /// `count` larger than the pool's own bound, and record on a runtime with one thread, where no
    /// other is suspended in between. A pool with limits per key promises nothing of the kind.
    pub fn max_overtaking(mut self, count: usize) -> Self {
        self.max_overtaking = Some(count);
        self
    }

    /// The history ends before the pool does: resources may be left.
    pub fn still_open(mut self) -> Self {
        self.still_open = true;
        self
    }
}

/// A promise that was broken, with the number of the event that shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each says what it is in its text")]
pub enum Breach {
    TooMany { number: u64, held: usize },
    WrongKey { number: u64, id: ResourceId },
    NotExclusive { number: u64, id: ResourceId },
    NotAlive { number: u64, id: ResourceId },
    DestroyedWhileLeased { number: u64, id: ResourceId },
    DestroyedTwice { number: u64, id: ResourceId },
    NeverDestroyed { id: ResourceId },
    OutOfTurn { number: u64, wait: u64 },
    Overtaken { wait: u64, times: usize },
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany { number, held } => write!(f, "{number}: {held} resources exist at once"),
            Self::WrongKey { number, id } => write!(f, "{number}: {id} was given for another key"),
            Self::NotExclusive { number, id } => write!(f, "{number}: {id} was given while it was leased"),
            Self::NotAlive { number, id } => write!(f, "{number}: {id} was used while it did not exist"),
            Self::DestroyedWhileLeased { number, id } => {
                write!(f, "{number}: {id} was destroyed while it was leased")
            }
            Self::DestroyedTwice { number, id } => write!(f, "{number}: {id} was destroyed twice"),
            Self::NeverDestroyed { id } => write!(f, "{id} was never destroyed"),
            Self::OutOfTurn { number, wait } => {
                write!(f, "{number}: wait {wait} was served after a younger one of its key")
            }
            Self::Overtaken { wait, times } => {
                write!(f, "wait {wait} was overtaken {times} times by younger ones of other keys")
            }
        }
    }
}

/// How much a history without breaches shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many waits were given a resource.
    pub grants: usize,
    /// How many of these had to queue.
    pub queued: usize,
    /// How many waits ended without.
    pub given_up: usize,
    /// How many resources were created.
    pub resources: usize,
    /// The most that existed at once.
    pub peak: usize,
}

impl<K: Clone + Eq + Hash> History<K> {
    /// Judges the history.
    ///
    /// # Errors
    ///
    /// Every breach of `rules` that it shows.
    pub fn check(&self, rules: &Rules) -> Result<Summary, Vec<Breach>> {
        let mut replay = Replay::default();
        for record in self.records() {
            replay.take(rules, record);
        }
        replay.out_of_turn();
        if let Some(max) = rules.max_overtaking {
            replay.overtaken(max);
        }
        if !rules.still_open {
            let left = replay.resources.keys().map(|&id| Breach::NeverDestroyed { id });
            replay.breaches.extend(left);
        }
        if replay.breaches.is_empty() { Ok(replay.summary) } else { Err(replay.breaches) }
    }
}

/// A wait that was served, by the numbers of its events.
struct Grant<K> {
    wait: u64,
    key: K,
    start: u64,
    /// `None` if its first poll served it.
    queued: Option<u64>,
    /// Its resource became free: not earlier than this was it chosen.
    free: u64,
    got: u64,
}

struct Wait<K> {
    key: K,
    start: u64,
    queued: Option<u64>,
    /// Since when it may have a resource coming: one of its key is being created or was returned.
    coming: Option<u64>,
}

struct Resource<K> {
    key: K,
    leased: bool,
    free: u64,
}

/// The state of the world while the events are gone through.
struct Replay<K> {
    summary: Summary,
    breaches: Vec<Breach>,
    waits: HashMap<u64, Wait<K>>,
    /// Those that exist or are being made.
    resources: HashMap<ResourceId, Resource<K>>,
    ended: HashSet<ResourceId>,
    creating: HashSet<ResourceId>,
    held: usize,
    grants: Vec<Grant<K>>,
    /// Until when each granted wait certainly had nothing coming, in the order of `grants`.
    unserved: Vec<u64>,
}

impl<K> Default for Replay<K> {
    fn default() -> Self {
        Self {
            summary: Summary::default(),
            breaches: Vec::new(),
            waits: HashMap::new(),
            resources: HashMap::new(),
            ended: HashSet::new(),
            creating: HashSet::new(),
            held: 0,
            grants: Vec::new(),
            unserved: Vec::new(),
        }
    }
}

impl<K: Clone + Eq + Hash> Replay<K> {
    fn take(&mut self, rules: &Rules, Record { number, event, .. }: Record<K>) {
        match event {
            Event::Start { wait, key } => {
                self.waits.insert(wait, Wait { key, start: number, queued: None, coming: None });
            }
            Event::Queued { wait } => self.queued(number, wait),
            Event::Got { wait, id } => self.got(number, wait, id),
            Event::GaveUp { wait } => {
                self.waits.remove(&wait);
                self.summary.given_up += 1;
            }
            Event::Return { id } => self.free(number, id, false),
            Event::Creating { id, key } => self.creating(rules, number, id, key),
            Event::NotCreated { id } => self.not_created(id),
            Event::Created { id } => {
                self.creating.remove(&id);
                self.summary.resources += 1;
                self.free(number, id, false);
            }
            Event::Recycled { id } => self.free(number, id, true),
            Event::Destroyed { id } => self.destroyed(number, id),
        }
    }

    fn queued(&mut self, number: u64, wait: u64) {
        let Some(waits) = self.waits.get_mut(&wait) else { return };
        waits.queued = Some(number);
        // Being created, recycled, checked or destroyed: only a lease is certainly not for it.
        let coming = |resource: &Resource<K>| !resource.leased && resource.key == waits.key;
        waits.coming = self.resources.values().any(coming).then_some(number);
    }

    fn creating(&mut self, rules: &Rules, number: u64, id: ResourceId, key: K) {
        self.comes(number, &key);
        // A retried creation has the same id.
        if self.creating.insert(id) {
            self.held += 1;
            self.summary.peak = self.summary.peak.max(self.held);
        }
        if self.held > rules.max_total {
            self.breaches.push(Breach::TooMany { number, held: self.held });
        }
        self.resources.insert(id, Resource { key, leased: false, free: number });
    }

    /// From now on, waits for `key` may have a resource coming.
    fn comes(&mut self, number: u64, key: &K) {
        for wait in self.waits.values_mut().filter(|wait| wait.key == *key && wait.queued.is_some()) {
            wait.coming.get_or_insert(number);
        }
    }

    fn not_created(&mut self, id: ResourceId) {
        if self.creating.remove(&id) {
            self.resources.remove(&id);
            self.held -= 1;
        }
    }

    /// The resource is no longer in a caller's hands; `recycled` says that it was not before.
    fn free(&mut self, number: u64, id: ResourceId, recycled: bool) {
        let Some(resource) = self.resources.get_mut(&id) else {
            self.breaches.push(Breach::NotAlive { number, id });
            return;
        };
        if recycled && resource.leased {
            self.breaches.push(Breach::NotExclusive { number, id });
        }
        resource.leased = false;
        resource.free = number;
        let key = resource.key.clone();
        self.comes(number, &key);
    }

    fn got(&mut self, number: u64, wait: u64, id: ResourceId) {
        let Some(waited) = self.waits.remove(&wait) else { return };
        self.summary.grants += 1;
        self.summary.queued += usize::from(waited.queued.is_some());
        let Some(resource) = self.resources.get_mut(&id) else {
            self.breaches.push(Breach::NotAlive { number, id });
            return;
        };
        if resource.key != waited.key {
            self.breaches.push(Breach::WrongKey { number, id });
        }
        if std::mem::replace(&mut resource.leased, true) {
            self.breaches.push(Breach::NotExclusive { number, id });
        }
        let free = resource.free;
        self.unserved.push(waited.coming.map_or(free, |coming| coming.min(free)));
        let Wait { key, start, queued, .. } = waited;
        self.grants.push(Grant { wait, key, start, queued, free, got: number });
    }

    fn destroyed(&mut self, number: u64, id: ResourceId) {
        let Some(resource) = self.resources.remove(&id) else {
            let again = self.ended.contains(&id);
            let (twice, never) = (Breach::DestroyedTwice { number, id }, Breach::NotAlive { number, id });
            self.breaches.push(if again { twice } else { never });
            return;
        };
        self.held -= 1;
        self.ended.insert(id);
        if resource.leased {
            self.breaches.push(Breach::DestroyedWhileLeased { number, id });
        }
    }

    /// Within a key: a wait that was queued before another one started must not be chosen after
    /// that one was served. It was not chosen before its resource was free.
    fn out_of_turn(&mut self) {
        let mut keys: HashMap<&K, Vec<&Grant<K>>> = HashMap::new();
        for grant in &self.grants {
            keys.entry(&grant.key).or_default().push(grant);
        }
        for grants in keys.values() {
            // Grants are in the order of `got`: the youngest start among the first so many.
            let youngest: Vec<u64> = grants
                .iter()
                .scan(0, |youngest: &mut u64, grant| {
                    *youngest = grant.start.max(*youngest);
                    Some(*youngest)
                })
                .collect();
            for grant in grants {
                let served_before = grants.partition_point(|other| other.got < grant.free);
                let younger = served_before.checked_sub(1).map(|last| youngest[last]);
                if grant.queued.zip(younger).is_some_and(|(queued, younger)| queued < younger) {
                    let (number, wait) = (grant.got, grant.wait);
                    self.breaches.push(Breach::OutOfTurn { number, wait });
                }
            }
        }
    }

    /// Between keys: counts the younger waits that were served while a wait had nothing coming.
    fn overtaken(&mut self, max: usize) {
        for (grant, &until) in self.grants.iter().zip(&self.unserved) {
            let Some(queued) = grant.queued else { continue };
            let first = self.grants.partition_point(|other| other.got < queued);
            let passed = self.grants[first..].iter().take_while(|other| other.got < until);
            let times = passed.filter(|other| other.start > queued && other.key != grant.key).count();
            if times > max {
                self.breaches.push(Breach::Overtaken { wait: grant.wait, times });
            }
        }
    }
}

#[cfg(test)]
mod tests;
