//! What a call promises.

use std::time::{Duration, Instant};

use poolyard_core::{Manager, Meta, ResourceId, Reuse};
use poolyard_process::{Cause, Deadline, Exit, Phase, WorkerSpec};

use crate::support::{Bench, key, role, soon, text, ways};

#[tokio::test]
async fn a_call_is_answered_however_the_worker_was_started() {
    let bench = Bench::new();
    for (way, spec) in ways() {
        let mut worker = bench.worker(spec).await;
        for round in 0..100 {
            let said = format!("hello {round}");
            assert_eq!(worker.call(said.as_bytes(), soon()).await.expect(way), said.as_bytes());
        }
        let pid = text(worker.call(b"pid", soon()).await.expect(way));
        assert_eq!(pid, worker.pid().to_string(), "{way}");
        assert_eq!(worker.calls(), 101);
    }
}

#[tokio::test]
async fn payloads_of_every_size_come_back_unchanged() {
    let bench = Bench::new();
    for arena in [false, true] {
        let spec = role("frames").pipe_size(1 << 20);
        let mut worker = bench.worker(if arena { spec.arena(4 << 20) } else { spec }).await;
        for size in [0, 1, 4096, 65_535, 65_536, 65_537, 200_000, 1 << 20, 3 << 20, 5 << 20] {
            let payload: Vec<u8> = (0..size).map(|n: usize| (n % 251) as u8).collect();
            let answer = worker.call(&payload, soon()).await.expect("an echo");
            assert!(answer == payload, "{size} bytes, arena: {arena}");
        }
    }
}

#[tokio::test]
async fn a_stream_gives_the_parts_as_they_come_and_a_call_joins_them() {
    let bench = Bench::new();
    let mut worker = bench.worker(role("frames")).await;
    let mut stream = worker.stream(b"parts 3", soon()).expect("a stream");
    let mut parts = Vec::new();
    while let Some(part) = stream.next().await.expect("a part") {
        parts.push(text(part));
    }
    assert_eq!(parts, ["0,", "1,", "2,", "end"]);
    assert_eq!(text(worker.call(b"parts 4", soon()).await.expect("parts")), "0,1,2,3,end");
}

#[tokio::test]
async fn a_batch_of_any_size_is_answered_in_order() {
    let bench = Bench::new();
    let mut worker = bench.worker(role("frames")).await;
    // Far more than both pipes hold: writing everything before reading would hang.
    let requests: Vec<Vec<u8>> = (0..2000).map(|n| format!("{n:0600}").into_bytes()).collect();
    let answers = worker.call_batch(&requests, soon()).await.expect("answers");
    assert_eq!(answers.len(), 2000);
    assert!(answers.iter().zip(&requests).all(|(answer, request)| answer.as_ref() == Ok(request)));
    let mixed = worker.call_batch(&["one", "fail two", "three"], soon()).await.expect("answers");
    assert_eq!(mixed, [Ok(b"one".to_vec()), Err("two".into()), Ok(b"three".to_vec())]);
    assert!(worker.is_usable());
    assert!(worker.call_batch::<&str>(&[], soon()).await.expect("nothing").is_empty());
}

#[tokio::test]
async fn a_refusal_of_the_worker_leaves_it_usable() {
    let bench = Bench::new();
    let mut worker = bench.worker(role("frames")).await;
    let error = worker.call(b"fail not today", soon()).await.expect_err("a refusal");
    assert_eq!(error.cause(), &Cause::Failed("not today".into()));
    assert!(worker.is_usable());
    assert_eq!(worker.call(b"again", soon()).await.expect("an echo"), b"again");
}

#[tokio::test]
async fn a_panic_of_the_handler_is_an_answer_and_retires_the_worker() {
    let bench = Bench::new();
    let spec = role("frames");
    let mut worker = bench.worker(spec.clone()).await;
    let error = worker.call(b"panic", soon()).await.expect_err("a panic");
    assert!(matches!(error.cause(), Cause::Failed(why) if why.contains("told to panic")), "{error}");
    assert_eq!(verdict(&bench, &spec, &mut worker), Reuse::Broken);
}

#[tokio::test]
async fn what_the_worker_prints_does_not_get_into_its_answers() {
    let bench = Bench::new();
    for (way, spec) in ways() {
        let mut worker = bench.worker(spec).await;
        worker.call(b"print on standard output", soon()).await.expect(way);
        assert_eq!(worker.call(b"next", soon()).await.expect(way), b"next");
        crate::support::eventually("the print", || {
            worker.stderr().contains("on standard output").then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_deadline_ends_the_wait_and_the_worker_is_given_to_nobody() {
    let bench = Bench::new();
    let spec = role("frames");
    let mut worker = bench.worker(spec.clone()).await;
    worker.call(b"complain before the hang", soon()).await.expect("a complaint");
    let error = worker.call(b"hang", Deadline::after(Duration::from_millis(50))).await.expect_err("late");
    assert_eq!((error.cause(), error.phase()), (&Cause::Deadline, Phase::Wait));
    assert!(error.elapsed() >= Duration::from_millis(50));
    assert!(error.stderr().contains("before the hang"), "{error:?}");
    assert_eq!(verdict(&bench, &spec, &mut worker), Reuse::Broken);
    let error = worker.call(b"next", soon()).await.expect_err("a worker that is halfway");
    assert_eq!(error.cause(), &Cause::Desynchronised);
}

#[tokio::test]
async fn a_worker_is_warned_before_its_deadline_and_stays_usable_if_it_gives_up() {
    let bench = Bench::new();
    for (way, spec) in ways() {
        let mut worker = bench.worker(spec.clone()).await;
        worker.call(b"block", soon()).await.expect(way);
        let warned = soon().signal_after(Duration::from_millis(20), libc::SIGUSR1);
        assert_eq!(worker.call(b"await_signal", warned).await.expect(way), b"SIGUSR1");
        assert_eq!(worker.call(b"x", warned).await.expect(way), b"x");
        assert_eq!(verdict(&bench, &spec, &mut worker), Reuse::Now, "{way}");
        let both = Deadline::after(Duration::from_millis(50)).signal_after(Duration::ZERO, libc::SIGUSR1);
        let error = worker.call(b"hang", both).await.expect_err("a deadline");
        assert_eq!(*error.cause(), Cause::Deadline, "{way}: a warning is no excuse");
    }
}

#[tokio::test]
async fn a_dropped_call_or_stream_leaves_a_worker_that_nobody_gets() {
    let bench = Bench::new();
    let spec = role("frames");
    let mut worker = bench.worker(spec.clone()).await;
    let call = worker.call(b"hang", soon());
    assert!(tokio::time::timeout(Duration::from_millis(20), call).await.is_err());
    assert_eq!(verdict(&bench, &spec, &mut worker), Reuse::Broken);

    let mut worker = bench.worker(spec.clone()).await;
    worker.stream(b"parts 3", soon()).map(drop).expect("a stream");
    assert_eq!(verdict(&bench, &spec, &mut worker), Reuse::Broken);
}

#[tokio::test]
async fn a_worker_extends_its_deadline_only_as_far_as_the_caller_allows() {
    let bench = Bench::new();
    let mut worker = bench.worker(role("frames")).await;
    let short = Deadline::after(Duration::from_millis(100));
    let answer = worker.call(b"extend 400", short.extendable_by(Duration::from_secs(20))).await;
    assert_eq!(text(answer.expect("an extended call")), "extended");
    let short = Deadline::after(Duration::from_millis(100));
    let error = worker.call(b"extend 400", short).await.expect_err("a call that may not be extended");
    assert_eq!(error.cause(), &Cause::Deadline);
}

#[tokio::test]
async fn an_answer_that_is_followed_by_the_worker_s_end_counts() {
    let bench = Bench::new();
    let script = r#"
import os, struct, sys
i, o = sys.stdin.buffer, sys.stdout.buffer
o.write(struct.pack("<IIB3x", 0, 0, 16)); o.flush()
n, id, kind = struct.unpack("<IIB3x", i.read(12))
o.write(struct.pack("<IIB3x", n, id, 17) + i.read(n)); o.flush()
os._exit(5)
"#;
    let mut worker = bench.worker(WorkerSpec::command("python3").arg("-c").arg(script)).await;
    assert_eq!(worker.call(b"last words", soon()).await.expect("an answer"), b"last words");
    let death = bench.reported().await;
    assert_eq!(death, "exited with code 5");
    assert_eq!(worker.death().map(|death| death.exit), Some(Exit::Code(5)));
    assert!(!worker.is_usable());
}

#[tokio::test]
async fn death_is_noticed_while_a_grandchild_holds_the_channel() {
    let bench = Bench::new();
    let script = r#"
import os, struct, sys, subprocess
i, o = sys.stdin.buffer, sys.stdout.buffer
o.write(struct.pack("<IIB3x", 0, 0, 16)); o.flush()
i.read(12)
subprocess.Popen(["setsid", "sleep", "1000"])
os._exit(6)
"#;
    let mut worker = bench.worker(WorkerSpec::command("python3").arg("-c").arg(script)).await;
    let begun = Instant::now();
    let error = worker.call(b"x", soon()).await.expect_err("the worker dies");
    assert!(matches!(error.cause(), Cause::Exited(death) if death.exit == Exit::Code(6)), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_worker_that_fills_its_standard_error_is_not_held_up() {
    let bench = Bench::new();
    let mut worker = bench.worker(role("fills_stderr").stderr_tail(4096)).await;
    assert_eq!(worker.call(b"ok", soon()).await.expect("an echo"), b"ok");
    assert_eq!(worker.stderr().len(), 4096);
}

#[tokio::test]
async fn a_worker_that_asks_for_retirement_is_replaced_between_calls() {
    let bench = Bench::new();
    let spec = role("frames");
    let mut worker = bench.worker(spec.clone()).await;
    assert_eq!(verdict(&bench, &spec, &mut worker), Reuse::Now);
    worker.call(b"retire", soon()).await.expect("an answer");
    assert_eq!(verdict(&bench, &spec, &mut worker), Reuse::Broken);
}

pub(crate) fn verdict(bench: &Bench, spec: &WorkerSpec, worker: &mut poolyard_process::Worker) -> Reuse {
    bench.manager.reuse(&key(spec), worker, &Meta::standalone(ResourceId::standalone(7)))
}
