//! Limits: what is enforced, what is refused, and the verdicts on time, memory, processes and output.

use std::time::Duration;

use poolyard_exec::{
    Command, Enforcement, ErrorKind, Exec, ExecError, Limit, Limits, Network, Outcome, Stage, Verdict,
};

use super::{assert_usable, plain, run, text};
use crate::exec::ExecHarness;

/// A sensible value of one limit, and nothing else.
fn sample(limit: Limit) -> Limits {
    let limits = Limits::new();
    match limit {
        Limit::CpuTime => limits.cpu_time(Duration::from_secs(20)),
        Limit::WallTime => limits.wall_time(Duration::from_secs(60)),
        Limit::Memory => limits.memory(64 << 20),
        Limit::Swap => limits.swap(0),
        Limit::Processes => limits.processes(32),
        Limit::Output => limits.output(1 << 20),
        Limit::FileSize => limits.file_size(1 << 20),
        Limit::DiskBytes => limits.disk_bytes(16 << 20),
        Limit::DiskInodes => limits.disk_inodes(1000),
        Limit::OpenFiles => limits.open_files(64),
        Limit::Stack => limits.stack(1 << 20),
        Limit::CpuSet => limits.cpu_set([0]),
        Limit::CpuBandwidth => limits.cpu_bandwidth(500),
        Limit::IoBandwidth => limits.io_bandwidth(64 << 20),
        Limit::Network => limits.network(Network::Off),
        other => panic!("the suite has no value for {other}"),
    }
}

/// Another value of the same limit, stricter than the sample.
fn stricter(limit: Limit) -> Option<Limits> {
    let limits = Limits::new();
    Some(match limit {
        Limit::CpuTime => limits.cpu_time(Duration::from_secs(10)),
        Limit::WallTime => limits.wall_time(Duration::from_secs(30)),
        Limit::Memory => limits.memory(32 << 20),
        Limit::Processes => limits.processes(16),
        Limit::Output => limits.output(1 << 10),
        Limit::FileSize => limits.file_size(1 << 10),
        Limit::DiskBytes => limits.disk_bytes(8 << 20),
        Limit::DiskInodes => limits.disk_inodes(500),
        Limit::OpenFiles => limits.open_files(32),
        Limit::Stack => limits.stack(512 << 10),
        Limit::CpuBandwidth => limits.cpu_bandwidth(250),
        Limit::IoBandwidth => limits.io_bandwidth(32 << 20),
        // Their samples are the strictest.
        _ => return None,
    })
}

/// An executor on which a command may ask for exactly `limits`, which are all of one kind; or the proof that
/// this kind is refused by name, and `None`.
pub(super) async fn executor_for<H: ExecHarness>(limit: Limit, limits: &Limits) -> Option<H::Exec> {
    let executor = plain::<H>().await;
    match executor.support().enforcement(limit) {
        Enforcement::PerCommand { .. } => Some(executor),
        Enforcement::PerResource(_) => Some(H::executor(limits.clone()).await),
        Enforcement::No(reason) => {
            let error = refused(&executor, limit, limits).await;
            assert!(error.to_string().contains(&*reason), "the reason is told: {error}");
            None
        }
    }
}

/// The executor must refuse `limits` by the name of `limit`, before the program does anything.
async fn refused(executor: &impl Exec, limit: Limit, limits: &Limits) -> ExecError {
    let command = Command::shell("echo ran > ran").limits(limits.clone());
    let error = match executor.exec(&command).await {
        Ok(outcome) => panic!("limit {limit} must be refused, but the command ran: {outcome:?}"),
        Err(error) => error,
    };
    assert_eq!((error.stage(), error.kind()), (Stage::Check, ErrorKind::UnsupportedLimit(limit)), "{error}");
    assert!(error.to_string().contains(limit.name()), "{error}");
    executor.spawn(&command).await.map(drop).expect_err("spawn refuses as exec does");
    assert_eq!(text(executor, "[ -e ran ] || echo clean").await, "clean\n");
    error
}

/// The command was ended because of `limit`, or something in it failed because of it, and the outcome says so.
fn assert_hit(outcome: &Outcome, limit: Limit) {
    let ended = outcome.verdict == Verdict::Exceeded(limit);
    assert!(ended || outcome.limits_hit.contains(&limit), "{limit} was hit: {outcome:?}");
}

/// There is no third way: a limit is accepted where it is supported, and refused by name where it is not. One
/// that belongs to the resource is accepted exactly when the resource was made with it.
pub async fn every_limit_is_enforced_or_refused_by_name<H: ExecHarness>() {
    let executor = plain::<H>().await;
    for limit in Limit::ALL {
        let limits = sample(limit);
        let command = Command::new("true").limits(limits.clone());
        match executor.support().enforcement(limit) {
            Enforcement::PerCommand { .. } => assert!(run(&executor, &command).await.success(), "{limit}"),
            Enforcement::PerResource(own) => {
                if own != limits.value(limit) {
                    refused(&executor, limit, &limits).await;
                }
                let made = H::executor(limits).await;
                assert!(run(&made, &command).await.success(), "{limit}");
                if let Some(stricter) = stricter(limit) {
                    refused(&made, limit, &stricter).await;
                }
            }
            Enforcement::No(_) => {
                refused(&executor, limit, &limits).await;
            }
        }
    }
}

/// A command may be stricter than its resource, never looser.
pub async fn a_limit_above_the_resources_own_is_refused<H: ExecHarness>() {
    let executor = plain::<H>().await;
    for limit in Limit::ALL {
        let Enforcement::PerCommand { .. } = executor.support().enforcement(limit) else { continue };
        let Some(stricter) = stricter(limit) else { continue };
        let made = H::executor(stricter.clone()).await;
        refused(&made, limit, &sample(limit)).await;
        assert!(run(&made, &Command::new("true").limits(stricter)).await.success(), "{limit}");
    }
}

/// What most users set, together, on a program that stays below.
pub async fn memory_process_and_time_limits_go_together<H: ExecHarness>() {
    let executor = plain::<H>().await;
    let wanted = [Limit::Memory, Limit::Processes, Limit::CpuTime, Limit::WallTime];
    let supported = |limit: &Limit| !matches!(executor.support().enforcement(*limit), Enforcement::No(_));
    let limits =
        wanted.into_iter().filter(supported).fold(Limits::new(), |limits, limit| limits.or(&sample(limit)));
    let made = H::executor(limits.clone()).await;
    let outcome = run(&made, &Command::shell("echo a | cat; echo b").limits(limits)).await;
    assert!(outcome.success() && outcome.limits_hit.is_empty(), "{outcome:?}");
    assert_eq!(outcome.stdout.text(), "a\nb\n");
}

/// A program that uses processor time for ever, in one process.
const BURN: &str = "while :; do :; done";

/// Processor time beyond the limit ends the command, and the processes of a command count together.
pub async fn cpu_time_is_summed_over_processes<H: ExecHarness>() {
    let limit = Duration::from_millis(600);
    let limits = Limits::new().cpu_time(limit);
    let Some(executor) = executor_for::<H>(Limit::CpuTime, &limits).await else { return };
    for script in [BURN.to_owned(), format!("{BURN} & {BURN} & {BURN} & wait")] {
        let outcome = run(&executor, &Command::shell(script).limits(limits.clone())).await;
        assert_eq!(outcome.verdict, Verdict::Exceeded(Limit::CpuTime), "{outcome:?}");
        // Where the killed processes are not awaited by anybody, their time may be missing from the usage.
        assert!(outcome.usage.cpu_time.is_some(), "{outcome:?}");
    }
}

/// A program that sleeps longer than its limit of processor time ends by itself.
pub async fn waiting_uses_no_cpu_time<H: ExecHarness>() {
    let limits = Limits::new().cpu_time(Duration::from_secs(1));
    let Some(executor) = executor_for::<H>(Limit::CpuTime, &limits).await else { return };
    let outcome = run(&executor, &Command::shell("sleep 2").limits(limits)).await;
    assert!(outcome.success() && outcome.limits_hit.is_empty(), "{outcome:?}");
}

/// Copies with a buffer of so many mebibytes, which is then in memory for a while.
fn hold(mebibytes: u64) -> Command {
    Command::new("dd")
        .args(["if=/dev/zero", "of=/dev/null", "count=20"])
        .arg(format!("bs={}", mebibytes << 20))
}

/// A program that takes more memory is ended, and one that stays below is not.
pub async fn memory_is_limited<H: ExecHarness>() {
    let limits = Limits::new().memory(64 << 20);
    let Some(executor) = executor_for::<H>(Limit::Memory, &limits).await else { return };
    let below = run(&executor, &hold(8).limits(limits.clone())).await;
    assert!(below.success(), "{below:?}");
    let above = run(&executor, &hold(256).limits(limits.clone())).await;
    assert_eq!(above.verdict, Verdict::Exceeded(Limit::Memory), "{above:?}");
    // The shell may live on when its child is killed; the outcome tells of it all the same.
    let child = "dd if=/dev/zero of=/dev/null count=20 bs=268435456 && echo copied; true";
    let outcome = run(&executor, &Command::shell(child).limits(limits)).await;
    assert_hit(&outcome, Limit::Memory);
    assert!(!outcome.stdout.text().contains("copied"), "{outcome:?}");
}

/// More processes than allowed do not come to life, and fewer do.
pub async fn processes_are_limited<H: ExecHarness>() {
    let limits = Limits::new().processes(8);
    let Some(executor) = executor_for::<H>(Limit::Processes, &limits).await else { return };
    let below =
        Command::shell("sleep 0 & sleep 0 & sleep 0 & sleep 0 & wait; echo all").limits(limits.clone());
    assert_eq!(run(&executor, &below).await.stdout.text(), "all\n");
    let bomb = "i=0; while [ $i -lt 40 ]; do sleep 10 & i=$((i+1)); done; wait; echo all";
    let outcome = run(&executor, &Command::shell(bomb).limits(limits)).await;
    assert!(!outcome.stdout.text().contains("all"), "{outcome:?}");
    assert_hit(&outcome, Limit::Processes);
}

/// The first byte beyond the limit ends the command, on either stream, and none beyond is kept; whether the
/// program goes on writing or ends at once.
pub async fn output_is_limited_to_the_byte<H: ExecHarness>() {
    let limits = Limits::new().output(10_000);
    let Some(executor) = executor_for::<H>(Limit::Output, &limits).await else { return };
    for script in ["head -c 10001 /dev/zero", "cat /dev/zero"] {
        let outcome = run(&executor, &Command::shell(script).limits(limits.clone())).await;
        assert_eq!(outcome.verdict, Verdict::Exceeded(Limit::Output), "{script}");
        assert_eq!((outcome.stdout.bytes.len(), outcome.stdout.truncated), (10_000, true), "{script}");
        assert!(!outcome.stderr.truncated, "{script}");
        let outcome = run(&executor, &Command::shell(format!("{script} >&2")).limits(limits.clone())).await;
        assert_eq!(outcome.verdict, Verdict::Exceeded(Limit::Output), "{script} on stderr");
        assert_eq!(
            (outcome.stderr.bytes.len(), outcome.stderr.truncated),
            (10_000, true),
            "{script} on stderr"
        );
    }
}

/// As many bytes as allowed are allowed, on each stream by itself.
pub async fn output_up_to_the_limit_is_fine<H: ExecHarness>() {
    let limits = Limits::new().output(10_000);
    let Some(executor) = executor_for::<H>(Limit::Output, &limits).await else { return };
    let script = "head -c 10000 /dev/zero; head -c 10000 /dev/zero >&2";
    let outcome = run(&executor, &Command::shell(script).limits(limits)).await;
    assert!(outcome.success(), "{:?}", outcome.verdict);
    assert_eq!((outcome.stdout.bytes.len(), outcome.stderr.bytes.len()), (10_000, 10_000));
    assert!(!outcome.stdout.truncated && !outcome.stderr.truncated);
}

/// A reader of the stream gets what is allowed, then the end.
pub async fn output_is_limited_while_it_is_streamed<H: ExecHarness>() {
    use tokio::io::AsyncReadExt;

    let limits = Limits::new().output(10_000);
    let Some(executor) = executor_for::<H>(Limit::Output, &limits).await else { return };
    let command = Command::shell("cat /dev/zero").limits(limits);
    let mut process = executor.spawn(&command).await.expect("cat starts");
    let mut stdout = process.take_stdout().expect("not taken yet");
    let mut bytes = Vec::new();
    stdout.read_to_end(&mut bytes).await.expect("the stream ends without an error");
    assert_eq!(bytes.len(), 10_000);
    let outcome = process.wait().await.expect("the outcome is known");
    assert_eq!(outcome.verdict, Verdict::Exceeded(Limit::Output));
}

/// Whatever ended the command, the next one runs.
pub async fn an_exceeded_limit_leaves_the_executor_usable<H: ExecHarness>() {
    let commands = [
        (Limit::WallTime, Limits::new().wall_time(Duration::from_millis(300)), "sleep 300"),
        (Limit::CpuTime, Limits::new().cpu_time(Duration::from_millis(300)), BURN),
        (Limit::Output, Limits::new().output(1000), "cat /dev/zero"),
    ];
    for (limit, limits, script) in commands {
        let Some(executor) = executor_for::<H>(limit, &limits).await else { continue };
        for _ in 0..3 {
            let outcome = run(&executor, &Command::shell(script).limits(limits.clone())).await;
            assert_eq!(outcome.verdict, Verdict::Exceeded(limit), "{outcome:?}");
            assert_usable(&executor).await;
        }
    }
}
