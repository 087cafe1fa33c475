//! Every kind of end at every phase of a call: the caller always gets an error that says so, the pool
//! always learns of it, and nothing is left.

use std::time::Duration;

use poolyard_core::Manager;
use poolyard_core::Reuse;
use poolyard_process::worker::wire::Kind;
use poolyard_process::{Cause, Deadline, Exit, OnReturn, Phase, Select, Spawner, Worker, WorkerSpec};

use crate::calls::verdict;
use crate::support::{Bench, gone, key, soon, ways};

/// How a worker can end.
#[derive(Clone, Copy, Debug)]
enum End {
    CodeZero,
    Code,
    Abort,
    Segfault,
    Terminate,
    KillFromOutside,
    StopFromOutside,
}

const ENDS: [End; 7] = [
    End::CodeZero,
    End::Code,
    End::Abort,
    End::Segfault,
    End::Terminate,
    End::KillFromOutside,
    End::StopFromOutside,
];

impl End {
    fn expected(self) -> Option<Exit> {
        match self {
            End::CodeZero => Some(Exit::Code(0)),
            End::Code => Some(Exit::Code(42)),
            End::Abort => Some(Exit::Signal(6)),
            End::Segfault => Some(Exit::Signal(11)),
            End::Terminate => Some(Exit::Signal(15)),
            End::KillFromOutside => Some(Exit::Signal(9)),
            End::StopFromOutside => None,
        }
    }
}

fn signal(worker: &Worker, name: &str) {
    let status =
        std::process::Command::new("kill").arg(format!("-{name}")).arg(worker.pid().to_string()).status();
    assert!(status.expect("kill runs").success());
}

/// Ends the worker in the middle of a call; the deadline is for those that never end.
async fn end_during_call(worker: &mut Worker, end: End) -> Cause {
    let pid = worker.pid().to_string();
    let outside = |name: &'static str| {
        std::thread::spawn(move || {
            std::process::Command::new("kill").arg(format!("-{name}")).arg(pid).status()
        })
    };
    let (request, killer): (&[u8], _) = match end {
        End::CodeZero => (b"exit 0", None),
        End::Code => (b"exit 42", None),
        End::Abort => (b"signal ABRT", None),
        End::Segfault => (b"signal SEGV", None),
        End::Terminate => (b"signal TERM", None),
        End::KillFromOutside => (b"hang", Some(outside("KILL"))),
        End::StopFromOutside => (b"hang", Some(outside("STOP"))),
    };
    let error = worker.call(request, Deadline::after(Duration::from_secs(2))).await.expect_err("an end");
    if let Some(killer) = killer {
        assert!(killer.join().expect("kill runs").expect("kill runs").success());
    }
    assert!(error.elapsed() < Duration::from_secs(5) && error.pid() == worker.pid());
    error.cause().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_end_during_a_call_is_the_caller_s_error() {
    for (way, spec) in ways() {
        for end in ENDS {
            let bench = Bench::new();
            let mut worker = bench.worker(spec.clone()).await;
            let cause = end_during_call(&mut worker, end).await;
            match (end.expected(), &cause) {
                (Some(exit), Cause::Exited(death)) => assert_eq!(death.exit, exit, "{way} {end:?}"),
                (None, Cause::Deadline) => {}
                other => panic!("{way} {end:?}: {other:?}"),
            }
            assert_eq!(verdict(&bench, &spec, &mut worker), Reuse::Broken, "{way} {end:?}");
            let pid = worker.pid();
            drop(worker);
            gone(pid).await;
            assert!(!bench.reported().await.is_empty(), "{way} {end:?}");
        }
    }
}

/// How far the worker gets with a call before its end, as its script knows it; `None` for a call that no worker
/// has yet. A phase without a case here does not compile.
fn reaches(phase: Phase) -> Option<&'static str> {
    match phase {
        Phase::Queue => None,
        Phase::Write => Some("head"),
        Phase::Wait => Some("all"),
        Phase::Read => Some("answering"),
    }
}

/// What the script does at its end. An end without a case here does not compile.
fn by_script(end: End) -> &'static str {
    match end {
        End::CodeZero => "os._exit(0)",
        End::Code => "os._exit(42)",
        End::Abort => "os.kill(os.getpid(), 6)",
        End::Segfault => "os.kill(os.getpid(), 11)",
        End::Terminate => "os.kill(os.getpid(), 15)",
        End::KillFromOutside => "os.kill(os.getpid(), 9)",
        End::StopFromOutside => "os.kill(os.getpid(), 19)",
    }
}

/// A worker in Python that takes a call in as far as it is told, and then does the rest of its script.
fn ends_at(reach: &str, script: &str) -> WorkerSpec {
    let worker = r#"
import os, struct, sys, time
o = os.fdopen(1, "wb", 0)
o.write(struct.pack("<IIB3x", 0, 0, 16))
length, id, kind = struct.unpack("<IIB3x", os.read(0, 12))
if sys.argv[1] != "head":
    while length > 0: length -= len(os.read(0, length))
if sys.argv[1] == "answering": o.write(struct.pack("<IIB3x", 10, id, 17) + b"half")
exec(sys.argv[2])
time.sleep(1000)
"#;
    WorkerSpec::command("python3").args(["-I", "-S", "-c", worker, reach, script])
}

/// Far more than a pipe holds, so that the call is still being written while its head is read.
fn large() -> Vec<u8> {
    vec![b'x'; 4 << 20]
}

async fn error_at(reach: &str, script: &str, spawner: Spawner) -> (Phase, Cause) {
    let (bench, spec) = (Bench::new(), ends_at(reach, script).spawner(spawner));
    let mut worker = bench.worker(spec.clone()).await;
    let late = Deadline::after(Duration::from_millis(1500));
    let error = worker.call(&large(), late).await.expect_err("an end");
    assert_eq!(error.pid(), worker.pid());
    assert_eq!(verdict(&bench, &spec, &mut worker), Reuse::Broken);
    let pid = worker.pid();
    drop(worker);
    gone(pid).await;
    assert!(!bench.reported().await.is_empty());
    (error.phase(), error.cause().clone())
}

/// A worker ends with a call of its own while another one waits for it: that one is answered by its successor.
async fn ends_before_a_call_that_waits(end: End) {
    let dispatcher = crate::dispatch::dispatcher(crate::support::role("frames"), 1, 1, Select::LeastBusy);
    crate::dispatch::all_there(&dispatcher).await;
    let request = match end {
        End::CodeZero => "exit 0",
        End::Code => "exit 42",
        End::Abort => "signal ABRT",
        End::Segfault => "signal SEGV",
        End::Terminate => "signal TERM",
        End::KillFromOutside => "signal KILL",
        End::StopFromOutside => "hang",
    };
    let late = Deadline::after(Duration::from_millis(300));
    let (ended, waited) = tokio::join!(
        dispatcher.call(None, request.as_bytes(), late),
        dispatcher.call(None, b"waited", soon())
    );
    let error = ended.expect_err("an end");
    match (end.expected(), error.cause()) {
        (Some(exit), Cause::Exited(death)) => assert_eq!(death.exit, exit, "{end:?}"),
        (None, Cause::Deadline) => {}
        other => panic!("{end:?}: {other:?}"),
    }
    assert_eq!(waited.unwrap_or_else(|error| panic!("{end:?}: {error}")), b"waited");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_end_at_every_phase_of_a_call_is_told_by_both() {
    let mut cases = 0;
    for (phase, end) in Phase::ALL.into_iter().flat_map(|phase| ENDS.map(|end| (phase, end))) {
        let Some(reach) = reaches(phase) else {
            ends_before_a_call_that_waits(end).await;
            cases += 1;
            continue;
        };
        for spawner in [Spawner::Direct, Spawner::Zygote] {
            let told = error_at(reach, by_script(end), spawner).await;
            match (end.expected(), &told.1) {
                (Some(exit), Cause::Exited(death)) => assert_eq!(death.exit, exit, "{phase:?} {end:?}"),
                (None, Cause::Deadline) => {}
                other => panic!("{phase:?} {end:?} {spawner:?}: {other:?}"),
            }
            assert_eq!(told.0, phase, "{end:?} {spawner:?}");
            cases += 1;
        }
    }
    println!("{cases} cases: {} ends at {} phases", ENDS.len(), Phase::ALL.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_closes_its_output_and_lives_on_is_told_at_every_phase() {
    for phase in Phase::ALL {
        let Some(reach) = reaches(phase) else { continue };
        let told = error_at(reach, "o.close()", Spawner::Direct).await;
        assert_eq!(told, (phase, Cause::Closed));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_end_of_an_idle_worker_is_reported_and_fails_its_check() {
    for (way, spec) in ways() {
        for name in ["KILL", "TERM", "SEGV", "INT"] {
            let bench = Bench::new();
            let mut worker = bench.worker(spec.clone()).await;
            signal(&worker, name);
            assert!(bench.reported().await.contains("SIG"), "{way} {name}");
            assert!(bench.manager.health_check(&key(&spec), &mut worker, &bench.context()).await.is_err());
            let error = worker.call(b"x", soon()).await.expect_err("dead");
            assert!(matches!(error.cause(), Cause::Exited(_)), "{way} {name}: {error}");
        }
    }
}

/// What is said by hand where the worker kit would say this kind, and whether a call survives it.
fn garbled(kind: Kind) -> bool {
    // A message without a case here does not compile.
    match kind {
        Kind::Reply | Kind::Part | Kind::Failure | Kind::Pong | Kind::ArenaReply => false,
        Kind::Ready | Kind::Extend | Kind::Bye => false,
        Kind::Call | Kind::Ping | Kind::Cancel | Kind::Reset | Kind::ArenaCall => false,
    }
}

/// A worker in Python that answers with the bytes that it is started with, and then ends or hangs.
fn scripted(answer: &[u8], hang: bool) -> WorkerSpec {
    let script = r#"
import os, struct, sys, time
i, o = sys.stdin.buffer, sys.stdout.buffer
o.write(struct.pack("<IIB3x", 0, 0, 16)); o.flush()
n, id, kind = struct.unpack("<IIB3x", i.read(12)); i.read(n)
o.write(bytes.fromhex(sys.argv[1])); o.flush()
time.sleep(int(sys.argv[2]))
"#;
    let hex: String = answer.iter().map(|byte| format!("{byte:02x}")).collect();
    let seconds = if hang { "1000" } else { "0" };
    WorkerSpec::command("python3").args(["-I", "-S", "-c", script, &hex, seconds])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_cut_short_by_death_is_an_error() {
    let mut cases = 0;
    for kind in Kind::ALL {
        assert!(!garbled(kind));
        for cut in [1, 11, 12, 15] {
            let bench = Bench::new();
            let mut frame = vec![4, 0, 0, 0, 1, 0, 0, 0, kind as u8, 0, 0, 0, 1, 2, 3, 4];
            frame.truncate(cut);
            let mut worker = bench.worker(scripted(&frame, false)).await;
            let error = worker.call(b"x", soon()).await.expect_err("half a message");
            assert!(matches!(error.cause(), Cause::Exited(_)), "{kind:?} cut at {cut}: {error:?}");
            assert_eq!(error.phase(), Phase::Read, "{kind:?} cut at {cut}");
            assert_eq!(error.received(), frame, "{kind:?} cut at {cut}");
            cases += 1;
        }
    }
    println!("{cases} cases from {} kinds of messages", Kind::ALL.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_that_does_not_belong_into_a_call_ends_it_at_once() {
    for kind in Kind::ALL {
        let bench = Bench::new();
        // Of another call, and with a payload that fits none.
        let frame = [1, 0, 0, 0, 99, 0, 0, 0, kind as u8, 0, 0, 0, 7];
        let mut worker = bench.worker(scripted(&frame, true)).await;
        let error = worker.call(b"x", Deadline::after(Duration::from_secs(5))).await.expect_err("nonsense");
        match kind {
            // A wish to retire says nothing about the call: it goes on.
            Kind::Bye => assert_eq!(error.cause(), &Cause::Deadline),
            _ => assert!(matches!(error.cause(), Cause::Malformed(_)), "{kind:?}: {error:?}"),
        }
        assert!(!worker.is_usable());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_misbehaviour_on_the_channel_ends_the_call_in_bounded_memory() {
    let short = || Deadline::after(Duration::from_millis(300));
    for (way, spec) in ways() {
        for how in ["text", "half_header", "half_frame", "half_then_exit", "giant", "wrong_id", "endless"] {
            let bench = Bench::new();
            let mut worker = bench.worker(spec.clone().max_message(1 << 20)).await;
            let error = worker.call(format!("raw {how}").as_bytes(), short()).await.expect_err(how);
            match (how, error.cause()) {
                ("text" | "giant" | "wrong_id" | "endless", Cause::Malformed(_)) => {}
                ("half_header" | "half_frame", Cause::Deadline) => assert_eq!(error.phase(), Phase::Read),
                ("half_then_exit", Cause::Exited(death)) => assert_eq!(death.exit, Exit::Code(9)),
                (_, cause) => panic!("{way} {how}: {cause:?}"),
            }
            assert!(error.received().len() <= 1024);
            assert_eq!(verdict(&bench, &spec, &mut worker), Reuse::Broken);
            let pid = worker.pid();
            drop(worker);
            gone(pid).await;
        }
    }
}

#[tokio::test]
async fn what_a_worker_says_between_calls_is_noticed() {
    let bench = Bench::new();
    let script = r#"
import struct, sys, time
i, o = sys.stdin.buffer, sys.stdout.buffer
o.write(struct.pack("<IIB3x", 0, 0, 16)); o.flush()
n, id, kind = struct.unpack("<IIB3x", i.read(12))
o.write(struct.pack("<IIB3x", n, id, 17) + i.read(n)); o.flush()
time.sleep(0.05)
o.write(b"late debugging output"); o.flush()
sys.stderr.write("said it"); sys.stderr.flush()
time.sleep(1000)
"#;
    let spec = WorkerSpec::command("python3").args(["-I", "-S", "-c", script]).on_return(OnReturn::Reset);
    let mut worker = bench.worker(spec.clone()).await;
    assert_eq!(worker.call(b"x", soon()).await.expect("an echo"), b"x");
    crate::support::eventually("the output", || worker.stderr().contains("said it").then_some(())).await;
    let (key, cx) = (key(&spec), bench.context());
    let check = bench.manager.health_check(&key, &mut worker, &cx).await;
    assert_eq!(check.expect_err("a talkative worker").kind(), poolyard_process::ErrorKind::Desynchronised);
    assert!(bench.manager.recycle(&key, &mut worker, &cx).await.is_err());
    let error = worker.call(b"y", soon()).await.expect_err("a talkative worker");
    assert_eq!(error.cause(), &Cause::Desynchronised);
}
