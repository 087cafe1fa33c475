//! Ours, through the public API of the pool.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use poolyard_benches::is_quick;
use poolyard_benches::row::{OURS, Row};
use poolyard_core::{Lease, Pool};
use poolyard_exec::{Command, Exec, Limits};
use poolyard_linux_ns::{LinuxNs, SandboxSpec};
use tokio::runtime::{Builder, Runtime};

use crate::measure::{Line, Operation};
use crate::programs::{Program, Programs};

/// A runtime and a pool of one sandbox on it.
struct Ours {
    runtime: Runtime,
    pool: Pool<LinuxNs>,
    spec: SandboxSpec,
}

/// When the parts of one cycle were over.
struct Cycle {
    started: Instant,
    acquired: Instant,
    told: Instant,
    clean: Instant,
}

pub(crate) fn spec(programs: &Programs) -> SandboxSpec {
    let limits = Limits::new()
        .memory(64 << 20)
        .processes(16)
        .cpu_time(Duration::from_secs(2))
        .wall_time(Duration::from_secs(10))
        .output(1 << 20);
    SandboxSpec::builder().tree("bench", &programs.dir).limits(limits).build()
}

impl Ours {
    fn new(programs: &Programs) -> Result<Self, String> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        let pool = {
            let _inside = runtime.enter();
            let ns = LinuxNs::new().map_err(|e| e.to_string())?;
            Pool::builder(ns).max_total(1).build().map_err(|e| e.to_string())?
        };
        Ok(Self { runtime, pool, spec: spec(programs) })
    }

    fn cycle(&self, command: &Command) -> Result<Cycle, String> {
        self.runtime.block_on(async {
            let started = Instant::now();
            let sandbox = self.pool.acquire(&self.spec).await.map_err(|e| e.to_string())?;
            let acquired = Instant::now();
            let outcome = sandbox.exec(command).await.map_err(|e| e.to_string())?;
            let told = Instant::now();
            if !outcome.success() {
                return Err(format!("{outcome:?}"));
            }
            Lease::release(sandbox).await.map_err(|e| e.to_string())?;
            Ok(Cycle { started, acquired, told, clean: Instant::now() })
        })
    }
}

/// One part of a cycle as an operation.
fn part<'a>(
    programs: &Programs,
    program: Program,
    part: impl Fn(&Cycle) -> Duration + 'a,
) -> Result<Operation<'a>, String> {
    let ours = Ours::new(programs)?;
    let command = Command::new(program.inside());
    Ok(Box::new(move || ours.cycle(&command).map(|cycle| part(&cycle))))
}

fn line<'a>(bench: &str, count: u32, operation: Result<Operation<'a>, String>) -> Line<'a> {
    match operation {
        Ok(operation) => Line::new(bench, OURS, count, operation),
        Err(why) => Line::missing(bench, OURS, why),
    }
}

/// From acquire to verdict.
pub(crate) fn run<'a>(bench: &str, programs: &Programs, program: Program) -> Line<'a> {
    line(bench, 50, part(programs, program, |cycle| cycle.told - cycle.started))
}

/// Something else right after each whole cycle of ours.
pub(crate) fn after_a_cycle<'a>(
    bench: &str,
    name: &'static str,
    programs: &Programs,
    mut operation: Operation<'a>,
) -> Line<'a> {
    match Ours::new(programs) {
        Ok(ours) => {
            let command = Command::new(Program::Static.inside());
            Line::new(bench, name, 50, Box::new(move || ours.cycle(&command).and_then(|_| operation())))
        }
        Err(why) => Line::missing(bench, name, why),
    }
}

/// The parts of a cycle by themselves, and making a sandbox.
pub(crate) fn steps<'a>(programs: &Programs) -> Vec<Line<'a>> {
    let acquire = part(programs, Program::Static, |cycle| cycle.acquired - cycle.started);
    let recycle = || part(programs, Program::Static, |cycle| cycle.clean - cycle.told);
    vec![
        line("acquire", 50, acquire),
        line("recycle", 50, recycle()).note("kill, wait for all, new namespaces, mounts, runner, armed"),
        line("recycle/rested", 5, recycle().map(rested)).note("the same, one every 100 ms"),
        line("create", 10, create(programs, Between::Ended))
            .note("armed and ready for a command; the one before is gone"),
        line("create/rested", 5, create(programs, Between::Ended).map(rested))
            .note("the same, one every 100 ms"),
        line("create/replacing", 10, create(programs, Between::Ending))
            .note("the same, while the one before is ending on the same processor"),
    ]
}

/// What became of the sandbox before the one that is made.
#[derive(Clone, Copy, PartialEq)]
enum Between {
    Ended,
    Ending,
}

fn create<'a>(programs: &Programs, between: Between) -> Result<Operation<'a>, String> {
    let ours = Ours::new(programs)?;
    Ok(Box::new(move || {
        let started = Instant::now();
        let made =
            ours.runtime.block_on(ours.pool.manager().sandbox(&ours.spec)).map_err(|e| e.to_string())?;
        let taken = started.elapsed();
        let keeper = PathBuf::from(format!("/proc/{}", made.pid()));
        drop(made);
        while between == Between::Ended && keeper.exists() {
            sleep(Duration::from_micros(200));
        }
        Ok(taken)
    }))
}

/// The operation after a rest, as where little is to be done: the kernel has forgotten much, and so have the
/// processor's caches.
fn rested<'a>(mut operation: Operation<'a>) -> Operation<'a> {
    Box::new(move || {
        sleep(Duration::from_millis(100));
        operation()
    })
}

/// Whole cycles in a second on one processor, recycling included.
pub(crate) fn sustained(programs: &Programs, program: Program) -> Option<Row> {
    let bench = format!("sustained/{}", program.name());
    let ours = match Ours::new(programs) {
        Ok(ours) => ours,
        Err(why) => return Some(Row::missing(&bench, OURS, why)),
    };
    let command = Command::new(program.inside());
    let (rounds, count) = if is_quick() { (3, 100) } else { (9, 500) };
    let mut rates = Vec::new();
    for _ in 0..rounds {
        let started = Instant::now();
        for _ in 0..count {
            if let Err(why) = ours.cycle(&command) {
                return Some(Row::missing(&bench, OURS, why));
            }
        }
        rates.push(f64::from(count) / started.elapsed().as_secs_f64());
    }
    Some(Row::new(&bench, OURS, "runs/s", &rates, "clean runs on one processor, recycling included"))
}
