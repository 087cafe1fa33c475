//! What drives a subject: tasks for asynchronous pools, threads for r2d2.

use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use poolyard_benches::heap::{self, Heap};
use poolyard_benches::noise::{Run, Watch, span};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

/// After this a run counts as hung.
pub(crate) const HUNG: Duration = Duration::from_secs(4);

/// What a task does with a resource.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// It gives it back at once.
    Nothing,
    /// It yields once, so that others come to want it.
    Yield,
}

/// Some tasks that take from one pool, over and over.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) tasks: usize,
    pub(crate) size: usize,
    pub(crate) hold: Hold,
    /// How often each task takes.
    pub(crate) cycles: u64,
}

/// How many cycles a task had, and how long each took, in units of 100 ns.
pub(crate) type Latencies = Vec<u32>;

/// A pool of any kind. `None` means that it hung.
pub(crate) trait Subject {
    fn name(&self) -> &'static str;
    fn run(&self, runtime: &Runtime, load: Load) -> Option<Run>;
    /// Lets tasks compete for a time.
    fn compete(&self, runtime: &Runtime, load: Load, time: Duration) -> Option<Vec<Latencies>>;
    /// What `cycles` warm cycles of one task do on the heap.
    fn allocations(&self, runtime: &Runtime, cycles: u64) -> Heap;
    /// What a pool with `count` idle resources holds of the heap.
    fn idle(&self, runtime: &Runtime, count: usize) -> Heap;
}

/// An asynchronous pool.
pub(crate) trait TaskPool: Clone + Send + Sync + 'static {
    const NAME: &'static str;
    fn build(size: usize) -> impl Future<Output = Self> + Send;
    /// Takes a resource and gives it back.
    fn cycle(&self, hold: Hold) -> impl Future<Output = ()> + Send;
    /// Takes `count` resources at once and gives them back.
    fn fill(&self, count: usize) -> impl Future<Output = ()> + Send;
}

/// Writes `cycle` and `fill` around the way in which a pool gives a resource out.
macro_rules! cycles {
    (|$pool:ident| $acquire:expr) => {
        async fn cycle(&self, hold: $crate::subject::Hold) {
            let $pool = self;
            let lease = $acquire;
            std::hint::black_box(&*lease);
            if hold == $crate::subject::Hold::Yield {
                tokio::task::yield_now().await;
            }
            drop(lease);
        }

        async fn fill(&self, count: usize) {
            let $pool = self;
            let mut leases = Vec::with_capacity(count);
            for _ in 0..count {
                leases.push($acquire);
            }
        }
    };
}
pub(crate) use cycles;

/// A [`TaskPool`] as a subject.
pub(crate) struct Tasks<P>(PhantomData<fn() -> P>);

impl<P> Tasks<P> {
    pub(crate) const fn new() -> Self {
        Tasks(PhantomData)
    }
}

impl<P: TaskPool> Subject for Tasks<P> {
    fn name(&self) -> &'static str {
        P::NAME
    }

    fn run(&self, runtime: &Runtime, load: Load) -> Option<Run> {
        let (spans, watch) = race(runtime, load, move |pool: P| async move {
            let start = Instant::now();
            for _ in 0..load.cycles {
                pool.cycle(load.hold).await;
            }
            (start, Instant::now())
        })?;
        Some(watch.run(span(&spans), load.cycles * load.tasks as u64))
    }

    fn compete(&self, runtime: &Runtime, load: Load, time: Duration) -> Option<Vec<Latencies>> {
        let (latencies, _) = race(runtime, load, move |pool: P| async move {
            let mut latencies = Vec::with_capacity(4096);
            let start = Instant::now();
            let mut before = start;
            while before - start < time {
                pool.cycle(load.hold).await;
                let after = Instant::now();
                latencies.push(((after - before).as_nanos() / 100) as u32);
                before = after;
            }
            latencies
        })?;
        Some(latencies)
    }

    fn allocations(&self, runtime: &Runtime, cycles: u64) -> Heap {
        on_worker(runtime, async move {
            let pool = P::build(16).await;
            for _ in 0..1000 {
                pool.cycle(Hold::Nothing).await;
            }
            heap::start();
            for _ in 0..cycles {
                pool.cycle(Hold::Nothing).await;
            }
            heap::stop()
        })
    }

    fn idle(&self, runtime: &Runtime, count: usize) -> Heap {
        on_worker(runtime, async move {
            quiet().await;
            heap::start();
            let pool = P::build(count).await;
            pool.fill(count).await;
            quiet().await;
            let heap = heap::stop();
            drop(pool);
            heap
        })
    }
}

/// Long enough for what a pool left to background tasks to be done.
pub(crate) async fn quiet() {
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// Runs `future` on a worker of the runtime.
pub(crate) fn on_worker<T: Send + 'static>(
    runtime: &Runtime,
    future: impl Future<Output = T> + Send + 'static,
) -> T {
    let task = runtime.spawn(future);
    runtime.block_on(task).expect("the measured task does not panic")
}

/// Starts one task for each, lets all go at once, and waits for them.
fn race<P: TaskPool, T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    runtime: &Runtime,
    load: Load,
    task: impl Fn(P) -> F,
) -> Option<(Vec<T>, Watch)> {
    runtime.block_on(async {
        let pool = P::build(load.size).await;
        pool.fill(load.size).await;
        for _ in 0..200 {
            pool.cycle(Hold::Nothing).await;
        }
        let (gate, arrived) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let start = |task: F| {
            let (gate, arrived) = (Arc::clone(&gate), Arc::clone(&arrived));
            tokio::spawn(async move {
                arrived.fetch_add(1, Ordering::SeqCst);
                gate.acquire().await.expect("the gate stays open").forget();
                task.await
            })
        };
        let tasks: Vec<_> = (0..load.tasks).map(|_| start(task(pool.clone()))).collect();
        while arrived.load(Ordering::SeqCst) < load.tasks {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let aborts: Vec<_> = tasks.iter().map(|task| task.abort_handle()).collect();
        let watch = Watch::start();
        gate.add_permits(load.tasks);
        let results = tokio::time::timeout(HUNG, async {
            let mut results = Vec::with_capacity(tasks.len());
            for task in tasks {
                results.push(task.await.expect("the measured task does not panic"));
            }
            results
        });
        let results = results.await;
        aborts.iter().for_each(|task| task.abort());
        results.ok().map(|results| (results, watch))
    })
}
