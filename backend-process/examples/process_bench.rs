//! Measures calls, spawning and replacement against a raw blocking pipe and the process pools of other
//! languages, all in one run:
//!
//! ```text
//! cargo run --release -p poolyard-process --example process_bench
//! ```
//!
//! `BENCH_QUICK=1` takes a tenth of the samples. Peers that are not installed are named as missing.
//! The rows go to `benches/results/process.json` if that directory exists, and to standard output.

use std::hint::black_box;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use poolyard_core::Pool;
use poolyard_process::worker::Worker;
use poolyard_process::worker::wire::{HEADER, Header, Kind};
use poolyard_process::{
    Attrs, Deadline, Dispatcher, DispatcherConfig, Limit, ProcessManager, Select, Spawner, WorkerKey,
    WorkerSpec,
};

const ROLE: &str = "PROCESS_BENCH_WORKER";
const PINNED: &str = "PROCESS_BENCH_PINNED";

fn echo() -> std::io::Result<()> {
    Worker::connect()?.serve(|call| Ok(call.to_vec()))
}

fn main() {
    if std::env::var_os(ROLE).is_some() {
        std::process::exit(echo().is_err().into());
    }
    poolyard_process::init(|zygote| {
        zygote.entry("echo", echo);
    });
    let mut rows = Rows { rows: Vec::new(), pinned: std::env::var_os(PINNED).is_some() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    calls(&mut rows, &runtime);
    if !rows.pinned {
        spawning(&mut rows, &runtime);
        rows.rows.extend(pinned_run());
    }
    peers(&mut rows);
    if rows.pinned {
        rows.rows.iter().for_each(|row| println!("{}", row.json()));
    } else {
        rows.print();
    }
}

struct Row {
    bench: String,
    subject: String,
    unit: &'static str,
    p50: f64,
    p99: f64,
    n: usize,
}

impl Row {
    fn json(&self) -> String {
        let Row { bench, subject, unit, p50, p99, n } = self;
        format!(
            r#"{{"bench": "{bench}", "subject": "{subject}", "unit": "{unit}", "p50": {p50:.1}, "p99": {p99:.1}, "n": {n}, "note": ""}}"#
        )
    }

    fn parse(line: &str) -> Option<Self> {
        let text = |name: &str| {
            let rest = line.split_once(&format!("\"{name}\": "))?.1;
            Some(rest.trim_start_matches('"').split(['"', ',', '}']).next()?.to_owned())
        };
        let unit = if text("unit")? == "us" { "us" } else { "calls/s" };
        let number = |name| text(name)?.parse::<f64>().ok();
        let (bench, subject) = (text("bench")?, text("subject")?);
        Some(Row { bench, subject, unit, p50: number("p50")?, p99: number("p99")?, n: number("n")? as usize })
    }
}

struct Rows {
    rows: Vec<Row>,
    pinned: bool,
}

impl Rows {
    fn add(&mut self, bench: &str, subject: &str, unit: &'static str, mut samples: Vec<f64>) {
        samples.sort_by(f64::total_cmp);
        let at = |part: f64| samples[((samples.len() - 1) as f64 * part) as usize];
        let bench = if self.pinned { format!("{bench}/pinned") } else { bench.to_owned() };
        let row = Row { bench, subject: subject.into(), unit, p50: at(0.5), p99: at(0.99), n: samples.len() };
        eprintln!("{:28} {:28} p50 {:>10.1} p99 {:>10.1} {unit}", row.bench, row.subject, row.p50, row.p99);
        self.rows.push(row);
    }

    /// Latencies of single calls, in microseconds.
    fn latency(&mut self, bench: &str, subject: &str, n: usize, mut call: impl FnMut()) {
        let n = scaled(n);
        (0..n / 10 + 1).for_each(|_| call());
        let samples = (0..n).map(|_| {
            let begun = Instant::now();
            call();
            begun.elapsed().as_nanos() as f64 / 1000.0
        });
        self.add(bench, subject, "us", samples.collect());
    }

    fn print(&self) {
        println!(
            "{:28} {:28} {:>10} {:>10} {:8} {:>9} {:>9}",
            "bench", "subject", "p50", "p99", "unit", "/floor", "/ours"
        );
        for row in &self.rows {
            let ratio = |subject: &str| {
                let other =
                    self.rows.iter().find(|other| other.bench == row.bench && other.subject == subject);
                other.map_or("-".into(), |other| format!("{:.2}", row.p50 / other.p50))
            };
            let (floor, ours) = (ratio("floor"), ratio("poolyard"));
            let Row { bench, subject, unit, p50, p99, .. } = row;
            println!("{bench:28} {subject:28} {p50:>10.1} {p99:>10.1} {unit:8} {floor:>9} {ours:>9}");
        }
        let list: Vec<String> = self.rows.iter().map(Row::json).collect();
        let (kernel, toolchain) = (first_line("uname", &["-sr"]), first_line("rustc", &["-V"]));
        let commit = first_line("git", &["rev-parse", "--short", "HEAD"]);
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let head = format!(
            r#"{{"machine": "{cores} cores", "kernel": "{kernel}", "toolchain": "{toolchain}", "commit": "{commit}"}}"#
        );
        let text = format!("[\n{head},\n{}\n]\n", list.join(",\n"));
        if std::fs::write("benches/results/process.json", &text).is_err() {
            println!("{text}");
        }
    }
}

fn first_line(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).lines().next().unwrap_or_default().to_owned()
}

fn scaled(n: usize) -> usize {
    if std::env::var_os("BENCH_QUICK").is_some() { (n / 10).max(5) } else { n }
}

fn command() -> WorkerSpec {
    WorkerSpec::command(std::env::current_exe().expect("an exe")).env(ROLE, "yes").pipe_size(1 << 20)
}

fn pool(size: usize) -> Pool<ProcessManager> {
    let manager = ProcessManager::new().expect("a supervisor");
    Pool::builder(manager).max_total(size).build().expect("a pool")
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

/// The same worker over the same pipes, with blocking reads and writes and nothing else.
fn floor(rows: &mut Rows, bench: &str, payload: &[u8], n: usize) {
    let exe = std::env::current_exe().expect("an exe");
    let mut child = Command::new(exe)
        .env(ROLE, "yes")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a worker");
    let (mut input, mut output) = (child.stdin.take().expect("in"), child.stdout.take().expect("out"));
    let mut header = [0; HEADER];
    output.read_exact(&mut header).expect("ready");
    let mut answer = vec![0; HEADER + payload.len()];
    let mut request = Header { len: payload.len() as u32, id: 1, kind: Kind::Call }.to_bytes().to_vec();
    request.extend_from_slice(payload);
    rows.latency(bench, "floor", n, || {
        std::thread::scope(|scope| {
            if request.len() > 60_000 {
                // More than a pipe holds: written beside the reading, as anyone must.
                scope.spawn(|| input.write_all(&request).expect("written"));
            } else {
                input.write_all(&request).expect("written");
            }
            output.read_exact(&mut answer).expect("read");
        });
    });
    drop(input);
    let _ = child.wait();
}

fn ours(
    rows: &mut Rows,
    runtime: &tokio::runtime::Runtime,
    bench: &str,
    subject: &str,
    key: &WorkerKey,
    payload: &[u8],
    n: usize,
) {
    let pool = pool(2);
    let (key, payload, n) = (key.clone(), payload.to_vec(), scaled(n));
    let samples = runtime.block_on(async {
        // In a task, as callers are; the thread that blocks on the runtime pays an extra hop.
        tokio::spawn(async move {
            let mut samples = Vec::with_capacity(n);
            for round in 0..n + n / 10 {
                let begun = Instant::now();
                let mut worker = pool.acquire(&key).await.expect("a worker");
                black_box(worker.call(&payload, soon()).await.expect("an answer"));
                drop(worker);
                if round >= n / 10 {
                    samples.push(begun.elapsed().as_nanos() as f64 / 1000.0);
                }
            }
            pool.close(Duration::from_secs(2)).await;
            samples
        })
        .await
    });
    rows.add(bench, subject, "us", samples.expect("no panic"));
}

fn calls(rows: &mut Rows, runtime: &tokio::runtime::Runtime) {
    let mega = vec![7; 1 << 20];
    for (bench, payload, n) in [("call/noop", &b"x"[..], 20_000), ("call/4k", &mega[..4096], 20_000)] {
        floor(rows, bench, payload, n);
        ours(rows, runtime, bench, "poolyard", &command().key(), payload, n);
        ours(rows, runtime, bench, "poolyard (entry)", &WorkerSpec::entry("echo").key(), payload, n);
    }
    floor(rows, "call/1m", &mega, 1000);
    ours(rows, runtime, "call/1m", "poolyard", &command().arena(4 << 20).key(), &mega, 1000);
    ours(rows, runtime, "call/1m", "poolyard (no arena)", &command().key(), &mega, 1000);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/worker/examples/worker.py");
    let python = WorkerSpec::command("python3").arg(script).key();
    ours(rows, runtime, "python/noop", "poolyard", &python, b"x", 10_000);
    ours(rows, runtime, "python/4k", "poolyard", &python, &mega[..4096], 10_000);
    throughput(rows, runtime, "inflight_64", 64, Select::Exclusive, 2, 1);
    throughput(rows, runtime, "multiplex_32", 32, Select::LeastBusy, 1, 32);
    throughput(rows, runtime, "multiplex_128", 128, Select::LeastBusy, 1, 128);
}

/// Calls per second of so many tasks that call one after the other.
fn throughput(
    rows: &mut Rows,
    runtime: &tokio::runtime::Runtime,
    bench: &str,
    tasks: usize,
    select: Select,
    workers: usize,
    each: usize,
) {
    let per_task = scaled(4000);
    let samples: Vec<f64> = (0..5)
        .map(|_| {
            runtime.block_on(async {
                let config = DispatcherConfig::new(workers, each, select);
                let dispatcher = Arc::new(Dispatcher::new(pool(workers), command().key(), config));
                dispatcher.call(None, b"warm", soon()).await.expect("an answer");
                let begun = Instant::now();
                let tasks: Vec<_> = (0..tasks)
                    .map(|_| {
                        let dispatcher = dispatcher.clone();
                        tokio::spawn(async move {
                            for _ in 0..per_task {
                                black_box(dispatcher.call(None, b"x", soon()).await.expect("an answer"));
                            }
                        })
                    })
                    .collect();
                let count = tasks.len() * per_task;
                for task in tasks {
                    task.await.expect("no panic");
                }
                count as f64 / begun.elapsed().as_secs_f64()
            })
        })
        .collect();
    rows.add(bench, "poolyard", "calls/s", samples);
}

fn spawning(rows: &mut Rows, runtime: &tokio::runtime::Runtime) {
    for (name, bytes) in [("0", 0), ("512m", 512 << 20), ("2g", 2 << 30)] {
        let ballast = vec![1_u8; bytes];
        let attrs = Attrs::new().rlimit(Limit::CoreSize, 0).nice(1);
        let attrs = if is_root() { attrs.uid(0).gid(0) } else { attrs };
        let bench = format!("spawn/{name}");
        let sides = [
            ("poolyard", command().spawner(Spawner::Direct)),
            ("poolyard (zygote)", command().spawner(Spawner::Zygote)),
            ("poolyard (entry)", WorkerSpec::entry("echo")),
        ];
        for (subject, spec) in sides {
            let key = spec.attrs(attrs.clone()).stop_grace(Duration::ZERO).key();
            rows.add(&bench, subject, "us", runtime.block_on(spawn_samples(key)));
        }
        rows.latency(&bench, "std with a pre_exec hook", 20, std_spawn);
        black_box(&ballast);
    }
    rows.add("kill_to_replacement", "poolyard", "us", runtime.block_on(replacement(command())));
    let entry = WorkerSpec::entry("echo");
    rows.add("kill_to_replacement", "poolyard (entry)", "us", runtime.block_on(replacement(entry)));
}

fn is_root() -> bool {
    first_line("id", &["-u"]) == "0"
}

/// From the wish for a worker to a worker that is ready.
async fn spawn_samples(key: WorkerKey) -> Vec<f64> {
    let pool = pool(1);
    let mut samples = Vec::new();
    for _ in 0..scaled(100) + 2 {
        let begun = Instant::now();
        let worker = pool.acquire(&key).await.expect("a worker");
        samples.push(begun.elapsed().as_nanos() as f64 / 1000.0);
        poolyard_core::Lease::discard(worker);
        while pool.snapshot().counts != Default::default() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    samples.drain(..2);
    samples
}

/// From SIGKILL of a worker to the answer of its successor.
async fn replacement(spec: WorkerSpec) -> Vec<f64> {
    let (pool, key) = (pool(1), spec.key());
    let mut samples = Vec::new();
    for _ in 0..scaled(100) {
        let mut worker = pool.acquire(&key).await.expect("a worker");
        let begun = Instant::now();
        worker.kill();
        drop(worker);
        let mut next = pool.acquire(&key).await.expect("a worker");
        next.call(b"x", soon()).await.expect("an answer");
        samples.push(begun.elapsed().as_nanos() as f64 / 1000.0);
    }
    samples
}

/// What a hook costs in the standard library: the way in which attributes are usually set.
#[allow(unsafe_code, reason = "the hook that is measured")]
fn std_spawn() {
    use std::os::unix::process::CommandExt;
    let exe = std::env::current_exe().expect("an exe");
    let mut command = Command::new(exe);
    command.env(ROLE, "yes").stdin(Stdio::piped()).stdout(Stdio::piped());
    // SAFETY: the hook does nothing.
    unsafe { command.pre_exec(|| Ok(())) };
    let mut child = command.spawn().expect("a worker");
    let mut header = [0; HEADER];
    child.stdout.take().expect("out").read_exact(&mut header).expect("ready");
    child.kill().expect("killed");
    child.wait().expect("reaped");
}

/// The call rows once more, with both sides on one processor.
fn pinned_run() -> Vec<Row> {
    let exe = std::env::current_exe().expect("an exe");
    let output = Command::new("taskset")
        .args(["-c", "1"])
        .arg(exe)
        .env(PINNED, "yes")
        .stderr(Stdio::inherit())
        .output();
    let Ok(output) = output else {
        eprintln!("missing: taskset, so no pinned rows");
        return Vec::new();
    };
    String::from_utf8_lossy(&output.stdout).lines().filter_map(Row::parse).collect()
}

/// Peers say their own rows, one JSON object a line, in the names used here.
fn peers(rows: &mut Rows) {
    let scripts = [("python3", "bench_peers.py"), ("node", "bench_peers.js")];
    for (program, script) in scripts {
        let path = format!("{}/examples/{script}", env!("CARGO_MANIFEST_DIR"));
        let output = Command::new(program).arg(path).stderr(Stdio::inherit()).output();
        let Ok(output) = output else {
            eprintln!("missing: {program}");
            continue;
        };
        for mut row in String::from_utf8_lossy(&output.stdout).lines().filter_map(Row::parse) {
            if rows.pinned {
                row.bench.push_str("/pinned");
            }
            eprintln!(
                "{:28} {:28} p50 {:>10.1} p99 {:>10.1} {}",
                row.bench, row.subject, row.p50, row.p99, row.unit
            );
            rows.rows.push(row);
        }
    }
}
