//! Calls that workers take from one queue which the kernel keeps.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use poolyard_core::Pool;
use poolyard_process::{
    Cause, Deadline, Dispatcher, DispatcherConfig, Exit, JsonLines, Malformed, Phase, ProcessManager, Select,
    WorkerSpec,
};

use crate::dispatch::{all_there, dispatcher};
use crate::support::{eventually, gone, role, soon, text, ways};

fn queue(spec: WorkerSpec, workers: usize, each: usize) -> Arc<Dispatcher> {
    dispatcher(spec, workers, each, Select::KernelQueue)
}

fn spawn_call(
    queue: &Arc<Dispatcher>,
    request: &str,
    deadline: Deadline,
) -> tokio::task::JoinHandle<Result<Vec<u8>, poolyard_process::CallError>> {
    let (queue, request) = (queue.clone(), request.to_owned());
    tokio::spawn(async move { queue.call(None, request.as_bytes(), deadline).await })
}

async fn pids(queue: &Dispatcher, calls: usize) -> BTreeSet<String> {
    let mut pids = BTreeSet::new();
    for _ in 0..calls {
        pids.insert(text(queue.call(None, b"pid", soon()).await.expect("a pid")));
    }
    pids
}

fn kill(pid: &str) {
    let status = std::process::Command::new("kill").args(["-KILL", pid]).status();
    assert!(status.expect("kill runs").success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_of_every_kind_take_calls_by_themselves() {
    for (way, spec) in ways() {
        let queue = queue(spec, 3, 2);
        all_there(&queue).await;
        let calls: Vec<_> = (0..300).map(|n| spawn_call(&queue, &format!("n{n}"), soon())).collect();
        for (n, call) in calls.into_iter().enumerate() {
            assert_eq!(text(call.await.expect("no panic").expect(way)), format!("n{n}"));
        }
        let calls: Vec<_> =
            (0..3).map(|_| spawn_call(&queue, "sh sleep 0.3; printf $PPID", soon())).collect();
        let mut pids = BTreeSet::new();
        for call in calls {
            pids.insert(text(call.await.expect("no panic").expect("a pid")));
        }
        assert_eq!(pids.len(), 3, "{way}: those who wait take what comes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_worker_holds_up_no_call_that_is_in_the_queue() {
    let queue = queue(role("frames"), 2, 4);
    all_there(&queue).await;
    let slow = spawn_call(&queue, "sh sleep 2", soon());
    eventually("the slow call", || queue.load().contains(&Some(1)).then_some(())).await;
    // More than one worker's share, so that some are in the queue while the other worker answers.
    let calls: Vec<_> = (0..40).map(|_| spawn_call(&queue, "x", soon())).collect();
    for call in calls {
        call.await.expect("no panic").expect("an answer of the free worker");
    }
    assert!(!slow.is_finished(), "they have not waited for the busy one");
    slow.await.expect("no panic").expect("an answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_killed_loses_the_call_that_it_was_executing_and_no_other() {
    let queue = queue(WorkerSpec::entry("puppet"), 3, 4);
    all_there(&queue).await;
    let asked: Vec<_> = (0..3).map(|_| spawn_call(&queue, "sh sleep 0.3; printf $PPID", soon())).collect();
    let mut pids = Vec::new();
    for call in asked {
        pids.push(text(call.await.expect("no panic").expect("a pid")));
    }
    // Three that are being executed, and nine behind them in the queue.
    let calls: Vec<_> = (0..12).map(|_| spawn_call(&queue, "sh sleep 0.3", soon())).collect();
    eventually("all calls", || (queue.load().iter().flatten().sum::<usize>() == 12).then_some(())).await;
    let working = || pids.iter().all(|pid| !children(pid).is_empty());
    eventually("three at work", || working().then_some(())).await;
    kill(&pids[0]);
    let mut lost = Vec::new();
    for call in calls {
        lost.extend(call.await.expect("no panic").err());
    }
    assert_eq!(lost.len(), 1, "exactly the one that it was executing: {lost:?}");
    let Cause::Exited(death) = lost[0].cause() else { panic!("{}", lost[0]) };
    assert_eq!((death.exit, lost[0].phase()), (Exit::Signal(9), Phase::Wait));
    assert_eq!(lost[0].pid().to_string(), pids[0]);
}

fn children(pid: &str) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_killed_at_any_moment_loses_one_call_at_most_and_none_once_it_is_dead() {
    let queue = queue(WorkerSpec::entry("puppet"), 2, 2);
    all_there(&queue).await;
    for round in 0..10 {
        let victim = pids(&queue, 1).await.into_iter().next().expect("a pid");
        // Beside the calls, so that it dies while it waits, takes one, or answers.
        let calls: Vec<_> = (0..20).map(|_| spawn_call(&queue, "x", soon())).collect();
        kill(&victim);
        let mut lost = 0;
        for call in calls {
            if let Err(error) = call.await.expect("no panic") {
                assert!(matches!(error.cause(), Cause::Exited(_)), "{error}");
                lost += 1;
            }
        }
        assert!(lost <= 1, "{lost} lost in round {round}");
        gone(victim.parse().expect("a pid")).await;
        for _ in 0..20 {
            queue.call(None, b"x", soon()).await.expect("no call is lost");
        }
        all_there(&queue).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_by_a_call_is_that_call_s_error_with_its_last_words() {
    let queue = queue(role("frames"), 1, 4);
    all_there(&queue).await;
    queue.call(None, b"complain out of luck", soon()).await.expect("an answer");
    let crash = spawn_call(&queue, "exit 7", soon());
    let after: Vec<_> = (0..3).map(|_| spawn_call(&queue, "x", soon())).collect();
    let error = crash.await.expect("no panic").expect_err("it ends");
    assert!(matches!(error.cause(), Cause::Exited(death) if death.exit == Exit::Code(7)), "{error}");
    assert!(error.stderr().contains("out of luck"), "{error}");
    for call in after {
        call.await.expect("no panic").expect("an answer of its successor");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_says_whether_a_worker_had_the_call_and_one_that_hangs_is_replaced() {
    let queue = queue(role("frames"), 1, 4);
    all_there(&queue).await;
    let hanging = spawn_call(&queue, "hang", Deadline::after(Duration::from_millis(400)));
    eventually("the call that hangs", || (queue.load() == [Some(1)]).then_some(())).await;
    let behind = spawn_call(&queue, "x", Deadline::after(Duration::from_millis(100)));
    let patient = spawn_call(&queue, "y", soon());
    let error = behind.await.expect("no panic").expect_err("late");
    assert_eq!((error.phase(), error.cause()), (Phase::Queue, &Cause::Deadline));
    let error = hanging.await.expect("no panic").expect_err("late");
    assert_eq!((error.phase(), error.cause()), (Phase::Wait, &Cause::Deadline));
    assert_eq!(patient.await.expect("no panic").expect("an answer of its successor"), b"y");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_may_be_large_and_calls_only_as_large_as_a_message() {
    let queue = queue(role("frames"), 2, 2);
    let answer = queue.call(None, b"size 3000000", soon()).await.expect("a large answer");
    assert_eq!(answer.len(), 3_000_000);
    let most = vec![b'x'; 64 * 1024 - 12];
    assert!(queue.call(None, &most, soon()).await.expect("an echo") == most);
    let error = queue.call(None, &[most, b"y".to_vec()].concat(), soon()).await.expect_err("too large");
    assert!(matches!(error.cause(), Cause::Refused(Malformed::TooLarge { .. })), "{error}");
    queue.call(None, b"x", soon()).await.expect("an answer all the same");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_for_which_the_kernel_has_no_room_are_sent_later_in_their_order_or_forgotten() {
    let queue = queue(role("frames"), 1, 100);
    all_there(&queue).await;
    let slow = spawn_call(&queue, "sh sleep 0.5", soon());
    eventually("the slow call", || (queue.load() == [Some(1)]).then_some(())).await;
    let large = "z".repeat(60_000);
    let given_up = Deadline::after(Duration::from_millis(100));
    let calls: Vec<_> = (0..30)
        .map(|n| spawn_call(&queue, &format!("{n} {large}"), if n % 3 == 2 { given_up } else { soon() }))
        .collect();
    for (n, call) in calls.into_iter().enumerate() {
        match call.await.expect("no panic") {
            Ok(answer) => assert!(answer == format!("{n} {large}").into_bytes()),
            Err(error) => {
                assert_eq!((n % 3, error.phase(), error.cause()), (2, Phase::Queue, &Cause::Deadline))
            }
        }
    }
    slow.await.expect("no panic").expect("an answer");
    eventually("free places", || (queue.load() == [Some(0)]).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_answers_what_was_taken_and_fails_the_rest_at_once() {
    let queue = queue(role("frames"), 1, 4);
    all_there(&queue).await;
    let taken = spawn_call(&queue, "sh sleep 0.3", soon());
    eventually("the call", || (queue.load() == [Some(1)]).then_some(())).await;
    queue.call(None, b"too late to see", Deadline::after(Duration::from_millis(50))).await.expect_err("late");
    let behind: Vec<_> = (0..6).map(|_| spawn_call(&queue, "x", soon())).collect();
    eventually("calls in both lines", || (queue.waiting() > 0).then_some(())).await;
    queue.close();
    for call in behind {
        let error = call.await.expect("no panic").expect_err("closed");
        assert_eq!((error.phase(), error.cause()), (Phase::Queue, &Cause::NotAccepted));
    }
    taken.await.expect("no panic").expect("an answer all the same");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_are_told_why_nobody_takes_their_calls() {
    let nobody = queue(role("dies_at_start"), 2, 2);
    let error = nobody.call(None, b"x", soon()).await.expect_err("no worker");
    let Cause::NoWorker(why) = error.cause() else { panic!("{error}") };
    assert!(error.phase() == Phase::Queue && why.contains("no such module"), "{why}");

    let manager = ProcessManager::with_protocol(JsonLines::<str, String>::default()).expect("a supervisor");
    let pool = Pool::builder(manager).max_total(1).build().expect("a pool");
    let config = DispatcherConfig::new(1, 1, Select::KernelQueue);
    let json = Dispatcher::new(pool, role("json").key(), config);
    let error = json.call(None, "x", soon()).await.expect_err("no queue");
    assert!(matches!(error.cause(), Cause::Refused(_)), "{error}");
}
