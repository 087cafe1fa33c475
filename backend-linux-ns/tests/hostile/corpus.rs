//! Tries every vector in our sandboxes, and where nothing stops it.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Command as Process;
use std::time::Duration;

use poolyard_exec::{Command, Exec, ExecFds, Fds, FileState, Limit, Limits, Process as Running, Verdict};
use poolyard_linux_ns::{LinuxNs, Mode, Sandbox};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use crate::outside::{Outside, token};
use crate::place::{self, Seen, attack, command, next_user, roomy, seen, shell_words, weak, with_network};
use crate::vectors::{Bound, Case, Control, Special, Vector, known};

/// What an attack came to: the attempts that succeeded, and those that were made.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    pub(crate) succeeded: Vec<String>,
    pub(crate) made: usize,
    /// Those that did not, with their errors.
    pub(crate) failed: Vec<String>,
    /// Why nothing could be tried.
    pub(crate) skipped: Option<String>,
}

impl Attempts {
    fn of(seen: &Seen) -> Self {
        let mut succeeded: Vec<String> = seen.successes().into_iter().map(String::from).collect();
        if !seen.done {
            succeeded.push(format!("(it did not get to its end: {:?})", seen.text));
        }
        let failed = seen.attempts.iter().filter(|(_, result)| *result != "ok");
        let failed = failed.map(|(attempt, result)| format!("{attempt} ({result})")).collect();
        Self { succeeded, made: seen.attempts.len(), failed, skipped: None }
    }

    pub(crate) fn one(what: &str, succeeded: bool) -> Self {
        Self {
            succeeded: succeeded.then(|| what.to_owned()).into_iter().collect(),
            made: 1,
            ..Self::default()
        }
    }

    fn skipped(reason: &str) -> Self {
        Self { skipped: Some(reason.into()), ..Self::default() }
    }

    /// How far a control has proven that the attempts can succeed.
    fn proof(&self) -> String {
        let unproven = match self.failed.is_empty() {
            true => String::new(),
            false => format!("; unproven here: {}", self.failed.join(", ")),
        };
        format!("{} of {} attempts succeed{unproven}", self.succeeded.len(), self.made)
    }
}

/// Everything that is wrong or worth telling after all vectors were tried.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) escapes: Vec<String>,
    pub(crate) lines: Vec<String>,
}

pub(crate) async fn try_all(ns: &LinuxNs, outside: &Outside, vectors: &[Vector]) -> Report {
    let mut report = Report::default();
    for vector in vectors {
        for case in vector.cases {
            let attempts = try_case(ns, outside, case).await;
            report.add(ns.mode(), vector, &attempts);
        }
    }
    report
}

impl Report {
    fn add(&mut self, mode: Mode, vector: &Vector, attempts: &Attempts) {
        let title = format!("{:2} {}", vector.number, vector.name);
        if let Some(reason) = &attempts.skipped {
            return self.lines.push(format!("{title}: not tried: {reason}"));
        }
        let (mut open, mut count) = (Vec::new(), 0);
        for attempt in &attempts.succeeded {
            match known(mode, vector.number, attempt) {
                Some(reason) => open.push(format!("; known: {attempt}: {reason}")),
                None => self.escapes.push(format!("{title}: {attempt}")),
            }
            count += 1;
        }
        let stopped = attempts.made.saturating_sub(count);
        self.lines.push(format!("{title}: {stopped} of {} attempts stopped{}", attempts.made, open.concat()));
    }
}

pub(crate) async fn try_case(ns: &LinuxNs, outside: &Outside, case: &Case) -> Attempts {
    match *case {
        Case::Alone(words, _) => {
            let sandbox = place::sandbox(ns, outside, roomy()).await;
            Attempts::of(&seen(&sandbox, outside, words).await)
        }
        Case::Heritage(leave, find, _) => {
            let mut sandbox = place::sandbox(ns, outside, with_network(roomy(), leave)).await;
            attack(&sandbox, outside, leave).await;
            next_user(ns, &mut sandbox).await;
            Attempts::of(&seen(&sandbox, outside, find).await)
        }
        Case::Neighbours(hold, probe) => {
            let a = place::sandbox(ns, outside, roomy()).await;
            let b = place::sandbox(ns, outside, roomy()).await;
            neighbours(&a, &b, outside, hold, probe).await
        }
        Case::Bounded(words, bound) => bounded(ns, outside, words, bound, true).await,
        Case::Special(special) => try_special(ns, outside, special).await,
    }
}

/// The same attack where it has to succeed.
pub(crate) async fn control(ns: &LinuxNs, outside: &Outside, case: &Case) -> Attempts {
    let weak_run = |words: &[&str]| weak(&shell_words(outside, words));
    match *case {
        Case::Alone(words, Control::WeakUser) => {
            let script = shell_words(outside, words);
            Attempts::of(&Seen::parse(&weak(&format!("{USER} {script}"))))
        }
        Case::Alone(words, _) => Attempts::of(&Seen::parse(&weak_run(words))),
        Case::Heritage(leave, find, Control::SameLease) => {
            let sandbox = place::sandbox(ns, outside, with_network(roomy(), leave)).await;
            attack(&sandbox, outside, leave).await;
            Attempts::of(&seen(&sandbox, outside, find).await)
        }
        Case::Heritage(leave, find, _) => {
            let script = format!("{} >&2; {}", shell_words(outside, leave), shell_words(outside, find));
            Attempts::of(&Seen::parse(&weak(&script)))
        }
        Case::Neighbours(hold, probe) => {
            let sandbox = place::sandbox(ns, outside, roomy()).await;
            neighbours(&sandbox, &sandbox, outside, hold, probe).await
        }
        Case::Bounded(words, bound) => bounded(ns, outside, words, bound, false).await,
        Case::Special(special) => control_of_special(ns, outside, special).await,
    }
}

const USER: &str = "setpriv --reuid 65534 --regid 65534 --clear-groups";

async fn neighbours(a: &Sandbox, b: &Sandbox, outside: &Outside, hold: &[&str], probe: &[&str]) -> Attempts {
    let mut holder = a.spawn(&command(outside, hold).stdin_piped()).await.unwrap();
    let mut lines = BufReader::new(holder.take_stdout().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if line == "ready" {
            break;
        }
    }
    let probed = seen(b, outside, probe).await;
    drop(holder.take_stdin());
    let mut text = probed.text;
    while let Some(line) = lines.next_line().await.unwrap() {
        text.push_str(&line);
        text.push('\n');
    }
    holder.wait().await.unwrap();
    Attempts::of(&Seen::parse(&text))
}

async fn bounded(ns: &LinuxNs, outside: &Outside, words: &[&str], bound: Bound, on: bool) -> Attempts {
    if let (true, Some(reason)) = (bound.needs_cgroups(), ns.missing_cgroups()) {
        return Attempts::skipped(reason);
    }
    let limits = if on { bound.limits() } else { Limits::new() };
    let made_with = if on && !bound.needs_cgroups() { limits.clone() } else { roomy() };
    let sandbox = place::sandbox(ns, outside, made_with).await;
    let outcome = sandbox.exec(&command(outside, words).limits(limits)).await.unwrap();
    let said = Seen::parse(&outcome.stdout.text());
    // The sandbox is as good as before.
    assert!(seen(&sandbox, outside, &["nothing"]).await.done, "after {words:?}");
    Attempts::one(words[0], !said.successes().is_empty())
}

async fn try_special(ns: &LinuxNs, outside: &Outside, special: Special) -> Attempts {
    let mut sandbox = place::sandbox(ns, outside, roomy()).await;
    let sandbox = &mut sandbox;
    match special {
        Special::SignalAll => {
            attack(sandbox, outside, &["signal-all"]).await;
            let alive = seen(sandbox, outside, &["nothing"]).await.done;
            Attempts::one("the next command does not run", !alive)
        }
        Special::ExecStorm => {
            attack(sandbox, outside, &["exec-storm"]).await;
            next_user(ns, sandbox).await;
            let alive = seen(sandbox, outside, &["nothing"]).await.done;
            Attempts::one("the next user's command does not run", !alive)
        }
        Special::CopyOut => copy_out(sandbox, outside).await,
        Special::CopyIn => copy_in(sandbox).await,
        Special::Flood => flood(sandbox, outside, Limits::new().output(1000)).await,
        Special::Stay => stay(sandbox, outside).await,
        Special::Charges => charges(ns, sandbox, outside, true).await,
        Special::ForgeReport => {
            let outcome = attack(sandbox, outside, &["forge-report"]).await;
            Attempts::of(&Seen::parse(&outcome.stdout.text()))
        }
        Special::ForgeVerdict => {
            let verdict = attack(sandbox, outside, &["forge-verdict"]).await.verdict;
            Attempts::one("another verdict", verdict != Verdict::Exited { code: 42 })
        }
    }
}

async fn control_of_special(ns: &LinuxNs, outside: &Outside, special: Special) -> Attempts {
    let mut sandbox = place::sandbox(ns, outside, roomy()).await;
    let sandbox = &mut sandbox;
    let run = |words: &[&str]| shell_words(outside, words);
    match special {
        Special::SignalAll => {
            let script = format!("sh -c '{}; echo alive'", run(&["signal-all"]));
            Attempts::one("its parent is gone", !weak(&script).contains("alive"))
        }
        // Nothing is bounded there, so all of them run.
        Special::ExecStorm => Attempts::one("a storm", weak(&run(&["exec-storm"])).contains("done")),
        Special::CopyOut => naive_copy_out(outside),
        Special::CopyIn => naive_copy_in(),
        Special::Flood => flood(sandbox, outside, Limits::new()).await,
        Special::Stay => stay_until_killed(sandbox, outside).await,
        Special::Charges => charges(ns, sandbox, outside, false).await,
        Special::ForgeReport => forge_into_a_given_socket(sandbox, outside).await,
        Special::ForgeVerdict => {
            let script = format!("sh -c '{}; exit $?'; echo status $?", run(&["forge-verdict"]));
            Attempts::one("another verdict", !weak(&script).contains("status 42"))
        }
    }
}

/// Files that lead somewhere else, a pipe that never ends, a file that says it is huge.
const TRAPS: &str =
    "ln -s {secret} link; ln -s / up; mkfifo pipe; truncate -s 1T huge; ln -s /proc/self/root magic;
    ln /etc/hostname hard 2>/dev/null; mkdir dir; true";

fn trap_paths(secret: &str) -> [String; 5] {
    ["link".into(), format!("up{secret}"), "pipe".into(), format!("magic{secret}"), "dir".into()]
}

async fn copy_out(sandbox: &Sandbox, outside: &Outside) -> Attempts {
    let secret = outside.secret_file().display().to_string();
    // Without programs of the host's beyond a shell's: a sandbox may have no more.
    let script = TRAPS.replace("{secret}", &secret);
    let paths = trap_paths(&secret);
    let command = paths.iter().fold(Command::shell(script), |command, path| command.file_out(path, 1 << 10));
    let outcome = sandbox.exec(&command.file_out("huge", 1 << 10)).await.unwrap();
    let is_file = |state: &FileState| matches!(state, FileState::Found { .. });
    let (huge, traps) = outcome.files.split_last().unwrap();
    let mut succeeded: Vec<String> =
        traps.iter().filter(|file| is_file(&file.state)).map(|file| format!("{file:?}")).collect();
    match &huge.state {
        FileState::Found { bytes, truncated: true, .. } if bytes.len() == 1 << 10 => {}
        other => succeeded.push(format!("huge: {other:?}")),
    }
    Attempts { succeeded, made: outcome.files.len(), ..Attempts::default() }
}

/// Copying by path, as root, what a program left in a directory of the host.
fn naive_copy_out(outside: &Outside) -> Attempts {
    let dir = std::env::temp_dir().join(format!("poolyard-naive-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let _ = std::os::unix::fs::symlink(outside.secret_file(), dir.join("link"));
    let copied = std::fs::read_to_string(dir.join("link")).unwrap_or_default();
    std::fs::remove_dir_all(dir).unwrap();
    Attempts::one("the secret is copied", copied == token())
}

async fn copy_in(sandbox: &Sandbox) -> Attempts {
    let prepare = "mkdir out; echo old > /tmp/victim; ln -s /tmp/victim file; ln -s /tmp away";
    sandbox.exec(&Command::shell(prepare)).await.unwrap();
    for path in ["file", "away/victim"] {
        // The one is replaced, the other refused.
        let _ = sandbox.exec(&Command::new("true").file_in(path, "new", 0o644)).await;
    }
    let outcome = sandbox.exec(&Command::shell("cat /tmp/victim")).await.unwrap();
    Attempts { made: 2, ..Attempts::one("the victim is overwritten", outcome.stdout.text() != "old\n") }
}

fn naive_copy_in() -> Attempts {
    let dir = std::env::temp_dir().join(format!("poolyard-naive-in-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("victim"), "old").unwrap();
    let _ = std::os::unix::fs::symlink(dir.join("victim"), dir.join("file"));
    std::fs::write(dir.join("file"), "new").unwrap();
    let overwritten = std::fs::read_to_string(dir.join("victim")).unwrap() == "new";
    std::fs::remove_dir_all(dir).unwrap();
    Attempts::one("the victim is overwritten", overwritten)
}

async fn flood(sandbox: &Sandbox, outside: &Outside, limits: Limits) -> Attempts {
    let command = command(outside, &["flood", "300000"]).capture(1 << 20).limits(limits);
    let outcome = sandbox.exec(&command).await.unwrap();
    Attempts::one("all of it arrives", outcome.stdout.bytes.len() >= 300_000)
}

const WAYS_TO_STAY: [&str; 4] = ["stopped", "deaf", "vfork", "traced"];

async fn stay(sandbox: &Sandbox, outside: &Outside) -> Attempts {
    let mut succeeded = Vec::new();
    for way in WAYS_TO_STAY {
        let mut limit = Duration::from_millis(50);
        let outcome = loop {
            let command = command(outside, &["stay", way]).limits(Limits::new().wall_time(limit));
            let outcome = sandbox.exec(&command).await.unwrap();
            // A slow machine needs longer to start it.
            if outcome.stdout.text().contains("started") || limit > Duration::from_secs(10) {
                break outcome;
            }
            limit *= 2;
        };
        if outcome.verdict != Verdict::Exceeded(Limit::WallTime) {
            succeeded.push(format!("{way}: {outcome:?}"));
        }
    }
    Attempts { succeeded, made: WAYS_TO_STAY.len(), ..Attempts::default() }
}

/// Without a limit each of them is there until it is killed.
async fn stay_until_killed(sandbox: &Sandbox, outside: &Outside) -> Attempts {
    let mut succeeded = Vec::new();
    for way in WAYS_TO_STAY {
        let mut process: Running = sandbox.spawn(&command(outside, &["stay", way])).await.unwrap();
        let mut stdout = process.take_stdout().unwrap();
        stdout.read_exact(&mut [0; 8]).await.unwrap();
        let stayed = tokio::time::timeout(Duration::from_millis(50), process.wait()).await.is_err();
        process.kill();
        if stayed {
            succeeded.push(way.to_owned());
        }
    }
    Attempts { succeeded, made: WAYS_TO_STAY.len(), ..Attempts::default() }
}

/// What a slot's memory is charged with after files were written and, perhaps, the next user has come.
async fn charges(ns: &LinuxNs, sandbox: &mut Sandbox, outside: &Outside, recycle: bool) -> Attempts {
    if let Some(reason) = ns.missing_cgroups() {
        return Attempts::skipped(reason);
    }
    attack(sandbox, outside, &["take-disk", "bytes", "4096"]).await;
    if recycle {
        next_user(ns, sandbox).await;
    }
    let read = |file: PathBuf| std::fs::read_to_string(file).ok()?.trim().parse().ok();
    let charged: Option<u64> = own_slots().into_iter().filter_map(read).max();
    Attempts::one("16 MiB are still charged", charged.expect("the sandbox has a slot") > 12 << 20)
}

/// The files that count the memory of this process's slots.
fn own_slots() -> Vec<PathBuf> {
    let mine = format!("*/poolyard.*.{}.*/s*", std::process::id());
    let mut find = Process::new("find");
    find.args(["/sys/fs/cgroup", "-path", &mine, "(", "-name", "memory.current", "-o", "-name"]);
    let output = find.args(["memory.usage_in_bytes", ")"]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).lines().map(PathBuf::from).collect()
}

async fn forge_into_a_given_socket(sandbox: &Sandbox, outside: &Outside) -> Attempts {
    let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let fds = Fds::new().give(5, OwnedFd::from(theirs));
    let mut process = sandbox.spawn_with_fds(&command(outside, &["forge-report"]), fds).await.unwrap();
    process.wait().await.unwrap();
    let mut frame = Vec::new();
    ours.read_to_end(&mut frame).unwrap();
    Attempts::one("the frame arrives", frame.starts_with(b"pyrd"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_attack_succeeds_where_nothing_stops_it() {
    use poolyard_testkit::availability::{Availability, require};
    let root = Availability::when(rustix::process::geteuid().is_root(), "the controls are made as root");
    if !require("root", &root) {
        return;
    }
    let Some(programs) = crate::programs::Programs::build() else { return };
    let outside = Outside::new(&programs.dir);
    let ns = LinuxNs::new().unwrap();
    let mut failed = Vec::new();
    for vector in crate::vectors::VECTORS {
        for case in vector.cases {
            let attempts = control(&ns, &outside, case).await;
            println!("{:2} {}: {}", vector.number, vector.name, attempts.proof());
            let proven = attempts.succeeded.iter().any(|attempt| !attempt.starts_with('('));
            // What the file system below cannot do says nothing about the sandbox.
            let impossible = attempts.failed.iter().any(|attempt| attempt.ends_with("(EOPNOTSUPP)"));
            if !proven && !impossible && attempts.skipped.is_none() {
                failed.push(format!("{} {}", vector.number, vector.name));
            }
        }
    }
    assert!(failed.is_empty(), "these attacks succeed nowhere, so that nothing is proven: {failed:?}");
}
