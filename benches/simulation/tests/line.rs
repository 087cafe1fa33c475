//! The line that adaptive sizing has to hold, and the starting formulas of the sizing guide.

use std::time::Duration;

use poolyard_core::Adaptive;
use poolyard_core::simulation::{Arrival, Trace};
use poolyard_simulation::experiment::{Row, Source, misses_the_line, run};
use poolyard_simulation::random::Random;
use poolyard_simulation::sizing::{Family, Sizing};
use poolyard_simulation::traffic::Traffic;
use poolyard_simulation::{HELD_BACK, RECORDED, TRAINING, recorded};

/// What the simulator found on all traces; `cargo run --release -p poolyard-simulation` writes it.
const RESULTS: &str = include_str!("../../results/simulation.json");

/// The first hour: enough for what the sizer has to learn, and short enough for a test.
fn first_hour(traffic: Traffic, seed: u64) -> Trace {
    const HOUR: Duration = Duration::from_secs(3600);
    let mut trace = traffic.trace(seed);
    trace.arrivals.retain(|arrival| arrival.at < HOUR);
    trace.length = HOUR;
    trace
}

#[test]
fn adaptive_sizing_holds_the_line_in_the_first_hour_of_held_back_traces() {
    for traffic in [Traffic::Single, Traffic::Steady] {
        let source = Source { name: traffic.name().to_owned(), seed: Some(HELD_BACK[0]), held_back: true };
        let trace = first_hour(traffic, HELD_BACK[0]);
        let rows = run(&source, &trace, Adaptive::default(), &Family::FIXED_SIZES);
        assert_eq!(rows.len(), 3, "adaptive, and the best of two families");
        assert_eq!(misses_the_line(&rows), None);
    }
}

#[test]
fn the_committed_results_hold_the_line_on_every_trace() {
    let rows: Vec<Row> = serde_json::from_str(RESULTS).unwrap();
    let traces: Vec<&[Row]> = rows.chunk_by(|a, b| (&a.trace, a.seed) == (&b.trace, b.seed)).collect();
    assert_eq!(traces.len(), Traffic::ALL.len() * (TRAINING.len() + HELD_BACK.len()) + 1);
    for rows in traces {
        assert_eq!(misses_the_line(rows), None);
    }
}

#[test]
fn the_committed_results_are_what_the_simulator_finds() {
    let rows: Vec<Row> = serde_json::from_str(RESULTS).unwrap();
    let source = Source { name: String::from("recorded"), seed: None, held_back: true };
    let trace = recorded::parse(RECORDED).unwrap().trace;
    let found = run(&source, &trace, Adaptive::default(), &Family::ALL);
    let committed: Vec<&Row> = rows.iter().filter(|row| row.trace == "recorded").collect();
    assert_eq!(found.iter().collect::<Vec<_>>(), committed);
}

#[test]
fn training_and_held_back_traces_are_kept_apart() {
    assert!(TRAINING.iter().all(|seed| !HELD_BACK.contains(seed)));
    assert_ne!(Traffic::Single.trace(TRAINING[0]), Traffic::Single.trace(HELD_BACK[0]));
    assert_eq!(Traffic::Single.trace(HELD_BACK[0]), Traffic::Single.trace(HELD_BACK[0]));
}

#[test]
fn the_line_is_missed_by_a_sizer_that_keeps_too_little_or_too_much() {
    let source = Source { name: String::from("single"), seed: Some(1), held_back: false };
    let trace = first_hour(Traffic::Single, 1);
    let little = Adaptive { share: 0.5, linger: Duration::ZERO, ..Adaptive::default() };
    assert!(misses_the_line(&run(&source, &trace, little, &Family::FIXED_SIZES)).is_some());
    let much = Adaptive { linger: Duration::from_secs(600), ..Adaptive::default() };
    assert!(misses_the_line(&run(&source, &trace, much, &Family::FIXED_SIZES)).is_some());
}

/// Independent callers for `keys` keys, `busy` resources of each in use on average, for a thousand holds.
fn poisson(keys: u32, busy: f64) -> Trace {
    let random = &mut Random::new(7);
    let length = Duration::from_secs(1000);
    let mut arrivals = Vec::new();
    for key in 0..keys {
        let mut at = 0.0;
        while at < length.as_secs_f64() {
            let hold = Duration::from_secs_f64(random.exponential(1.0));
            arrivals.push(Arrival { at: Duration::from_secs_f64(at), key, hold });
            at += random.exponential(1.0 / busy);
        }
    }
    arrivals.sort_by_key(|arrival| arrival.at);
    Trace { arrivals, length, create: Duration::from_millis(100), ..Trace::default() }
}

/// The guide's starting formula: busy + 1.65 x root of busy + 1.
fn formula(busy: f64) -> f64 {
    busy + 1.65 * busy.sqrt() + 1.0
}

#[test]
fn the_starting_formula_serves_nineteen_of_twenty_callers_at_once() {
    for busy in [0.1, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0] {
        let size = formula(busy).ceil() as u32;
        let trace = poisson(1, busy);
        let share = Sizing::PerKey(size).replay(&trace, trace.length).warm_share();
        assert!(share >= 0.94, "{busy} busy on average, size {size}: {share}");
        let half = Sizing::PerKey((size / 2).max(1)).replay(&trace, trace.length).warm_share();
        assert!(size < 4 || half < 0.9, "{busy} busy on average, half of size {size} is enough: {half}");
    }
}

#[test]
fn the_sum_of_the_formula_over_keys_is_a_size_for_all_of_them() {
    for (keys, busy) in [(2, 4.0), (10, 1.0), (40, 0.2)] {
        let size = (formula(busy) * f64::from(keys)).ceil() as u32;
        let trace = poisson(keys, busy);
        let share = Sizing::Total(size).replay(&trace, trace.length).warm_share();
        assert!(share >= 0.95, "{keys} keys with {busy} busy each, size {size}: {share}");
    }
}
