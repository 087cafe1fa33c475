//! r2d2: blocks threads, so threads of its own drive it.

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use poolyard_benches::heap::{self, Heap};
use poolyard_benches::noise::{Run, Watch, span};
use r2d2::{ManageConnection, Pool};
use tokio::runtime::Runtime;

use super::Resource;
use crate::subject::{HUNG, Hold, Latencies, Load, Subject};

#[derive(Debug)]
struct Plain;

impl ManageConnection for Plain {
    type Connection = Resource;
    type Error = Infallible;

    fn connect(&self) -> Result<Resource, Infallible> {
        Ok(1)
    }

    fn is_valid(&self, _: &mut Resource) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, _: &mut Resource) -> bool {
        false
    }
}

fn build(size: usize) -> Pool<Plain> {
    let size = u32::try_from(size).expect("a size of pools");
    Pool::builder().max_size(size).connection_timeout(HUNG).build(Plain).expect("nothing fails")
}

/// False if the pool gave nothing until the hang check.
fn cycle(pool: &Pool<Plain>, hold: Hold) -> bool {
    let Ok(lease) = pool.get() else { return false };
    black_box(&*lease);
    if hold == Hold::Yield {
        thread::yield_now();
    }
    true
}

/// Starts one thread for each, lets all go at once, and waits for them.
fn race<T: Send + 'static>(
    load: Load,
    task: impl Fn(Pool<Plain>) -> Option<T> + Clone + Send + 'static,
) -> Option<(Vec<T>, Watch)> {
    let pool = build(load.size);
    let gate = Arc::new(Barrier::new(load.tasks + 1));
    let start = |_| {
        let (pool, gate, task) = (pool.clone(), Arc::clone(&gate), task.clone());
        let thread = thread::Builder::new().stack_size(64 * 1024);
        let run = move || {
            gate.wait();
            task(pool)
        };
        thread.spawn(run).expect("threads can be started")
    };
    let threads: Vec<_> = (0..load.tasks).map(start).collect();
    let watch = Watch::start();
    gate.wait();
    let results =
        threads.into_iter().map(|thread| thread.join().expect("the measured thread does not panic"));
    let results: Option<Vec<T>> = results.collect();
    results.map(|results| (results, watch))
}

pub(crate) struct R2d2;

impl Subject for R2d2 {
    fn name(&self) -> &'static str {
        "r2d2"
    }

    fn run(&self, _: &Runtime, load: Load) -> Option<Run> {
        let (spans, watch) = race(load, move |pool| {
            let start = Instant::now();
            let all = (0..load.cycles).all(|_| cycle(&pool, load.hold));
            all.then(|| (start, Instant::now()))
        })?;
        Some(watch.run(span(&spans), load.cycles * load.tasks as u64))
    }

    fn compete(&self, _: &Runtime, load: Load, time: Duration) -> Option<Vec<Latencies>> {
        let (latencies, _) = race(load, move |pool| {
            let mut latencies = Vec::with_capacity(4096);
            let start = Instant::now();
            let mut before = start;
            while before - start < time {
                cycle(&pool, load.hold).then_some(())?;
                let after = Instant::now();
                latencies.push(((after - before).as_nanos() / 100) as u32);
                before = after;
            }
            Some(latencies)
        })?;
        Some(latencies)
    }

    fn allocations(&self, _: &Runtime, cycles: u64) -> Heap {
        let pool = build(16);
        for _ in 0..1000 {
            cycle(&pool, Hold::Nothing);
        }
        heap::start();
        for _ in 0..cycles {
            cycle(&pool, Hold::Nothing);
        }
        heap::stop()
    }

    fn idle(&self, _: &Runtime, count: usize) -> Heap {
        heap::start();
        let pool = build(count);
        let leases: Vec<_> = (0..count).map(|_| pool.get().expect("the pool gives")).collect();
        drop(leases);
        let heap = heap::stop();
        drop(pool);
        heap
    }
}
