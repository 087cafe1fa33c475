//! [`Latencies`]: how long the manager's last calls took.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use poolyard::{Observer, Reason, ResourceId};
use serde::{Deserialize, Serialize};

/// How many calls of each kind are remembered.
const REMEMBERED: usize = 512;

/// An observer that remembers how long the last calls took. Clones share what they remember.
#[derive(Clone, Debug, Default)]
pub struct Latencies(Arc<Mutex<Calls>>);

#[derive(Debug, Default)]
struct Calls {
    create: VecDeque<Duration>,
    recycle: VecDeque<Duration>,
    check: VecDeque<Duration>,
    destroy: VecDeque<Duration>,
}

/// Half of the last calls took no longer than `p50`, 99 of a hundred no longer than `p99`; in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Times {
    /// How many calls this is about.
    pub calls: usize,
    /// The median.
    pub p50: u64,
    /// What one in a hundred exceeds.
    pub p99: u64,
}

impl Latencies {
    /// Creations, recycles, checks and destroys.
    pub fn times(&self) -> [Times; 4] {
        let calls = self.0.lock().expect("no code that panics runs under it");
        [&calls.create, &calls.recycle, &calls.check, &calls.destroy].map(times)
    }

    fn remember(&self, kind: impl FnOnce(&mut Calls) -> &mut VecDeque<Duration>, took: Duration) {
        let mut calls = self.0.lock().expect("no code that panics runs under it");
        let kind = kind(&mut calls);
        if kind.len() == REMEMBERED {
            kind.pop_front();
        }
        kind.push_back(took);
    }
}

fn times(calls: &VecDeque<Duration>) -> Times {
    let mut sorted: Vec<u64> = calls.iter().map(|took| took.as_micros() as u64).collect();
    sorted.sort_unstable();
    let at = |share: usize| sorted.get(sorted.len() * share / 100).copied().unwrap_or(0);
    Times { calls: sorted.len(), p50: at(50), p99: at(99) }
}

impl Observer for Latencies {
    fn created(&self, _: ResourceId, took: Duration) {
        self.remember(|calls| &mut calls.create, took);
    }
    fn recycled(&self, _: ResourceId, _: Option<Reason>, took: Duration) {
        self.remember(|calls| &mut calls.recycle, took);
    }
    fn checked(&self, _: ResourceId, _: Option<Reason>, took: Duration) {
        self.remember(|calls| &mut calls.check, took);
    }
    fn destroyed(&self, _: ResourceId, _: Reason, took: Duration) {
        self.remember(|calls| &mut calls.destroy, took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_the_slowest_of_a_hundred_are_told_apart() {
        let calls: VecDeque<_> = (1..=100).map(Duration::from_micros).collect();
        assert_eq!(times(&calls), Times { calls: 100, p50: 51, p99: 100 });
        assert_eq!(times(&VecDeque::new()), Times::default());
    }
}
