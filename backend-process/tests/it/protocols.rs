//! The other protocols, against programs that speak them.

use std::time::Duration;

use poolyard_core::Reuse;
use poolyard_core::{Manager, Meta, ResourceId};
use poolyard_process::{Cause, Deadline, JsonLines, Malformed, Phase, WorkerSpec};

use crate::support::{Bench, installed, key, role, soon};

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
