//! Where hostile programs run: in a sandbox of ours, or in one of somebody else.

use std::collections::BTreeMap;
use std::process::{Command as Process, Stdio};

use poolyard_exec::{Command, Exec, Limits, Network, Outcome};
use poolyard_linux_ns::{Background, LinuxNs, Sandbox, SandboxSpec};

use crate::outside::{Outside, SECRET, token};
use crate::vectors::FILTER;

/// Where a sandbox shows the programs.
pub(crate) const HOME: &str = "/hostile";

/// What an attack said of its attempts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Attempt and result; `ok` is a success.
    pub(crate) attempts: BTreeMap<String, String>,
    /// Whether it tried everything.
    pub(crate) done: bool,
    pub(crate) text: String,
}

impl Seen {
    pub(crate) fn parse(text: &str) -> Self {
        let pairs = text.lines().filter_map(|line| line.rsplit_once(' '));
        let attempts = pairs.map(|(attempt, result)| (attempt.to_owned(), result.to_owned())).collect();
        Self { attempts, done: text.lines().any(|line| line == "done"), text: text.to_owned() }
    }

    pub(crate) fn successes(&self) -> Vec<&str> {
        self.attempts
            .iter()
            .filter(|(_, result)| *result == "ok")
            .map(|(attempt, _)| attempt.as_str())
            .collect()
    }
}

/// A specification whose sandboxes show the programs. Background processes stay, so that only the end of a
/// lease ends them.
pub(crate) fn spec(outside: &Outside, limits: Limits) -> SandboxSpec {
    let builder = SandboxSpec::builder().tree("hostile", &outside.programs);
    builder.filter(FILTER).background(Background::Keep).limits(limits).build()
}

/// The limits of a sandbox with room: what bounds are compared with.
pub(crate) fn roomy() -> Limits {
    Limits::new().disk_bytes(256 << 20).disk_inodes(10_000)
}

pub(crate) fn with_network(limits: Limits, leave: &[&str]) -> Limits {
    if leave[0].ends_with("network") { limits.network(Network::Loopback) } else { limits }
}

pub(crate) async fn sandbox(ns: &LinuxNs, outside: &Outside, limits: Limits) -> Sandbox {
    ns.sandbox(&spec(outside, limits))
        .await
        .unwrap_or_else(|e| panic!("{e}: {:?}", std::error::Error::source(&e)))
}

pub(crate) fn command(outside: &Outside, words: &[&str]) -> Command {
    Command::new(format!("{HOME}/hostile")).args(outside.fill(words, HOME))
}

pub(crate) async fn attack(sandbox: &Sandbox, outside: &Outside, words: &[&str]) -> Outcome {
    sandbox.exec(&command(outside, words)).await.unwrap_or_else(|e| panic!("{words:?}: {e}"))
}

pub(crate) async fn seen(sandbox: &Sandbox, outside: &Outside, words: &[&str]) -> Seen {
    Seen::parse(&attack(sandbox, outside, words).await.stdout.text())
}

/// Runs a script as root, in namespaces that hold back nothing but its processes and its mounts.
pub(crate) fn weak(script: &str) -> String {
    // As careless as can be: a directory of the host left open, a secret in the environment.
    let prepare = "mount -t tmpfs tmpfs /tmp; mkdir /tmp/box; cd /tmp/box; exec 9< /;";
    let shell = format!("{prepare} {script}; true");
    let mut unshare = Process::new("unshare");
    unshare.args(["-m", "-p", "-i", "-u", "--fork", "--kill-child", "--mount-proc", "sh", "-c", &shell]);
    unshare.env(SECRET, token());
    text_of(unshare)
}

pub(crate) fn text_of(command: Process) -> String {
    let mut limited = Process::new("timeout");
    limited.args(["-k", "1", "20"]).arg(command.get_program()).args(command.get_args());
    let variables = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    limited.envs(variables);
    let output = limited.stdin(Stdio::null()).stderr(Stdio::null()).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

/// The words of an attack for a shell.
pub(crate) fn shell_words(outside: &Outside, words: &[&str]) -> String {
    let home = outside.programs.display().to_string();
    let words = outside.fill(words, &home);
    format!("{home}/hostile {}", words.join(" "))
}

/// Ends the lease and begins the next, as a pool does between two users.
pub(crate) async fn next_user(ns: &LinuxNs, sandbox: &mut Sandbox) {
    use poolyard_core::{Context, GoneSink, Manager, ResourceId};
    struct Deaf;
    impl GoneSink for Deaf {
        fn gone(&self, _: ResourceId, _: std::borrow::Cow<'static, str>) {}
    }
    let sink: std::sync::Arc<dyn GoneSink> = std::sync::Arc::new(Deaf);
    let deadline = std::time::Duration::from_secs(60);
    let context = Context::standalone(ResourceId::standalone(1), deadline, std::sync::Arc::downgrade(&sink));
    let spec = sandbox.spec().clone();
    ns.recycle(&spec, sandbox, &context).await.unwrap();
}
