//! Workers that share memory with what they were forked from are weighed by their share of it. In a program of
//! its own, because its zygote is fat.

#![allow(unsafe_code, reason = "diverts before the test harness's main")]

use std::hint::black_box;
use std::sync::OnceLock;
use std::time::Duration;

use poolyard_core::Pool;
use poolyard_process::worker::Worker;
use poolyard_process::{Cause, Deadline, Kill, ProcessManager, WorkerSpec};

/// What is loaded before the first fork.
const SHARED: usize = 96 << 20;
/// More than half of that (a worker shares it with the zygote), and less than all of it.
const LIMIT: u64 = 72 << 20;

static LOADED: OnceLock<Vec<u8>> = OnceLock::new();

#[used]
#[unsafe(link_section = ".init_array")]
static DIVERT: extern "C" fn() = {
    extern "C" fn divert() {
        poolyard_process::init(|zygote| {
            zygote.preload(|| drop(LOADED.set(vec![1; SHARED])));
            zygote.entry("fat", fat);
        });
    }
    divert
};

/// Counts what is loaded, or takes as much as that for itself and then waits.
fn fat() -> std::io::Result<()> {
    let mut own = Vec::new();
    Worker::connect()?.serve(move |call| {
        if call.first() == Some(&b'+') {
            own.push(vec![1_u8; SHARED]);
            black_box(&own);
        }
        if call.get(1) == Some(&b'+') {
            std::thread::park();
        }
        Ok(LOADED.get().map_or(0, Vec::len).to_string().into())
    })
}

fn pool() -> Pool<ProcessManager> {
    Pool::builder(ProcessManager::new().expect("a supervisor")).max_total(1).build().expect("a pool")
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

#[tokio::test]
async fn a_forked_worker_is_retired_for_its_own_memory_and_not_for_what_it_shares() {
    let (pool, key) = (pool(), WorkerSpec::entry("fat").soft_memory(LIMIT).key());
    let mut worker = pool.acquire(&key).await.expect("a worker");
    let first = worker.pid();
    assert_eq!(worker.call(b"?", soon()).await.expect("an answer"), SHARED.to_string().as_bytes());
    drop(worker);
    let mut worker = pool.acquire(&key).await.expect("a worker");
    assert_eq!(worker.pid(), first, "what it shares is not its own");
    worker.call(b"+", soon()).await.expect("an answer");
    // Memory is not looked at more often than every 100 ms, and more rarely after an exact look.
    for round in 0.. {
        assert!(round < 1000, "it is never retired");
        drop(worker);
        worker = pool.acquire(&key).await.expect("a worker");
        if worker.pid() != first {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_forked_worker_is_killed_for_its_own_memory_and_not_for_what_it_shares() {
    let (pool, key) = (pool(), WorkerSpec::entry("fat").hard_memory(LIMIT).key());
    let mut worker = pool.acquire(&key).await.expect("a worker");
    worker.call(b"?", soon()).await.expect("an answer");
    let error = worker.call(b"++", soon()).await.expect_err("killed");
    let Cause::Exited(death) = error.cause() else { panic!("{error}") };
    assert_eq!(death.kill, Some(Kill::Memory));
}
