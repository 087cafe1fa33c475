//! The laws. Each is one promise of [`Exec`], in a function of the promise's name.

mod arrive;
mod end;
mod files;
mod life;
mod limits;
mod read;
mod scarce;
mod trees;
mod write;

use std::time::Duration;

use poolyard_exec::{Command, Exec, ExecError, Outcome, OutputReader};
use tokio::io::AsyncReadExt;

use super::harness::ExecHarness;

pub use arrive::*;
pub use end::*;
pub use files::*;
pub use life::*;
pub use limits::*;
pub use read::*;
pub use scarce::*;
pub use trees::*;
pub use write::*;

/// An executor made without limits.
async fn plain<H: ExecHarness>() -> H::Exec {
    H::executor(poolyard_exec::Limits::new()).await
}

/// Runs a command that must come to an outcome.
async fn run(executor: &impl Exec, command: &Command) -> Outcome {
    match executor.exec(command).await {
        Ok(outcome) => outcome,
        Err(error) => panic!("the command must run: {}", chain(&error)),
    }
}

/// Runs a shell script that must exit with 0, and gives what it wrote.
async fn text(executor: &impl Exec, script: &str) -> String {
    let outcome = run(executor, &Command::shell(script)).await;
    assert!(outcome.success(), "`{script}` must succeed: {outcome:?}");
    outcome.stdout.text().into_owned()
}

/// The executor can still do its work.
async fn assert_usable(executor: &impl Exec) {
    assert_eq!(text(executor, "echo usable").await, "usable\n");
}

fn chain(error: &ExecError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Reads up to and including the next end of line.
async fn line(reader: &mut OutputReader) -> String {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        match reader.read_u8().await {
            Ok(byte) => line.push(byte),
            Err(error) => panic!("the line ends after {:?}: {error}", String::from_utf8_lossy(&line)),
        }
    }
    String::from_utf8(line).expect("the line is text")
}

/// Text that no other process of this host has in its arguments.
fn marker() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("poolyard-marker-{}-{}-", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Waits until so many processes with `marker` live: what must happen soon is looked for until it has.
async fn until_alive<H: ExecHarness>(marker: &str, count: usize) {
    while H::survivors(marker).await < count {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until no process with `marker` lives.
async fn until_gone<H: ExecHarness>(marker: &str) {
    const PATIENCE: Duration = Duration::from_secs(10);
    let gone = async {
        while H::survivors(marker).await > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, gone).await.is_ok(), "processes live on: {marker}");
}

/// A program that runs for longer than any test, with `others` more processes, all with `marker` in their
/// arguments. Writes `ready` first. Where an executor leaks it, it ends after minutes.
fn tree(marker: &str, others: usize) -> Command {
    // Each process has the marker as an argument of its own shell; sleep cannot carry one.
    let child = "n=0; while [ $n -lt 200 ]; do sleep 1; n=$((n+1)); done";
    let script = format!(
        "i=0; while [ $i -lt {others} ]; do sh -c '{child}' \"$0\" & i=$((i+1)); done; echo ready; {child}"
    );
    Command::shell(script).arg(marker)
}
