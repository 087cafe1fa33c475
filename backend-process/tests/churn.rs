//! Thousands of workers come and go, and nothing of them stays. In a program of its own, so that everything
//! in it can be counted to the last one; `POOLYARD_CHURN` says how many.

#![allow(unsafe_code, reason = "diverts before the test harness's main")]

use std::time::{Duration, Instant};

use poolyard_core::{Lease, Pool};
use poolyard_process::worker::Worker;
use poolyard_process::{Deadline, ProcessManager, Spawner, WorkerKey, WorkerSpec};

const ROLE: &str = "CHURN_WORKER";

#[used]
#[unsafe(link_section = ".init_array")]
static DIVERT: extern "C" fn() = {
    extern "C" fn divert() {
        if std::env::var_os(ROLE).is_some() {
            std::process::exit(echo().is_err().into());
        }
        poolyard_process::init(|zygote| {
            zygote.entry("echo", echo);
        });
    }
    divert
};

fn echo() -> std::io::Result<()> {
    Worker::connect()?.serve(|call| Ok(call.to_vec()))
}

/// What this process and its descendants hold.
#[derive(Debug, PartialEq)]
struct Census {
    descriptors: usize,
    processes: usize,
    threads: usize,
}

fn census() -> Census {
    let count = |path: &str| std::fs::read_dir(path).map_or(0, Iterator::count);
    let family = family(std::process::id() as i32);
    Census {
        descriptors: family.iter().map(|pid| count(&format!("/proc/{pid}/fd"))).sum(),
        processes: family.len(),
        threads: count("/proc/self/task"),
    }
}

/// A process and its descendants, zombies included.
fn family(pid: i32) -> Vec<i32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let children: Vec<i32> = lists.flat_map(|list| numbers(&list)).collect();
    let below = children.into_iter().flat_map(family);
    [pid].into_iter().chain(below).collect()
}

fn numbers(list: &str) -> Vec<i32> {
    list.split_whitespace().filter_map(|number| number.parse().ok()).collect()
}

/// Resident pages of this process and its descendants.
fn pages() -> usize {
    let statm = |pid| std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let resident = |text: String| text.split(' ').nth(1).and_then(|n| n.parse::<usize>().ok());
    family(std::process::id() as i32).into_iter().filter_map(|pid| resident(statm(pid))).sum()
}

async fn churn(pool: &Pool<ProcessManager>, key: &WorkerKey, rounds: usize) {
    for _ in 0..rounds {
        let mut worker = pool.acquire(key).await.expect("a worker");
        let answer = worker.call(b"x", Deadline::after(Duration::from_secs(10))).await;
        assert_eq!(answer.expect("an answer"), b"x");
        Lease::discard(worker);
    }
    let begun = Instant::now();
    while pool.snapshot().counts != Default::default() {
        assert!(begun.elapsed() < Duration::from_secs(10), "workers stay: {:?}", pool.snapshot().counts);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Waits until nobody here has anything left to do: descriptors are closed a moment after a burial, and the
/// zygote of entries forks its spare worker in a quiet moment.
async fn rest(spare: bool) {
    let begun = Instant::now();
    let sleeps = |stat: &String| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" S"));
    loop {
        let stats = stats();
        let asleep = stats.iter().filter(|stat| sleeps(stat)).count();
        // The one that is awake is who asks.
        if asleep + 1 == stats.len() && (!spare || stats.iter().any(|stat| stat.contains("(poolyard-spare)")))
        {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "no rest: {stats:#?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What the kernel tells of each thread of this process, and of its descendants.
fn stats() -> Vec<String> {
    let threads = std::fs::read_dir("/proc/self/task").expect("a list").flatten();
    let threads = threads.map(|thread| thread.path().join("stat"));
    let below = family(std::process::id() as i32).into_iter().skip(1);
    let below = below.map(|pid| format!("/proc/{pid}/stat").into());
    threads.chain(below).filter_map(|path: std::path::PathBuf| std::fs::read_to_string(path).ok()).collect()
}

/// Looks until the census is as `before`, for descriptors are closed a moment after the burial.
async fn settled(before: &Census, way: &str) {
    let begun = Instant::now();
    while census() != *before {
        assert!(begun.elapsed() < Duration::from_secs(10), "{way}: {before:?} before, {:?} after", census());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn churn_leaves_descriptors_processes_threads_and_memory_as_they_were() {
    let rounds: usize = std::env::var("POOLYARD_CHURN").ok().and_then(|n| n.parse().ok()).unwrap_or(300);
    let command = WorkerSpec::command(std::env::current_exe().expect("an exe")).env(ROLE, "yes");
    let ways = [
        ("direct", command.clone().spawner(Spawner::Direct)),
        ("zygote", command.spawner(Spawner::Zygote)),
        ("entry", WorkerSpec::entry("echo")),
    ];
    let pool =
        Pool::builder(ProcessManager::new().expect("a supervisor")).max_total(4).build().expect("a pool");
    for (way, spec) in ways {
        let key = spec.stop_grace(Duration::ZERO).key();
        churn(&pool, &key, 50).await;
        rest(way == "entry").await;
        let (before, memory) = (census(), pages());
        churn(&pool, &key, rounds).await;
        settled(&before, way).await;
        let more = pages().saturating_sub(memory);
        println!(
            "{way}: {rounds} workers; {before:?} and {memory} pages before, as many and {more} pages more after"
        );
        assert!(more < 512, "{way}: {more} pages more after {rounds} workers");
    }
}
