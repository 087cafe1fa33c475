//! What a fake manager remembers: which resources live, what was called, which rule was broken.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use poolyard_core::{Gone, Reason, ResourceId};

use crate::script::Method;

/// One call into a manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call<K> {
    /// Which method was called.
    pub method: Method,
    /// The key it was called with.
    pub key: Option<K>,
    /// The resource it was about; a creation's is the one that it is to make.
    pub id: Option<ResourceId>,
    /// Why, for the methods that end a resource.
    pub reason: Option<Reason>,
    /// Which attempt of a creation, from 1; 1 for all other methods.
    pub attempt: u32,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a call ended, if it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has not ended.
    Running,
    /// It did what it should.
    Ok,
    /// It returned an error.
    Err,
    /// It panicked.
    Panicked,
    /// Its future was dropped before it ended.
    Dropped,
}

/// A rule of the game between pool and manager that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A resource was destroyed although it had ended before.
    DestroyedTwice {
        /// The resource, by the order of creation.
        serial: u64,
    },
    /// A method was called on a resource that had ended.
    UsedAfterEnd {
        /// The resource, by the order of creation.
        serial: u64,
        /// The method that was called.
        method: Method,
    },
    /// A resource was dropped without being destroyed.
    DroppedAlive {
        /// The resource, by the order of creation.
        serial: u64,
    },
    /// A method was called with another key than the resource's own.
    WrongKey {
        /// The resource, by the order of creation.
        serial: u64,
        /// The method that was called.
        method: Method,
    },
    /// A method was called with another id than the resource's own.
    WrongId {
        /// The resource, by the order of creation.
        serial: u64,
        /// The method that was called.
        method: Method,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DestroyedTwice { serial } => write!(f, "resource {serial} was destroyed twice"),
            Self::UsedAfterEnd { serial, method } => {
                write!(f, "{method:?} was called on resource {serial} after its end")
            }
            Self::DroppedAlive { serial } => {
                write!(f, "resource {serial} was dropped without being destroyed")
            }
            Self::WrongKey { serial, method } => {
                write!(f, "{method:?} was called on resource {serial} with a key that is not its own")
            }
            Self::WrongId { serial, method } => {
                write!(f, "{method:?} was called on resource {serial} with an id that is not its own")
            }
        }
    }
}

/// What is known about one resource, for as long as it lives.
pub(crate) struct Entry<K> {
    pub(crate) key: K,
    /// `None` for a resource that was made by hand and has not met its pool.
    pub(crate) id: Option<ResourceId>,
    pub(crate) gone: Option<Gone>,
    /// It was killed from outside: checks and recycling fail from now on.
    pub(crate) dead: bool,
}

/// All that a fake manager remembers.
pub(crate) struct Registry<K> {
    pub(crate) calls: Vec<Call<K>>,
    pub(crate) violations: Vec<Violation>,
    pub(crate) ended: Vec<(ResourceId, Reason)>,
    pub(crate) live: BTreeMap<u64, Entry<K>>,
    /// Creations under way, with the handles to report their resources gone.
    pub(crate) creating: HashMap<ResourceId, Gone>,
    running: BTreeMap<Method, usize>,
    peak_running: BTreeMap<Method, usize>,
    peak_held: usize,
    serials: u64,
}

impl<K> Default for Registry<K> {
    fn default() -> Self {
        Self {
            calls: Vec::new(),
            violations: Vec::new(),
            ended: Vec::new(),
            live: BTreeMap::new(),
            creating: HashMap::new(),
            running: BTreeMap::new(),
            peak_running: BTreeMap::new(),
            peak_held: 0,
            serials: 0,
        }
    }
}

impl<K> Registry<K> {
    /// Notes the start of a call; the number is for [`end_call`](Self::end_call).
    pub(crate) fn begin_call(&mut self, call: Call<K>) -> usize {
        let running = self.running.entry(call.method).or_default();
        *running += 1;
        let peak = self.peak_running.entry(call.method).or_default();
        *peak = (*peak).max(*running);
        self.calls.push(call);
        self.calls.len() - 1
    }

    pub(crate) fn end_call(&mut self, index: usize, outcome: Outcome) {
        let call = &mut self.calls[index];
        call.outcome = outcome;
        if let Some(running) = self.running.get_mut(&call.method) {
            *running -= 1;
        }
        if let (Method::Create, Some(id)) = (call.method, call.id) {
            self.creating.remove(&id);
        }
    }

    pub(crate) fn running(&self, method: Method) -> usize {
        self.running.get(&method).copied().unwrap_or(0)
    }

    pub(crate) fn peak_running(&self, method: Method) -> usize {
        self.peak_running.get(&method).copied().unwrap_or(0)
    }

    pub(crate) fn begin_create(&mut self, id: ResourceId, gone: Gone) {
        self.creating.insert(id, gone);
        self.note_peak();
    }

    /// Brings a resource to life and returns its serial number, from 1.
    pub(crate) fn born(&mut self, key: K, id: Option<ResourceId>) -> u64 {
        self.serials += 1;
        let gone = id.and_then(|id| self.creating.remove(&id));
        self.live.insert(self.serials, Entry { key, id, gone, dead: false });
        self.note_peak();
        self.serials
    }

    /// How many resources exist or are being made.
    pub(crate) fn held(&self) -> usize {
        self.live.len() + self.creating.len()
    }

    pub(crate) fn peak_held(&self) -> usize {
        self.peak_held
    }

    fn note_peak(&mut self) {
        self.peak_held = self.peak_held.max(self.held());
    }

    pub(crate) fn destroyed(&mut self, serial: u64, reason: Reason) {
        match self.live.remove(&serial) {
            Some(entry) => self.ended.push((entry.id.unwrap_or(by_hand(serial)), reason)),
            None => self.violations.push(Violation::DestroyedTwice { serial }),
        }
    }

    pub(crate) fn dropped(&mut self, serial: u64) {
        if self.live.remove(&serial).is_some() {
            self.violations.push(Violation::DroppedAlive { serial });
        }
    }

    pub(crate) fn id_of(&self, serial: u64) -> ResourceId {
        self.live.get(&serial).and_then(|entry| entry.id).unwrap_or(by_hand(serial))
    }

    /// Finds a living resource by the id that the pool gave it.
    pub(crate) fn by_id(&mut self, id: ResourceId) -> Option<&mut Entry<K>> {
        self.live.iter_mut().find(|(serial, e)| e.id.unwrap_or(by_hand(**serial)) == id).map(|(_, e)| e)
    }
}

impl<K: PartialEq> Registry<K> {
    /// Checks that a call may be made on a resource, and learns the id of one made by hand.
    pub(crate) fn check_call(&mut self, serial: u64, method: Method, key: &K, id: Option<ResourceId>) {
        let Some(entry) = self.live.get_mut(&serial) else {
            let again = matches!(method, Method::Destroy | Method::DestroyNow);
            let used = Violation::UsedAfterEnd { serial, method };
            self.violations.extend((!again).then_some(used));
            return;
        };
        if entry.key != *key {
            self.violations.push(Violation::WrongKey { serial, method });
        }
        if let Some(id) = id
            && *entry.id.get_or_insert(id) != id
        {
            self.violations.push(Violation::WrongId { serial, method });
        }
    }
}

/// The id of a resource that was made by hand, until its pool gives it one.
pub(crate) fn by_hand(serial: u64) -> ResourceId {
    ResourceId::standalone(u64::MAX - serial)
}
