//! `spawn` and `kill_to_replacement`.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use poolyard_benches::row::{FLOOR, OURS, Row};
use poolyard_core::{Lease, Pool};
use poolyard_process::{Attrs, Limit, ProcessManager, Spawner, WorkerKey, WorkerSpec};
use tokio::runtime::Runtime;

use crate::bare::Bare;
use crate::fork::Forker;
use crate::ours::{command, pool, soon};
use crate::scaled;
use crate::side::{tell, timed};

pub(crate) fn rows(runtime: &Runtime) -> Vec<Row> {
    let mut rows = Vec::new();
    let wanted = |name: &str| crate::is_wanted(&format!("spawn/{name}"));
    let bare = Bare::build();
    for (name, bytes) in
        [("0", 0), ("512m", 512 << 20), ("2g", 2 << 30)].into_iter().filter(|(name, _)| wanted(name))
    {
        let ballast = vec![1_u8; bytes];
        rows.extend(spawn_rows(runtime, &format!("spawn/{name}"), bare.as_ref().ok()));
        black_box(&ballast);
    }
    let sides = [(OURS, command()), ("poolyard_entry", WorkerSpec::entry("echo"))];
    for (name, spec) in sides.into_iter().filter(|_| crate::is_wanted("kill_to_replacement")) {
        let samples = in_task(runtime, replacement(spec));
        rows.push(Row::new("kill_to_replacement", name, "us", &samples, "SIGKILL to the next one's answer"));
    }
    rows.iter().for_each(tell);
    rows
}

/// As callers are; the thread that blocks on the runtime pays an extra hop.
fn in_task<T: Send + 'static>(runtime: &Runtime, work: impl Future<Output = T> + Send + 'static) -> T {
    runtime.block_on(runtime.spawn(work)).expect("no panic")
}

/// One subject of a row.
struct Side<'a> {
    name: &'static str,
    note: &'static str,
    /// How many rounds are for each turn of its own: what is slow has fewer.
    every: usize,
    spawn: Box<dyn FnMut() -> f64 + 'a>,
    samples: Vec<f64>,
}

impl<'a> Side<'a> {
    fn new(name: &'static str, note: &'static str, every: usize, spawn: impl FnMut() -> f64 + 'a) -> Self {
        Self { name, note, every, spawn: Box::new(spawn), samples: Vec::new() }
    }

    fn take_turn(&mut self, round: usize) {
        if round.is_multiple_of(self.every) {
            let sample = (self.spawn)();
            // The first ones warm everything up.
            if round >= WARM {
                self.samples.push(sample);
            }
        }
    }
}

const WARM: usize = 2;

/// With a limit, a user and the parent's death set; to the worker's word that it is ready.
fn spawn_rows(runtime: &Runtime, bench: &str, bare: Option<&Bare>) -> Vec<Row> {
    let attrs = Attrs::new().rlimit(Limit::CoreSize, 0).nice(1);
    let attrs = if nix_is_root() { attrs.uid(0).gid(0) } else { attrs };
    let ours = |name, spec: WorkerSpec| {
        let key = spec.attrs(attrs.clone()).stop_grace(Duration::ZERO).key();
        let _inside = runtime.enter();
        let pool = pool(1);
        Side::new(name, "", 1, move || in_task(runtime, spawn(pool.clone(), key.clone())))
    };
    let exe = std::env::current_exe().expect("an exe");
    let std = |name, note, every, program: PathBuf, hook| {
        Side::new(name, note, every, move || timed(1, || std_spawn(&program, hook))[0])
    };
    let mut forker = Forker::start();
    let mut sides = vec![
        ours(OURS, command().spawner(Spawner::Direct)),
        ours("poolyard_zygote", command().spawner(Spawner::Zygote)),
        ours("poolyard_entry", WorkerSpec::entry("echo")),
        std(FLOOR, "the standard library, no attribute at all", 1, exe.clone(), false),
        Side::new("floor_fork", "this program, with one thread, forks: to the child's word", 1, || {
            let took = timed(1, || forker.fork())[0];
            forker.wait();
            took
        }),
        std("std_pre_exec", "a hook that does nothing", 5, exe, true),
    ];
    if let Some(bare) = bare {
        let spec = WorkerSpec::command(bare.path()).spawner(Spawner::Direct);
        sides.push(ours("poolyard_bare", spec.clone()));
        sides.push(ours("poolyard_bare_zygote", spec.spawner(Spawner::Zygote)));
        sides.push(std("floor_bare", "a worker without loader and C library", 1, bare.path(), false));
    }
    sides.retain(|side| crate::is_subject(side.name));
    for round in 0..scaled(100) + WARM {
        sides.iter_mut().for_each(|side| side.take_turn(round));
    }
    let mut rows: Vec<_> =
        sides.iter().map(|side| Row::new(bench, side.name, "us", &side.samples, side.note)).collect();
    if bare.is_none() {
        rows.push(Row::missing(bench, "poolyard_bare", "cc cannot build it"));
    }
    rows
}

fn nix_is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// From the wish for a worker to a worker that is ready.
async fn spawn(pool: Pool<ProcessManager>, key: WorkerKey) -> f64 {
    let begun = Instant::now();
    let worker = pool.acquire(&key).await.expect("a worker");
    let took = begun.elapsed().as_nanos() as f64 / 1000.0;
    Lease::discard(worker);
    while pool.snapshot().counts != Default::default() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    took
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
fn std_spawn(program: &Path, hook: bool) {
    use std::io::Read;
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(program);
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
