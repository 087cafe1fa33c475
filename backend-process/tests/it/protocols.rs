//! The other protocols, against programs that speak them.

use std::time::Duration;

use poolyard_core::Reuse;
use poolyard_core::{Manager, Meta, ResourceId};
use poolyard_process::{
    Bazel, BazelFormat, Cause, CgiRequest, Channel, Deadline, FastCgi, JsonLines, Malformed, Phase,
    WorkRequest, WorkerSpec,
};

use crate::support::{Bench, key, role, soon, text};

#[tokio::test]
async fn json_lines_carry_values_both_ways() {
    let bench = Bench::with(JsonLines::<Vec<u32>, Vec<u32>>::default());
    let mut worker = bench.worker(role("json")).await;
    for size in [0_u32, 1, 1000, 200_000] {
        let values: Vec<u32> = (0..size).collect();
        assert!(worker.call(&values, soon()).await.expect("an echo") == values, "{size} values");
    }
}

#[tokio::test]
async fn a_line_that_is_no_json_is_shown_in_the_error() {
    let bench = Bench::with(JsonLines::<str, String>::default());
    let mut worker = bench.worker(role("json")).await;
    assert_eq!(worker.call("fine", soon()).await.expect("an echo"), "fine");
    let error = worker.call("pollute", soon()).await.expect_err("no json");
    assert!(matches!(error.cause(), Cause::Malformed(Malformed::NotAMessage(_))), "{error}");
    assert_eq!(error.received(), b"debug: here\n");
    assert!(error.to_string().contains("does the worker print"), "{error}");
}

#[tokio::test]
async fn a_second_line_makes_the_worker_unusable_and_not_the_answer_wrong() {
    let spec = role("json");
    let bench = Bench::with(JsonLines::<str, u32>::default());
    let mut worker = bench.worker(spec.clone()).await;
    assert_eq!(worker.call("double", soon()).await.expect("the first"), 1);
    let meta = Meta::standalone(ResourceId::standalone(7));
    let later = bench.manager.health_check(&key(&spec), &mut worker, &bench.context()).await;
    assert!(later.is_err() || bench.manager.reuse(&key(&spec), &mut worker, &meta) == Reuse::Broken);
    let error = worker.call("fine", soon()).await.expect_err("desynchronised");
    assert_eq!(error.cause(), &Cause::Desynchronised);
}

#[tokio::test]
async fn a_silent_worker_ends_at_the_deadline() {
    let bench = Bench::with(JsonLines::<str, String>::default());
    let mut worker = bench.worker(role("json")).await;
    let error = worker.call("silent", Deadline::after(Duration::from_millis(50))).await.expect_err("silence");
    assert_eq!((error.cause(), error.phase()), (&Cause::Deadline, Phase::Wait));
}

#[tokio::test]
async fn bazel_responses_need_no_line_feed() {
    let bench = Bench::with(Bazel::new(BazelFormat::Json));
    let mut worker = bench.worker(role("bazel_json")).await;
    for round in 0..20 {
        let request = WorkRequest::new(["-o", "a \"quoted\" }name{", &"x".repeat(round * 7)]);
        let response = worker.call(&request, soon()).await.expect("a response");
        assert_eq!(response.exit_code, 0);
        assert!(response.output.starts_with("got "));
    }
}

#[tokio::test]
async fn a_bazel_worker_that_answers_the_request_before_is_found_out() {
    let bench = Bench::with(Bazel::new(BazelFormat::Json));
    let mut worker = bench.worker(role("bazel_off_by_one")).await;
    let error = worker.call(&WorkRequest::new(["a"]), soon()).await.expect_err("the wrong response");
    assert!(matches!(error.cause(), Cause::Malformed(Malformed::WrongId(_))), "{error}");
}

/// Skips by name what is not installed, unless it is required.
pub(crate) fn installed(name: &str, program: &str) -> bool {
    let found = std::process::Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    let found = found.is_ok_and(|output| output.status.success());
    let required = std::env::var("POOLYARD_REQUIRE").unwrap_or_default();
    assert!(found || !required.split(',').any(|wanted| wanted == name), "{name} is required: no {program}");
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}

/// The published package, from where `POOLYARD_BAZEL_WORKER` says that npm has put it.
fn bazel_worker() -> Option<String> {
    let dir = std::env::var("POOLYARD_BAZEL_WORKER").ok().filter(|_| installed("node", "node"));
    if dir.is_none() {
        let required = std::env::var("POOLYARD_REQUIRE").unwrap_or_default();
        assert!(!required.contains("bazel-worker"), "set POOLYARD_BAZEL_WORKER to a node_modules directory");
        eprintln!("skipped: POOLYARD_BAZEL_WORKER names no node_modules directory with @bazel/worker");
    }
    dir
}

const NODE_WORKER: &str = "
const worker = require('@bazel/worker');
worker.runWorkerLoop(args => {
  if (args[0] === 'fail') { worker.log('told to fail'); return false; }
  worker.log('compiled ' + args.join(' '));
  return true;
});";

#[tokio::test]
async fn the_published_node_worker_compiles_fails_and_ends() {
    let Some(modules) = bazel_worker() else { return };
    let bench = Bench::with(Bazel::new(BazelFormat::Proto));
    let spec = WorkerSpec::command("node")
        .args(["--expose-gc", "-e", NODE_WORKER, "--", "--persistent_worker"])
        .env("NODE_PATH", modules)
        .stop_grace(Duration::from_secs(5));
    let mut worker = bench.worker(spec.clone()).await;
    for round in 0..20 {
        let response =
            worker.call(&WorkRequest::new([format!("file{round}.ts")]), soon()).await.expect("a response");
        assert_eq!(response.exit_code, 0, "{response:?}");
        assert!(response.output.contains(&format!("compiled file{round}.ts")), "{response:?}");
    }
    let failed = worker.call(&WorkRequest::new(["fail"]), soon()).await.expect("a response all the same");
    assert_eq!(failed.exit_code, 1);
    bench.manager.destroy(&key(&spec), &mut worker, poolyard_core::Reason::Closed, &bench.context()).await;
    assert_eq!(worker.death().and_then(|death| death.kill), None, "it ended when its input did");
}

const PHP: &str = r#"<?php
header('X-Method: ' . $_SERVER['REQUEST_METHOD']);
if (isset($_GET['status'])) { http_response_code((int)$_GET['status']); }
if (isset($_GET['log'])) { error_log('logged by php'); }
if (isset($_GET['size'])) { echo str_repeat('p', (int)$_GET['size']); }
elseif (isset($_GET['hang'])) { sleep(1000); }
elseif (isset($_GET['exit'])) { posix_kill(getmypid(), 9); }
else { echo 'body: ' . file_get_contents('php://input'); }
"#;

#[tokio::test]
async fn php_answers_through_fastcgi() {
    if !installed("php-cgi", "php-cgi") {
        return;
    }
    let script = std::env::temp_dir().join(format!("poolyard-{}.php", std::process::id()));
    std::fs::write(&script, PHP).expect("a script");
    let script = script.to_str().expect("text").to_owned();
    let bench = Bench::with(FastCgi);
    let spec = WorkerSpec::command("php-cgi").channel(Channel::Listener).env("PHP_FCGI_MAX_REQUESTS", "0");
    let mut worker = bench.worker(spec.clone()).await;

    for round in 0..50 {
        let response =
            worker.call(&CgiRequest::post(&*script, "text/plain", format!("n{round}")), soon()).await;
        let response = response.expect("a response");
        assert_eq!((response.status(), response.header("x-method")), (200, Some("POST")));
        assert_eq!(response.body(), format!("body: n{round}").as_bytes());
    }
    let response =
        worker.call(&CgiRequest::get(&*script, "status=418&log=1"), soon()).await.expect("a response");
    assert_eq!(response.status(), 418);
    assert!(text(response.errors).contains("logged by php") || worker.stderr().contains("logged by php"));
    let large = worker.call(&CgiRequest::get(&*script, "size=3000000"), soon()).await.expect("a response");
    assert_eq!(large.body().len(), 3_000_000);
    let upload = CgiRequest::post(&*script, "text/plain", vec![b'u'; 500_000]);
    assert_eq!(worker.call(&upload, soon()).await.expect("a response").body().len(), 500_006);

    let mut parts = 0;
    let mut stream = worker.stream(&CgiRequest::get(&*script, "size=400000"), soon()).expect("a stream");
    while stream.next().await.expect("a part").is_some() {
        parts += 1;
    }
    assert!(parts > 3, "{parts} parts");

    let late = Deadline::after(Duration::from_millis(100));
    let error = worker.call(&CgiRequest::get(&*script, "hang=1"), late).await.expect_err("late");
    assert_eq!(error.cause(), &Cause::Deadline);
    std::fs::remove_file(&script).expect("removed");
}

/// The example worker `name`, in the folder of examples.
fn example(name: &str) -> String {
    format!("{}/worker/examples/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[tokio::test]
async fn the_example_workers_in_python_and_node_answer() {
    for (program, file) in [("python3", "worker.py"), ("node", "worker.js")] {
        if !installed(program, program) {
            continue;
        }
        let bench = Bench::new();
        let mut worker = bench.worker(WorkerSpec::command(program).arg(example(file))).await;
        for size in [0, 5, 70_000, 1_000_000] {
            let payload = vec![b'a'; size];
            let answer = worker.call(&payload, soon()).await.expect(program);
            assert!(answer == vec![b'A'; size], "{program}: {size} bytes");
        }
        let batch = worker.call_batch(&["one", "two", "three"], soon()).await.expect(program);
        assert_eq!(batch, [Ok(b"ONE".to_vec()), Ok(b"TWO".to_vec()), Ok(b"THREE".to_vec())]);
    }
}
