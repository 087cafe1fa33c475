//! The laws of managers, for sandboxes.

#![allow(missing_docs)]
#![cfg(target_os = "linux")]

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use poolyard_exec::{Command, Exec, Network};
use poolyard_linux_ns::{Background, LinuxNs, Sandbox, SandboxSpec};
use poolyard_testkit::availability::Availability;
use poolyard_testkit::census::Scope;
use poolyard_testkit::{Harness, conformance};

struct World {
    /// The host name of its sandboxes.
    name: String,
    seen: Mutex<Seen>,
}

/// Processes of a world.
#[derive(Default)]
struct Seen {
    launchers: Vec<i32>,
    /// All that there ever were, so that one is still seen when its launcher is gone.
    keepers: BTreeSet<i32>,
}

impl World {
    /// Keepers of this world, which are children of its launchers.
    fn keepers(&self) -> usize {
        let mut seen = self.seen.lock().unwrap();
        let children: Vec<_> = seen.launchers.iter().flat_map(|&launcher| children(launcher)).collect();
        seen.keepers.extend(children);
        seen.keepers.iter().filter(|&&pid| is_keeper(pid)).count()
    }
}

fn children(pid: i32) -> Vec<i32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().map(|pid| pid.parse().expect("a number")).collect()
}

fn is_keeper(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == "poolyard-keep")
}

fn signal(pid: i32, signal: &str) {
    let killed = std::process::Command::new("kill").arg(signal).arg(pid.to_string()).status();
    assert!(killed.is_ok_and(|status| status.success()));
}

async fn says(sandbox: &Sandbox, script: &str) -> Option<String> {
    let run = tokio::time::timeout(Duration::from_secs(5), sandbox.exec(&Command::shell(script))).await;
    Some(run.ok()?.ok()?.stdout.text().trim_end().to_owned())
}

/// The directories of cgroups that this process has made.
fn own_cgroups() -> Vec<String> {
    let mine = format!("*/poolyard.*.{}.*", std::process::id());
    let mut find = std::process::Command::new("find");
    let found = find.args(["/sys/fs/cgroup", "-type", "d", "-path", &mine]).output();
    found.map_or_else(
        |_| Vec::new(),
        |output| String::from_utf8_lossy(&output.stdout).lines().map(String::from).collect(),
    )
}

impl Harness for World {
    type Manager = LinuxNs;

    async fn availability() -> Availability {
        match LinuxNs::new() {
            Ok(_) => Availability::Ready,
            Err(error) => Availability::Missing(error.to_string()),
        }
    }

    async fn new() -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let count = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { name: format!("world-{}-{count}", std::process::id()), seen: Mutex::default() }
    }

    fn manager(&self) -> LinuxNs {
        let ns = LinuxNs::new().expect("it was there a moment ago");
        self.seen.lock().unwrap().launchers.push(ns.launcher_pid());
        ns
    }

    fn keys(&self) -> Vec<SandboxSpec> {
        let spec = || SandboxSpec::builder().hostname(&self.name).background(Background::Keep);
        vec![spec().build(), spec().network(Network::Loopback).build()]
    }

    async fn works(&self, key: &SandboxSpec, sandbox: &mut Sandbox) -> bool {
        let network = says(sandbox, "cut -d: -f1 /proc/net/if_inet6 | grep -c lo").await;
        let up = if key.limits().network == Some(Network::Loopback) { "1" } else { "0" };
        network.as_deref() == Some(up) && says(sandbox, "hostname").await.as_ref() == Some(&self.name)
    }

    async fn dirty(&self, sandbox: &mut Sandbox, mark: u32) {
        says(sandbox, DIRTY[mark as usize % DIRTY.len()].0).await;
    }

    async fn is_dirty(&self, sandbox: &mut Sandbox, mark: u32) -> bool {
        says(sandbox, DIRTY[mark as usize % DIRTY.len()].1).await.as_deref() == Some("found")
    }

    async fn kill(&self, sandbox: &mut Sandbox) {
        signal(sandbox.pid(), "-KILL");
        let ended = || !std::path::Path::new(&format!("/proc/{}", sandbox.pid())).exists();
        while !ended() {
            tokio::task::yield_now().await;
        }
    }

    async fn stop(&self, sandbox: &mut Sandbox) {
        signal(sandbox.pid(), "-STOP");
    }

    async fn live(&self) -> usize {
        self.keepers()
    }

    fn census(&self) -> Option<Scope> {
        // Only those of this process: on a busy machine others come and go.
        Some(Scope::new().with("cgroups", own_cgroups))
    }
}

/// How to leave a mark, and how to find it.
const DIRTY: [(&str, &str); 6] = [
    ("echo mark > /box/mark", "test -e /box/mark && echo found"),
    ("echo mark > /tmp/mark", "test -e /tmp/mark && echo found"),
    ("echo mark > /dev/shm/mark", "test -e /dev/shm/mark && echo found"),
    ("ipcmk -Q", "test $(wc -l < /proc/sysvipc/msg) -gt 1 && echo found"),
    ("ipcmk -M 4096", "test $(wc -l < /proc/sysvipc/shm) -gt 1 && echo found"),
    (
        "setsid sleep 1000 >/dev/null 2>&1 & until grep -q sleep /proc/$!/comm; do :; done",
        "grep -q sleep /proc/[0-9]*/comm && echo found",
    ),
];

conformance!(linux_ns, World);
