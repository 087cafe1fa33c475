//! `call`, `python`, `inflight_64` and `multiplex_32`.

use poolyard_benches::row::{OURS, Row};
use poolyard_process::{DispatcherConfig, Select, Transport, WorkerSpec};
use tokio::runtime::Runtime;

use crate::floor::{Floor, OnRuntime};
use crate::ours::{self, Ours, Way, command};
use crate::peers::{Procspawn, Script};
use crate::php::Php;
use crate::scaled;
use crate::side::{Side, latency_rows, tell};

fn python() -> WorkerSpec {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../backend-process/worker/examples/worker.py");
    WorkerSpec::command("python3").arg(script)
}

fn peers() -> Vec<Box<dyn Side>> {
    let mut sides: Vec<Box<dyn Side>> = vec![Box::new(Procspawn::new())];
    sides.extend(Script::python().into_iter().chain(Script::node()).map(|side| Box::new(side) as _));
    sides.push(Box::new(Php::new()));
    sides
}

pub(crate) fn latencies(runtime: &Runtime) -> Vec<Row> {
    let ours = |name, spec| Box::new(Ours::new(name, runtime.handle(), spec)) as Box<dyn Side>;
    let in_place = |name, way| {
        Box::new(Ours::new(name, runtime.handle(), command().arena(4 << 20)).calling(way)) as Box<dyn Side>
    };
    let mut sides = vec![Box::new(Floor::new()) as Box<dyn Side>, Box::new(Floor::stream())];
    sides.push(Box::new(OnRuntime::new(runtime.handle())));
    sides.push(Box::new(OnRuntime::stream(runtime.handle())));
    sides.push(ours(OURS, command().arena(4 << 20)));
    sides.push(in_place("poolyard_in_place", Way::InPlace));
    sides.push(in_place("poolyard_in_place_unread", Way::Unread));
    sides.push(ours("poolyard_entry", WorkerSpec::entry("echo").arena(4 << 20)));
    sides.push(ours("poolyard_no_arena", command()));
    sides.push(ours("poolyard_socket", command().transport(Transport::Socket)));
    sides.push(ours("poolyard_owned", WorkerSpec::entry("echo_owned").arena(4 << 20)));
    sides.extend(peers());
    sides.retain(|side| crate::is_subject(side.name()));
    let (kilo, mega) = (vec![7; 4096], vec![7; 1 << 20]);
    let mut rows = latency_rows("call/noop", &mut sides, b"x", 9000);
    rows.extend(latency_rows("call/4k", &mut sides, &kilo, 9000));
    rows.extend(latency_rows("call/1m", &mut sides, &mega, 450));
    drop(sides);
    let mut sides = vec![ours(OURS, python())];
    sides.extend(Script::python().into_iter().map(|side| Box::new(side) as Box<dyn Side>));
    sides.retain(|side| crate::is_subject(side.name()));
    rows.extend(latency_rows("python/noop", &mut sides, b"x", 4500));
    rows.extend(latency_rows("python/4k", &mut sides, &kilo, 4500));
    rows
}

pub(crate) fn throughput(runtime: &Runtime) -> Vec<Row> {
    const ROUNDS: usize = 5;
    if !crate::is_wanted("inflight_64") && !crate::is_wanted("multiplex_32") {
        return Vec::new();
    }
    let _inside = runtime.enter();
    let ours = |name| Ours::new(name, runtime.handle(), command());
    let by_kernel = DispatcherConfig::new(2, 32, Select::KernelQueue);
    let mut sides: Vec<Box<dyn Side>> = vec![Box::new(ours(OURS))];
    sides.push(Box::new(ours("poolyard_kernel_queue").choosing(by_kernel)));
    sides.extend(peers());
    sides.retain(|side| crate::is_subject(side.name()));
    let mut samples = vec![Vec::new(); sides.len()];
    for _ in 0..ROUNDS {
        for (side, samples) in sides.iter_mut().zip(&mut samples) {
            samples.extend(side.in_flight(scaled(if side.name().starts_with(OURS) { 64_000 } else { 6400 })));
        }
    }
    let row = |(name, samples): (&str, Vec<f64>)| match samples.is_empty() {
        true => Row::missing("inflight_64", name, "not installed, or no such thing"),
        false => Row::new("inflight_64", name, "calls/s", &samples, ""),
    };
    let mut rows: Vec<Row> = sides.iter().map(|side| side.name()).zip(samples).map(row).collect();
    for depth in [32, 128] {
        let one = |_| ours::multiplexed(runtime.handle(), depth, scaled(640_000));
        let samples: Vec<f64> = (0..ROUNDS).map(one).collect();
        rows.push(Row::new(&format!("multiplex_{depth}"), OURS, "calls/s", &samples, "one worker"));
    }
    rows.iter().for_each(tell);
    rows
}
