//! Limits and the verdicts about them.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use poolyard_core::Manager;
use poolyard_exec::{Command, ErrorKind, Exec, Limit, Limits, Network, Source, Verdict};
use poolyard_linux_ns::{Background, LinuxNs, Sandbox, SandboxSpec};
use tokio::time::timeout;

use crate::support::{backend, backend_with_cgroups, context, printed, run, sandbox, sandbox_of, shell};

fn limited(script: &str, limits: Limits) -> Command {
    Command::shell(script).limits(limits)
}

#[tokio::test]
async fn wall_time_ends_a_command_and_all_that_it_started() {
    let Some(ns) = backend("wall time") else { return };
    let sandbox = sandbox(&ns).await;
    let command =
        limited("setsid sleep 1000 & sleep 1000", Limits::new().wall_time(Duration::from_millis(50)));
    let outcome = run(&sandbox, &command).await;
    assert_eq!(outcome.verdict, Verdict::Exceeded(Limit::WallTime));
    assert!(outcome.usage.wall_time.unwrap().value >= Duration::from_millis(50));
    assert_eq!(printed(&sandbox, "echo alive").await, "alive");
}

#[tokio::test]
async fn who_writes_without_end_gets_no_more_time_for_it() {
    let Some(ns) = backend("endless output") else { return };
    let sandbox = sandbox(&ns).await;
    let limits = Limits::new().wall_time(Duration::from_millis(200));
    let outcome = run(&sandbox, &limited("yes & yes >&2", limits).capture(10)).await;
    assert_eq!(outcome.verdict, Verdict::Exceeded(Limit::WallTime));
    let wall = outcome.usage.wall_time.unwrap().value;
    assert!(wall < Duration::from_secs(5), "{wall:?}");
}

#[tokio::test]
async fn who_is_left_running_and_writes_without_end_holds_up_no_outcome() {
    let Some(ns) = backend("endless output of the background") else { return };
    let sandbox = sandbox_of(&ns, &SandboxSpec::builder().background(Background::Keep).build()).await;
    let outcome = run(&sandbox, &Command::shell("yes & yes >&2 & sleep 0.05").capture(10)).await;
    assert!(outcome.success() && outcome.stdout.truncated && outcome.stderr.truncated);
}

#[tokio::test]
async fn who_waits_for_a_process_that_writes_without_end_hears_of_its_end() {
    let Some(ns) = backend("endless output that is waited for") else { return };
    let sandbox = sandbox_of(&ns, &SandboxSpec::builder().background(Background::Keep).build()).await;
    let limits = Limits::new().wall_time(Duration::from_millis(200));
    let writers = "yes & yes & yes & yes";
    let mut killed = sandbox.spawn(&limited(writers, limits).capture(10)).await.unwrap();
    let outcome = timeout(Duration::from_secs(10), killed.wait()).await.expect("its time is over").unwrap();
    assert_eq!(outcome.verdict, Verdict::Exceeded(Limit::WallTime));
    let left = Command::shell(format!("{writers} & sleep 0.05")).capture(10);
    let mut ended = sandbox.spawn(&left).await.unwrap();
    let outcome = timeout(Duration::from_secs(10), ended.wait()).await.expect("it has ended").unwrap();
    assert!(outcome.success() && outcome.stdout.truncated, "{outcome:?}");
}

#[tokio::test]
async fn processor_time_is_counted_over_all_processes() {
    let Some(ns) = backend_with_cgroups("cpu time") else { return };
    let sandbox = sandbox(&ns).await;
    let script = "for i in 1 2 3 4; do (while :; do :; done) & done; wait";
    let limit = Duration::from_millis(300);
    let outcome = run(&sandbox, &limited(script, Limits::new().cpu_time(limit))).await;
    assert_eq!(outcome.verdict, Verdict::Exceeded(Limit::CpuTime));
    let cpu = outcome.usage.cpu_time.unwrap();
    assert!(matches!(cpu.source, Source::CgroupV1 | Source::CgroupV2));
    assert!(cpu.value >= limit);
}

#[tokio::test]
async fn memory_is_bounded_and_its_end_is_told() {
    let Some(ns) = backend_with_cgroups("memory") else { return };
    let sandbox = sandbox(&ns).await;
    let limits = Limits::new().memory(32 << 20);
    let bomb = "x=a; while :; do x=$x$x; done";
    let outcome = run(&sandbox, &limited(bomb, limits.clone())).await;
    assert_eq!(outcome.verdict, Verdict::Exceeded(Limit::Memory), "{outcome:?}");
    // What is written to the sandbox's file system is memory, too.
    let fill = "head -c 50M /dev/zero > /tmp/fill";
    let outcome = run(&sandbox, &limited(fill, limits)).await;
    assert_eq!(outcome.verdict, Verdict::Exceeded(Limit::Memory), "{outcome:?}");
    let outcome = shell(&sandbox, "echo alive").await;
    assert_eq!(outcome.stdout.text(), "alive\n");
}

#[tokio::test]
async fn processes_are_bounded_and_a_fork_bomb_ends() {
    let Some(ns) = backend_with_cgroups("processes") else { return };
    let sandbox = sandbox(&ns).await;
    let mut time = Duration::from_millis(500);
    loop {
        let limits = Limits::new().processes(20).wall_time(time);
        let outcome = run(&sandbox, &limited("f() { f | f & f; }; f; sleep 1000", limits)).await;
        if outcome.limits_hit.contains(&Limit::Processes) {
            break;
        }
        // A slow machine needs longer to make so many.
        assert!(time < Duration::from_secs(30), "{outcome:?}");
        time *= 2;
    }
    let left = printed(&sandbox, "echo /proc/[0-9]*").await;
    assert_eq!(left.split(' ').count(), 1, "the shell is alone, not {left}");
}

#[tokio::test]
async fn a_command_beside_as_many_processes_as_there_may_be_still_runs() {
    let Some(ns) = backend_with_cgroups("a full cgroup") else { return };
    let sandbox = sandbox(&ns).await;
    let one = Limits::new().processes(1);
    let mut first = sandbox.spawn(&Command::new("sleep").arg("1000").limits(one.clone())).await.unwrap();
    // The cgroup refuses to have its runner born in it, and lets it in: there it cannot fork.
    let second = run(&sandbox, &Command::shell("(true); echo $?").limits(one)).await;
    assert!(second.limits_hit.contains(&Limit::Processes), "{second:?}");
    first.kill();
    let first = first.wait().await.unwrap();
    assert_eq!(first.limits_hit, [Limit::Processes], "it was running when the other one was refused a fork");
    let third = run(&sandbox, &Command::new("true").limits(Limits::new().processes(1))).await;
    assert_eq!((third.success(), third.limits_hit.as_slice()), (true, &[][..]));
}

#[tokio::test]
async fn a_runner_that_could_not_be_born_is_no_limit_that_somebody_hit() {
    let Some(ns) = backend_with_cgroups("a refused birth") else { return };
    let sandbox = sandbox(&ns).await;
    let one = Limits::new().processes(1);
    let mut first = sandbox.spawn(&Command::new("sleep").arg("1000").limits(one.clone())).await.unwrap();
    let second = run(&sandbox, &Command::new("true").limits(one)).await;
    first.kill();
    let first = first.wait().await.unwrap();
    assert_eq!((first.limits_hit, second.limits_hit), (vec![], vec![]));
}

#[tokio::test]
async fn output_is_bounded_to_the_byte_for_quick_and_for_long_programs() {
    let Some(ns) = backend("output") else { return };
    let sandbox = sandbox(&ns).await;
    let limits = Limits::new().output(1000);
    for script in ["head -c 1001 /dev/zero", "yes", "sleep 0.05; yes >&2"] {
        let outcome = run(&sandbox, &limited(script, limits.clone())).await;
        assert_eq!(outcome.verdict, Verdict::Exceeded(Limit::Output), "{script}");
        let kept = outcome.stdout.bytes.len() + outcome.stderr.bytes.len();
        assert_eq!(kept, 1000, "{script}");
    }
    let outcome = run(&sandbox, &limited("head -c 1000 /dev/zero", limits)).await;
    assert!(outcome.success() && !outcome.stdout.truncated);
    let outcome = run(&sandbox, &Command::shell("seq 100000").capture(10)).await;
    assert!(outcome.success() && outcome.stdout.truncated && outcome.stdout.bytes.len() == 10);
}

#[tokio::test]
async fn file_size_open_files_and_stack_are_bounded() {
    let Some(ns) = backend("resource limits") else { return };
    let sandbox = sandbox(&ns).await;
    let outcome =
        run(&sandbox, &limited("exec head -c 5000 /dev/zero > f", Limits::new().file_size(1000))).await;
    assert_eq!(outcome.verdict, Verdict::Exceeded(Limit::FileSize));
    let limits = Limits::new().open_files(17).stack(1 << 20);
    let outcome = run(&sandbox, &limited("ulimit -n; ulimit -s; ulimit -c", limits)).await;
    assert_eq!(outcome.stdout.text(), "17\n1024\n0\n");
}

#[tokio::test]
async fn disk_bytes_and_inodes_are_bounded_for_the_whole_sandbox() {
    let Some(ns) = backend("disk") else { return };
    let spec = SandboxSpec::builder().limits(Limits::new().disk_bytes(1 << 20).disk_inodes(10)).build();
    let sandbox = sandbox_of(&ns, &spec).await;
    let bytes =
        "head -c 600K /dev/zero > /tmp/a && head -c 600K /dev/zero > /box/b; echo $?; rm /tmp/a /box/b";
    let outcome = shell(&sandbox, bytes).await;
    assert!(outcome.stderr.text().contains("No space left"), "{outcome:?}");
    assert_eq!(outcome.stdout.text(), "1\n");
    let inodes = "i=0; while touch $i; do i=$((i+1)); done 2>/dev/null; ls | wc -l";
    assert_eq!(printed(&sandbox, inodes).await, "10");
}

#[tokio::test]
async fn a_limit_that_cannot_be_enforced_is_refused_by_name() {
    let Some(ns) = backend("refusals") else { return };
    let sandbox = sandbox(&ns).await;
    let refusals = [
        (Limits::new().disk_bytes(1), Limit::DiskBytes),
        (Limits::new().network(Network::Loopback), Limit::Network),
        (Limits::new().cpu_bandwidth(500), Limit::CpuBandwidth),
    ];
    for (limits, limit) in refusals {
        let error = sandbox.exec(&Command::new("true").limits(limits)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnsupportedLimit(limit), "{error}");
    }
}

#[tokio::test]
async fn processors_and_their_share_are_bounded_for_the_whole_sandbox() {
    let Some(ns) = backend_with_cgroups("cpu set") else { return };
    let spec = SandboxSpec::builder().limits(Limits::new().cpu_set([0]).cpu_bandwidth(200)).build();
    let sandbox = match ns.sandbox(&spec).await {
        Ok(sandbox) => sandbox,
        Err(error) => return crate::support::skip("cpu set", "cpuset", &error.to_string()),
    };
    // Not even by asking can a program get another processor.
    assert_eq!(printed(&sandbox, "taskset -p -c 0,1 $$ >/dev/null; nproc").await, "1");
    let spin = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
    let usage = shell(&sandbox, spin).await.usage;
    let (cpu, wall) = (usage.cpu_time.unwrap().value, usage.wall_time.unwrap().value);
    assert!(cpu < wall / 2, "used {cpu:?} of {wall:?}");
}

#[tokio::test]
async fn the_network_is_what_was_asked_for() {
    let Some(ns) = backend("network") else { return };
    let interfaces = "cat /proc/net/dev | tail -n +3 | cut -d: -f1 | tr -d ' '";
    let connect = "exec 2>/dev/null; exec 3<>/dev/tcp/127.0.0.1/1 && echo connected";
    let bash = |script: &str| Command::new("bash").arg("-c").arg(script);
    let off = sandbox(&ns).await;
    assert_eq!(printed(&off, interfaces).await, "lo");
    let loopback = sandbox_of(&ns, &SandboxSpec::builder().network(Network::Loopback).build()).await;
    assert_eq!(printed(&loopback, interfaces).await, "lo");
    // Nobody listens: over a loopback that is up the refusal is immediate and says so.
    let refused = run(&loopback, &bash("exec 3<>/dev/tcp/127.0.0.1/1")).await;
    assert!(refused.stderr.text().contains("refused"), "{}", refused.stderr.text());
    let nothing = run(&off, &bash(connect)).await;
    assert_eq!(nothing.stdout.text(), "");
    let shared = sandbox_of(&ns, &SandboxSpec::builder().network(Network::Shared).build()).await;
    let host = std::fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(printed(&shared, "readlink /proc/self/ns/net").await, host.to_str().unwrap());
}

/// Four MiB on a disk for sandboxes to read as /data/big, and a sandbox that may read so much in a second. Or a skip.
async fn reader(ns: &LinuxNs, test: &str, bytes_per_second: u64) -> Option<(Disk, Sandbox)> {
    let disk = Disk::new(test);
    if rustix::fs::statfs(&disk.0).unwrap().f_type as i64 == 0x0102_1994 {
        crate::support::skip(test, "disk", "/var/tmp lies in memory");
        return None;
    }
    let limits = Limits::new().io_bandwidth(bytes_per_second);
    match ns.sandbox(&SandboxSpec::builder().tree("data", &disk.0).limits(limits).build()).await {
        Ok(sandbox) => Some((disk, sandbox)),
        Err(error) => {
            assert_eq!(error.kind(), poolyard_linux_ns::ErrorKind::Unsupported, "{error}");
            crate::support::skip(test, "disk", &error.to_string());
            None
        }
    }
}

/// A directory with a file of 4 MiB; it goes with this value.
struct Disk(PathBuf);

impl Disk {
    fn new(test: &str) -> Self {
        let dir =
            PathBuf::from(format!("/var/tmp/poolyard-{}-{}", test.replace(' ', "-"), std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("big"), vec![b'x'; 4 << 20]).unwrap();
        Self(dir)
    }

    /// Writes the file back and takes it out of memory, so that it has to be read.
    fn forget(&self) {
        let file = std::fs::File::open(self.0.join("big")).unwrap();
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

// `wc -c` would not do: it asks for the size, and reads nothing.
const READ: &str = "cat /data/big > /dev/null";
const READ_DIRECT: &str = "dd if=/data/big of=/dev/null bs=1M iflag=direct 2> /dev/null";

#[tokio::test]
async fn what_is_read_from_a_disk_is_bounded_for_the_whole_sandbox() {
    let Some(ns) = backend_with_cgroups("io bandwidth") else { return };
    let Some((disk, bounded)) = reader(&ns, "io bandwidth", 2 << 20).await else { return };
    let free = sandbox_of(&ns, &SandboxSpec::builder().tree("data", &disk.0).build()).await;
    for script in [READ_DIRECT, READ] {
        let mut walls = Vec::new();
        for sandbox in [&free, &bounded] {
            disk.forget();
            let outcome = shell(sandbox, script).await;
            assert!(outcome.success(), "{outcome:?}");
            walls.push(outcome.usage.wall_time.unwrap().value);
        }
        // Two seconds at that rate; the disk itself needs milliseconds.
        assert!(walls[1] > Duration::from_secs(1), "{script}: {walls:?}");
        assert!(walls[0] < walls[1] / 2, "{script}: {walls:?}");
    }
}

#[tokio::test]
async fn who_waits_for_a_bounded_disk_is_killed_at_once() {
    let Some(ns) = backend_with_cgroups("io kill") else { return };
    let Some((disk, mut sandbox)) = reader(&ns, "io kill", 64 << 10).await else { return };
    // One read of four MiB takes a minute at that rate, and the kernel lets nobody die in it.
    let read = "dd if=/data/big of=/dev/null bs=4M iflag=direct 2> /dev/null";
    let soon = Duration::from_secs(10);
    disk.forget();
    let outcome = run(&sandbox, &limited(read, Limits::new().wall_time(Duration::from_millis(300)))).await;
    assert_eq!(outcome.verdict, Verdict::Exceeded(Limit::WallTime));
    assert!(outcome.usage.wall_time.unwrap().value < soon, "{outcome:?}");
    // The next command is bounded again, and a recycle does not wait for it either.
    disk.forget();
    let some_time = Duration::from_secs(3);
    assert!(timeout(some_time, shell(&sandbox, read)).await.is_err(), "it was not bounded");
    let (spec, started) = (sandbox.spec().clone(), Instant::now());
    ns.recycle(&spec, &mut sandbox, &context()).await.unwrap();
    assert!(started.elapsed() < soon, "{:?}", started.elapsed());
    assert!(timeout(some_time, shell(&sandbox, read)).await.is_err(), "it was not bounded");
    let started = Instant::now();
    ns.destroy(&spec, &mut sandbox, poolyard_core::Reason::Closed, &context()).await;
    assert!(started.elapsed() < soon, "{:?}", started.elapsed());
}
