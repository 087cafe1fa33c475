//! Shows any command in a sandbox: `cargo run --release --example sandbox -- <command> [arguments]`.
//!
//! Without a command it says what this machine gives to sandboxes.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use poolyard::exec::{Command, Exec, Limits, Outcome};
use poolyard::linux_ns::{LinuxNs, SandboxSpec};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let ns = LinuxNs::new()?;
    let mut words = std::env::args().skip(1);
    let Some(program) = words.next() else {
        print!("{}", ns.probe().await);
        return Ok(ExitCode::SUCCESS);
    };
    let sandbox = ns.sandbox(&SandboxSpec::default()).await?;
    let command = Command::new(program).args(words).limits(limits(&ns));
    match sandbox.exec(&command).await {
        Ok(outcome) => tell(&outcome),
        Err(error) => {
            eprintln!("{error}");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Without cgroups, as for an ordinary user on many systems, some limits cannot be had.
fn limits(ns: &LinuxNs) -> Limits {
    let limits = Limits::new().wall_time(Duration::from_secs(10)).output(1 << 20);
    match ns.missing_cgroups() {
        None => limits.memory(256 << 20).processes(64).cpu_time(Duration::from_secs(5)),
        Some(reason) => {
            eprintln!("no limit of memory, processes and processor time: {reason}");
            limits
        }
    }
}

fn tell(outcome: &Outcome) -> Result<ExitCode, Box<dyn std::error::Error>> {
    std::io::stdout().write_all(&outcome.stdout.bytes)?;
    std::io::stderr().write_all(&outcome.stderr.bytes)?;
    eprintln!("verdict: {:?}", outcome.verdict);
    let usage = &outcome.usage;
    if let (Some(wall), Some(cpu), Some(memory)) = (&usage.wall_time, &usage.cpu_time, &usage.memory_peak) {
        eprintln!(
            "wall {:?}, cpu {:?} ({:?}), memory {} KiB ({:?})",
            wall.value,
            cpu.value,
            cpu.source,
            memory.value / 1024,
            memory.source
        );
    }
    let code = outcome.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
