//! What is left after a recycle: nothing.

use poolyard_core::{Manager, Meta, Reason, ResourceId, Reuse};
use poolyard_exec::{Command, Exec, Limits, Network};
use poolyard_linux_ns::{Background, Canary, LinuxNs, ReusePolicy, Sandbox, SandboxSpec};
use std::time::Duration;

use crate::support::{
    backend, context, descendants, eventually, own_cgroups, printed, sandbox, sandbox_of, shell,
};

async fn recycle(ns: &LinuxNs, sandbox: &mut Sandbox) {
    let spec = sandbox.spec().clone();
    ns.recycle(&spec, sandbox, &context()).await.unwrap();
}

/// What a shell can see of its surroundings, but not what the kernel counts for the whole machine.
const SURROUNDINGS: &str = "
    id; pwd; env; umask; hostname; ls -laR --time-style=+ /box /tmp /dev/shm; cat /proc/self/mounts;
    cat /proc/self/limits; grep -v -e ctxt -e '^Vm' -e '^Rss' -e '^Cpus' /proc/self/status;
    ls /proc | grep '^[0-9]'; ls -l /proc/self/fd | cut -d' ' -f9- | sed 's/pipe:.*/pipe/';
    cat /proc/sysvipc/*; cat /proc/net/dev /proc/net/tcp /proc/net/udp /proc/net/unix /proc/net/route /proc/net/snmp; cat /proc/self/cgroup; cat /proc/self/oom_score_adj;
    readlink /proc/self/cwd /proc/self/root; df -i /box | tail -1; cat /proc/self/loginuid 2>&1;
    cat /proc/self/sched | grep -e policy -e prio; cat /proc/self/timerslack_ns 2>&1; ls -la --time-style=+ /dev";

#[tokio::test]
async fn the_second_user_sees_what_the_first_one_saw() {
    let Some(ns) = backend("surroundings") else { return };
    let mut sandbox = sandbox(&ns).await;
    let first = printed(&sandbox, SURROUNDINGS).await;
    assert!(first.lines().count() > 100, "{first}");
    for script in [
        "echo secret > /box/a; echo secret > /tmp/b; echo secret > /dev/shm/c; mkdir -p /tmp/d/e; chmod 700 /box",
        "ipcmk -M 4096; ipcmk -Q; ipcmk -S 1",
        "(setsid sleep 1000 &) ; renice 5 $$; ulimit -n 10; umask 077; touch /dev/null /box /tmp",
        "exec 9</dev/null; flock 9",
        "ln -s /etc/passwd /box/l; mkfifo /tmp/p; head -c 1M /dev/zero > /tmp/full; kill -STOP $$",
    ] {
        let command = Command::shell(script).limits(Limits::new().wall_time(Duration::from_millis(200)));
        sandbox.exec(&command).await.unwrap();
        recycle(&ns, &mut sandbox).await;
        let now = printed(&sandbox, SURROUNDINGS).await;
        for (before, after) in first.lines().zip(now.lines()) {
            assert_eq!(before, after, "after `{script}`");
        }
        assert_eq!(first.lines().count(), now.lines().count());
        recycle(&ns, &mut sandbox).await;
    }
}

#[tokio::test]
async fn a_recycle_ends_whatever_runs() {
    let Some(ns) = backend("recycle ends all") else { return };
    let mut sandbox = sandbox_of(&ns, &SandboxSpec::builder().background(Background::Keep).build()).await;
    shell(&sandbox, "for i in $(seq 30); do (trap '' TERM HUP; setsid sleep 1000) >/dev/null 2>&1 & done")
        .await;
    assert!(descendants(sandbox.pid()).len() > 30);
    recycle(&ns, &mut sandbox).await;
    assert_eq!(descendants(sandbox.pid()).len(), 2, "the new init and its runner");
}

/// Whether this process has a pipe open; `name` is the kernel's.
fn has_open(name: &str) -> bool {
    let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    open.into_iter().any(|fd| std::fs::read_link(fd.path()).is_ok_and(|link| link.as_os_str() == name))
}

#[tokio::test]
async fn what_is_kept_of_the_first_command_goes_with_the_lease_and_of_others_nothing_is_kept() {
    let Some(ns) = backend("pipes are closed") else { return };
    let mut sandbox = sandbox(&ns).await;
    let name = "readlink /proc/self/fd/1";
    let (first, second) = (printed(&sandbox, name).await, printed(&sandbox, name).await);
    assert!(first.starts_with("pipe:[") && second.starts_with("pipe:[") && first != second);
    assert!(!has_open(&second));
    recycle(&ns, &mut sandbox).await;
    assert!(!has_open(&first));
}

#[tokio::test]
async fn who_is_left_running_learns_that_nobody_reads_any_more() {
    let Some(ns) = backend("closed pipes") else { return };
    let sandbox = sandbox_of(&ns, &SandboxSpec::builder().background(Background::Keep).build()).await;
    shell(&sandbox, "(trap '' PIPE; while sleep 0.01; echo x; do :; done 2>/dev/null; touch /tmp/over) &")
        .await;
    let told = shell(&sandbox, "until [ -e /tmp/over ]; do sleep 0.01; done").await;
    assert!(told.success());
}

#[tokio::test]
async fn a_frozen_lease_is_recycled_and_a_frozen_sandbox_destroyed() {
    let Some(ns) = crate::support::backend_with_cgroups("frozen recycle") else { return };
    let mut sandbox = sandbox_of(&ns, &SandboxSpec::builder().background(Background::Keep).build()).await;
    for _ in 0..2 {
        shell(&sandbox, "setsid sleep 1000 >/dev/null 2>&1 &").await;
        sandbox.freeze().unwrap();
        recycle(&ns, &mut sandbox).await;
        assert_eq!(printed(&sandbox, "echo alive").await, "alive");
    }
    sandbox.freeze().unwrap();
    let spec = sandbox.spec().clone();
    ns.destroy(&spec, &mut sandbox, Reason::Closed, &context()).await;
}

#[tokio::test]
async fn a_loopback_network_is_new_for_every_lease() {
    let Some(ns) = backend("loopback residue") else { return };
    let mut sandbox = sandbox_of(&ns, &SandboxSpec::builder().network(Network::Loopback).build()).await;
    // In the last of them, what stands behind `orphan` and `alloc` is of the whole machine.
    let counters = "cat /proc/net/dev /proc/net/snmp /proc/net/netstat
        sed 's/orphan.*tw/tw/; s/alloc.*//' /proc/net/sockstat";
    let before = printed(&sandbox, counters).await;
    let bash = Command::new("bash").arg("-c").arg("exec 3<>/dev/tcp/127.0.0.1/1");
    sandbox.exec(&bash).await.unwrap();
    assert_ne!(printed(&sandbox, counters).await, before, "the attempt left its marks");
    recycle(&ns, &mut sandbox).await;
    assert_eq!(printed(&sandbox, counters).await, before);
}

#[tokio::test]
async fn an_untouched_sandbox_needs_no_recycle_and_a_used_up_one_gets_none() {
    let Some(ns) = backend("reuse") else { return };
    let meta = Meta::standalone(ResourceId::standalone(1));
    let spec = SandboxSpec::default();
    let mut plain = sandbox_of(&ns, &spec).await;
    assert_eq!(ns.reuse(&spec, &mut plain, &meta), Reuse::Now);
    shell(&plain, "true").await;
    assert_eq!(ns.reuse(&spec, &mut plain, &meta), Reuse::Recycle);
    let pristine = SandboxSpec::builder().reuse(ReusePolicy::Pristine).build();
    let mut sandbox = sandbox_of(&ns, &pristine).await;
    assert_eq!(ns.reuse(&pristine, &mut sandbox, &meta), Reuse::Broken);
    let once = SandboxSpec::builder().reuse(ReusePolicy::Reuse { max_uses: Some(1), max_age: None }).build();
    assert_eq!(ns.reuse(&once, &mut sandbox, &meta), Reuse::Broken);
}

#[tokio::test]
async fn a_health_check_runs_the_canary_and_leaves_no_trace_of_it() {
    let Some(ns) = backend("canary") else { return };
    let spec = |script: &str, deadline| {
        let argv = ["sh", "-c", script].map(String::from).to_vec();
        SandboxSpec::builder().canary(Canary { argv, deadline }).build()
    };
    let long = Duration::from_secs(10);
    let well = spec("echo > trace", long);
    let mut sandbox = sandbox_of(&ns, &well).await;
    ns.health_check(&well, &mut sandbox, &context()).await.unwrap();
    assert_eq!(printed(&sandbox, "ls").await, "");
    for (script, deadline) in [("exit 1", long), ("sleep 1000", Duration::from_millis(20))] {
        let ill = spec(script, deadline);
        ns.health_check(&ill, &mut sandbox, &context()).await.unwrap_err();
    }
}

#[tokio::test]
async fn destroying_leaves_no_process_and_no_cgroup() {
    let Some(ns) = backend("destroy") else { return };
    let spec = SandboxSpec::builder().limits(Limits::new()).build();
    let mut sandbox = sandbox_of(&ns, &spec).await;
    let in_it = descendants(sandbox.pid());
    ns.destroy(&spec, &mut sandbox, Reason::Closed, &context()).await;
    for pid in in_it.into_iter().chain([sandbox.pid()]) {
        assert!(!crate::support::is_running(pid), "{pid} is left");
    }
    ns.destroy(&spec, &mut sandbox, Reason::Closed, &context()).await;
    drop(sandbox);
    let launcher = ns.launcher_pid();
    drop(ns);
    eventually("the launcher's end", || !crate::support::is_running(launcher)).await;
}

#[tokio::test]
async fn cgroups_go_with_their_owner() {
    // The only test of this program that looks at the directories of the whole process, so it makes a
    // process of its own.
    if std::env::var_os("POOLYARD_CHILD").is_none() {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "recycle::cgroups_go_with_their_owner"])
            .env("POOLYARD_CHILD", "1")
            .status()
            .unwrap();
        return assert!(status.success());
    }
    let Some(ns) = crate::support::backend_with_cgroups("cgroups") else { return };
    let spec = SandboxSpec::default();
    let (mut a, b) = (sandbox_of(&ns, &spec).await, sandbox_of(&ns, &spec).await);
    assert!(!own_cgroups().is_empty());
    ns.destroy(&spec, &mut a, Reason::Closed, &context()).await;
    let keeper = b.pid();
    drop((a, b));
    eventually("the keeper's end", || !crate::support::is_running(keeper)).await;
    drop(ns);
    eventually("the cgroups' end", || own_cgroups().is_empty()).await;
}
