//! Sandboxes against their peers: `cargo run --profile bench -p poolyard-benches --bin linux_ns`, as root.
//!
//! Every subject runs the same two programs, one that only exits and has no C library, and /bin/true. The
//! program pins itself and everything it starts to one processor, with a real-time priority: other load then
//! does not disturb it. See `README.md` for how to read it.

mod floor;
mod measure;
mod memory;
mod ours;
mod peers;
mod programs;
mod python;
mod sharing;

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use measure::interleave;
use poolyard_benches::{conditions, report};
use programs::{PROGRAMS, Programs};

const PROFILE: &str = "one processor, real-time priority (chrt -r 20); ours with all namespaces, both filters, \
    limits of memory, processes, cpu and wall time, output captured; from acquire to verdict; a recycle lies between \
    two runs and is measured by itself; peers as one command per run, output to nowhere, without limits";

fn main() -> io::Result<()> {
    pin()?;
    let programs = Programs::build()?;
    let mut rows = vec![conditions::row(PROFILE)];
    for program in PROGRAMS {
        let bench = format!("run/{}", program.name());
        let mut lines = floor::lines(&bench, &programs, program);
        lines.push(ours::run(&bench, &programs, program));
        lines.extend(peers::lines(&bench, &programs, program));
        rows.extend(interleave(lines));
    }
    rows.extend(interleave(ours::steps(&programs)));
    rows.extend(interleave(python::lines(&programs)));
    for program in PROGRAMS {
        rows.extend(ours::sustained(&programs, program));
    }
    rows.extend(memory::rows(&programs)?);
    rows.extend(sharing::rows());
    report::publish("linux_ns", &rows)
}

/// Starts this program again, pinned and with a real-time priority, unless that has been done.
fn pin() -> io::Result<()> {
    const PINNED: &str = "BENCH_PINNED";
    if std::env::var_os(PINNED).is_some() {
        return Ok(());
    }
    let last = std::thread::available_parallelism()?.get() - 1;
    let mut command = Command::new("chrt");
    command.args(["-r", "20", "taskset", "-c", &last.to_string()]);
    Err(command.arg(std::env::current_exe()?).env(PINNED, "1").exec())
}
