//! The corpus in each mode. A mode needs another user, so each test starts this program again as that one,
//! with a secret in its environment and a directory of the host left open: what a careless host has.

use std::process::Command;

use poolyard_linux_ns::{LinuxNs, Mode};
use poolyard_testkit::availability::{Availability, require};

use crate::corpus;
use crate::delegation::Delegated;
use crate::observer;
use crate::outside::{Outside, SECRET};
use crate::programs::Programs;
use crate::vectors::VECTORS;

const MODE: &str = "POOLYARD_TEST_MODE";
const PROGRAMS: &str = "POOLYARD_TEST_PROGRAMS";
/// Runs its arguments as a user without any privilege.
const NOBODY: [&str; 6] = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];

const NOBODY_ID: u32 = 65534;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn hostile_programs_get_nowhere_as_root() {
    if require("root", &Availability::when(is_root(), "this process is not root")) {
        start("root", &[]);
    }
}

#[test]
fn hostile_programs_get_nowhere_with_a_single_unprivileged_id() {
    start("single", if is_root() { &NOBODY } else { &[] });
}

#[test]
fn hostile_programs_get_nowhere_with_subordinate_ids() {
    let tool = std::path::Path::new("/usr/bin/newuidmap").exists();
    if !require(
        "subordinate-ids",
        &Availability::when(tool, "newuidmap is missing; install the package uidmap"),
    ) {
        return;
    }
    if !is_root() {
        let missing = Mode::Subordinate.missing().map_or(Availability::Ready, Availability::Missing);
        return if require("subordinate-ids", &missing) {
            start("subordinate", &[])
        };
    }
    // A table of ids that only this test sees.
    let table = std::env::temp_dir().join(format!("poolyard-subids-{}", std::process::id()));
    std::fs::write(&table, "nobody:200000:65536\n").unwrap();
    let script = "for file in /etc/subuid /etc/subgid; do [ -e $file ] || : > $file; mount --bind $0 $file || exit 1; done
        exec \"$@\"";
    let table = table.display().to_string();
    let mut prefix = vec!["unshare", "--mount", "sh", "-c", script, &table];
    prefix.extend(NOBODY);
    start("subordinate", &prefix);
    std::fs::remove_file(table).unwrap();
}

fn start(mode: &str, prefix: &[&str]) {
    let Some(programs) = Programs::build() else { return };
    let program = std::env::current_exe().unwrap();
    let delegated = (is_root() && !prefix.is_empty()).then(|| Delegated::to(NOBODY_ID));
    let procs =
        delegated.iter().flat_map(|delegated| &delegated.procs).map(|procs| procs.display().to_string());
    let script =
        "for procs in $POOLYARD_TEST_PROCS; do echo $$ > $procs || exit 1; done; exec 9< /; exec \"$@\"";
    let output = Command::new("sh")
        .args(["-c", script, "sh"])
        .env("POOLYARD_TEST_PROCS", procs.collect::<Vec<_>>().join(" "))
        .args(prefix)
        .arg(program)
        .args(["--exact", "modes::child", "--ignored", "--nocapture"])
        .env(MODE, mode)
        .env(PROGRAMS, &programs.dir)
        .env(SECRET, format!("secret-of-{}", std::process::id()))
        .output()
        .unwrap();
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{text}");
    assert!(output.status.success() && text.contains("1 passed"), "{mode}:\n{text}\n{errors}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the other tests start it, as another user"]
async fn child() {
    let Ok(mode) = std::env::var(MODE) else { return };
    let mode = match mode.as_str() {
        "root" => Mode::Root,
        "single" => Mode::SingleUid,
        _ => Mode::Subordinate,
    };
    let missing = LinuxNs::with_mode(mode)
        .err()
        .map(|error| format!("{error}; {:?}", std::error::Error::source(&error)));
    if !require("linux-ns", &missing.map_or(Availability::Ready, Availability::Missing)) {
        return;
    }
    let ns = LinuxNs::with_mode(mode).unwrap();
    let probe = ns.probe().await;
    let entered = probe.finding("cgroups entered without a wait").unwrap();
    if ns.missing_cgroups().is_none() {
        require("cgroups", &entered.missing.clone().map_or(Availability::Ready, Availability::Missing));
    }
    let outside = Outside::new(std::env::var_os(PROGRAMS).unwrap().as_ref());
    let report = corpus::try_all(&ns, &outside, VECTORS).await;
    println!("{mode}:");
    report.lines.iter().for_each(|line| println!("  {line}"));
    assert!(report.escapes.is_empty(), "{mode}: {:#?}", report.escapes);
    observer::compare(&ns, &outside).await;
}
