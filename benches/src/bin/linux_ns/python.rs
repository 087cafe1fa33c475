//! The first result of an interpreter that was not there yet, and of one that was started ahead.

use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};

use poolyard_benches::row::{FLOOR, OURS};
use poolyard_core::{Lease, Pool};
use poolyard_exec::{Command, Exec};
use poolyard_linux_ns::{LinuxNs, SandboxSpec};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::runtime::{Builder, Runtime};

use crate::measure::{Line, Operation};
use crate::ours::spec;
use crate::programs::Programs;

const BENCH: &str = "zygote/python_first_result";
const PYTHON: &str = "/usr/bin/python3";
const TASK: &str = "print(6 * 7, flush=True)";
/// Says that it is there, and waits for its task.
const WAITING: &str = "print('ready', flush=True); exec(input())";

pub(crate) fn lines<'a>(programs: &Programs) -> Vec<Line<'a>> {
    if !std::path::Path::new(PYTHON).exists() {
        return vec![Line::missing(BENCH, OURS, "there is no /usr/bin/python3")];
    }
    let floor: Operation<'a> = Box::new(|| {
        let mut process = Process::new(PYTHON);
        process.args(["-I", "-c", TASK]).stdin(Stdio::null()).stderr(Stdio::null());
        let started = Instant::now();
        match process.output() {
            Ok(output) if output.stdout == b"42\n" => Ok(started.elapsed()),
            other => Err(format!("{other:?}")),
        }
    });
    vec![
        Line::new(BENCH, FLOOR, 3, floor).note("started on the host"),
        ours(programs, "poolyard_started", |ours| Box::new(move || ours.runtime.block_on(ours.start())))
            .note("started in a clean sandbox"),
        ours(programs, OURS, |ours| Box::new(move || ours.runtime.block_on(ours.ask())))
            .note("started ahead in a clean sandbox, for one task; there is no fork of it"),
    ]
}

fn ours<'a>(
    programs: &Programs,
    name: &'static str,
    operation: impl FnOnce(Ours) -> Operation<'a>,
) -> Line<'a> {
    match Ours::new(programs) {
        Ok(ours) => Line::new(BENCH, name, 3, operation(ours)),
        Err(why) => Line::missing(BENCH, name, why),
    }
}

/// A runtime and a pool of one sandbox on it.
struct Ours {
    runtime: Runtime,
    pool: Pool<LinuxNs>,
    spec: SandboxSpec,
}

impl Ours {
    fn new(programs: &Programs) -> Result<Self, String> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(text)?;
        let pool = {
            let _inside = runtime.enter();
            Pool::builder(LinuxNs::new().map_err(text)?).max_total(1).build().map_err(text)?
        };
        Ok(Self { runtime, pool, spec: spec(programs) })
    }

    async fn start(&self) -> Result<Duration, String> {
        let started = Instant::now();
        let sandbox = self.pool.acquire(&self.spec).await.map_err(text)?;
        let outcome = sandbox.exec(&Command::new(PYTHON).args(["-I", "-c", TASK])).await.map_err(text)?;
        let took = started.elapsed();
        Lease::release(sandbox).await.map_err(text)?;
        if outcome.stdout.text() == "42\n" { Ok(took) } else { Err(format!("{outcome:?}")) }
    }

    async fn ask(&self) -> Result<Duration, String> {
        let sandbox = self.pool.acquire(&self.spec).await.map_err(text)?;
        let waiting = Command::new(PYTHON).args(["-I", "-c", WAITING]).stdin_piped();
        let mut process = sandbox.spawn(&waiting).await.map_err(text)?;
        let (Some(mut stdin), Some(stdout)) = (process.take_stdin(), process.take_stdout()) else {
            return Err("it has no streams".into());
        };
        let mut lines = BufReader::new(stdout).lines();
        lines.next_line().await.map_err(text)?;
        let started = Instant::now();
        stdin.write_all(format!("{TASK}\n").as_bytes()).await.map_err(text)?;
        let answer = lines.next_line().await.map_err(text)?;
        let took = started.elapsed();
        process.wait().await.map_err(text)?;
        Lease::release(sandbox).await.map_err(text)?;
        if answer.as_deref() == Some("42") { Ok(took) } else { Err(format!("{answer:?}")) }
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
