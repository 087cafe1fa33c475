//! `memory`: what an idle resource costs the pool, beyond nothing for the `u64` itself.

use poolyard_benches::row::Row;
use tokio::runtime::Runtime;

use crate::keyed;
use crate::subject::Subject;
use crate::subjects::ALL_ON;

const RESOURCES: usize = 10_000;

pub(crate) fn rows(runtime: &Runtime, subjects: &[Box<dyn Subject>]) -> Vec<Row> {
    let measured = subjects.iter().filter(|subject| subject.name() != ALL_ON);
    let mut rows: Vec<Row> = measured.map(|subject| row(runtime, &**subject)).collect();
    rows.extend(keyed::memory(runtime));
    rows
}

fn row(runtime: &Runtime, subject: &dyn Subject) -> Row {
    let heap = subject.idle(runtime, RESOURCES);
    let bytes = heap.live as f64 / RESOURCES as f64;
    Row::new("memory/idle_resource", subject.name(), "bytes", &[bytes], format!("{RESOURCES} idle"))
}
