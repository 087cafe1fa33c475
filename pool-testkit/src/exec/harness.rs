//! [`ExecHarness`]: how the suite gets executors, and sees from outside what they leave behind.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use poolyard_exec::{Exec, Limits};

use crate::availability::{Availability, require, tell};

/// No law takes so long on any machine, unless it hangs.
const HANGS: Duration = Duration::from_secs(180);

/// How the suite gets executors of one kind.
pub trait ExecHarness: 'static {
    /// What is tested.
    type Exec: Exec + 'static;

    /// The name of what is needed, for `POOLYARD_REQUIRE` and for the line about skipped tests.
    const NAME: &'static str;

    /// Whether executors can be made on this machine, or why not and what to do.
    fn availability() -> impl Future<Output = Availability>;

    /// A clean executor that was made with these limits: those that are set per resource have these values
    /// for its life, those that are set per command have them as ceilings. Called only with limits that an
    /// executor made without any says it supports.
    fn executor(limits: Limits) -> impl Future<Output = Self::Exec>;

    /// Laws that this kind of executor cannot keep by its nature, by name and with the reason. They are run
    /// all the same and must be broken, so that no excuse outlives its reason. A sandbox has none.
    fn excused() -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// How many living processes have `marker` in their arguments, seen from outside of the executor. The
    /// default looks into this host's `/proc`; override it where that shows other processes, or none.
    fn survivors(marker: &str) -> impl Future<Output = usize> {
        std::future::ready(processes_with(marker))
    }
}

/// Runs one law on a runtime of its own, unless it cannot run here.
///
/// # Panics
///
/// If the law is broken, hangs, is excused and yet kept, or cannot run here although `POOLYARD_REQUIRE`
/// names it.
pub fn run_law<H: ExecHarness, F: Future<Output = ()>>(name: &str, law: impl FnOnce() -> F) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().expect("a runtime can be made");
    if !runtime.block_on(async { require(H::NAME, &H::availability().await) }) {
        return;
    }
    let run = || {
        let finished = runtime.block_on(async { tokio::time::timeout(HANGS, law()).await });
        assert!(finished.is_ok(), "{name} hangs");
    };
    match H::excused().iter().find(|(excused, _)| *excused == name) {
        None => run(),
        Some((_, reason)) => is_broken(name, reason, run),
    }
}

fn is_broken(name: &str, reason: &str, run: impl FnOnce()) {
    let kept = catch_unwind(AssertUnwindSafe(run)).is_ok();
    assert!(!kept, "{name} is kept, so it needs no excuse; take it off the list ({reason})");
    tell("broken, as it must be", name, reason);
}

/// Zombies have no arguments any more, and do not count.
fn processes_with(marker: &str) -> usize {
    let Ok(processes) = std::fs::read_dir("/proc") else { return 0 };
    let has_marker =
        |arguments: &Vec<u8>| arguments.windows(marker.len()).any(|window| window == marker.as_bytes());
    // A process may end between the listing and the reading.
    let arguments = processes.flatten().flat_map(|entry| std::fs::read(entry.path().join("cmdline")));
    arguments.filter(has_marker).count()
}
