//! Worker processes against their peers: `cargo run --profile bench -p poolyard-benches --bin process`.
//!
//! Every subject has two workers that send back what they get, through its public API. The subjects of a row
//! take turns within one run; see `README.md` for how to read it.

mod bare;
mod calls;
mod floor;
mod fork;
mod http;
mod ours;
mod peers;
mod php;
mod pinned;
mod side;
mod spawning;

use poolyard_benches::{conditions, report};
use poolyard_process::worker::Worker;

/// Makes this program a worker that sends back what it gets.
const ROLE: &str = "PROCESS_BENCH_WORKER";

const PROFILE: &str = "two workers, tokio runtime of 2 workers, a deadline on every call; rows under \
    /pinned: all processes on one processor at the highest priority that is not real-time";

fn main() -> std::io::Result<()> {
    if std::env::var_os(ROLE).is_some() {
        std::process::exit(echo().is_err().into());
    }
    if std::env::var_os(fork::ROLE).is_some() {
        std::process::exit(fork::serve().is_err().into());
    }
    poolyard_process::init(|zygote| {
        zygote.entry("echo", echo);
        zygote.entry("echo_owned", echo_owned);
        zygote.entry("http", http::worker);
    });
    peers::init_procspawn();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    if pinned::is_pinned() {
        return pinned::tell(&calls::latencies(&runtime));
    }
    let mut rows = vec![conditions::row(PROFILE)];
    rows.extend(calls::latencies(&runtime));
    if !is_partial() {
        rows.extend(pinned::rows());
    }
    rows.extend(calls::throughput(&runtime));
    rows.extend(spawning::rows(&runtime));
    rows.extend(http::rows(&runtime));
    if is_partial() {
        return Ok(());
    }
    report::publish("process", &rows)
}

fn echo() -> std::io::Result<()> {
    Worker::connect()?.serve_into(|call, answer| {
        answer.push(call);
        Ok(())
    })
}

/// A worker that owns its answers.
fn echo_owned() -> std::io::Result<()> {
    Worker::connect()?.serve(|call| Ok(call.to_vec()))
}

/// Whether a row is wanted: `BENCH_ROWS=call/1m` asks for the rows that begin so, and publishes nothing.
fn is_wanted(bench: &str) -> bool {
    std::env::var("BENCH_ROWS").map_or(true, |rows| bench.starts_with(&rows))
}

/// Whether a subject is wanted: `BENCH_SUBJECTS=poolyard,floor`.
fn is_subject(name: &str) -> bool {
    std::env::var("BENCH_SUBJECTS")
        .map_or(true, |names| names.split(',').any(|wanted| name.starts_with(wanted)))
}

fn is_partial() -> bool {
    ["BENCH_ROWS", "BENCH_SUBJECTS"].iter().any(|name| std::env::var_os(name).is_some())
}

/// How many of something are measured: a tenth in the quick mode.
fn scaled(n: usize) -> usize {
    if poolyard_benches::is_quick() { (n / 10).max(5) } else { n }
}
