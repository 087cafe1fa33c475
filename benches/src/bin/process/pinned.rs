//! The rows about calls once more, with all processes on one processor, before everyone else's.

use std::io::Write;
use std::process::{Command, Stdio};

use poolyard_benches::row::Row;

const PINNED: &str = "PROCESS_BENCH_PINNED";

pub(crate) fn is_pinned() -> bool {
    std::env::var_os(PINNED).is_some()
}

/// Tells the rows to the run that is not pinned.
pub(crate) fn tell(rows: &[Row]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    rows.iter().try_for_each(|row| writeln!(out, "{}", serde_json::to_string(row)?))
}

pub(crate) fn rows() -> Vec<Row> {
    // Not at real-time priority: `multiprocessing.Pool` and workerpool keep one of their threads runnable while it
    // waits for another one of their own, which without time slices never runs. Ours and the floor do not spin.
    let first = ["nice", "-n", "-20", "taskset", "-c", "1"];
    let rows = run(&first).or_else(|| run(&first[3..]));
    rows.unwrap_or_else(|| vec![Row::missing("call/noop/pinned", "all", "taskset cannot pin")])
}

fn run(prefix: &[&str]) -> Option<Vec<Row>> {
    let mut command = Command::new(prefix[0]);
    command.args(&prefix[1..]).arg(std::env::current_exe().ok()?).env(PINNED, "yes");
    let output = command.stderr(Stdio::inherit()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    let rows = text.lines().filter_map(|line| serde_json::from_str::<Row>(line).ok());
    let pinned = |row: Row| Row { bench: format!("{}/pinned", row.bench), ..row };
    Some(rows.map(pinned).collect())
}
