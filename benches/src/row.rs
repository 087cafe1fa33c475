//! One figure of one subject.

use serde::{Deserialize, Serialize};

/// The subject under which a report describes the machine.
pub const CONDITIONS: &str = "conditions";
/// The subject that does the least that could be called the same job.
pub const FLOOR: &str = "floor";
/// Ours.
pub const OURS: &str = "poolyard";

/// One figure of one subject, as it stands in `results/*.json`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Row {
    /// What was measured; stable from release to release.
    pub bench: String,
    /// Who was measured: `poolyard`, `floor`, or a peer by its name.
    pub subject: String,
    /// The unit of the two figures.
    pub unit: String,
    /// The median of the kept runs; none where the subject hung or is missing.
    pub p50: Option<f64>,
    /// The 99th percentile of the kept runs: with nine of them, the worst.
    pub p99: Option<f64>,
    /// How many runs were kept.
    pub n: usize,
    /// What must be known to read the figures.
    pub note: String,
}

impl Row {
    /// A row with the figures of `runs`; without figures if there are none.
    pub fn new(bench: &str, subject: &str, unit: &str, runs: &[f64], note: impl Into<String>) -> Row {
        let figures = crate::stats::Figures::of(runs);
        Row {
            bench: bench.to_owned(),
            subject: subject.to_owned(),
            unit: unit.to_owned(),
            p50: figures.map(|figures| figures.p50),
            p99: figures.map(|figures| figures.p99),
            n: runs.len(),
            note: note.into(),
        }
    }

    /// A row that says why there is no figure.
    pub fn missing(bench: &str, subject: &str, why: impl Into<String>) -> Row {
        Row::new(bench, subject, "", &[], format!("missing: {}", why.into()))
    }
}
