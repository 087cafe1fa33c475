//! Bazel's protocol, against scripts, the published Node worker, and Bazel's own Java handler of requests.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use poolyard_core::{Manager, Pool};
use poolyard_process::{
    Bazel, BazelFormat, Cause, Deadline, Dispatcher, DispatcherConfig, Malformed, ProcessManager, Select,
    WorkRequest, WorkerSpec,
};

use crate::support::{Bench, eventually, installed, key, role, skip, soon};

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

/// The published package, from where `POOLYARD_BAZEL_WORKER` says that npm has put it.
fn bazel_worker() -> Option<String> {
    if !installed("node", "node") {
        return None;
    }
    let dir = std::env::var("POOLYARD_BAZEL_WORKER").ok();
    dir.or_else(|| skip("bazel-worker", "POOLYARD_BAZEL_WORKER names no node_modules with @bazel/worker"))
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

/// What Debian's `bazel-bootstrap-data` has of Bazel.
const BAZEL: &str = "/usr/share/bazel/A-server.jar";

/// A worker around Bazel's own `WorkRequestHandler`, which takes several requests at a time and cancels them.
fn java_worker() -> Option<WorkerSpec> {
    if !installed("java", "javac") {
        return None;
    }
    if !Path::new(BAZEL).exists() {
        return skip("bazel-java", "there is no jar of Bazel (Debian's bazel-bootstrap-data)");
    }
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/peers/BazelWorker.java");
    Some(WorkerSpec::command("java").args(["-cp", BAZEL, source, "--persistent_worker"]))
}

/// For a virtual machine that compiles its program first.
fn patient() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

type Shared = Arc<Dispatcher<Bazel>>;

fn multiplexed(spec: WorkerSpec) -> Shared {
    let manager = ProcessManager::with_protocol(Bazel::new(BazelFormat::Proto).cancellable());
    let pool = Pool::builder(manager.expect("a supervisor")).max_total(2).build().expect("a pool");
    Arc::new(Dispatcher::new(pool, spec.key(), DispatcherConfig::new(1, 8, Select::LeastBusy)))
}

async fn say(worker: &Shared, word: &str) -> String {
    worker.call(None, &WorkRequest::new([word]), patient()).await.expect("a response").output
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bazel_s_own_handler_works_on_several_requests_at_a_time() {
    let Some(spec) = java_worker() else { return };
    let worker = multiplexed(spec);
    // Each of the two ends only while the other one is under way.
    assert_eq!(tokio::join!(say(&worker, "meet"), say(&worker, "meet")), ("met".into(), "met".into()));
    let many = (0..200).map(|n| {
        let worker = worker.clone();
        tokio::spawn(async move {
            let request = WorkRequest::new(["say".to_owned(), n.to_string()]);
            (n, worker.call(None, &request, patient()).await.expect("a response"))
        })
    });
    for answered in many.collect::<Vec<_>>() {
        let (n, response) = answered.await.expect("no panic");
        assert_eq!((response.exit_code, response.output), (0, format!("say {n}")));
    }
    let failed = worker.call(None, &WorkRequest::new(["fail"]), patient()).await.expect("a response");
    assert!(failed.exit_code == 1 && failed.output.contains("told to fail"), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bazel_s_own_handler_stops_what_is_cancelled_and_goes_on() {
    let Some(spec) = java_worker() else { return };
    let worker = multiplexed(spec);
    say(&worker, "say").await;
    for cancelled in 1..=3 {
        let hanging = {
            let worker = worker.clone();
            tokio::spawn(async move { worker.call(None, &WorkRequest::new(["hang"]), patient()).await })
        };
        eventually("the call that hangs", || (worker.load() == [Some(1)]).then_some(())).await;
        assert_eq!(say(&worker, "say").await, "say", "others are answered beside it");
        hanging.abort();
        // Its place is free when the worker has answered the cancelled call, too.
        eventually("the answer to the cancelled call", || (worker.load() == [Some(0)]).then_some(())).await;
        assert_eq!(say(&worker, "interrupted").await, cancelled.to_string(), "in one and the same worker");
    }
    // Long enough for the request to have reached the worker, however busy the machine is.
    let late = Deadline::after(Duration::from_millis(500));
    let error = worker.call(None, &WorkRequest::new(["hang"]), late).await.expect_err("late");
    assert_eq!(error.cause(), &Cause::Deadline);
    eventually("its cancellation", || (worker.load() == [Some(0)]).then_some(())).await;
    assert_eq!(say(&worker, "interrupted").await, "4");
}
