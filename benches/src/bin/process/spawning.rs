//! `spawn` and `kill_to_replacement`.

use std::hint::black_box;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use poolyard_benches::row::{FLOOR, OURS, Row};
use poolyard_core::Lease;
use poolyard_process::{Attrs, Limit, Spawner, WorkerSpec};
use tokio::runtime::Runtime;

use crate::ours::{command, pool, soon};
use crate::scaled;
use crate::side::{tell, timed};

pub(crate) fn rows(runtime: &Runtime) -> Vec<Row> {
    let mut rows = Vec::new();
    let wanted = |name: &str| crate::is_wanted(&format!("spawn/{name}"));
    for (name, bytes) in
        [("0", 0), ("512m", 512 << 20), ("2g", 2 << 30)].into_iter().filter(|(name, _)| wanted(name))
    {
        let ballast = vec![1_u8; bytes];
        rows.extend(spawn_rows(runtime, &format!("spawn/{name}")));
        black_box(&ballast);
    }
    let sides = [(OURS, command()), ("poolyard_entry", WorkerSpec::entry("echo"))];
    for (name, spec) in sides.into_iter().filter(|_| crate::is_wanted("kill_to_replacement")) {
        let samples = runtime.block_on(replacement(spec));
        rows.push(Row::new("kill_to_replacement", name, "us", &samples, "SIGKILL to the next one's answer"));
    }
    rows.iter().for_each(tell);
    rows
}

/// With a limit, a user and the parent's death set; to the worker's word that it is ready.
fn spawn_rows(runtime: &Runtime, bench: &str) -> Vec<Row> {
    let attrs = Attrs::new().rlimit(Limit::CoreSize, 0).nice(1);
    let attrs = if nix_is_root() { attrs.uid(0).gid(0) } else { attrs };
    let sides = [
        (OURS, command().spawner(Spawner::Direct)),
        ("poolyard_zygote", command().spawner(Spawner::Zygote)),
        ("poolyard_entry", WorkerSpec::entry("echo")),
    ];
    let ours = sides.map(|(name, spec)| {
        let spec = spec.attrs(attrs.clone()).stop_grace(Duration::ZERO);
        Row::new(bench, name, "us", &runtime.block_on(spawns(spec)), "")
    });
    let std = |hook| timed(scaled(20), || std_spawn(hook));
    let floor = Row::new(bench, FLOOR, "us", &std(false), "the standard library, no attribute at all");
    let hook = Row::new(bench, "std_pre_exec", "us", &std(true), "a hook that does nothing");
    ours.into_iter().chain([floor, hook]).collect()
}

fn nix_is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// From the wish for a worker to a worker that is ready.
async fn spawns(spec: WorkerSpec) -> Vec<f64> {
    let (pool, key) = (pool(1), spec.key());
    let mut samples = Vec::new();
    for _ in 0..scaled(100) + 2 {
        let begun = Instant::now();
        let worker = pool.acquire(&key).await.expect("a worker");
        samples.push(begun.elapsed().as_nanos() as f64 / 1000.0);
        Lease::discard(worker);
        while pool.snapshot().counts != Default::default() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    samples.split_off(2)
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

/// The same worker by the standard library, and what a hook costs there: the way in which attributes are
/// usually set.
#[allow(unsafe_code, reason = "the hook that is measured")]
fn std_spawn(hook: bool) {
    use std::io::Read;
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(std::env::current_exe().expect("an exe"));
    command.env(crate::ROLE, "yes").stdin(Stdio::piped()).stdout(Stdio::piped());
    if hook {
        // SAFETY: the hook does nothing.
        unsafe { command.pre_exec(|| Ok(())) };
    }
    let mut child = command.spawn().expect("a worker");
    let mut ready = [0; 1];
    child.stdout.take().expect("its output").read_exact(&mut ready).expect("a word that it is ready");
    child.kill().expect("killed");
    child.wait().expect("reaped");
}
