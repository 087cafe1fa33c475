//! Workers in a pool.

use std::time::Duration;

use poolyard_core::{AcquireError, Lease, Pool};
use poolyard_process::{Cause, ErrorKind, Exit, ProcessManager, WorkerSpec};

use crate::support::{eventually, exists, role, soon, text, ways};

fn pool(max: usize) -> Pool<ProcessManager> {
    Pool::builder(ProcessManager::new().expect("a supervisor")).max_total(max).build().expect("a pool")
}

#[tokio::test]
async fn a_pool_hands_the_same_warm_worker_out_again() {
    for (way, spec) in ways() {
        let (pool, key) = (pool(2), spec.key());
        let mut pids = Vec::new();
        for _ in 0..5 {
            let mut worker = pool.acquire(&key).await.expect("a worker");
            pids.push(text(worker.call(b"pid", soon()).await.expect("an answer")));
        }
        pids.dedup();
        assert_eq!(pids.len(), 1, "{way}");
        let report = pool.close(Duration::from_secs(5)).await;
        assert!(report.is_clean(), "{way}");
        assert!(!exists(pids[0].parse().expect("a pid")), "{way}");
    }
}

#[tokio::test]
async fn a_worker_that_dies_while_idle_is_never_handed_out() {
    let (pool, key) = (pool(1), role("frames").key());
    for _ in 0..20 {
        let mut worker = pool.acquire(&key).await.expect("a worker");
        let pid = worker.pid();
        worker.call(b"x", soon()).await.expect("an answer");
        drop(worker);
        std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status().expect("kill runs");
        eventually("its departure", || (!pool.resources().iter().any(|r| !r.gone)).then_some(())).await;
    }
}

#[tokio::test]
async fn a_crash_is_one_caller_s_error_and_the_next_gets_a_new_worker() {
    let (pool, key) = (pool(1), role("frames").key());
    for round in 0..20 {
        let mut worker = pool.acquire(&key).await.expect("a worker");
        let error = worker.call(b"exit 7", soon()).await.expect_err("a crash");
        assert!(
            matches!(error.cause(), Cause::Exited(death) if death.exit == Exit::Code(7)),
            "{round}: {error}"
        );
        drop(worker);
        let mut worker = pool.acquire(&key).await.expect("another worker");
        assert_eq!(worker.call(b"fine", soon()).await.expect("an answer"), b"fine");
    }
}

#[tokio::test]
async fn a_boot_failure_reaches_the_caller_with_the_worker_s_last_words() {
    let pool = pool(1);
    let error = pool.acquire(&role("dies_at_start").key()).await.expect_err("no worker");
    let AcquireError::Create(error) = error else { panic!("{error}") };
    assert_eq!(error.kind(), ErrorKind::BootFailed(Exit::Code(3)));
    assert!(error.stderr().contains("no such module"));
}

#[tokio::test]
async fn workers_that_never_start_open_the_breaker_and_others_are_not_touched() {
    let manager = ProcessManager::new().expect("a supervisor");
    let builder = Pool::builder(manager).max_total(2).breaker_after(3).breaker_pause(Duration::from_secs(20));
    let (pool, broken) = (builder.build().expect("a pool"), role("dies_at_start").key());
    for _ in 0..3 {
        let error = pool.acquire(&broken).await.expect_err("no worker");
        assert!(matches!(error, AcquireError::Create(_)), "{error}");
    }
    let error = pool.acquire(&broken).await.expect_err("not even tried");
    assert!(matches!(error, AcquireError::CircuitOpen { .. }), "{error}");
    pool.acquire(&role("frames").key()).await.expect("a worker of another key");
}

#[tokio::test]
async fn what_workers_write_to_standard_error_is_handed_out_line_by_line() {
    let (lines, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let manager = ProcessManager::new().expect("a supervisor");
    let manager = manager.on_stderr(move |pid, line| {
        let _ = lines.send((pid, String::from_utf8_lossy(line).into_owned()));
    });
    let pool = Pool::builder(manager).max_total(1).build().expect("a pool");
    let mut worker = pool.acquire(&role("frames").key()).await.expect("a worker");
    worker.call(b"complain one", soon()).await.expect("an answer");
    worker.call(b"sh printf 'two\\nthree' >/proc/$PPID/fd/2", soon()).await.expect("an answer");
    let pid = worker.pid();
    drop(worker);
    assert!(pool.close(Duration::from_secs(5)).await.is_clean());
    let said: Vec<_> = ["one", "two", "three"].map(|line| (pid, line.to_owned())).into();
    for line in said {
        // What came last may be read a moment after the worker has ended.
        let next =
            tokio::time::timeout(Duration::from_secs(30), heard.recv()).await.expect("it is handed out");
        assert_eq!(next, Some(line), "the last one without an end, too");
    }
}

#[tokio::test]
async fn a_panic_where_standard_error_is_heard_costs_that_line_alone() {
    let (lines, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let manager = ProcessManager::new().expect("a supervisor");
    let manager = manager.on_stderr(move |_, line| {
        assert_ne!(line, b"one", "as the test wants it");
        let _ = lines.send(String::from_utf8_lossy(line).into_owned());
    });
    let pool = Pool::builder(manager).max_total(1).build().expect("a pool");
    let mut worker = pool.acquire(&role("frames").key()).await.expect("a worker");
    for word in ["one", "two"] {
        worker.call(format!("complain {word}").as_bytes(), soon()).await.expect("an answer");
    }
    let next = tokio::time::timeout(Duration::from_secs(30), heard.recv()).await.expect("it is handed out");
    assert_eq!(next.as_deref(), Some("two"));
    drop(worker);
    assert!(pool.close(Duration::from_secs(5)).await.is_clean());
}

#[tokio::test]
async fn keys_with_other_attributes_have_other_workers() {
    let pool = pool(4);
    let blue = role("frames").env("COLOUR", "blue").key();
    let red = role("frames").env("COLOUR", "red").key();
    assert_eq!(blue, role("frames").env("COLOUR", "blue").key());
    for (key, colour) in [(&blue, "blue"), (&red, "red"), (&blue, "blue")] {
        let mut worker = pool.acquire(key).await.expect("a worker");
        assert_eq!(text(worker.call(b"sh printf $COLOUR", soon()).await.expect("an answer")), colour);
    }
    assert_eq!(pool.resources().len(), 2);
}

#[tokio::test]
async fn a_dropped_call_never_gives_its_answer_to_the_next_caller() {
    let (pool, key) = (pool(1), role("frames").key());
    for round in 0..50 {
        let mut worker = pool.acquire(&key).await.expect("a worker");
        let said = format!("secret of {round}");
        let call = worker.call(said.as_bytes(), soon());
        // Cut off somewhere between the first poll and the answer.
        let _ = tokio::time::timeout(Duration::from_micros(round * 20), call).await;
        drop(worker);
        let mut worker = pool.acquire(&key).await.expect("a worker");
        assert_eq!(worker.call(b"mine", soon()).await.expect("an answer"), b"mine", "{round}");
    }
}

#[tokio::test]
async fn a_detached_worker_lives_on_without_its_pool() {
    let (pool, key) = (pool(1), WorkerSpec::entry("puppet").key());
    let lease = pool.acquire(&key).await.expect("a worker");
    let mut worker = Lease::detach(lease);
    drop(pool);
    assert_eq!(worker.call(b"free", soon()).await.expect("an answer"), b"free");
}
