//! Workers whose channel is a pair of sockets. Those of the worker kit are among all [`ways`](crate::support::ways).

use std::time::Duration;

use poolyard_core::{Manager, Reason};
use poolyard_process::{
    Bazel, BazelFormat, Cause, Channel, Deadline, Exit, JsonLines, OnReturn, Spawner, Transport, WorkRequest,
    WorkerSpec,
};

use crate::support::{Bench, eventually, exists, installed, key, role, soon, text};

/// Every way of starting, each with either channel.
fn over_sockets() -> Vec<WorkerSpec> {
    let puppets = [role("frames").spawner(Spawner::Direct), role("frames").spawner(Spawner::Zygote)];
    let puppets = puppets.into_iter().chain([WorkerSpec::entry("puppet")]);
    let channels = [Channel::Stdio, Channel::Separate];
    let specs = puppets.flat_map(|spec| channels.map(|channel| spec.clone().channel(channel)));
    specs.map(|spec| spec.transport(Transport::Socket)).collect()
}

#[tokio::test]
async fn payloads_of_every_size_come_back_over_sockets() {
    let bench = Bench::new();
    for spec in over_sockets() {
        let mut worker = bench.worker(spec).await;
        for size in [0, 1, 4096, 65_535, 65_537, 213_000, 1 << 20, 5 << 20] {
            let payload: Vec<u8> = (0..size).map(|n: usize| (n % 251) as u8).collect();
            assert!(worker.call(&payload, soon()).await.expect("an echo") == payload, "{size} bytes");
        }
        let requests: Vec<Vec<u8>> = (0..1000).map(|n| format!("{n:0600}").into_bytes()).collect();
        let answers = worker.call_batch(&requests, soon()).await.expect("answers");
        assert!(answers.iter().zip(&requests).all(|(answer, request)| answer.as_ref() == Ok(request)));
    }
}

#[tokio::test]
async fn a_worker_s_input_is_a_socket_only_where_that_was_asked_for() {
    let bench = Bench::new();
    for (transport, kind) in [(Transport::Pipe, "pipe:"), (Transport::Socket, "socket:")] {
        let spec = role("frames").transport(transport).channel(Channel::Separate);
        let mut worker = bench.worker(spec).await;
        let links =
            text(worker.call(b"sh readlink /proc/$PPID/fd/3 /proc/$PPID/fd/4", soon()).await.expect("links"));
        assert!(links.lines().count() == 2 && links.lines().all(|link| link.starts_with(kind)), "{links}");
    }
}

#[tokio::test]
async fn a_worker_over_sockets_sees_the_end_of_its_input_and_ends_by_itself() {
    let bench = Bench::new();
    for spec in over_sockets() {
        let spec = spec.stop_grace(Duration::from_secs(10));
        let mut worker = bench.worker(spec.clone()).await;
        bench.manager.destroy(&key(&spec), &mut worker, Reason::Closed, &bench.context()).await;
        assert_eq!(worker.death().map(|death| death.exit), Some(Exit::Code(0)));
        assert!(!exists(worker.pid()));
    }
}

#[tokio::test]
async fn what_a_worker_over_sockets_says_between_calls_is_noticed() {
    let bench = Bench::new();
    let script = r#"
import struct, sys, time
i, o = sys.stdin.buffer, sys.stdout.buffer
o.write(struct.pack("<IIB3x", 0, 0, 16)); o.flush()
n, id, kind = struct.unpack("<IIB3x", i.read(12))
o.write(struct.pack("<IIB3x", n, id, 17) + i.read(n) + b"late"); o.flush()
sys.stderr.write("said it"); sys.stderr.flush()
time.sleep(1000)
"#;
    let spec = WorkerSpec::command("python3").args(["-I", "-S", "-c", script]).on_return(OnReturn::Reset);
    let spec = spec.transport(Transport::Socket);
    let mut worker = bench.worker(spec.clone()).await;
    assert_eq!(worker.call(b"x", soon()).await.expect("an echo"), b"x");
    eventually("the output", || worker.stderr().contains("said it").then_some(())).await;
    assert!(bench.manager.health_check(&key(&spec), &mut worker, &bench.context()).await.is_err());
}

#[tokio::test]
async fn a_worker_that_closes_one_of_its_sockets_is_noticed() {
    let bench = Bench::new();
    let script = r#"
import os, struct, time
os.write(1, struct.pack("<IIB3x", 0, 0, 16))
os.read(0, 12)
os.close(1)
time.sleep(1000)
"#;
    let spec = WorkerSpec::command("python3").args(["-I", "-S", "-c", script]).transport(Transport::Socket);
    let mut worker = bench.worker(spec).await;
    let error = worker.call(b"x", soon()).await.expect_err("a closed channel");
    assert_eq!(error.cause(), &Cause::Closed);
}

#[tokio::test]
async fn a_worker_over_sockets_that_does_not_read_ends_at_the_deadline() {
    let bench = Bench::new();
    let mut worker = bench.worker(role("frames").transport(Transport::Socket)).await;
    let hanging = worker.call(b"hang", Deadline::after(Duration::from_millis(20))).await;
    assert_eq!(hanging.expect_err("late").cause(), &Cause::Deadline);
    let mut worker = bench.worker(role("frames").transport(Transport::Socket)).await;
    worker.call(b"pid", soon()).await.expect("a number");
    let stopped = std::process::Command::new("kill").arg("-STOP").arg(worker.pid().to_string()).status();
    assert!(stopped.expect("kill runs").success());
    let error = worker.call(&vec![0; 5 << 20], Deadline::after(Duration::from_millis(50))).await;
    let error = error.expect_err("a worker that does not read");
    assert_eq!((error.cause(), error.phase()), (&Cause::Deadline, poolyard_process::Phase::Write));
}

#[tokio::test]
async fn other_protocols_run_over_sockets() {
    let bench = Bench::with(JsonLines::<Vec<u32>, Vec<u32>>::default());
    let mut worker = bench.worker(role("json").transport(Transport::Socket)).await;
    let values: Vec<u32> = (0..200_000).collect();
    assert!(worker.call(&values, soon()).await.expect("an echo") == values);

    let bench = Bench::with(Bazel::new(BazelFormat::Json));
    let mut worker = bench.worker(role("bazel_json").transport(Transport::Socket)).await;
    let request = WorkRequest { arguments: vec!["x".into()], ..WorkRequest::default() };
    assert_eq!(worker.call(&request, soon()).await.expect("a response").exit_code, 0);
}

#[tokio::test]
async fn the_example_workers_answer_over_sockets() {
    for (program, file) in [("python3", "worker.py"), ("node", "worker.js")] {
        if !installed(program, program) {
            continue;
        }
        let bench = Bench::new();
        let file = format!("{}/worker/examples/{file}", env!("CARGO_MANIFEST_DIR"));
        let spec = WorkerSpec::command(program).arg(file).transport(Transport::Socket);
        let mut worker = bench.worker(spec).await;
        for size in [0, 5, 70_000, 1_000_000] {
            let answer = worker.call(&vec![b'a'; size], soon()).await.expect(program);
            assert!(answer == vec![b'A'; size], "{program}: {size} bytes");
        }
    }
}
