//! How much other load disturbed a run.

use std::fs;
use std::time::{Duration, Instant};

/// One run: its figure, and the share of its time for which our threads waited for a processor.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Nanoseconds for each operation.
    pub ns: f64,
    /// The share of waiting; above one where several threads waited.
    pub disturbed: f64,
}

/// Notes how long this process has waited for processors so far.
#[derive(Debug)]
pub struct Watch {
    delay: u64,
}

impl Watch {
    /// Starts to watch.
    pub fn start() -> Watch {
        Watch { delay: run_delay() }
    }

    /// The run that has taken `took` for `ops` operations.
    pub fn run(&self, took: Duration, ops: u64) -> Run {
        let waited = run_delay().saturating_sub(self.delay);
        let nanos = took.as_nanos() as f64;
        Run { ns: nanos / ops as f64, disturbed: waited as f64 / nanos }
    }
}

/// Nanoseconds for which the threads of this process were ready to run and did not.
fn run_delay() -> u64 {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return 0 };
    let delay = |text: String| text.split_whitespace().nth(1).and_then(|field| field.parse::<u64>().ok());
    tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok().and_then(delay))
        .sum()
}

/// The figures of the `wanted` least disturbed runs.
pub fn least_disturbed(runs: &[Run], wanted: usize) -> Vec<f64> {
    let mut sorted = runs.to_vec();
    sorted.sort_by(|a, b| a.disturbed.total_cmp(&b.disturbed));
    sorted.iter().take(wanted).map(|run| run.ns).collect()
}

/// The time from the first start to the last end of several tasks.
pub fn span(tasks: &[(Instant, Instant)]) -> Duration {
    let first = tasks.iter().map(|task| task.0).min();
    let last = tasks.iter().map(|task| task.1).max();
    first.zip(last).map_or(Duration::ZERO, |(first, last)| last - first)
}
