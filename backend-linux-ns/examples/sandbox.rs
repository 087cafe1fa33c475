//! Shows a command in a sandbox: `cargo run --release --example sandbox -- <command> [arguments]`.
//!
//! Without a command it says what this machine gives to sandboxes.

use std::time::Duration;

use poolyard_exec::{Command, Exec, Limits};
use poolyard_linux_ns::{LinuxNs, SandboxSpec};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let ns = LinuxNs::new()?;
    let mut words = std::env::args().skip(1);
    let Some(program) = words.next() else {
        print!("{}", ns.probe().await);
        return Ok(());
    };
    let spec = SandboxSpec::default();
    let sandbox = ns.sandbox(&spec).await?;
    let mut limits = Limits::new().wall_time(Duration::from_secs(10)).output(1 << 20);
    if ns.missing_cgroups().is_none() {
        limits = limits.memory(256 << 20).processes(64).cpu_time(Duration::from_secs(5));
    }
    let outcome = sandbox.exec(&Command::new(program).args(words).limits(limits)).await?;
    print!("{}", outcome.stdout.text());
    eprint!("{}", outcome.stderr.text());
    eprintln!("verdict: {:?}", outcome.verdict);
    eprintln!("usage: {:#?}", outcome.usage);
    Ok(())
}
