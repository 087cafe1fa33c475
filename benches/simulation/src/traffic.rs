//! Synthetic traces: four kinds of traffic, each from a seed.

use std::time::Duration;

use poolyard_core::simulation::{Arrival, Trace};

use crate::random::Random;

/// A kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// Many keys, each with callers at a rate of its own that does not change.
    Steady,
    /// One key, at a rate that does not change.
    Single,
    /// Few keys that are quiet, until a burst of half a minute comes every few minutes.
    Bursty,
    /// The rates follow the time of day, for two days.
    Daily,
    /// Many keys that are rarely wanted, until one after another becomes popular.
    Sudden,
}

impl Traffic {
    /// All of them.
    pub const ALL: [Traffic; 5] =
        [Traffic::Steady, Traffic::Single, Traffic::Bursty, Traffic::Daily, Traffic::Sudden];

    /// A name for tables and files.
    pub fn name(self) -> &'static str {
        match self {
            Traffic::Steady => "steady",
            Traffic::Single => "single",
            Traffic::Bursty => "bursty",
            Traffic::Daily => "daily",
            Traffic::Sudden => "sudden",
        }
    }

    /// The trace of `seed`.
    pub fn trace(self, seed: u64) -> Trace {
        let random = &mut Random::new(seed);
        match self {
            Traffic::Steady => steady(random),
            Traffic::Single => single(random),
            Traffic::Bursty => bursty(random),
            Traffic::Daily => daily(random),
            Traffic::Sudden => sudden(random),
        }
    }
}

const MINUTE: f64 = 60.0;
const HOUR: f64 = 3600.0;

fn single(random: &mut Random) -> Trace {
    let mut draft = Draft::new(2.0 * HOUR, 0.5, 0.01);
    draft.poisson(random, 0, 0.0, 2.0 * HOUR, 8.0, 1.0);
    draft.finish()
}

/// 20 keys whose rates fall as 1/n, 15 callers a second together.
fn steady(random: &mut Random) -> Trace {
    const KEYS: u32 = 20;
    let mut draft = Draft::new(2.0 * HOUR, 0.5, 0.01);
    for key in 0..KEYS {
        draft.poisson(random, key, 0.0, 2.0 * HOUR, 15.0 * popularity(key, KEYS), 1.0);
    }
    draft.finish()
}

/// 8 keys with a caller a minute, and bursts of half a minute with 6 callers a second.
fn bursty(random: &mut Random) -> Trace {
    let mut draft = Draft::new(6.0 * HOUR, 2.0, 0.05);
    for key in 0..8 {
        draft.poisson(random, key, 0.0, draft.length, 1.0 / MINUTE, 2.0);
        let mut burst = random.exponential(6.0 * MINUTE);
        while burst < draft.length {
            draft.poisson(random, key, burst, burst + 30.0, 6.0, 2.0);
            burst += 30.0 + random.exponential(6.0 * MINUTE);
        }
    }
    draft.finish()
}

/// 10 keys; 0.2 callers a second at night, 4 at noon.
fn daily(random: &mut Random) -> Trace {
    const KEYS: u32 = 10;
    const STEP: f64 = 5.0 * MINUTE;
    let mut draft = Draft::new(48.0 * HOUR, 1.0, 0.02);
    let mut start = 0.0;
    while start < draft.length {
        let of_day = (start / (24.0 * HOUR)).fract();
        let height = 0.5 - 0.5 * (of_day * std::f64::consts::TAU).cos();
        let rate = 0.2 + 3.8 * height * height;
        for key in 0..KEYS {
            draft.poisson(random, key, start, start + STEP, rate * popularity(key, KEYS), 3.0);
        }
        start += STEP;
    }
    draft.finish()
}

/// 100 keys with a caller each 20 minutes; every few minutes one of them gets 4 a second for a quarter
/// of an hour or so.
fn sudden(random: &mut Random) -> Trace {
    const KEYS: u32 = 100;
    let mut draft = Draft::new(6.0 * HOUR, 1.0, 0.02);
    for key in 0..KEYS {
        draft.poisson(random, key, 0.0, draft.length, 1.0 / (20.0 * MINUTE), 1.0);
    }
    let mut start = random.exponential(5.0 * MINUTE);
    while start < draft.length {
        let key = random.below(KEYS);
        let end = start + 5.0 * MINUTE + random.exponential(10.0 * MINUTE);
        draft.poisson(random, key, start, end, 4.0, 1.0);
        start += random.exponential(5.0 * MINUTE);
    }
    draft.finish()
}

/// Which share of all callers want `key`, of `keys` whose popularity falls as 1/n.
fn popularity(key: u32, keys: u32) -> f64 {
    let all: f64 = (1..=keys).map(|n| 1.0 / f64::from(n)).sum();
    1.0 / f64::from(key + 1) / all
}

/// A trace in the making, in seconds.
struct Draft {
    arrivals: Vec<Arrival>,
    length: f64,
    create: f64,
    recycle: f64,
}

impl Draft {
    fn new(length: f64, create: f64, recycle: f64) -> Draft {
        Draft { arrivals: Vec::new(), length, create, recycle }
    }

    /// Independent callers for one key, `rate` of them a second, who hold for `hold` seconds on average.
    fn poisson(&mut self, random: &mut Random, key: u32, from: f64, to: f64, rate: f64, hold: f64) {
        let mut at = from + random.exponential(1.0 / rate);
        while at < to.min(self.length) {
            let hold = seconds(random.exponential(hold));
            self.arrivals.push(Arrival { at: seconds(at), key, hold });
            at += random.exponential(1.0 / rate);
        }
    }

    fn finish(mut self) -> Trace {
        self.arrivals.sort_by_key(|arrival| (arrival.at, arrival.key));
        Trace {
            arrivals: self.arrivals,
            length: seconds(self.length),
            create: seconds(self.create),
            recycle: seconds(self.recycle),
            destroy: Duration::ZERO,
        }
    }
}

/// To the microsecond, so that no platform's logarithm makes a difference.
fn seconds(seconds: f64) -> Duration {
    Duration::from_micros((seconds * 1e6).round() as u64)
}
