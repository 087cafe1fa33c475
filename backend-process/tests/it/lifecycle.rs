//! How workers are retired, cleaned and ended, and what is left of them: nothing.

use std::time::Duration;

use poolyard_core::{Manager, Reason, Reuse};
use poolyard_process::{Deadline, ErrorKind, Exit, Kill, OnReturn, Spawner, Stage, Worker, WorkerSpec};

use crate::calls::verdict;
use crate::support::{Bench, eventually, exists, gone, is_alive, key, role, soon, text, ways};

#[tokio::test]
async fn a_worker_that_dies_before_it_is_ready_is_a_boot_failure_with_its_last_words() {
    let bench = Bench::new();
    for spawner in [Spawner::Direct, Spawner::Zygote] {
        let error = bench.try_worker(role("dies_at_start").spawner(spawner)).await.expect_err("no boot");
        assert_eq!((error.stage(), error.kind()), (Stage::Ready, ErrorKind::BootFailed(Exit::Code(3))));
        assert!(error.to_string().contains("no such module: frobnicate"), "{error}");
        assert!(!error.is_transient());
    }
    for (entry, code) in [("panics", 101), ("fails", 1)] {
        let error = bench.try_worker(WorkerSpec::entry(entry)).await.expect_err("no boot");
        assert_eq!(error.kind(), ErrorKind::BootFailed(Exit::Code(code)));
        assert!(error.stderr().contains("this entry"), "{error}");
    }
}

#[tokio::test]
async fn a_worker_that_is_never_ready_is_killed_at_the_deadline() {
    let bench = Bench::new();
    let sink: std::sync::Weak<crate::support::Sink> = std::sync::Arc::downgrade(&bench.sink);
    let id = poolyard_core::ResourceId::standalone(1);
    let cx = poolyard_core::Context::standalone(id, Duration::from_millis(200), sink);
    let spec = role("never_ready");
    let error = bench.manager.create(&key(&spec), &cx).await.expect_err("never ready");
    assert_eq!(error.kind(), ErrorKind::NotReady);
    assert!(bench.sink.0.lock().expect("no poison").is_empty(), "the error has told it");
}

#[tokio::test]
async fn a_dropped_creation_leaves_no_process() {
    let bench = Bench::new();
    for (_, spec) in ways() {
        for micros in [0, 50, 200, 500, 1000, 3000] {
            let spec = spec.clone().env("POOLYARD_TEST_DROPPED", "yes");
            let creation = bench.try_worker(spec);
            let _ = tokio::time::timeout(Duration::from_micros(micros), creation).await;
        }
    }
    eventually("the end of all", || carrying("POOLYARD_TEST_DROPPED=yes").is_empty().then_some(())).await;
}

/// Processes that carry this variable.
fn carrying(variable: &str) -> Vec<i32> {
    let processes = std::fs::read_dir("/proc").expect("a list").flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|pid: &i32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|known| known == variable.as_bytes())
    })
    .collect()
}

#[tokio::test]
async fn destroying_a_worker_reaps_it_before_it_returns() {
    let bench = Bench::new();
    for (way, spec) in ways() {
        let mut worker = bench.worker(spec.clone()).await;
        let pid = worker.pid();
        bench.manager.destroy(&key(&spec), &mut worker, Reason::Evicted, &bench.context()).await;
        assert!(!exists(pid), "{way}");
        // Its input was closed and it ended by itself, in time.
        assert_eq!(worker.death().map(|death| death.exit), Some(Exit::Code(0)), "{way}");
    }
}

#[tokio::test]
async fn destroying_a_broken_worker_kills_it() {
    let bench = Bench::new();
    for (way, spec) in ways() {
        let mut worker = bench.worker(spec.clone()).await;
        let pid = worker.pid();
        let hang = poolyard_process::Deadline::after(Duration::from_millis(10));
        worker.call(b"hang", hang).await.expect_err("a hang");
        bench.manager.destroy(&key(&spec), &mut worker, Reason::Broken, &bench.context()).await;
        assert!(!exists(pid), "{way}");
        let death = worker.death().expect("dead");
        assert_eq!(death.kill, Some(Kill::Destroyed(Reason::Broken)), "{way}");
    }
}

const FAMILY: &str = "sh exec >/dev/null 2>&1; sleep 1001 & setsid sleep 1002 & (setsid sleep 1003 &); \
                      (setsid sh -c '(sleep 1004 &); sleep 1005' &)";

/// Has the worker start children of every kind: in its group, in other sessions, forked twice.
async fn family(worker: &mut Worker) -> Vec<i32> {
    worker.call(FAMILY.as_bytes(), soon()).await.expect("a family");
    let pid = worker.pid();
    eventually("the family", || {
        let sleepers: Vec<i32> = descendants(pid).into_iter().filter(|pid| sleeps(*pid)).collect();
        Some(sleepers).filter(|all| all.len() == 5)
    })
    .await
}

fn sleeps(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n")
}

fn descendants(pid: i32) -> Vec<i32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = std::fs::read_to_string(path).unwrap_or_default();
    let children: Vec<i32> = children.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    children.iter().flat_map(|child| [vec![*child], descendants(*child)].concat()).collect()
}

#[tokio::test]
async fn a_worker_that_is_to_end_in_a_call_gets_its_signal_and_time_to_heed_it() {
    let bench = Bench::new();
    let spec = role("frames").stop_signal(libc::SIGTERM).stop_grace(Duration::from_secs(5));
    let halfway = async |what: &[u8]| {
        let mut worker = bench.worker(spec.clone()).await;
        worker.call(b"block", soon()).await.expect("an answer");
        let late = Deadline::after(Duration::from_millis(20));
        worker.call(what, late).await.expect_err("a deadline");
        worker
    };
    let mut worker = halfway(b"await_signal_and_exit").await;
    bench.manager.destroy(&key(&spec), &mut worker, Reason::Broken, &bench.context()).await;
    assert_eq!(worker.death().expect("dead").exit, Exit::Code(libc::SIGTERM));
    // One that does not heed it, and one that is given no time for it, are killed.
    for spec in [spec.clone().stop_grace(Duration::from_millis(20)), spec.clone().stop_grace(Duration::ZERO)]
    {
        let mut worker = halfway(b"hang").await;
        bench.manager.destroy(&key(&spec), &mut worker, Reason::Broken, &bench.context()).await;
        assert_eq!(worker.death().expect("dead").exit, Exit::Signal(libc::SIGKILL));
    }
}

#[tokio::test]
async fn a_kill_takes_the_whole_tree_double_forked_children_included() {
    let bench = Bench::new();
    for (way, spec) in ways() {
        let mut worker = bench.worker(spec).await;
        let family = family(&mut worker).await;
        assert!(family.iter().all(|pid| is_alive(*pid)), "{way}");
        let pid = worker.pid();
        drop(worker);
        for pid in family.into_iter().chain([pid]) {
            eventually(&format!("{way}: the end of {pid} in its tree"), || (!is_alive(pid)).then_some(()))
                .await;
        }
    }
}

#[tokio::test]
async fn a_worker_that_dies_by_itself_takes_its_tree_along() {
    let bench = Bench::new();
    for (_, spec) in ways() {
        let mut worker = bench.worker(spec).await;
        let family = family(&mut worker).await;
        worker.call(b"exit 1", soon()).await.expect_err("it ends");
        for pid in family {
            eventually("the end of the tree", || (!is_alive(pid)).then_some(())).await;
        }
    }
}

#[tokio::test]
async fn a_reset_clears_what_the_last_user_left_and_ends_what_he_started() {
    let bench = Bench::new();
    for (way, spec) in ways() {
        let spec = spec.on_return(OnReturn::Reset);
        let mut worker = bench.worker(spec.clone()).await;
        worker.call(b"remember the password", soon()).await.expect(way);
        let family = family(&mut worker).await;
        assert_eq!(verdict(&bench, &spec, &mut worker), Reuse::Recycle);
        for _ in 0..2 {
            bench.manager.recycle(&key(&spec), &mut worker, &bench.context()).await.expect(way);
        }
        assert_eq!(text(worker.call(b"recall", soon()).await.expect(way)), "");
        assert!(family.iter().all(|pid| !is_alive(*pid)), "{way}");
    }
}

#[tokio::test]
async fn a_ping_tells_a_stopped_worker_from_a_living_one() {
    let bench = Bench::new();
    let spec = role("frames").ping();
    let mut worker = bench.worker(spec.clone()).await;
    bench.manager.health_check(&key(&spec), &mut worker, &bench.context()).await.expect("healthy");
    let pid = worker.pid().to_string();
    std::process::Command::new("kill").args(["-STOP", &pid]).status().expect("kill runs");
    let sink: std::sync::Weak<crate::support::Sink> = std::sync::Arc::downgrade(&bench.sink);
    let id = poolyard_core::ResourceId::standalone(1);
    let cx = poolyard_core::Context::standalone(id, Duration::from_millis(100), sink);
    let error = bench.manager.health_check(&key(&spec), &mut worker, &cx).await.expect_err("stopped");
    assert_eq!(error.kind(), ErrorKind::Unresponsive);
}

#[tokio::test]
async fn workers_retire_by_calls_at_different_times() {
    let bench = Bench::new();
    let spec = role("frames").max_calls(10).spread(50);
    let mut served = Vec::new();
    for _ in 0..6 {
        let mut worker = bench.worker(spec.clone()).await;
        while verdict(&bench, &spec, &mut worker) == Reuse::Now {
            worker.call(b"x", soon()).await.expect("an echo");
        }
        served.push(worker.calls());
    }
    assert!(served.iter().all(|calls| (5..=10).contains(calls)), "{served:?}");
    let mut different = served.clone();
    different.sort_unstable();
    different.dedup();
    assert!(different.len() >= 3, "{served:?}");
}

#[tokio::test]
async fn workers_retire_by_age_and_by_memory() {
    let bench = Bench::new();
    let spec = role("frames").max_age(Duration::ZERO);
    let mut worker = bench.worker(spec.clone()).await;
    assert_eq!(verdict(&bench, &spec, &mut worker), Reuse::Broken);
    let spec = role("frames").soft_memory(1);
    let mut worker = bench.worker(spec.clone()).await;
    assert_eq!(verdict(&bench, &spec, &mut worker), Reuse::Broken);
    let spec = role("frames").soft_memory(1 << 40);
    let mut worker = bench.worker(spec.clone()).await;
    assert_eq!(verdict(&bench, &spec, &mut worker), Reuse::Now);
}

#[tokio::test]
async fn a_worker_above_its_hard_memory_limit_is_killed_during_its_call() {
    let bench = Bench::new();
    let mut worker = bench.worker(role("frames").hard_memory(1)).await;
    let error = worker.call(b"hang", soon()).await.expect_err("killed");
    let poolyard_process::Cause::Exited(death) = error.cause() else { panic!("{error}") };
    assert_eq!(death.kill, Some(Kill::Memory));
}

#[tokio::test]
async fn a_zygote_that_dies_takes_its_workers_along_and_the_next_one_is_started() {
    let bench = Bench::new();
    let mut worker = bench.worker(WorkerSpec::entry("puppet")).await;
    let zygote = parent(worker.pid());
    assert_ne!(zygote, std::process::id() as i32);
    std::process::Command::new("kill").args(["-KILL", &zygote.to_string()]).status().expect("kill runs");
    let error = worker.call(b"hang", soon()).await.expect_err("lost");
    assert!(matches!(error.cause(), poolyard_process::Cause::Exited(d) if d.exit == Exit::GuardianLost));
    gone(worker.pid()).await;
    gone(zygote).await;
    let mut next = bench.worker(WorkerSpec::entry("puppet")).await;
    assert_eq!(next.call(b"x", soon()).await.expect("an echo"), b"x");
}

fn parent(pid: i32) -> i32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("alive");
    let rest = stat.rsplit_once(") ").expect("a stat line").1;
    rest.split(' ').nth(1).and_then(|n| n.parse().ok()).expect("a parent")
}

#[tokio::test]
async fn a_foreign_wait_takes_the_status_and_nothing_else() {
    // The application steals the status of our own child; with the zygote it cannot.
    let bench = Bench::new();
    let mut worker = bench.worker(role("frames").spawner(Spawner::Direct)).await;
    let pid = worker.pid();
    let thief = std::thread::spawn(move || {
        let mut status = 0;
        // SAFETY: waits for one child and writes its status.
        unsafe { libc_waitpid(pid, &mut status, 0) }
    });
    let error = worker.call(b"exit 4", soon()).await.expect_err("it ends");
    let poolyard_process::Cause::Exited(death) = error.cause() else { panic!("{error}") };
    assert!([Exit::Unknown, Exit::Code(4)].contains(&death.exit), "{death:?}");
    thief.join().expect("the thief");
    gone(pid).await;

    let worker = bench.worker(role("frames").spawner(Spawner::Zygote)).await;
    let mut status = 0;
    // SAFETY: as above.
    assert_eq!(unsafe { libc_waitpid(worker.pid(), &mut status, 1) }, -1, "no child of this process");
}

unsafe extern "C" {
    #[link_name = "waitpid"]
    fn libc_waitpid(pid: i32, status: &mut i32, options: i32) -> i32;
}

#[tokio::test]
async fn no_runtime_is_needed_to_end_a_worker() {
    let pid = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (bench, worker) = runtime.block_on(async {
            let bench = Bench::new();
            let worker = bench.worker(role("frames")).await;
            (bench, worker)
        });
        drop(runtime);
        let pid = worker.pid();
        bench.manager.destroy_now(&key(&role("frames")), worker, Reason::Closed);
        pid
    });
    gone(pid.join().expect("a thread")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_worker_outlives_the_thread_that_asked_for_it() {
    for (way, spec) in ways() {
        let bench = Bench::new();
        let handle = tokio::runtime::Handle::current();
        let asked = std::thread::spawn(move || {
            let worker = handle.block_on(bench.worker(spec));
            (bench, worker)
        });
        // The kernel kills a child when the *thread* that started it ends. That thread is ours.
        let (_bench, mut worker) = asked.join().expect("a thread");
        assert_eq!(worker.call(b"still here", soon()).await.expect(way), b"still here");
    }
}

/// What a host does that is then killed without warning.
pub(crate) fn doomed_host() -> i32 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let bench = Bench::new();
        for (_, spec) in ways() {
            let spec = spec.env("POOLYARD_TEST_DOOMED", "yes");
            let mut worker = bench.worker(spec).await;
            family(&mut worker).await;
            std::mem::forget(worker);
        }
        println!("ready");
        std::future::pending::<()>().await;
    });
    0
}

#[tokio::test]
async fn nothing_survives_a_kill_of_the_host() {
    use std::io::BufRead;
    let exe = std::env::current_exe().expect("an exe");
    let mut host = std::process::Command::new(exe)
        .env(crate::puppet::ROLE, "doomed_host")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("a host");
    let mut line = String::new();
    let out = host.stdout.take().expect("its output");
    std::io::BufReader::new(out).read_line(&mut line).expect("a line");
    assert_eq!(line, "ready\n");
    let workers = carrying("POOLYARD_TEST_DOOMED=yes");
    assert!(workers.len() >= 3, "{workers:?}");
    host.kill().expect("killed");
    host.wait().expect("reaped");
    // Of the worker that was this host's own child, what it had started may live on: the kernel ends only
    // the worker. Of those that the zygote looked after, nothing does.
    let direct = |pid: &i32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == b"PUPPET_WAY=direct")
    };
    eventually("the end of all that the zygote looked after", || {
        carrying("POOLYARD_TEST_DOOMED=yes").iter().all(direct).then_some(())
    })
    .await;
    let workers = carrying("POOLYARD_TEST_DOOMED=yes").into_iter().filter(|pid| is_puppet(*pid));
    assert_eq!(workers.count(), 0);
    for pid in carrying("POOLYARD_TEST_DOOMED=yes") {
        let _ = std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status();
    }
}

fn is_puppet(pid: i32) -> bool {
    let exe = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    exe == std::env::current_exe().expect("an exe")
}
