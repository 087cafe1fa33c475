//! The section of Linux namespaces: a command with limits, isolated from everything.

use std::time::Duration;

use poolyard::exec::{Command, Exec, Limits};
use poolyard::linux_ns::{LinuxNs, Sandbox, SandboxSpec};
use poolyard::{Lease, Pool};

use crate::compare::{Comparison, Failure, compare};
use crate::measure::duration;
use crate::memory;
use crate::screen::Screen;
use crate::section::{Numbers, Outcome, Section};

const NAME: &str = "linux-ns: sandboxed command";
const WARM: usize = 2;

pub(crate) async fn show(screen: &Screen) -> Section {
    let outcome = match LinuxNs::new() {
        Err(error) => {
            Outcome::Missing { why: "Sandboxes cannot be made here.".into(), remedy: error.to_string() }
        }
        Ok(ns) => {
            screen.heading("linux-ns: sh computes 6 * 7 in a sandbox of its own, with limits");
            tell_how(screen, &ns);
            numbers(screen, ns).await.map_or_else(Outcome::Failed, Outcome::Works)
        }
    };
    Section { name: NAME.into(), outcome }
}

fn tell_how(screen: &Screen, ns: &LinuxNs) {
    screen.line(&format!("  mode: {}; no network, read-only system, own /tmp", ns.mode()));
    if let Some(reason) = ns.missing_cgroups() {
        screen.paragraph(
            2,
            &format!("without limits of memory and processes, since there are no cgroups: {reason}"),
        );
    }
}

async fn numbers(screen: &Screen, ns: LinuxNs) -> Result<Numbers, Failure> {
    let command = Command::shell("echo $((6 * 7))").limits(limits(&ns));
    let pool = Pool::builder(ns).name("sandboxes").max_total(WARM).build()?;
    let key = SandboxSpec::default();
    let comparison = Comparison {
        key: &key,
        warm: WARM,
        labels: ["a fresh sandbox each time", "out of a pool of two"],
        times: [300, 3000],
    };
    let [cold, pooled] =
        compare(screen, &pool, &comparison, async |sandbox| run(sandbox, &command).await).await?;
    let sandbox = pool.acquire(&key).await?;
    let memory = memory::proportional_tree(sandbox.pid().cast_unsigned());
    show_a_bomb(screen, &sandbox).await?;
    drop(sandbox);
    pool.close(Duration::from_secs(5)).await;
    Ok(Numbers { cold, pooled, memory })
}

fn limits(ns: &LinuxNs) -> Limits {
    let limits = Limits::new().wall_time(Duration::from_secs(5)).output(1 << 20);
    match ns.missing_cgroups() {
        None => limits.memory(64 << 20).processes(16),
        Some(_) => limits,
    }
}

async fn run(sandbox: &Lease<LinuxNs>, command: &Command) -> Result<(), Failure> {
    let outcome = sandbox.exec(command).await?;
    match outcome.stdout.text().trim() {
        "42" => Ok(()),
        other => Err(format!("6 * 7 gave {other:?}: {:?}", outcome.verdict).into()),
    }
}

/// What a hostile program achieves.
async fn show_a_bomb(screen: &Screen, sandbox: &Sandbox) -> Result<(), Failure> {
    let endless =
        Command::shell("while :; do :; done").limits(Limits::new().wall_time(Duration::from_millis(100)));
    let outcome = sandbox.exec(&endless).await?;
    let took = outcome.usage.wall_time.map_or("-".into(), |measured| duration(measured.value));
    screen.line(&format!("  an endless loop that may take 100 ms: {:?} after {took}", outcome.verdict));
    Ok(())
}
