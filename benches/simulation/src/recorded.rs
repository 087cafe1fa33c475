//! Traces of live pools, as `cargo run --example record` writes them.
//!
//! Text, one event a line, times in microseconds, `#` before remarks:
//!
//! ```text
//! arrive,<at>,<key>,<hold>,<waited>,<outcome>
//! create,<took>
//! recycle,<took>
//! length,<span>
//! ```
//!
//! `at` is when the caller came, from the start of the recording; `key` a number that stands for its
//! key; `outcome` is `warm` or `waited`, or for those who got no lease `cancelled` or `failed`. Such a
//! caller is replayed as one that would have held for no time.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use poolyard_core::simulation::{Arrival, Trace};

/// A recording, read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recorded {
    /// What it replays.
    pub trace: Trace,
    /// How many of its callers found an idle resource when it was recorded.
    pub warm: u64,
}

/// A line that is no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    line: usize,
    text: String,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} is no event of a recording: {:?}; record anew", self.line, self.text)
    }
}

impl std::error::Error for BadLine {}

/// Reads a recording. What creations and recycles took is their median.
///
/// # Errors
///
/// The first line that is no event.
pub fn parse(text: &str) -> Result<Recorded, BadLine> {
    let mut reader = Reader::default();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') && reader.read(line).is_none() {
            return Err(BadLine { line: index + 1, text: line.to_owned() });
        }
    }
    Ok(reader.finish())
}

#[derive(Default)]
struct Reader {
    recorded: Recorded,
    keys: HashMap<u64, u32>,
    creations: Vec<Duration>,
    recycles: Vec<Duration>,
}

impl Reader {
    fn read(&mut self, line: &str) -> Option<()> {
        let (kind, rest) = line.split_once(',')?;
        match kind {
            "create" => self.creations.push(micros(rest)?),
            "recycle" => self.recycles.push(micros(rest)?),
            "length" => self.recorded.trace.length = micros(rest)?,
            "arrive" => self.arrive(rest)?,
            _ => return None,
        }
        Some(())
    }

    fn arrive(&mut self, rest: &str) -> Option<()> {
        let fields: Vec<&str> = rest.split(',').collect();
        let [at, key, hold, waited, outcome] = fields[..] else { return None };
        let known = self.keys.len() as u32;
        let key = *self.keys.entry(key.parse().ok()?).or_insert(known);
        micros(waited)?;
        self.recorded.warm += u64::from(outcome == "warm");
        self.recorded.trace.arrivals.push(Arrival { at: micros(at)?, key, hold: micros(hold)? });
        Some(())
    }

    fn finish(mut self) -> Recorded {
        let trace = &mut self.recorded.trace;
        trace.arrivals.sort_by_key(|arrival| (arrival.at, arrival.key));
        trace.create = median(self.creations);
        trace.recycle = median(self.recycles);
        let last = trace.arrivals.last().map_or(Duration::ZERO, |arrival| arrival.at);
        trace.length = trace.length.max(last);
        self.recorded
    }
}

fn micros(field: &str) -> Option<Duration> {
    field.parse().ok().map(Duration::from_micros)
}

fn median(mut spans: Vec<Duration>) -> Duration {
    spans.sort_unstable();
    spans.get(spans.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_recording_becomes_a_trace_in_the_order_of_arrival() {
        let text = "# a remark\n\
                    create,3000000\ncreate,1000000\ncreate,2000000\n\
                    arrive,2000000,77,500000,0,warm\n\
                    arrive,1000000,99,1000000,250000,waited\n\
                    length,9000000\n";
        let recorded = parse(text).unwrap();
        let arrivals = [
            Arrival { at: SECOND, key: 1, hold: SECOND },
            Arrival { at: SECOND * 2, key: 0, hold: SECOND / 2 },
        ];
        assert_eq!(recorded.trace.arrivals, arrivals);
        assert_eq!((recorded.trace.create, recorded.trace.recycle), (SECOND * 2, Duration::ZERO));
        assert_eq!((recorded.trace.length, recorded.warm), (SECOND * 9, 1));
    }

    #[test]
    fn a_line_that_is_no_event_is_named() {
        let error = parse("create,1\narrive,1,2\n").unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("arrive,1,2"), "{error}");
        assert!(parse("destroy,1").is_err());
    }
}
