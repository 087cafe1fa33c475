//! What was timed, by bench and subject.

use std::collections::BTreeMap;
use std::time::Instant;

use poolyard_benches::row::Row;

/// Samples in microseconds.
#[derive(Default)]
pub(crate) struct Samples(BTreeMap<(&'static str, &'static str), Vec<f64>>);

impl Samples {
    pub(crate) fn add(&mut self, bench: &'static str, subject: &'static str, since: Instant) {
        self.0.entry((bench, subject)).or_default().push(since.elapsed().as_secs_f64() * 1e6);
    }

    pub(crate) fn rows(&self) -> Vec<Row> {
        self.0
            .iter()
            .map(|((bench, subject), all)| Row::new(bench, subject, "us", all, note(bench, subject)))
            .collect()
    }
}

fn note(bench: &str, subject: &str) -> &'static str {
    match (bench, subject) {
        ("cold_acquire_exec", "docker_cli") => "docker run --rm, with the removal",
        ("cold_acquire_exec", _) => "create, start, ready, one command; without the removal",
        ("exec/agent", "floor") => "fork, exec and wait of the same program on the host",
        ("exec/engine", "docker_cli") => "docker exec",
        ("reset/recreate", _) => "a new container first; the old one is removed afterwards",
        _ => "",
    }
}
