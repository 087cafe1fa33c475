//! Calls through a dispatcher.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use poolyard_core::Pool;
use poolyard_process::{
    Cause, Deadline, Dispatcher, DispatcherConfig, JsonLines, Phase, ProcessManager, Select, WorkerSpec,
};

use crate::support::{eventually, role, soon, text};

fn pool(max: usize) -> Pool<ProcessManager> {
    Pool::builder(ProcessManager::new().expect("a supervisor")).max_total(max).build().expect("a pool")
}

pub(crate) fn dispatcher(spec: WorkerSpec, workers: usize, each: usize, select: Select) -> Arc<Dispatcher> {
    Arc::new(Dispatcher::new(pool(workers + 1), spec.key(), DispatcherConfig::new(workers, each, select)))
}

pub(crate) async fn all_there(dispatcher: &Dispatcher) {
    eventually("all workers", || dispatcher.load().iter().all(Option::is_some).then_some(())).await;
}

const SHARED: [Select; 5] =
    [Select::LeastBusy, Select::RoundRobin, Select::Random, Select::Sticky, Select::KernelQueue];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_get_their_own_answers_with_every_choice_of_worker() {
    for (select, each) in SHARED.into_iter().chain([Select::Exclusive]).flat_map(|s| [(s, 1), (s, 16)]) {
        let dispatcher = dispatcher(role("frames"), 2, each, select);
        let tasks: Vec<_> = (0..32)
            .map(|task| {
                let dispatcher = dispatcher.clone();
                tokio::spawn(async move {
                    for round in 0..50 {
                        let said = format!("{task}:{round}:{}", "x".repeat(task * round));
                        let sticky = task.to_string();
                        let answer = dispatcher.call(Some(sticky.as_bytes()), said.as_bytes(), soon()).await;
                        assert_eq!(text(answer.expect("an answer")), said);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no panic");
        }
    }
}

async fn pids(dispatcher: &Dispatcher, sticky: Option<&[u8]>, calls: usize) -> BTreeMap<String, usize> {
    let mut served = BTreeMap::new();
    for _ in 0..calls {
        let pid = text(dispatcher.call(sticky, b"pid", soon()).await.expect("a pid"));
        *served.entry(pid).or_default() += 1;
    }
    served
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn round_robin_is_even_and_random_reaches_all() {
    let even = dispatcher(role("frames"), 3, 1, Select::RoundRobin);
    all_there(&even).await;
    let served = pids(&even, None, 30).await;
    assert!(served.len() == 3 && served.values().all(|count| *count == 10), "{served:?}");
    let random = dispatcher(role("frames"), 3, 1, Select::Random);
    all_there(&random).await;
    assert_eq!(pids(&random, None, 200).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sticky_key_keeps_its_worker_and_the_others_keep_theirs_when_one_dies() {
    let dispatcher = dispatcher(role("frames"), 3, 1, Select::Sticky);
    all_there(&dispatcher).await;
    let keys: Vec<String> = (0..20).map(|n| format!("user {n}")).collect();
    let mut homes = BTreeMap::new();
    for key in &keys {
        let served = pids(&dispatcher, Some(key.as_bytes()), 3).await;
        assert_eq!(served.len(), 1, "{key}");
        homes.insert(key.clone(), served.into_keys().next().expect("a pid"));
    }
    assert!(homes.values().collect::<BTreeSet<_>>().len() > 1);
    let victim = homes["user 0"].clone();
    let error = dispatcher.call(Some(b"user 0"), b"exit 1", soon()).await.expect_err("it ends");
    assert!(matches!(error.cause(), Cause::Exited(_)));
    for (key, home) in homes.iter().filter(|(_, home)| **home != victim) {
        assert_eq!(pids(&dispatcher, Some(key.as_bytes()), 1).await.keys().next(), Some(home), "{key}");
    }
    dispatcher.call(Some(b"user 0"), b"x", soon()).await.expect("an answer of another worker");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_are_served_in_the_order_in_which_they_came() {
    let dispatcher = dispatcher(role("frames"), 1, 1, Select::LeastBusy);
    dispatcher.call(None, b"warm", soon()).await.expect("an answer");
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let first = {
        let dispatcher = dispatcher.clone();
        tokio::spawn(async move { dispatcher.call(None, b"sh sleep 0.2", soon()).await })
    };
    eventually("the first call", || (dispatcher.load() == [Some(1)]).then_some(())).await;
    let mut tasks = Vec::new();
    for place in 0..10 {
        let (dispatcher, order) = (dispatcher.clone(), order.clone());
        let waiting = dispatcher.waiting();
        let looked = dispatcher.clone();
        tasks.push(tokio::spawn(async move {
            dispatcher.call(None, b"x", soon()).await.expect("an answer");
            order.lock().expect("no poison").push(place);
        }));
        eventually("its place in line", || (looked.waiting() > waiting).then_some(())).await;
    }
    // One that goes away takes nobody's place along.
    tasks.remove(4).abort();
    first.await.expect("no panic").expect("an answer");
    for task in tasks {
        task.await.expect("no panic");
    }
    assert_eq!(*order.lock().expect("no poison"), [0, 1, 2, 3, 5, 6, 7, 8, 9]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_is_bounded_and_its_wait_has_a_phase_of_its_own() {
    let mut config = DispatcherConfig::new(1, 1, Select::LeastBusy);
    config.max_waiting = 2;
    let dispatcher = Arc::new(Dispatcher::new(pool(2), role("frames").key(), config));
    dispatcher.call(None, b"warm", soon()).await.expect("an answer");
    let hang = {
        let dispatcher = dispatcher.clone();
        tokio::spawn(
            async move { dispatcher.call(None, b"hang", Deadline::after(Duration::from_secs(1))).await },
        )
    };
    eventually("the call", || (dispatcher.load() == [Some(1)]).then_some(())).await;
    let short = || Deadline::after(Duration::from_millis(50));
    let (one, two) = tokio::join!(dispatcher.call(None, b"x", short()), dispatcher.call(None, b"x", short()));
    for error in [one.expect_err("late"), two.expect_err("late")] {
        assert_eq!((error.phase(), error.cause()), (Phase::Queue, &Cause::Deadline));
    }
    let waits = || {
        let dispatcher = dispatcher.clone();
        tokio::spawn(async move { dispatcher.call(None, b"x", soon()).await })
    };
    let (one, two) = (waits(), waits());
    eventually("two that wait", || (dispatcher.waiting() == 2).then_some(())).await;
    let error = dispatcher.call(None, b"x", soon()).await.expect_err("full");
    assert_eq!((error.phase(), error.cause()), (Phase::Queue, &Cause::NotAccepted));
    // The call that hangs ends at its deadline; its worker, which never answers, is replaced, and those that
    // wait are served.
    let error = hang.await.expect("no panic").expect_err("late");
    assert_eq!((error.phase(), error.cause()), (Phase::Wait, &Cause::Deadline));
    for waiting in [one, two] {
        assert_eq!(waiting.await.expect("no panic").expect("an answer"), b"x");
    }
    dispatcher.call(None, b"x", soon()).await.expect("an answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_given_up_disturbs_no_other_on_the_same_worker() {
    let dispatcher = dispatcher(role("frames"), 1, 8, Select::LeastBusy);
    dispatcher.call(None, b"warm", soon()).await.expect("an answer");
    let late = Deadline::after(Duration::from_millis(20));
    let (slow, next) =
        tokio::join!(dispatcher.call(None, b"sh sleep 0.2", late), dispatcher.call(None, b"next", soon()));
    assert_eq!(slow.expect_err("late").cause(), &Cause::Deadline);
    assert_eq!(next.expect("an answer"), b"next");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_ids_a_worker_that_owes_an_answer_serves_nobody_else() {
    let manager = ProcessManager::with_protocol(JsonLines::<str, String>::default()).expect("a supervisor");
    let pool = Pool::builder(manager).max_total(2).build().expect("a pool");
    let config = DispatcherConfig::new(1, 1, Select::LeastBusy);
    let dispatcher = Dispatcher::new(pool, role("json").key(), config);
    let late = Deadline::after(Duration::from_millis(100));
    dispatcher.call(None, "silent", late).await.expect_err("silence");
    assert_eq!(dispatcher.call(None, "fresh", soon()).await.expect("an answer"), "fresh");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_roll_replaces_every_worker_and_loses_no_call() {
    for select in [Select::RoundRobin, Select::KernelQueue] {
        roll_under_load(dispatcher(role("frames").env("VERSION", "1"), 3, 4, select)).await;
    }
}

async fn roll_under_load(dispatcher: Arc<Dispatcher>) {
    all_there(&dispatcher).await;
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let load: Vec<_> = (0..8)
        .map(|_| {
            let (dispatcher, stop) = (dispatcher.clone(), stop.clone());
            tokio::spawn(async move {
                let mut calls = 0;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    dispatcher.call(None, b"x", soon()).await.expect("no call is lost");
                    calls += 1;
                }
                calls
            })
        })
        .collect();
    dispatcher.roll(role("frames").env("VERSION", "2").key()).await;
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut calls = 0;
    for task in load {
        calls += task.await.expect("no panic");
    }
    assert!(calls > 0);
    for _ in 0..6 {
        let version = dispatcher.call(None, b"sh printf $VERSION", soon()).await.expect("an answer");
        assert_eq!(text(version), "2");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_roll_to_a_version_that_does_not_start_leaves_the_old_one_at_work() {
    let dispatcher = dispatcher(role("frames"), 2, 1, Select::LeastBusy);
    all_there(&dispatcher).await;
    let roll = dispatcher.roll(role("dies_at_start").key());
    assert!(tokio::time::timeout(Duration::from_millis(300), roll).await.is_err());
    for _ in 0..10 {
        dispatcher.call(None, b"x", soon()).await.expect("an answer of the old version");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_are_worn_are_replaced_without_a_lost_call() {
    for select in [Select::LeastBusy, Select::KernelQueue] {
        wear_out(dispatcher(role("frames").max_calls(50), 2, 4, select)).await;
    }
}

async fn wear_out(dispatcher: Arc<Dispatcher>) {
    all_there(&dispatcher).await;
    let mut seen = BTreeSet::new();
    let begun = std::time::Instant::now();
    // A worn worker serves on until its successor is ready, however long that takes.
    while seen.len() < 4 && begun.elapsed() < Duration::from_secs(20) {
        seen.insert(text(dispatcher.call(None, b"pid", soon()).await.expect("no call is lost")));
    }
    assert!(seen.len() >= 4, "{} workers", seen.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_are_told_why_there_is_no_worker() {
    let dispatcher = dispatcher(role("dies_at_start"), 2, 1, Select::LeastBusy);
    let error = dispatcher.call(None, b"x", soon()).await.expect_err("no worker");
    assert_eq!(error.phase(), Phase::Queue);
    let Cause::NoWorker(why) = error.cause() else { panic!("{error}") };
    assert!(why.contains("no such module"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_may_not_wait_so_long_fails_while_others_have_all_their_time() {
    for select in [Select::Exclusive, Select::LeastBusy] {
        let mut config = DispatcherConfig::new(1, 1, select);
        config.max_wait = Some(Duration::from_millis(50));
        let dispatcher = Arc::new(Dispatcher::new(pool(1), role("frames").key(), config));
        // The first attempt may wait for its worker to start.
        eventually("a worker", || (dispatcher.load().iter().all(Option::is_some)).then_some(())).await;
        while dispatcher.call(None, b"warm", soon()).await.is_err() {}
        let slow = {
            let dispatcher = dispatcher.clone();
            tokio::spawn(async move { dispatcher.call(None, b"sh sleep 0.5", soon()).await })
        };
        tokio::task::yield_now().await;
        let waited = loop {
            // Until the slow call has the worker.
            match dispatcher.call(None, b"x", soon()).await {
                Ok(_) => tokio::task::yield_now().await,
                Err(error) => break error,
            }
        };
        assert_eq!((waited.phase(), waited.cause()), (Phase::Queue, &Cause::Deadline), "{select:?}");
        slow.await.expect("no panic").expect("longer than anyone may wait");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_shared_worker_is_told_with_its_last_words() {
    let dispatcher = dispatcher(role("frames"), 1, 4, Select::LeastBusy);
    dispatcher.call(None, b"complain out of luck", soon()).await.expect("an answer");
    let error = dispatcher.call(None, b"exit 7", soon()).await.expect_err("it ends");
    assert!(matches!(error.cause(), Cause::Exited(_)) && error.pid() != 0, "{error}");
    assert!(error.stderr().contains("out of luck"), "{error}");
}
