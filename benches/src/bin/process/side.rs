//! [`Side`]: one subject of the rows about calls.

use std::time::Instant;

use poolyard_benches::row::Row;

/// One subject, with its workers running.
pub(crate) trait Side {
    fn name(&self) -> &str;

    /// What one has to know to compare it.
    fn note(&self) -> &str {
        ""
    }

    /// Calls `n` times with `payload`, one after the other: microseconds.
    fn latency(&mut self, payload: &[u8], n: usize) -> Result<Vec<f64>, String>;

    /// Calls per second with 64 calls of one byte in flight; `None` where the subject has no such thing.
    fn in_flight(&mut self, _n: usize) -> Option<f64> {
        None
    }
}

/// Runs `call` so many times: microseconds.
pub(crate) fn timed(n: usize, mut call: impl FnMut()) -> Vec<f64> {
    let one = |_| {
        let begun = Instant::now();
        call();
        begun.elapsed().as_nanos() as f64 / 1000.0
    };
    (0..n).map(one).collect()
}

/// How often the sides of a row take turns.
const ROUNDS: usize = 9;

/// One row for each side, which take turns.
pub(crate) fn latency_rows(bench: &str, sides: &mut [Box<dyn Side>], payload: &[u8], n: usize) -> Vec<Row> {
    if !crate::is_wanted(bench) {
        return Vec::new();
    }
    let each = (crate::scaled(n) / ROUNDS).max(2);
    let mut samples = vec![Ok(Vec::new()); sides.len()];
    for round in 0..=ROUNDS {
        for (side, samples) in sides.iter_mut().zip(&mut samples) {
            let seen = side.latency(payload, each);
            // The first round warms everything up.
            if let (Ok(all), true) = (samples.as_mut(), round > 0) {
                match seen {
                    Ok(seen) => all.extend(seen),
                    Err(why) => *samples = Err(why),
                }
            }
        }
    }
    let row = |side: &dyn Side, samples: Result<Vec<f64>, String>| match samples {
        Ok(samples) => Row::new(bench, side.name(), "us", &samples, side.note()),
        Err(why) => Row::missing(bench, side.name(), why),
    };
    let rows: Vec<Row> =
        sides.iter().zip(samples).map(|(side, samples)| row(side.as_ref(), samples)).collect();
    rows.iter().for_each(tell);
    rows
}

/// Tells of progress.
pub(crate) fn tell(row: &Row) {
    let figure = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.1}"));
    let Row { bench, subject, unit, note, .. } = row;
    eprintln!(
        "{bench:24} {subject:24} p50 {:>10} p99 {:>10} {unit} {note}",
        figure(row.p50),
        figure(row.p99)
    );
}
