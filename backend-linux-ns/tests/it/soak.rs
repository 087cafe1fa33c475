//! Thousands of runs, and nothing that grows.

use std::collections::BTreeSet;

use poolyard_core::Pool;
use poolyard_exec::{Command, Exec, Limits};
use poolyard_linux_ns::{LinuxNs, Mode, SandboxSpec};

use crate::matrix::alone;
use crate::support::{backend, descendants, eventually, own_cgroups};

/// What could grow, counted where it lives.
#[derive(Debug, PartialEq, Eq)]
struct Counted {
    descriptors: usize,
    processes: usize,
    mounts: usize,
    cgroups: usize,
    /// Namespaces that this process, the launcher and what is below it are in.
    namespaces: usize,
    /// Cgroups of the whole machine that are removed and not gone; version 2 tells.
    dying: u64,
    /// KiB of the launcher and the keeper, into which only root may look.
    resident: Vec<Option<u64>>,
}

impl Counted {
    /// Once everything that ends has ended, and who is left waits for orders: they close what they were
    /// handed a moment after they have said that they are ready.
    async fn take(ns: &LinuxNs) -> Self {
        let tree = || std::iter::once(ns.launcher_pid()).chain(descendants(ns.launcher_pid()));
        eventually("rest", || tree().count() == 4 && tree().all(sleeps)).await;
        let tree: Vec<i32> = tree().collect();
        let all = || tree.iter().copied().chain([std::process::id() as i32]);
        Self {
            descriptors: all().map(|pid| entries(&format!("/proc/{pid}/fd"))).sum(),
            processes: tree.len(),
            // The mounts of the host are everybody's.
            mounts: tree[1..].iter().map(|pid| text(&format!("/proc/{pid}/mountinfo")).lines().count()).sum(),
            cgroups: own_cgroups().iter().map(|dir| entries_that_are_directories(dir)).sum(),
            namespaces: all().flat_map(namespaces).collect::<BTreeSet<_>>().len(),
            dying: own_cgroups().iter().filter_map(|dir| dying(dir)).sum(),
            resident: tree[..2].iter().map(|&pid| resident(pid)).collect(),
        }
    }
}

fn sleeps(pid: i32) -> bool {
    let stat = text(&format!("/proc/{pid}/stat"));
    stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" S"))
}

fn text(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn entries(path: &str) -> usize {
    std::fs::read_dir(path).map_or(0, Iterator::count)
}

fn entries_that_are_directories(dir: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).count()
}

fn namespaces(pid: i32) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/ns")).into_iter().flatten().flatten();
    entries.filter_map(|entry| std::fs::read_link(entry.path()).ok()).collect()
}

fn dying(dir: &std::path::Path) -> Option<u64> {
    let stat = std::fs::read_to_string(dir.join("cgroup.stat")).ok()?;
    stat.lines().find_map(|line| line.strip_prefix("nr_dying_descendants ")?.parse().ok())
}

/// By the page tables: the counters of kernels before 6.2 lag by up to 64 pages.
fn resident(pid: i32) -> Option<u64> {
    let rollup = text(&format!("/proc/{pid}/smaps_rollup"));
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"))?;
    Some(line.trim().trim_end_matches(" kB").parse().expect("a number of KiB"))
}

/// Leaves files, a queue and a process behind.
const DIRT: &str =
    "echo > file; echo > /tmp/file; ipcmk -Q > /dev/null; (setsid sleep 1000 > /dev/null 2>&1 &)";

async fn runs(pool: &Pool<LinuxNs>, count: usize) {
    let spec = SandboxSpec::default();
    let limits = match pool.manager().missing_cgroups() {
        None => Limits::new().memory(64 << 20).processes(32),
        Some(_) => Limits::new(),
    };
    for number in 0..count {
        let command = if number % 10 == 0 { Command::shell(DIRT) } else { Command::new("true") };
        let sandbox = pool.acquire(&spec).await.unwrap();
        assert!(sandbox.exec(&command.limits(limits.clone())).await.unwrap().success());
        poolyard_core::Lease::release(sandbox).await.unwrap();
    }
}

async fn soak(count: usize) {
    let Some(ns) = backend("soak") else { return };
    let pool = Pool::builder(ns).max_total(1).build().unwrap();
    // Buffers and caches find their sizes first.
    runs(&pool, 50).await;
    let own = || resident(std::process::id() as i32).expect("a process may look at itself");
    let (before, host) = (Counted::take(pool.manager()).await, own());
    let seen = before.resident.iter().all(Option::is_some);
    assert!(seen || pool.manager().mode() != Mode::Root, "{before:?}");
    runs(&pool, count).await;
    let after = Counted::take(pool.manager()).await;
    assert_eq!(after, before, "after {count} runs");
    let grown = own().saturating_sub(host);
    println!("{count} runs: {before:?}; this process has grown by {grown} KiB");
    assert!(grown < 4096, "this process has grown by {grown} KiB");
    assert_eq!(pool.snapshot().counters.created, 1, "one sandbox has done it all");
}

fn soak_alone(test: &str, count: usize) {
    const CHILD: &str = "POOLYARD_SOAK";
    if std::env::var_os(CHILD).is_none() {
        return alone(test, CHILD);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(soak(count));
}

#[test]
fn three_hundred_runs_leave_nothing() {
    soak_alone("soak::three_hundred_runs_leave_nothing", 300);
}

#[test]
#[ignore = "takes half a minute: cargo test -p poolyard-linux-ns --test it -- --ignored soak"]
fn ten_thousand_runs_leave_nothing() {
    soak_alone("soak::ten_thousand_runs_leave_nothing", 10_000);
}
