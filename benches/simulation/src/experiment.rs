//! One trace under adaptive sizing and under the best of each fixed family.

use poolyard_core::Adaptive;
use poolyard_core::simulation::{Replay, Trace};
use serde::{Deserialize, Serialize};

use crate::sizing::{Family, Sizing};

/// What one sizing made of one trace; a row of `results/simulation.json`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Row {
    /// The kind of traffic.
    pub trace: String,
    /// Its seed; none for a recorded trace.
    pub seed: Option<u64>,
    /// Whether the trace was held back while the sizer was made.
    pub held_back: bool,
    /// The family, or `adaptive`.
    pub family: String,
    /// The sizing.
    pub sizing: String,
    /// Which share of the callers found an idle resource.
    pub warm_share: f64,
    /// Resources of whatever state, summed over time.
    pub resource_seconds: f64,
    /// How many creations were started.
    pub creations: u64,
    /// How many callers came.
    pub callers: u64,
    /// The median wait of those who had to wait, in seconds.
    pub wait_p50: f64,
}

/// Where a trace comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The kind of traffic.
    pub name: String,
    /// Its seed.
    pub seed: Option<u64>,
    /// Whether it was held back while the sizer was made.
    pub held_back: bool,
}

impl Source {
    fn row(&self, family: &str, sizing: Sizing, replay: &Replay) -> Row {
        let mut waits = replay.waits.clone();
        waits.sort_unstable();
        Row {
            trace: self.name.clone(),
            seed: self.seed,
            held_back: self.held_back,
            family: family.to_owned(),
            sizing: sizing.to_string(),
            warm_share: (replay.warm_share() * 1e4).round() / 1e4,
            resource_seconds: replay.resource_seconds.round(),
            creations: replay.creations,
            callers: replay.callers,
            wait_p50: waits.get(waits.len() / 2).map_or(0.0, |wait| wait.as_secs_f64()),
        }
    }
}

/// The name under which adaptive sizing stands in the family column.
pub const ADAPTIVE: &str = "adaptive";

/// The trace under adaptive sizing, then under the smallest member of each of `families` that reaches
/// the same share of warm hits.
pub fn run(source: &Source, trace: &Trace, adaptive: Adaptive, families: &[Family]) -> Vec<Row> {
    let sizing = Sizing::Adaptive(adaptive);
    let replay = sizing.replay(trace, trace.length);
    let mut rows = vec![source.row(ADAPTIVE, sizing, &replay)];
    for family in families {
        if let Some((sizing, best)) = family.smallest(trace, replay.warm_share()) {
            rows.push(source.row(family.name(), sizing, &best));
        }
    }
    rows
}

/// Why the rows of one trace miss the line, if they do: at least 95 % of warm hits, with no more
/// resource-seconds than the best fixed size that reaches the same share.
pub fn misses_the_line(rows: &[Row]) -> Option<String> {
    let adaptive = rows.iter().find(|row| row.family == ADAPTIVE)?;
    let name = format!("{} {:?}", adaptive.trace, adaptive.seed);
    if adaptive.warm_share < 0.95 {
        return Some(format!("{name}: {} of the callers found an idle resource", adaptive.warm_share));
    }
    let fixed = |row: &&Row| Family::FIXED_SIZES.iter().any(|family| family.name() == row.family);
    rows.iter().filter(fixed).find(|row| row.resource_seconds < adaptive.resource_seconds).map(|row| {
        format!(
            "{name}: {} takes {}, adaptive {}",
            row.sizing, row.resource_seconds, adaptive.resource_seconds
        )
    })
}
