//! Commands in a pooled container.

use std::time::Duration;

use poolyard_docker::Container;
use poolyard_exec::{Command, ErrorKind, Exec, Limit, Limits, OutputReader, TtySize, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::engine::{pool_of, sandbox, scene};

#[tokio::test(flavor = "multi_thread")]
async fn a_command_runs_and_its_output_and_code_come_back() {
    let Some(scene) = scene() else { return };
    let manager = scene.manager();
    let pool = pool_of(&manager, 2);
    let container = pool.acquire(&sandbox()).await.unwrap();
    let command = Command::shell("cat; echo err >&2; exit 3").stdin_bytes("in").env("PATH", "/bin");
    let outcome = container.exec(&command).await.unwrap();
    assert_eq!(outcome.verdict, Verdict::Exited { code: 3 });
    assert_eq!((outcome.stdout.text(), outcome.stderr.text()), ("in".into(), "err\n".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_over_its_time_ends_with_its_whole_tree() {
    let Some(scene) = scene() else { return };
    let manager = scene.manager();
    let pool = pool_of(&manager, 2);
    let container = pool.acquire(&sandbox()).await.unwrap();
    let limits = Limits::new().wall_time(Duration::from_millis(300));
    let script = "setsid sh -c 'sleep 1000 & sleep 1000' & (sleep 1000 &) ; sleep 1000";
    let command = Command::shell(script).env("PATH", "/bin").limits(limits);
    let outcome = container.exec(&command).await.unwrap();
    assert_eq!(outcome.verdict, Verdict::Exceeded(Limit::WallTime));
    let left = container.exec(&Command::shell("ps | grep -c '[s]leep'").env("PATH", "/bin")).await.unwrap();
    assert_eq!(left.stdout.text(), "0\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_stops_or_kills_what_runs_beside_it_harms_only_itself() {
    let Some(scene) = scene() else { return };
    let manager = scene.manager();
    let pool = pool_of(&manager, 2);
    let container = pool.acquire(&sandbox()).await.unwrap();
    for signal in ["STOP", "KILL"] {
        // All but process 1, the shell and its guardian: the guardian of the next command.
        let script = format!(
            "n=0; for p in /proc/[0-9]*; do p=${{p#/proc/}}; case $p in 1 | $$ | $PPID) ;; \
             *) kill -{signal} $p && n=$((n + 1)) ;; esac; done; echo $n"
        );
        let outcome = container.exec(&Command::shell(script).env("PATH", "/bin")).await.unwrap();
        assert_eq!(outcome.stdout.text(), "1\n", "{}", outcome.stderr.text());
        let next = container.exec(&Command::shell("echo fine").env("PATH", "/bin")).await.unwrap();
        assert_eq!(next.stdout.text(), "fine\n");
    }
    let limits = Limits::new().wall_time(Duration::from_millis(300));
    // The second one stops its guardian again and again.
    for script in ["kill -STOP $PPID; sleep 1000", "while :; do kill -STOP $PPID; done"] {
        let command = Command::shell(script).env("PATH", "/bin").limits(limits.clone());
        let outcome = tokio::time::timeout(Duration::from_secs(10), container.exec(&command)).await;
        assert_eq!(outcome.expect("an end").unwrap().verdict, Verdict::Exceeded(Limit::WallTime));
        let left = Command::shell("ps | grep -c '[s]leep\\|[w]hile'").env("PATH", "/bin");
        assert_eq!(container.exec(&left).await.unwrap().stdout.text(), "0\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_may_be_longer_than_what_a_pipe_takes_at_once() {
    let Some(scene) = scene() else { return };
    let manager = scene.manager();
    let pool = pool_of(&manager, 2);
    let container = pool.acquire(&sandbox()).await.unwrap();
    for length in [10_000, 40_000, 100_000] {
        let command = Command::shell("echo ${#LONG}").env("PATH", "/bin").env("LONG", "x".repeat(length));
        let outcome = container.exec(&command).await.unwrap();
        assert_eq!(outcome.stdout.text(), format!("{length}\n"), "{:?}", outcome.verdict);
    }
}

/// Reads what a program wrote, until `wanted` is there.
async fn until_written(stdout: &mut OutputReader, wanted: &str) -> String {
    let mut text = String::new();
    let mut piece = [0; 1024];
    while !text.contains(wanted) {
        let read = tokio::time::timeout(Duration::from_secs(30), stdout.read(&mut piece)).await;
        let n = read.unwrap_or_else(|_| panic!("no {wanted:?} within 30 s: {text:?}")).unwrap();
        assert_ne!(n, 0, "the end before {wanted:?}: {text:?}");
        text.push_str(&String::from_utf8_lossy(&piece[..n]));
    }
    text
}

/// What somebody sees who works with a shell at a terminal, in any container.
pub(crate) async fn talk_to_a_shell(container: &Container) {
    let shell = Command::new("/bin/sh").inherit_env().env("PS1", "ready>").stdin_piped().tty(33, 99);
    let mut process = container.spawn(&shell).await.unwrap();
    let (mut keys, mut screen) = (process.take_stdin().unwrap(), process.take_stdout().unwrap());
    until_written(&mut screen, "ready>").await;
    keys.write_all(b"[ -t 0 ] && [ -t 1 ] && [ -t 2 ] && stty size </dev/tty\n").await.unwrap();
    until_written(&mut screen, "\n33 99\r\n").await;
    // What is typed goes to the program in front, and the key for it interrupts it.
    keys.write_all(b"echo up; cat\n").await.unwrap();
    until_written(&mut screen, "\nup\r\n").await;
    keys.write_all(b"hello\n").await.unwrap();
    until_written(&mut screen, "hello\r\nhello\r\n").await;
    keys.write_all(b"\x03").await.unwrap();
    until_written(&mut screen, "ready>").await;
    keys.write_all(b"exit 5\n").await.unwrap();
    let outcome = process.wait().await.unwrap();
    assert_eq!(outcome.verdict, Verdict::Exited { code: 5 });
    assert!(outcome.stderr.bytes.is_empty(), "{outcome:?}");
}

/// A terminal of another size: the program in it is told, and sees it.
pub(crate) async fn change_a_size(container: &Container) {
    // An engine tells a program its first size only after its start.
    let told = "case $(stty size) in 7*61) stty size; exit 6 ;; esac";
    let script = format!("trap '{told}' WINCH; echo set; while :; do read line; done");
    let command = Command::shell(script).inherit_env().stdin_piped().tty(33, 99);
    let mut process = container.spawn(&command).await.unwrap();
    let mut screen = process.take_stdout().unwrap();
    until_written(&mut screen, "set\r\n").await;
    process.resize(TtySize { rows: 7, columns: 61 }).await.unwrap();
    until_written(&mut screen, "7 61\r\n").await;
    assert_eq!(process.wait().await.unwrap().verdict, Verdict::Exited { code: 6 });
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_can_work_at_a_terminal_in_a_container() {
    let Some(scene) = scene() else { return };
    let manager = scene.manager();
    let pool = pool_of(&manager, 1);
    for spec in [sandbox(), sandbox().user("user")] {
        let container = pool.acquire(&spec).await.unwrap();
        talk_to_a_shell(&container).await;
        change_a_size(&container).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_input_of_a_terminal_ends_wherever_its_line_stands() {
    let Some(scene) = scene() else { return };
    let manager = scene.manager();
    let pool = pool_of(&manager, 1);
    let container = pool.acquire(&sandbox()).await.unwrap();
    end_of_input_is_typed(&container).await;
}

pub(crate) async fn end_of_input_is_typed(container: &Container) {
    for (input, echoed) in [("", ""), ("two\nlines\n", "lines\r\n"), ("half a line", "half a line")] {
        let limits = Limits::new().wall_time(Duration::from_secs(30));
        let cat = Command::new("/bin/cat").inherit_env().stdin_bytes(input).tty(24, 80).limits(limits);
        let outcome = container.exec(&cat).await.unwrap();
        assert!(outcome.success() && outcome.stdout.text().ends_with(echoed), "{input:?}: {outcome:?}");
    }
    let cat = container.exec(&Command::new("/bin/cat").inherit_env().tty(24, 80)).await.unwrap();
    assert!(cat.success(), "{cat:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_output_of_a_terminal_arrives_and_its_limits_hold() {
    let Some(scene) = scene() else { return };
    let manager = scene.manager();
    let pool = pool_of(&manager, 1);
    let container = pool.acquire(&sandbox()).await.unwrap();
    let script = "i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done";
    let numbers = container.exec(&Command::shell(script).env("PATH", "/bin").tty(24, 80)).await.unwrap();
    let expected: String = (0..20000).map(|n| format!("{n}\r\n")).collect();
    assert!(numbers.stdout.text() == expected, "{} of {} bytes", numbers.stdout.bytes.len(), expected.len());
    let much = Command::shell("yes").env("PATH", "/bin").tty(24, 80).limits(Limits::new().output(100_000));
    let outcome = container.exec(&much).await.unwrap();
    assert_eq!(outcome.verdict, Verdict::Exceeded(Limit::Output));
    let short = Limits::new().wall_time(Duration::from_millis(300));
    let background = Command::shell("sleep 1000 & sleep 1000").env("PATH", "/bin").tty(24, 80).limits(short);
    let outcome = container.exec(&background).await.unwrap();
    assert_eq!(outcome.verdict, Verdict::Exceeded(Limit::WallTime));
    let terminals = container.exec(&Command::shell("ls /dev/pts").env("PATH", "/bin")).await.unwrap();
    assert_eq!(terminals.stdout.text(), "ptmx\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_size_is_refused_where_there_is_no_terminal() {
    let Some(scene) = scene() else { return };
    let manager = scene.manager();
    let pool = pool_of(&manager, 1);
    let container = pool.acquire(&sandbox()).await.unwrap();
    let process = container.spawn(&Command::new("/bin/cat").stdin_piped()).await.unwrap();
    let error = process.resize(TtySize { rows: 1, columns: 1 }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidCommand { field: "tty" });
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_come_from_the_containers_own_groups() {
    let Some(scene) = scene() else { return };
    let manager = scene.manager();
    let pool = pool_of(&manager, 1);
    let container = pool.acquire(&sandbox()).await.unwrap();
    let before = container.stats().await.unwrap();
    let running = container.spawn(&Command::shell("sleep 1000 & sleep 1000 & wait").inherit_env()).await;
    until_stats(&container, |stats| stats.processes >= before.processes.map(|n| n + 3)).await;
    drop(running);
    let busy = "head -c 20000000 /dev/zero > /box/x; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done";
    assert!(container.exec(&Command::shell(busy).inherit_env()).await.unwrap().success());
    let after = container.stats().await.unwrap();
    assert!(after.cpu > before.cpu, "{before:?} {after:?}");
    assert!(after.memory.unwrap() >= before.memory.unwrap() + 19_000_000, "{before:?} {after:?}");
    assert!(after.memory_peak.is_none_or(|peak| peak >= 19_000_000), "{after:?}");
}

async fn until_stats(container: &Container, wanted: impl Fn(&poolyard_docker::Stats) -> bool) {
    for _ in 0..600 {
        if wanted(&container.stats().await.unwrap()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not within 30 s: {:?}", container.stats().await);
}

/// Everything that goes to the engine goes through a socket of the network.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_is_reached_over_tcp() {
    let Some(scene) = scene() else { return };
    let host = scene.host();
    let engine = host.strip_prefix("unix://").unwrap().to_owned();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let relay = tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let engine = engine.clone();
            tokio::spawn(async move {
                let mut server = tokio::net::UnixStream::connect(engine).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    let manager = poolyard_docker::DockerManager::builder().host(address).build().unwrap();
    let pool = pool_of(&manager, 1);
    let container = pool.acquire(&sandbox()).await.unwrap();
    assert!(container.exec(&Command::new("/bin/true")).await.unwrap().success());
    assert_eq!(container.engine_exec(&["/bin/true"], b"").await.unwrap().code, 0);
    drop(container);
    assert!(pool.close(Duration::from_secs(30)).await.is_clean());
    relay.abort();
}
