//! Runs all subjects in turn, round after round, and quotes the least disturbed rounds.

use std::time::Duration;

use poolyard_benches::is_quick;
use poolyard_benches::noise::{Run, Watch, least_disturbed};
use poolyard_benches::row::Row;

/// One operation: how long what is measured of it took, or why it failed.
pub(crate) type Operation<'a> = Box<dyn FnMut() -> Result<Duration, String> + 'a>;

/// A subject of a bench.
pub(crate) struct Line<'a> {
    bench: String,
    name: &'static str,
    /// Operations in each round.
    count: u32,
    operation: Result<Operation<'a>, String>,
    note: &'static str,
    runs: Vec<Run>,
}

impl<'a> Line<'a> {
    pub(crate) fn new(bench: &str, name: &'static str, count: u32, operation: Operation<'a>) -> Self {
        Self { bench: bench.into(), name, count, operation: Ok(operation), note: "", runs: Vec::new() }
    }

    pub(crate) fn missing(bench: &str, name: &'static str, why: impl Into<String>) -> Self {
        let operation = Err(why.into());
        Self { bench: bench.into(), name, count: 0, operation, note: "", runs: Vec::new() }
    }

    pub(crate) fn note(mut self, note: &'static str) -> Self {
        self.note = note;
        self
    }

    fn row(&self) -> Row {
        match &self.operation {
            Err(why) => Row::missing(&self.bench, self.name, why),
            Ok(_) => {
                let micros: Vec<f64> = least_disturbed(&self.runs, 9).iter().map(|ns| ns / 1000.0).collect();
                Row::new(&self.bench, self.name, "us", &micros, self.note)
            }
        }
    }

    /// The median of one round. A subject that fails once is missing.
    fn round(&mut self) {
        let Ok(operation) = &mut self.operation else { return };
        let watch = Watch::start();
        let started = std::time::Instant::now();
        let taken: Result<Vec<Duration>, String> = (0..self.count).map(|_| operation()).collect();
        match taken {
            Ok(mut taken) => {
                taken.sort();
                let disturbed = watch.run(started.elapsed(), 1).disturbed;
                self.runs.push(Run { ns: taken[taken.len() / 2].as_nanos() as f64, disturbed });
            }
            Err(why) => self.operation = Err(why),
        }
    }
}

pub(crate) fn interleave(mut lines: Vec<Line<'_>>) -> Vec<Row> {
    let rounds = if is_quick() { 5 } else { 21 };
    for _ in 0..rounds {
        lines.iter_mut().for_each(Line::round);
    }
    lines.iter().map(Line::row).collect()
}
