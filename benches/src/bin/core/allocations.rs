//! `allocations`: what a warm cycle takes from the heap.

use poolyard_benches::row::{OURS, Row};
use tokio::runtime::Runtime;

use crate::subject::Subject;
use crate::subjects::ALL_ON;

const CYCLES: u64 = 1_000_000;

pub(crate) fn rows(runtime: &Runtime, subjects: &[Box<dyn Subject>]) -> Vec<Row> {
    subjects.iter().map(|subject| row(runtime, &**subject)).collect()
}

fn row(runtime: &Runtime, subject: &dyn Subject) -> Row {
    let heap = subject.allocations(runtime, CYCLES);
    let (bench, name) = match subject.name() {
        ALL_ON => ("allocations/acquire_return/all_on", OURS),
        name => ("allocations/acquire_return", name),
    };
    let note = format!("{} in {CYCLES} cycles", heap.calls);
    Row::new(bench, name, "allocations", &[heap.calls as f64 / CYCLES as f64], note)
}
