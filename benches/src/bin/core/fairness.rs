//! `jain`: whether tasks that want the same get the same.

use std::time::Duration;

use poolyard_benches::row::Row;
use poolyard_benches::stats::{jain, quantile};
use tokio::runtime::Runtime;

use crate::subject::{Hold, Latencies, Load, Subject};
use crate::subjects::ALL_ON;

pub(crate) fn rows(runtime: &Runtime, subjects: &[Box<dyn Subject>]) -> Vec<Row> {
    let mut rows = Vec::new();
    for (tasks, size) in [(8, 1), (64, 16), (1000, 16)] {
        let load = Load { tasks, size, hold: Hold::Yield, cycles: 0 };
        let measured = subjects.iter().filter(|subject| subject.name() != ALL_ON);
        rows.extend(measured.map(|subject| row(runtime, &**subject, load)));
    }
    rows
}

fn row(runtime: &Runtime, subject: &dyn Subject, load: Load) -> Row {
    let bench = format!("jain/{}_on_{}", load.tasks, load.size);
    let (repeats, millis) = if poolyard_benches::is_quick() { (1, 100) } else { (3, 400) };
    let time = Duration::from_millis(millis);
    let runs: Option<Vec<_>> = (0..repeats).map(|_| subject.compete(runtime, load, time)).collect();
    let Some(runs) = runs else { return Row::new(&bench, subject.name(), "index", &[], "HUNG") };
    let indices: Vec<f64> = runs.iter().map(|run| index(run)).collect();
    Row::new(&bench, subject.name(), "index", &indices, note(&runs[repeats - 1], time))
}

fn index(run: &[Latencies]) -> f64 {
    let cycles: Vec<f64> = run.iter().map(|task| task.len() as f64).collect();
    jain(&cycles)
}

fn note(run: &[Latencies], time: Duration) -> String {
    let mut all: Vec<u32> = run.iter().flatten().copied().collect();
    all.sort_unstable();
    let micros = |share: f64| f64::from(quantile(&all, share)) / 10.0;
    let rate = all.len() as f64 / time.as_secs_f64() / 1e3;
    let (p50, p99, most) = (micros(0.5), micros(0.99), micros(1.0));
    format!("{rate:.0} thousand cycles/s, p50 {p50:.1} us, p99 {p99:.1} us, longest {most:.0} us")
}
