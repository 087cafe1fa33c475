//! [`Picture`]: what another process is told of a pool.

use std::fmt::Display;
use std::hash::BuildHasher;
use std::time::Duration;

use poolyard::{Counts, Manager, Pool, Reason, ResourceInfo, ResourceState};
use serde::{Deserialize, Serialize};

use super::{Latencies, Times};

/// A pool at one moment, for another process. Times are in microseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Picture {
    /// The pool's name.
    pub pool: String,
    /// The process that it lives in.
    pub pid: u32,
    /// The limit on resources.
    pub max_total: usize,
    /// How many resources are in which state.
    pub states: Vec<(String, usize)>,
    /// Callers that wait.
    pub waiters: usize,
    /// Leases given out at once, from the beginning.
    pub acquired_ready: u64,
    /// Leases given out after a wait.
    pub acquired_waited: u64,
    /// Callers whose deadline passed.
    pub timed_out: u64,
    /// Callers that were refused, got an error, or went away.
    pub refused: u64,
    /// See the field before.
    pub failed: u64,
    /// See the field before.
    pub cancelled: u64,
    /// Creations that were complete, and that failed.
    pub created: u64,
    /// See the field before.
    pub create_failures: u64,
    /// How many resources ended for which reason; reasons without any are left out.
    pub ended: Vec<(String, u64)>,
    /// How long creations, recycles, checks and destroys took.
    pub latencies: [Times; 4],
    /// The keys, the busiest first.
    pub keys: Vec<KeyPicture>,
    /// The resources, those in use first, the longest used before the others.
    pub resources: Vec<ResourcePicture>,
}

/// One key.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct KeyPicture {
    /// The key as text.
    pub key: String,
    /// In use.
    pub leased: usize,
    /// Ready.
    pub idle: usize,
    /// All, whatever their state.
    pub live: usize,
    /// Callers that wait for it.
    pub waiters: usize,
}

/// One resource.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ResourcePicture {
    /// Its id as text.
    pub id: String,
    /// Its key as text.
    pub key: String,
    /// Where it is in its life.
    pub state: String,
    /// How long it has been in use or idle.
    pub since: u64,
    /// How old it is.
    pub age: u64,
    /// How many leases it has served.
    pub uses: u64,
    /// What its manager says of it.
    pub description: String,
}

impl Picture {
    /// Takes the picture of a pool. Costs a copy of every key; not for every millisecond.
    pub fn of<M, S>(pool: &Pool<M, Latencies, S>) -> Self
    where
        M: Manager<Key: Display>,
        S: BuildHasher + Send + Sync + 'static,
    {
        let (snapshot, config) = (pool.snapshot(), pool.config());
        let counters = &snapshot.counters;
        let ended = Reason::ALL.iter().map(|reason| (reason.to_string(), counters.destroyed_for(*reason)));
        Picture {
            pool: config.name,
            pid: std::process::id(),
            max_total: config.max_total,
            states: states(&snapshot.counts),
            waiters: snapshot.counts.waiters,
            acquired_ready: counters.acquired_ready,
            acquired_waited: counters.acquired_waited,
            timed_out: counters.timed_out,
            refused: counters.refused,
            failed: counters.failed,
            cancelled: counters.cancelled,
            created: counters.created,
            create_failures: counters.create_failures,
            ended: ended.filter(|(_, count)| *count > 0).collect(),
            latencies: pool.observer().times(),
            keys: keys(pool),
            resources: resources(pool.resources()),
        }
    }
}

fn states(counts: &Counts) -> Vec<(String, usize)> {
    let states = [
        ("leased", counts.leased),
        ("idle", counts.idle),
        ("creating", counts.creating),
        ("recycling", counts.recycling),
        ("checking", counts.checking),
        ("hibernating", counts.hibernating),
        ("hibernated", counts.hibernated),
        ("waking", counts.waking),
        ("specialising", counts.specialising),
        ("destroying", counts.destroying),
        ("abandoned", counts.abandoned),
    ];
    states.map(|(state, count)| (state.to_owned(), count)).into()
}

fn keys<M, S>(pool: &Pool<M, Latencies, S>) -> Vec<KeyPicture>
where
    M: Manager<Key: Display>,
    S: BuildHasher + Send + Sync + 'static,
{
    let mut keys: Vec<_> = pool.keys().into_iter().map(|info| key(&info.key, &info.counts)).collect();
    keys.sort_by(|a, b| (b.live + b.waiters).cmp(&(a.live + a.waiters)).then_with(|| a.key.cmp(&b.key)));
    keys
}

fn key(key: &impl Display, counts: &Counts) -> KeyPicture {
    KeyPicture {
        key: key.to_string(),
        leased: counts.leased,
        idle: counts.idle,
        live: counts.live(),
        waiters: counts.waiters,
    }
}

fn resources<K: Display>(mut resources: Vec<ResourceInfo<K>>) -> Vec<ResourcePicture> {
    let since = |info: &ResourceInfo<K>| info.leased_for.or(info.idle_for).unwrap_or_default();
    resources.sort_by_key(|info| (rank(info.state), std::cmp::Reverse(since(info))));
    resources.iter().map(|info| resource(info, since(info))).collect()
}

fn resource<K: Display>(info: &ResourceInfo<K>, since: Duration) -> ResourcePicture {
    ResourcePicture {
        id: info.id.to_string(),
        key: info.key.to_string(),
        state: word(info.state).to_owned(),
        since: since.as_micros() as u64,
        age: info.age.as_micros() as u64,
        uses: info.uses,
        description: info.description.as_deref().unwrap_or_default().to_owned(),
    }
}

/// The order in which people look: what is used, what is under way, what is ready.
fn rank(state: ResourceState) -> u8 {
    match state {
        ResourceState::Leased => 0,
        ResourceState::Idle | ResourceState::Hibernated => 2,
        _ => 1,
    }
}

fn word(state: ResourceState) -> &'static str {
    match state {
        ResourceState::Creating => "creating",
        ResourceState::Idle => "idle",
        ResourceState::Leased => "leased",
        ResourceState::Recycling => "recycling",
        ResourceState::Checking => "checking",
        ResourceState::Hibernating => "hibernating",
        ResourceState::Hibernated => "hibernated",
        ResourceState::Waking => "waking",
        ResourceState::Specialising => "specialising",
        ResourceState::Destroying => "destroying",
        _ => "other",
    }
}
