//! Replays traces under fixed and adaptive sizing; writes `benches/results/simulation*.{json,svg}`.
//!
//! - without arguments: all synthetic traces and the recorded one, training and held back;
//! - with the name of a recording: that one alone, printed and not written;
//! - with `look`: how pools look that are too small, right and too large, for the guide.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use std::{env, fs};

use poolyard_core::Adaptive;
use poolyard_core::simulation::Trace;
use poolyard_simulation::chart::{Axis, Line, Panel, draw};
use poolyard_simulation::experiment::{Row, Source, misses_the_line, run};
use poolyard_simulation::sizing::{Family, Sizing};
use poolyard_simulation::traffic::Traffic;
use poolyard_simulation::{HELD_BACK, RECORDED, TRAINING, recorded};

/// What a pool does about idle resources by default.
const SHIPPED: Sizing = Sizing::IdleTimeout(Duration::from_secs(600));

/// The shares of warm hits at which the picture has its points.
const SHARES: [f64; 6] = [0.85, 0.9, 0.93, 0.95, 0.97, 0.99];

fn main() -> Result<ExitCode, Box<dyn Error>> {
    match env::args().nth(1) {
        Some(look) if look == "look" => Ok(look_at_sizes()),
        Some(file) => replay_file(Path::new(&file)),
        None => replay_all(),
    }
}

fn replay_file(file: &Path) -> Result<ExitCode, Box<dyn Error>> {
    let recorded = recorded::parse(&fs::read_to_string(file)?)?;
    let source = Source { name: file.display().to_string(), seed: None, held_back: true };
    let callers = recorded.trace.arrivals.len();
    println!("{callers} callers of {} keys in {:?}", recorded.trace.keys(), recorded.trace.length);
    println!("{} of them found an idle resource when it was recorded", recorded.warm);
    print_rows(&run(&source, &recorded.trace, Adaptive::default(), &Family::ALL));
    Ok(ExitCode::SUCCESS)
}

/// Half, once and twice the smallest size that serves 95 % at once, and the default configuration.
fn look_at_sizes() -> ExitCode {
    let [seed, ..] = HELD_BACK;
    for traffic in Traffic::ALL {
        let trace = traffic.trace(seed);
        let right = match Family::Total.smallest(&trace, 0.95) {
            Some((Sizing::Total(size), _)) => size,
            _ => continue,
        };
        println!("\n{}, {} callers of {} keys", traffic.name(), trace.arrivals.len(), trace.keys());
        println!(
            "  {:<22}{:>9}{:>12}{:>24}{:>12}",
            "", "warm", "wait p50", "creations per 100", "idle share"
        );
        for size in [right / 2, right, right * 2] {
            look(Sizing::Total(size), &trace);
        }
        look(SHIPPED, &trace);
        look(Sizing::Adaptive(Adaptive::default()), &trace);
    }
    ExitCode::SUCCESS
}

fn look(sizing: Sizing, trace: &Trace) {
    let replay = sizing.replay(trace, trace.length / 10_000);
    let mut waits = replay.waits.clone();
    waits.sort_unstable();
    let wait = waits.get(waits.len() / 2).map_or(0.0, Duration::as_secs_f64);
    let sum =
        |part: fn(&(u32, u32)) -> u32| replay.series.iter().map(|point| f64::from(part(point))).sum::<f64>();
    println!(
        "  {:<22}{:>8.2}%{:>10.2} s{:>24.1}{:>11.0}%",
        sizing.to_string(),
        replay.warm_share() * 100.0,
        wait,
        replay.creations as f64 * 100.0 / replay.callers as f64,
        (1.0 - sum(|(_, leased)| *leased) / sum(|(live, _)| *live)) * 100.0
    );
}

fn replay_all() -> Result<ExitCode, Box<dyn Error>> {
    let mut rows = Vec::new();
    let mut missed = Vec::new();
    for (source, trace) in traces()? {
        let of_trace = run(&source, &trace, Adaptive::default(), &Family::ALL);
        print_rows(&of_trace);
        missed.extend(misses_the_line(&of_trace));
        rows.extend(of_trace);
    }
    write("simulation.json", &json(&rows)?)?;
    write("simulation.svg", &frontiers()?)?;
    write("simulation-time.svg", &over_time())?;
    for line in &missed {
        println!("misses the line: {line}");
    }
    println!("{}", if missed.is_empty() { "the line is held on every trace" } else { "the line is missed" });
    Ok(if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Every trace, those of training first.
fn traces() -> Result<Vec<(Source, Trace)>, Box<dyn Error>> {
    let mut traces = Vec::new();
    for (seeds, held_back) in [(TRAINING, false), (HELD_BACK, true)] {
        for traffic in Traffic::ALL {
            for seed in seeds {
                let source = Source { name: traffic.name().to_owned(), seed: Some(seed), held_back };
                traces.push((source, traffic.trace(seed)));
            }
        }
    }
    let source = Source { name: "recorded".to_owned(), seed: None, held_back: true };
    traces.push((source, recorded::parse(RECORDED)?.trace));
    Ok(traces)
}

fn print_rows(rows: &[Row]) {
    let Some(first) = rows.first() else { return };
    let kept = if first.held_back { "held back" } else { "training" };
    let seed = first.seed.map(|seed| format!(" {seed}")).unwrap_or_default();
    println!("\n{}{seed}, {kept}, {} callers", first.trace, first.callers);
    println!(
        "  {:<22}{:>9}{:>20}{:>8}{:>11}{:>12}",
        "", "warm", "resource-seconds", "x", "creations", "wait p50"
    );
    for row in rows {
        println!(
            "  {:<22}{:>8.2}%{:>20}{:>8.2}{:>11}{:>10.2} s",
            row.sizing,
            row.warm_share * 100.0,
            row.resource_seconds,
            row.resource_seconds / first.resource_seconds,
            row.creations,
            row.wait_p50
        );
    }
}

fn json(rows: &[Row]) -> serde_json::Result<String> {
    let lines: Vec<String> = rows.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
    Ok(format!("[\n{}\n]\n", lines.join(",\n")))
}

fn write(name: &str, text: &str) -> std::io::Result<()> {
    let results = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../results");
    fs::create_dir_all(&results)?;
    fs::write(results.join(name), text)
}

/// Warm hits against resources, one panel for each kind of traffic.
fn frontiers() -> Result<String, Box<dyn Error>> {
    let [seed, ..] = HELD_BACK;
    let mut panels: Vec<Panel> =
        Traffic::ALL.iter().map(|traffic| frontier(traffic.name(), &traffic.trace(seed))).collect();
    panels.push(frontier("recorded", &recorded::parse(RECORDED)?.trace));
    Ok(draw(
        "Warm hits and what they take",
        "Held-back traces. To the upper left is better: more callers find an idle resource, with fewer resources.",
        3,
        &panels,
    ))
}

fn frontier(name: &str, trace: &Trace) -> Panel {
    let mut lines = vec![Line { name: "adaptive".into(), points: adaptive_points(trace), marked: true }];
    for family in Family::ALL {
        let points = SHARES.iter().filter_map(|share| family.smallest(trace, *share));
        let points = points.map(|(_, replay)| point(trace, &replay)).collect();
        lines.push(Line { name: family.name().into(), points, marked: true });
    }
    // Whoever takes five times what adaptive sizing takes is beyond the edge.
    let least = lines[0].points.iter().map(|(x, _)| *x).fold(0.0, f64::max);
    let to = lines.iter().flat_map(|line| &line.points).map(|(x, _)| *x).fold(0.0, f64::max).min(least * 3.0);
    lines.iter_mut().for_each(|line| line.points.retain(|(x, _)| *x <= to));
    Panel {
        title: format!("{name}: {} callers of {} keys", trace.arrivals.len(), trace.keys()),
        x: Axis { name: "resources on average".into(), from: 0.0, to, label: |x| format!("{x:.0}") },
        y: Axis { name: "warm hits".into(), from: 0.84, to: 1.0, label: |y| format!("{:.0} %", y * 100.0) },
        lines,
        mark: Some(0.95),
    }
}

fn adaptive_points(trace: &Trace) -> Vec<(f64, f64)> {
    let share = |share: f64| Sizing::Adaptive(Adaptive { share, ..Adaptive::default() });
    SHARES.iter().map(|of| point(trace, &share(*of).replay(trace, trace.length))).collect()
}

fn point(trace: &Trace, replay: &poolyard_core::simulation::Replay) -> (f64, f64) {
    (replay.resource_seconds / trace.length.as_secs_f64(), replay.warm_share())
}

/// Resources over time under adaptive sizing and under the best size in all.
fn over_time() -> String {
    let [seed, ..] = HELD_BACK;
    let panels: Vec<Panel> = Traffic::ALL.iter().map(|traffic| course(*traffic, seed)).collect();
    draw("Resources over time", "Held-back traces: two hours, six hours, two days.", 2, &panels)
}

fn course(traffic: Traffic, seed: u64) -> Panel {
    const POINTS: u32 = 360;
    let trace = traffic.trace(seed);
    let step = trace.length / POINTS;
    let adaptive = Sizing::Adaptive(Adaptive::default()).replay(&trace, step);
    let hours = |(index, value): (usize, u32)| (index as f64 * step.as_secs_f64() / 3600.0, f64::from(value));
    let line = |name: &str, values: Vec<u32>| Line {
        name: name.into(),
        points: values.into_iter().enumerate().map(hours).collect(),
        marked: false,
    };
    let mut lines = vec![
        line("resources, adaptive", adaptive.series.iter().map(|(live, _)| *live).collect()),
        line("leased", adaptive.series.iter().map(|(_, leased)| *leased).collect()),
    ];
    if let Some((sizing, _)) = Family::Total.smallest(&trace, adaptive.warm_share()) {
        let series = sizing.replay(&trace, step).series;
        lines.push(line("resources, best fixed size in all", series.iter().map(|(live, _)| *live).collect()));
    }
    let most = lines.iter().flat_map(|line| &line.points).map(|(_, y)| *y).fold(0.0, f64::max);
    let label: fn(f64) -> String = |value| format!("{value}");
    let to = Duration::as_secs_f64(&trace.length) / 3600.0;
    Panel {
        title: traffic.name().to_owned(),
        x: Axis { name: "hours".into(), from: 0.0, to, label },
        y: Axis { name: "resources".into(), from: 0.0, to: most * 1.05, label },
        lines,
        mark: None,
    }
}
