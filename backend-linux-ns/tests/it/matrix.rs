//! Every party killed or stopped at every message of the protocol. The messages are the protocol's own
//! list, so a new one does not compile before it has a case here.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use poolyard_core::{Manager, Reason};
use poolyard_exec::{Command, Exec, Process, Signal};
use poolyard_linux_ns::{LinuxNs, Sandbox, SandboxSpec};

use crate::protocol::Kind;
use crate::support::{
    backend, cgroups_of, context, descendants, eventually, identity_of, is_asleep, is_running, own_cgroups,
    printed, runtime, sandbox, signal, try_signal,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Party {
    Launcher,
    Keeper,
    Init,
    Runner,
}

const PARTIES: [Party; 4] = [Party::Launcher, Party::Keeper, Party::Init, Party::Runner];

/// What the host does while the message is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Create,
    Recycle,
    Run,
    RunSecond,
    RunMissing,
    Signal,
    Open,
}

/// During what a message is sent, and who of them receives it; `None` is the host.
fn place_of(kind: Kind) -> (Step, Option<Party>) {
    match kind {
        // Sent before there is anything else; the host cannot know the launcher before it has come.
        Kind::Hello | Kind::Create => (Step::Create, Some(Party::Launcher)),
        Kind::Created | Kind::Ready => (Step::Create, None),
        Kind::Arm => (Step::Recycle, Some(Party::Keeper)),
        Kind::Armed => (Step::Recycle, None),
        Kind::Exec => (Step::Run, Some(Party::Runner)),
        Kind::Exited => (Step::Run, None),
        Kind::Failed => (Step::RunMissing, None),
        Kind::Spawn => (Step::RunSecond, Some(Party::Init)),
        Kind::Signal => (Step::Signal, Some(Party::Init)),
        Kind::Open => (Step::Open, Some(Party::Init)),
        Kind::Opened => (Step::Open, None),
    }
}

/// Launcher, keeper, init and runner, as far as they are there.
fn parties(ns: &LinuxNs) -> Vec<i32> {
    let mut chain = vec![ns.launcher_pid()];
    while let Some(&child) = children(*chain.last().unwrap()).first() {
        chain.push(child);
    }
    chain
}

fn children(pid: i32) -> Vec<i32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Whether a process waits for a message or a signal: it has said what it had to say.
fn is_waiting(pid: i32) -> bool {
    // Gone is as good.
    !is_running(pid)
        || match std::fs::read_to_string(format!("/proc/{pid}/syscall")) {
            Ok(call) => [libc_recvmsg(), libc_ppoll()].contains(&call.split(' ').next().unwrap_or_default()),
            // Only root may look into a sandbox's own processes.
            Err(_) => is_asleep(pid),
        }
}

#[cfg(target_arch = "x86_64")]
const fn libc_recvmsg() -> &'static str {
    "47"
}
#[cfg(target_arch = "x86_64")]
const fn libc_ppoll() -> &'static str {
    "271"
}
#[cfg(not(target_arch = "x86_64"))]
const fn libc_recvmsg() -> &'static str {
    "212"
}
#[cfg(not(target_arch = "x86_64"))]
const fn libc_ppoll() -> &'static str {
    "73"
}

type Work<'a> = Pin<Box<dyn Future<Output = Option<Sandbox>> + Send + 'a>>;

/// What the host does; it ends with whatever sandbox there is then.
fn work(ns: &LinuxNs, step: Step, sandbox: Option<Sandbox>, running: Option<Process>) -> Work<'_> {
    Box::pin(async move {
        let spec = SandboxSpec::default();
        if step == Step::Create {
            return ns.sandbox(&spec).await.ok();
        }
        let mut sandbox = sandbox?;
        match step {
            Step::Recycle => drop(ns.recycle(&spec, &mut sandbox, &context()).await),
            Step::RunMissing => drop(sandbox.exec(&Command::new("/no/such/program")).await),
            Step::Signal => drop(running?.signal(Signal::TERM).await),
            Step::Open => drop(sandbox.create_file("file", 0o644).await),
            _ => drop(sandbox.exec(&Command::new("true")).await),
        }
        Some(sandbox)
    })
}

/// Lets the future run until it waits.
async fn begin(work: &mut Work<'_>) -> Option<Option<Sandbox>> {
    std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(ended) => Poll::Ready(Some(ended)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Brings everything to the moment when `kind` is under way, strikes, and says whether there was somebody
/// to strike.
async fn strike_at(ns: &LinuxNs, kind: Kind, strike: impl FnOnce(&[i32]) -> Option<i32>) -> bool {
    let (step, receiver) = place_of(kind);
    let held = if step == Step::Create { None } else { Some(sandbox(ns).await) };
    let mut running = None;
    if matches!(step, Step::Signal | Step::RunSecond) {
        let sleeper = held.as_ref().unwrap().spawn(&Command::new("sleep").arg("1000")).await.unwrap();
        running = Some(sleeper);
    }
    let before = parties(ns);
    let stopped = receiver.and_then(|party| before.get(party as usize).copied());
    if let Some(pid) = stopped {
        signal(pid, "-STOP");
    }
    let mut work = work(ns, step, held, running);
    let ended = begin(&mut work).await;
    if receiver.is_none() {
        eventually("an answer", || parties(ns).into_iter().all(is_waiting)).await;
    }
    let struck = strike(&parties(ns));
    if let Some(pid) = stopped.filter(|&pid| Some(pid) != struck) {
        // It may have died with the one that was struck.
        try_signal(pid, "-CONT");
    }
    let left = match ended {
        Some(ended) => ended,
        // A stopped party may hold this up for as long as it is stopped; a pool gives it a deadline.
        None => tokio::time::timeout(Duration::from_millis(100), work).await.unwrap_or(None),
    };
    if let Some(mut sandbox) = left {
        let (spec, context) = (SandboxSpec::default(), context());
        let end = ns.destroy(&spec, &mut sandbox, Reason::Broken, &context);
        tokio::time::timeout(Duration::from_secs(10), end).await.expect("an end needs nobody's help");
    }
    struck.is_some()
}

async fn nothing_is_left(ns: LinuxNs, what: &str) {
    let launcher = ns.launcher_pid();
    let all: Vec<i32> = descendants(launcher).into_iter().chain([launcher]).collect();
    drop(ns);
    eventually(what, || all.iter().all(|&pid| !is_running(pid))).await;
}

#[test]
fn whoever_is_killed_or_stopped_at_whatever_message_nothing_is_left() {
    const CHILD: &str = "POOLYARD_MATRIX";
    // Looks at the cgroups of the whole process, so it is one of its own.
    if std::env::var_os(CHILD).is_none() {
        return alone("matrix::whoever_is_killed_or_stopped_at_whatever_message_nothing_is_left", CHILD);
    }
    runtime().block_on(async {
        if backend("kill matrix").is_none() {
            return;
        }
        let (mut struck, mut absent) = (0, 0);
        for kind in Kind::ALL {
            for party in PARTIES {
                for how in ["-KILL", "-STOP"] {
                    let what = format!("the end after {how} of {party:?} at {kind:?}");
                    let ns = LinuxNs::new().unwrap();
                    let strike = |parties: &[i32]| {
                        let pid = *parties.get(party as usize)?;
                        try_signal(pid, how).then_some(pid)
                    };
                    match strike_at(&ns, kind, strike).await {
                        true => struck += 1,
                        false => absent += 1,
                    }
                    nothing_is_left(ns, &what).await;
                }
            }
        }
        eventually("the cgroups' end", || own_cgroups().is_empty()).await;
        println!("{struck} cases; in {absent} the party was not there yet");
        assert!(struck > 70, "only {struck} cases");
        let ns = LinuxNs::new().unwrap();
        assert_eq!(printed(&sandbox(&ns).await, "echo alive").await, "alive");
    });
}

#[test]
fn a_host_that_is_killed_or_stopped_at_whatever_message_leaves_nothing() {
    const CHILD: &str = "POOLYARD_MATRIX_HOST";
    const TEST: &str = "matrix::a_host_that_is_killed_or_stopped_at_whatever_message_leaves_nothing";
    if let Ok(number) = std::env::var(CHILD) {
        let kind = Kind::from_number(number.parse().unwrap()).unwrap();
        runtime().block_on(async {
            let ns = LinuxNs::new().unwrap();
            // Says who is there, and waits to be killed in the middle of it.
            let wait = |parties: &[i32]| -> Option<i32> {
                println!("at {parties:?}");
                loop {
                    std::thread::park();
                }
            };
            strike_at(&ns, kind, wait).await;
        });
        return;
    }
    if runtime().block_on(async { backend("killed host at each message").is_none() }) {
        return;
    }
    for kind in Kind::ALL {
        for stop_first in [false, true] {
            let mut host = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", TEST, "--nocapture"])
                .env(CHILD, (kind as u16).to_string())
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            let parties = wait_for_parties(&mut host);
            let (pid, identity) = (host.id() as i32, identity_of(host.id()));
            if stop_first {
                signal(pid, "-STOP");
                assert!(parties.iter().any(|&pid| is_running(pid)), "a stopped host ends nobody");
            }
            host.kill().unwrap();
            host.wait().unwrap();
            let what = format!("the end of {parties:?} after that of the host at {kind:?}");
            runtime().block_on(eventually(&what, || parties.iter().all(|&pid| !is_running(pid))));
            // Sweeps, as the next start of any process does.
            drop(LinuxNs::new().unwrap());
            assert_eq!(cgroups_of(&identity), Vec::<std::path::PathBuf>::new(), "{kind:?}");
        }
    }
}

fn wait_for_parties(host: &mut std::process::Child) -> Vec<i32> {
    use std::io::BufRead;
    let mut lines = std::io::BufReader::new(host.stdout.take().unwrap()).lines().map(Result::unwrap);
    let line = lines.find(|line| line.contains("at [")).expect("the host gets there");
    let (_, list) = line.split_once("at [").unwrap();
    list.trim_end_matches(']').split(", ").map(|pid| pid.parse().unwrap()).collect()
}

/// Runs a test again, in a process in which it is the only one.
pub(crate) fn alone(test: &str, flag: &str) {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    let output =
        command.args(["--exact", test, "--nocapture", "--include-ignored"]).env(flag, "1").output().unwrap();
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{text}{errors}");
    assert!(output.status.success(), "{text}{errors}");
}
