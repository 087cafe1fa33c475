//! `acquire_return`: how long taking and giving back takes, alone and in a crowd.

use poolyard_benches::row::{OURS, Row};
use tokio::runtime::Runtime;

use crate::rounds::{Line, interleave};
use crate::subject::{Hold, Load, Subject};
use crate::subjects::ALL_ON;

pub(crate) fn rows(runtime: &Runtime, subjects: &[Box<dyn Subject>]) -> Vec<Row> {
    let mut lines = Vec::new();
    for hold in [Hold::Nothing, Hold::Yield] {
        for size in [1, 16] {
            for tasks in [1, 2, 8, 64, 1000] {
                let load = Load { tasks, size, hold, cycles: cycles(tasks) };
                lines.extend(subjects.iter().map(|subject| line(&**subject, load)));
            }
        }
    }
    interleave(&mut lines, |(subject, load)| subject.run(runtime, *load))
}

fn cycles(tasks: usize) -> u64 {
    let total = if poolyard_benches::is_quick() { 5_000 } else { 20_000 };
    (total / tasks as u64).max(if poolyard_benches::is_quick() { 10 } else { 50 })
}

fn line(subject: &dyn Subject, load: Load) -> Line<(&dyn Subject, Load)> {
    let held = if load.hold == Hold::Yield { "/yield" } else { "" };
    let bench = format!("acquire_return/{}_tasks/size_{}{held}", load.tasks, load.size);
    match subject.name() {
        ALL_ON => Line::new(format!("{bench}/all_on"), OURS, (subject, load)),
        name => Line::new(bench, name, (subject, load)),
    }
}
