//! `acquire_return`: how long taking and giving back takes, alone and in a crowd.

use poolyard_benches::row::{FLOOR, OURS, Row};
use tokio::runtime::Runtime;

use crate::rounds::{Line, interleave};
use crate::subject::{Hold, Load, Subject, TaskPool};
use crate::subjects::ALL_ON;
use crate::subjects::floor::SemaphoreVec;

pub(crate) fn rows(runtime: &Runtime, subjects: &[Box<dyn Subject>]) -> Vec<Row> {
    let mut lines = Vec::new();
    for hold in [Hold::Nothing, Hold::Yield] {
        for size in [1, 16] {
            for tasks in [1, 2, 8, 64, 1000] {
                let load = Load { tasks, size, hold, cycles: cycles(tasks) };
                lines.extend(subjects.iter().map(|subject| line(&**subject, load)));
                if starves_the_floor(load) {
                    stand_in_for_the_floor(&mut lines, subjects, load);
                }
            }
        }
    }
    interleave(&mut lines, |(subject, load)| subject.run(runtime, *load))
}

/// A thousand tasks that look again and again for one resource keep its holder from running: the floor
/// takes seconds, or for ever.
fn starves_the_floor(load: Load) -> bool {
    load.tasks == 1000 && load.size == 1 && load.hold == Hold::Yield
}

fn stand_in_for_the_floor<'a>(
    lines: &mut Vec<Line<(&'a dyn Subject, Load)>>,
    subjects: &'a [Box<dyn Subject>],
    load: Load,
) {
    lines.retain(|line| line.name != FLOOR || !starves_the_floor(line.what.1));
    let fair = subjects.iter().find(|subject| subject.name() == SemaphoreVec::NAME);
    let fair = fair.expect("the fair floor is a subject");
    let line = Line::new(bench(load), FLOOR, (&**fair, load));
    lines.push(
        line.noted("floor_semaphore in its place: 1000 tasks that yield and look again starve the holder"),
    );
}

fn bench(load: Load) -> String {
    let held = if load.hold == Hold::Yield { "/yield" } else { "" };
    format!("acquire_return/{}_tasks/size_{}{held}", load.tasks, load.size)
}

fn cycles(tasks: usize) -> u64 {
    let total = if poolyard_benches::is_quick() { 5_000 } else { 20_000 };
    (total / tasks as u64).max(if poolyard_benches::is_quick() { 10 } else { 50 })
}

fn line(subject: &dyn Subject, load: Load) -> Line<(&dyn Subject, Load)> {
    let bench = bench(load);
    match subject.name() {
        ALL_ON => Line::new(format!("{bench}/all_on"), OURS, (subject, load)),
        name => Line::new(bench, name, (subject, load)),
    }
}
