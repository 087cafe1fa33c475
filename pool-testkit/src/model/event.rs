//! [`Event`]: what the reference is told, in the order in which it happens.

use std::fmt;
use std::time::Duration;

use poolyard_core::{Counts, Manager, Pool, PoolConfig, ResourceState};

use crate::script::Method;

/// Something that happened to a pool, seen from its callers' or its manager's side. Resources and
/// waits are numbered from 1, in the order in which they began.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "`resource`, `wait` and `key` are what they are called")]
pub enum Event<K> {
    /// A creation begins.
    Creating { resource: u64, key: K, cost: u64 },
    /// A creation ends without a resource.
    NotCreated { resource: u64 },
    /// A creation ends with its resource.
    Created { resource: u64 },
    /// The manager is called with a resource.
    Called { resource: u64, method: Method, key: K },
    /// That call ends; `well`: it did what it should. Of `reuse`: the resource is ready as it is.
    Ended { resource: u64, method: Method, well: bool },
    /// A generic resource has become one of this key.
    Became { resource: u64, key: K },
    /// A resource is dropped.
    Dropped { resource: u64 },
    /// A user takes a resource out of the pool for ever.
    Detached { resource: u64 },
    /// From now on nobody may be given the resource.
    Condemned { resource: u64, why: &'static str },
    /// Somebody asks.
    Asked { wait: u64, key: K },
    /// Somebody is given a resource, which is on its so many-th use.
    Served { wait: u64, resource: u64, key: K, uses: u64, woken: bool },
    /// Somebody is given an error.
    Refused { wait: u64, why: Refusal },
    /// Somebody goes away.
    Left { wait: u64 },
    /// A user gives a resource back.
    GivenBack { resource: u64 },
    /// A user does not find what it may expect.
    Unexpected { resource: u64, what: String },
    /// Other limits are in force.
    Resized(Box<PoolConfig>),
    /// The pool gives nothing out, until it is resumed.
    Suspended,
    /// The pool gives resources out again.
    Resumed,
    /// The pool is closed; those who ask from now on are refused.
    Closed,
    /// A look at the pool's own figures.
    Seen(Seen<K>),
    /// The pool was closed, and has had all the time it needs.
    Finished,
}

/// Why somebody was given an error.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "named after the errors of the pool")]
pub enum Refusal {
    Closed,
    TimedOut,
    TooManyWaiters,
    CircuitOpen,
    TooCostly,
    /// A creation failed.
    Create,
    /// Another error, by its text.
    Other(String),
}

/// What a pool says of itself at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Seen<K> {
    /// No work is under way, and none is left to do until somebody does something or time passes.
    pub calm: bool,
    /// All resources.
    pub counts: Counts,
    /// What they cost.
    pub cost: u64,
    /// Keys whose creations are not tried.
    pub circuits_open: usize,
    /// Resources of each key.
    pub keys: Vec<(K, Counts)>,
    /// How old each idle resource is, and for how long it has been idle.
    pub idle: Vec<(Duration, Duration)>,
}

impl<K> Seen<K> {
    /// Looks at a pool; `busy` says that its manager is at work.
    pub fn of<M: Manager<Key = K>>(pool: &Pool<M>, busy: bool) -> Seen<K> {
        let snapshot = pool.snapshot();
        let counts = snapshot.counts;
        let idle = pool.resources().into_iter().filter(|info| info.state == ResourceState::Idle);
        Seen {
            calm: !busy && counts.live() == counts.idle + counts.leased + counts.hibernated,
            counts,
            cost: snapshot.cost,
            circuits_open: snapshot.circuits_open,
            keys: pool.keys().into_iter().map(|info| (info.key, info.counts)).collect(),
            idle: idle.map(|info| (info.age, info.idle_for.unwrap_or_default())).collect(),
        }
    }
}

impl<K: fmt::Debug> fmt::Display for Event<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Creating { resource, key, .. } => write!(f, "resource {resource} is begun, of {key:?}"),
            Event::NotCreated { resource } => write!(f, "resource {resource} is not made"),
            Event::Created { resource } => write!(f, "resource {resource} is made"),
            Event::Called { resource, method, .. } => write!(f, "{method:?} of resource {resource} begins"),
            Event::Ended { resource, method, well } => {
                let how = if *well { "ends well" } else { "does not end well" };
                write!(f, "{method:?} of resource {resource} {how}")
            }
            Event::Became { resource, key } => write!(f, "resource {resource} becomes one of {key:?}"),
            Event::Dropped { resource } => write!(f, "resource {resource} is dropped"),
            Event::Detached { resource } => write!(f, "resource {resource} is taken for ever"),
            Event::Condemned { resource, why } => write!(f, "resource {resource} has to leave: {why}"),
            Event::Asked { wait, key } => write!(f, "caller {wait} asks for {key:?}"),
            Event::Served { wait, resource, .. } => write!(f, "caller {wait} is given resource {resource}"),
            Event::Refused { wait, why } => write!(f, "caller {wait} is refused: {why:?}"),
            Event::Left { wait } => write!(f, "caller {wait} goes away"),
            Event::GivenBack { resource } => write!(f, "resource {resource} is given back"),
            Event::Unexpected { resource, what } => write!(f, "the user of resource {resource} finds {what}"),
            Event::Resized(config) => write!(f, "max_total is {} from now on", config.max_total),
            Event::Suspended => f.write_str("the pool is suspended"),
            Event::Resumed => f.write_str("the pool is resumed"),
            Event::Closed => f.write_str("the pool is closed"),
            Event::Seen(seen) => write!(f, "the pool says: {}", seen.counts),
            Event::Finished => f.write_str("the pool has ended"),
        }
    }
}
