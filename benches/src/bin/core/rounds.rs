//! Interleaves the runs of several subjects.

use poolyard_benches::noise::{Run, least_disturbed};
use poolyard_benches::row::Row;

/// How many runs are quoted.
pub(crate) const KEPT: usize = 9;

/// How many rounds are run, so that there is something to choose from.
pub(crate) fn rounds() -> usize {
    if poolyard_benches::is_quick() { 5 } else { 21 }
}

/// One line of a bench: a subject, and what it has run.
pub(crate) struct Line<T> {
    pub(crate) bench: String,
    pub(crate) name: &'static str,
    pub(crate) what: T,
    /// What must be known to read the figures.
    note: &'static str,
    runs: Vec<Run>,
    hung: usize,
}

impl<T> Line<T> {
    pub(crate) fn new(bench: String, name: &'static str, what: T) -> Self {
        Line { bench, name, what, note: "", runs: Vec::new(), hung: 0 }
    }

    pub(crate) fn noted(self, note: &'static str) -> Self {
        Line { note, ..self }
    }

    fn row(&self) -> Row {
        let note = match self.hung {
            0 => self.note.to_owned(),
            hung => format!("HUNG in {hung} of {} runs", hung + self.runs.len()),
        };
        Row::new(&self.bench, self.name, "ns", &least_disturbed(&self.runs, KEPT), note)
    }
}

/// Runs all lines in turn, round after round. A line that hung twice is not run again.
pub(crate) fn interleave<T>(lines: &mut [Line<T>], mut run: impl FnMut(&mut T) -> Option<Run>) -> Vec<Row> {
    for _ in 0..rounds() {
        for line in lines.iter_mut().filter(|line| line.hung < 2) {
            match run(&mut line.what) {
                Some(run) => line.runs.push(run),
                None => line.hung += 1,
            }
        }
    }
    lines.iter().map(Line::row).collect()
}
