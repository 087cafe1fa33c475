//! Parties that are killed or stopped, at every step.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use poolyard_core::{Manager, Reason};
use poolyard_exec::{Command, ErrorKind, Exec, Limit, Limits, Verdict};
use poolyard_linux_ns::{LinuxNs, Sandbox, SandboxSpec};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::task::JoinSet;

use crate::support::{
    backend, cgroups_of, chain, context, descendants, eventually, identity_of, is_running, printed, sandbox,
    signal,
};

/// Keeper, init and runner of an armed sandbox.
fn parties(sandbox: &Sandbox) -> [(&'static str, i32); 3] {
    let in_it = descendants(sandbox.pid());
    assert_eq!(in_it.len(), 2, "an armed sandbox has an init and a runner");
    [("keeper", sandbox.pid()), ("init", in_it[0]), ("runner", in_it[1])]
}

async fn destroy(ns: &LinuxNs, mut sandbox: Sandbox) {
    let spec = sandbox.spec().clone();
    let all: Vec<i32> = descendants(sandbox.pid()).into_iter().chain([sandbox.pid()]).collect();
    ns.destroy(&spec, &mut sandbox, Reason::Broken, &context()).await;
    for pid in all {
        assert!(!is_running(pid), "{pid} survived");
    }
}

#[tokio::test]
async fn a_dead_party_of_an_idle_sandbox_is_noticed_and_nothing_survives() {
    let Some(ns) = backend("killed while idle") else { return };
    for party in 0..3 {
        let mut sandbox = sandbox(&ns).await;
        let (name, pid) = parties(&sandbox)[party];
        signal(pid, "-KILL");
        eventually(name, || !is_running(pid)).await;
        let spec = sandbox.spec().clone();
        let mut noticed = false;
        // The runner's end reaches the host through its socket, a moment later.
        for _ in 0..1000 {
            noticed = ns.health_check(&spec, &mut sandbox, &context()).await.is_err();
            if noticed {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(noticed, "nobody noticed that the {name} is dead");
        destroy(&ns, sandbox).await;
    }
}

#[tokio::test]
async fn a_party_that_dies_during_a_run_ends_the_run_and_not_the_backend() {
    let Some(ns) = backend("killed while running") else { return };
    for party in 0..2 {
        let sandbox = sandbox(&ns).await;
        let (name, pid) = parties(&sandbox)[party];
        let command = Command::shell("echo > started; sleep 1000");
        let run = sandbox.exec(&command);
        let kill = async {
            while sandbox.open_file("started").await.is_err() {
                tokio::task::yield_now().await;
            }
            signal(pid, "-KILL");
        };
        let (ended, ()) = tokio::join!(run, kill);
        let error = ended.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceGone, "{name}: {error}");
        assert!(!error.leaves_usable());
        destroy(&ns, sandbox).await;
    }
    assert_eq!(printed(&sandbox(&ns).await, "echo alive").await, "alive");
}

#[tokio::test]
async fn creations_that_are_dropped_at_any_moment_do_not_end_the_launcher() {
    let Some(ns) = backend("dropped creations") else { return };
    let spec = SandboxSpec::default();
    for microseconds in (0..2000).step_by(10) {
        let moment = Duration::from_micros(microseconds);
        let _ = tokio::time::timeout(moment, ns.sandbox(&spec)).await;
    }
    // Dropped as soon as the launcher has spoken of the keeper, which is killed then.
    for polls in [1, 2, 3].repeat(50) {
        let mut creation = Box::pin(ns.sandbox(&spec));
        for _ in 0..polls {
            let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(creation.as_mut().poll(cx))).await;
            if polled.is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(printed(&sandbox(&ns).await, "echo alive").await, "alive");
}

#[tokio::test]
async fn more_creations_than_the_launcher_can_be_asked_for_at_once_wait_for_it() {
    let Some(ns) = backend("crowd of creations") else { return };
    let ns = Arc::new(ns);
    // Each takes some ten descriptors, and many systems allow a thousand unless they are asked.
    let mut descriptors = getrlimit(Resource::Nofile);
    descriptors.current = descriptors.maximum;
    setrlimit(Resource::Nofile, descriptors).unwrap();
    signal(ns.launcher_pid(), "-STOP");
    let mut crowd = JoinSet::new();
    for _ in 0..200 {
        let ns = ns.clone();
        crowd.spawn(async move { ns.sandbox(&SandboxSpec::default()).await.map(drop) });
    }
    // Each has asked, or waits until it can.
    tokio::task::yield_now().await;
    signal(ns.launcher_pid(), "-CONT");
    for made in crowd.join_all().await {
        made.unwrap_or_else(|error| panic!("{}", chain(&error)));
    }
}

#[tokio::test]
async fn a_stopped_init_holds_up_no_verdict_and_a_stopped_keeper_no_end() {
    let Some(ns) = backend("stopped parties") else { return };
    let stopped = sandbox(&ns).await;
    let [_, (_, init), _] = parties(&stopped);
    signal(init, "-STOP");
    let command = Command::shell("sleep 1000").limits(Limits::new().wall_time(Duration::from_millis(20)));
    let error = stopped.exec(&command).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceGone, "{error}");
    destroy(&ns, stopped).await;

    let stopped = sandbox(&ns).await;
    signal(stopped.pid(), "-STOP");
    // Commands need no keeper; a recycle does, and the pool gives it a deadline.
    assert_eq!(printed(&stopped, "echo alive").await, "alive");
    let mut stopped = stopped;
    let spec = stopped.spec().clone();
    let recycle =
        tokio::time::timeout(Duration::from_millis(50), ns.recycle(&spec, &mut stopped, &context())).await;
    assert!(recycle.is_err(), "a stopped keeper arms nothing");
    destroy(&ns, stopped).await;
}

#[tokio::test]
async fn a_command_that_kills_and_stops_everything_it_can_harms_only_itself() {
    let Some(ns) = backend("kill(-1)") else { return };
    let sandbox = sandbox(&ns).await;
    let limits = Limits::new().wall_time(Duration::from_millis(200));
    for script in
        ["kill -KILL -1; sleep 1000", "kill -STOP -1; kill -STOP 1; kill -STOP $$", "kill -KILL 1; exit 7"]
    {
        let outcome = sandbox.exec(&Command::shell(script).limits(limits.clone())).await.unwrap();
        let expected = [Verdict::Exceeded(Limit::WallTime), Verdict::Exited { code: 7 }];
        assert!(expected.contains(&outcome.verdict), "{script}: {outcome:?}");
        assert_eq!(printed(&sandbox, "echo alive").await, "alive", "after {script}");
    }
}

#[tokio::test]
async fn without_its_launcher_a_backend_says_so() {
    let Some(ns) = backend("dead launcher") else { return };
    let old = sandbox(&ns).await;
    signal(ns.launcher_pid(), "-KILL");
    let keeper = old.pid();
    eventually("the keeper's end", || !is_running(keeper)).await;
    let error = ns.sandbox(&SandboxSpec::default()).await.unwrap_err();
    assert_eq!(error.kind(), poolyard_linux_ns::ErrorKind::Gone, "{error}");
    let fresh = LinuxNs::new().unwrap();
    assert_eq!(printed(&sandbox(&fresh).await, "echo alive").await, "alive");
}

/// The host itself: a child process of this test, killed or stopped and killed, with everything it had.
#[test]
fn a_killed_host_leaves_no_process_and_its_cgroups_are_swept() {
    const CHILD: &str = "POOLYARD_KILLED_HOST";
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    if std::env::var_os(CHILD).is_some() {
        return runtime.block_on(async {
            let ns = LinuxNs::new().unwrap();
            let sandbox = sandbox(&ns).await;
            println!("pids {} {}", ns.launcher_pid(), sandbox.pid());
            let _ = sandbox.exec(&Command::shell("setsid sleep 1000 & sleep 1000")).await;
        });
    }
    if runtime.block_on(async { backend("killed host").is_none() }) {
        return;
    }
    for stop_first in [None, Some(0), Some(1)] {
        let (mut host, pids) = start_host(CHILD);
        let identity = identity_of(host.id());
        let all: Vec<i32> = pids.iter().copied().chain(descendants(pids[0])).collect();
        if let Some(party) = stop_first {
            signal(pids[party], "-STOP");
        }
        host.kill().unwrap();
        host.wait().unwrap();
        runtime.block_on(eventually("the end of everything", || all.iter().all(|&pid| !is_running(pid))));
        // Sweeps, as the next start of any process does.
        drop(LinuxNs::new().unwrap());
        assert_eq!(cgroups_of(&identity), Vec::<std::path::PathBuf>::new());
    }
}

fn start_host(flag: &str) -> (std::process::Child, [i32; 2]) {
    use std::io::BufRead;
    let mut host = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kills::a_killed_host_leaves_no_process_and_its_cgroups_are_swept", "--nocapture"])
        .env(flag, "1")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufReader::new(host.stdout.take().unwrap()).lines();
    let line = lines.map(Result::unwrap).find(|line| line.contains("pids ")).expect("the host starts");
    let (_, numbers) = line.split_once("pids ").unwrap();
    let pids: Vec<i32> = numbers.split(' ').map(|pid| pid.parse().unwrap()).collect();
    (host, [pids[0], pids[1]])
}
