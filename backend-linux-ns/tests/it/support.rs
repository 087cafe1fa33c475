//! What the tests share.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use poolyard_core::{Context, GoneSink, ResourceId};
use poolyard_exec::{Command, Exec, Outcome};
use poolyard_linux_ns::{LinuxNs, Sandbox, SandboxSpec};

/// Says that a test is left out, or fails if `POOLYARD_REQUIRE` names what is missing.
pub(crate) fn skip(test: &str, needs: &str, reason: &str) {
    let required = std::env::var("POOLYARD_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|name| name == needs), "{test}: {needs} is required, but {reason}");
    eprintln!("skipped {test}: needs {needs}: {reason}");
}

/// A backend, or a skip with its reason.
pub(crate) fn backend(test: &str) -> Option<LinuxNs> {
    let made = LinuxNs::new();
    made.inspect_err(|error| skip(test, "linux-ns", &chain(error))).ok()
}

/// A backend whose cgroups work, or a skip.
pub(crate) fn backend_with_cgroups(test: &str) -> Option<LinuxNs> {
    let ns = backend(test)?;
    if let Some(reason) = ns.missing_cgroups() {
        skip(test, "cgroups", reason);
        return None;
    }
    Some(ns)
}

pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

pub(crate) async fn sandbox(ns: &LinuxNs) -> Sandbox {
    sandbox_of(ns, &SandboxSpec::default()).await
}

pub(crate) async fn sandbox_of(ns: &LinuxNs, spec: &SandboxSpec) -> Sandbox {
    ns.sandbox(spec).await.unwrap_or_else(|error| panic!("{}", chain(&error)))
}

pub(crate) async fn run(sandbox: &Sandbox, command: &Command) -> Outcome {
    sandbox.exec(command).await.unwrap_or_else(|error| panic!("{}", chain(&error)))
}

pub(crate) async fn shell(sandbox: &Sandbox, script: &str) -> Outcome {
    run(sandbox, &Command::shell(script)).await
}

/// What a script prints, without the final newline.
pub(crate) async fn printed(sandbox: &Sandbox, script: &str) -> String {
    let outcome = shell(sandbox, script).await;
    format!("{}{}", outcome.stdout.text(), outcome.stderr.text()).trim_end().to_owned()
}

/// A context outside any pool.
pub(crate) fn context() -> Context {
    struct Deaf;
    impl GoneSink for Deaf {
        fn gone(&self, _: ResourceId, _: std::borrow::Cow<'static, str>) {}
    }
    let sink: Arc<dyn GoneSink> = Arc::new(Deaf);
    Context::standalone(ResourceId::standalone(1), Duration::from_secs(60), Arc::downgrade(&sink))
}

/// Waits for something that another process does. The deadline only bounds a failure.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Sends a signal that is named as `kill` names it.
pub(crate) fn signal(pid: i32, signal: &str) {
    assert!(try_signal(pid, signal), "{pid} cannot be signalled");
}

/// Sends a signal, and says whether there was somebody to get it.
pub(crate) fn try_signal(pid: i32, signal: &str) -> bool {
    let mut kill = std::process::Command::new("kill");
    let sent = kill.arg(signal).arg(pid.to_string()).stderr(std::process::Stdio::null()).status();
    sent.is_ok_and(|status| status.success())
}

pub(crate) fn is_running(pid: i32) -> bool {
    // A zombie has ended.
    !matches!(state(pid), None | Some('Z'))
}

pub(crate) fn is_asleep(pid: i32) -> bool {
    state(pid) == Some('S')
}

fn state(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// The children of a process, in all their generations.
pub(crate) fn descendants(pid: i32) -> Vec<i32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children: Vec<i32> = children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    children.iter().flat_map(|&child| std::iter::once(child).chain(descendants(child))).collect()
}

/// The directories of cgroups that belong to this process.
pub(crate) fn own_cgroups() -> Vec<PathBuf> {
    cgroups_of(&identity_of(std::process::id()))
}

/// What tells a process from those that have its id later, as names of cgroups have it.
pub(crate) fn identity_of(pid: u32) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let started = stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap();
    format!("{pid}.{started}")
}

/// The directories of cgroups that belong to a process.
pub(crate) fn cgroups_of(identity: &str) -> Vec<PathBuf> {
    let name = format!(".{identity}.");
    let mut found = Vec::new();
    let mut stack = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(dir) = stack.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let file_name = entry.file_name().to_string_lossy().into_owned();
            if file_name.starts_with("poolyard.") && file_name.contains(&name) {
                found.push(entry.path());
            }
            stack.push(entry.path());
        }
    }
    found
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
