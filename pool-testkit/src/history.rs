//! [`History`]: what many tasks did with one pool, recorded while they run and judged afterwards.
//!
//! Tasks record through [`History::acquire`] and [`History::returns`], the manager through
//! [`FakeManager::record_into`](crate::FakeManager::record_into). Each event takes a number from
//! one counter. Events of callers are taken so that what they tell is certain: a wait has begun
//! before its first poll and is queued after it, a lease is held from after the call that gave it
//! to before the call that returns it. The pool's own decisions fall somewhere in between, so the
//! [checker](History::check) reports only orders that no choice of moments explains.

mod check;

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use poolyard_core::ResourceId;

pub use check::{Breach, Rules, Summary};

/// So many tasks can record at once without waiting for each other.
const SHARDS: usize = 16;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<K> {
    /// A caller is about to ask for a resource.
    Start {
        /// The wait that starts, never used twice.
        wait: u64,
        /// What it asks for.
        key: K,
    },
    /// The first poll of a wait has not given a resource: it has a place in the queue.
    Queued {
        /// The wait.
        wait: u64,
    },
    /// A wait was given a resource.
    Got {
        /// The wait.
        wait: u64,
        /// The resource.
        id: ResourceId,
    },
    /// A wait ended without a resource.
    GaveUp {
        /// The wait.
        wait: u64,
    },
    /// A caller is about to give a resource back.
    Return {
        /// The resource.
        id: ResourceId,
    },
    /// A creation has begun.
    Creating {
        /// The resource that is to be made.
        id: ResourceId,
        /// For which key.
        key: K,
    },
    /// A creation has ended without a resource.
    NotCreated {
        /// The resource that was to be made.
        id: ResourceId,
    },
    /// A creation is about to hand its resource over.
    Created {
        /// The resource.
        id: ResourceId,
    },
    /// A recycle is about to succeed.
    Recycled {
        /// The resource.
        id: ResourceId,
    },
    /// A resource has ended.
    Destroyed {
        /// The resource.
        id: ResourceId,
    },
}

/// An event, when it was recorded, and by which task.
#[derive(Clone, Debug)]
pub struct Record<K> {
    /// Its place in the order of events.
    pub number: u64,
    /// The time since the history began.
    pub time: Duration,
    /// The task that recorded it; `None` for the manager.
    pub task: Option<usize>,
    /// What happened.
    pub event: Event<K>,
}

/// What many tasks did with one pool. Clones record into the same history.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use poolyard_core::{Manager, Reason};
/// use poolyard_testkit::history::{History, Rules};
/// use poolyard_testkit::{FakeManager, context};
///
/// let history = History::new();
/// let fake = FakeManager::new().record_into(&history);
/// // A pool would stand here; this "pool" makes a resource for everyone.
/// let cx = context(1);
/// let acquire = fake.create(&7, &cx);
/// let mut resource = history.acquire(0, &7, acquire, |resource| resource.id()).await.unwrap();
/// history.returns(0, resource.id());
/// fake.destroy(&7, &mut resource, Reason::Closed, &cx).await;
///
/// let summary = history.check(&Rules::new(1)).unwrap();
/// assert_eq!((summary.grants, summary.resources), (1, 1));
/// # });
/// ```
pub struct History<K> {
    shared: Arc<Shared<K>>,
}

struct Shared<K> {
    begun: Instant,
    numbers: AtomicU64,
    waits: AtomicU64,
    shards: [Mutex<Vec<Record<K>>>; SHARDS],
}

impl<K> History<K> {
    /// An empty history that begins now.
    #[allow(clippy::new_without_default, reason = "a history begins at a moment")]
    pub fn new() -> Self {
        let shards = std::array::from_fn(|_| Mutex::default());
        let (numbers, waits) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { shared: Arc::new(Shared { begun: Instant::now(), numbers, waits, shards }) }
    }

    /// Records one event now.
    pub fn record(&self, task: Option<usize>, event: Event<K>) {
        let mut shard = self.shared.shards[task.map_or(0, |task| task + 1) % SHARDS].lock();
        // Taken under the lock, so that the time between number and event is short: a late number
        // is never wrong, but it tells the checker less.
        let number = self.shared.numbers.fetch_add(1, SeqCst);
        shard.push(Record { number, time: self.shared.begun.elapsed(), task, event });
    }

    /// Records that `task` is about to give a resource back. To be called just before the lease is
    /// dropped, discarded or detached.
    pub fn returns(&self, task: usize, id: ResourceId) {
        self.record(Some(task), Event::Return { id });
    }

    /// Runs a future that acquires a resource, and records the wait from its start to its end.
    /// `id` names the resource that was given.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait is recorded as given up, and the future inside is dropped first.
    pub async fn acquire<T, E>(
        &self,
        task: usize,
        key: &K,
        acquire: impl Future<Output = Result<T, E>>,
        id: impl FnOnce(&T) -> ResourceId,
    ) -> Result<T, E>
    where
        K: Clone,
    {
        let wait = self.shared.waits.fetch_add(1, SeqCst);
        self.record(Some(task), Event::Start { wait, key: key.clone() });
        let mut ending = Ending { history: self, task, wait, got: None };
        // Declared after `ending`, so that it is dropped before the end is recorded.
        let mut acquire = pin!(acquire);
        let mut queued = false;
        let result = std::future::poll_fn(|cx| {
            let polled = acquire.as_mut().poll(cx);
            if polled.is_pending() && !std::mem::replace(&mut queued, true) {
                self.record(Some(task), Event::Queued { wait });
            }
            polled
        })
        .await;
        ending.got = result.as_ref().ok().map(id);
        result
    }

    /// All records so far, in their order.
    pub fn records(&self) -> Vec<Record<K>>
    where
        K: Clone,
    {
        let mut records: Vec<_> = self.shared.shards.iter().flat_map(|shard| shard.lock().clone()).collect();
        records.sort_by_key(|record| record.number);
        records
    }
}

impl<K> Clone for History<K> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<K> fmt::Debug for History<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History").field("events", &self.shared.numbers.load(SeqCst)).finish()
    }
}

/// Records how a wait ended, also when it was dropped.
struct Ending<'a, K> {
    history: &'a History<K>,
    task: usize,
    wait: u64,
    got: Option<ResourceId>,
}

impl<K> Drop for Ending<'_, K> {
    fn drop(&mut self) {
        let wait = self.wait;
        let event = self.got.map_or(Event::GaveUp { wait }, |id| Event::Got { wait, id });
        self.history.record(Some(self.task), event);
    }
}
