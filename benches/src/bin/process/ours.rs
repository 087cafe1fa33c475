//! Ours.

use std::hint::black_box;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use poolyard_core::Pool;
use poolyard_process::{
    Deadline, Dispatcher, DispatcherConfig, ProcessManager, Select, Worker, WorkerKey, WorkerSpec,
};
use tokio::runtime::Handle;

use crate::side::Side;

/// This program as a worker.
pub(crate) fn command() -> WorkerSpec {
    let exe = std::env::current_exe().expect("an exe");
    WorkerSpec::command(exe).env(crate::ROLE, "yes").pipe_size(1 << 20)
}

pub(crate) fn pool(size: usize) -> Pool<ProcessManager> {
    let manager = ProcessManager::new().expect("a supervisor");
    Pool::builder(manager).max_total(size).build().expect("a pool")
}

pub(crate) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

/// How a call is made.
#[derive(Clone, Copy)]
pub(crate) enum Way {
    /// Answers come as vectors.
    Owned,
    /// Into and out of the arena, through a buffer of 64 KiB.
    InPlace,
    /// Nobody reads the answer.
    Unread,
}

impl Way {
    async fn call(self, worker: &mut Worker, payload: &[u8], buffer: &mut [u8]) {
        if let Way::Owned = self {
            black_box(worker.call(payload, soon()).await.expect("an answer"));
            return;
        }
        let mut request = worker.request();
        request.push(payload);
        let mut answer = request.call(soon()).await.expect("an answer");
        assert_eq!(answer.len(), payload.len());
        while let Way::InPlace = self
            && answer.read(buffer).expect("an answer") > 0
        {
            black_box(&mut *buffer);
        }
    }
}

pub(crate) struct Ours {
    name: &'static str,
    way: Way,
    runtime: Handle,
    pool: Pool<ProcessManager>,
    key: WorkerKey,
    config: DispatcherConfig,
}

impl Ours {
    pub(crate) fn new(name: &'static str, runtime: &Handle, spec: WorkerSpec) -> Self {
        let config = DispatcherConfig::default();
        Self { name, way: Way::Owned, runtime: runtime.clone(), pool: pool(2), key: spec.key(), config }
    }

    /// With many calls in flight, chosen for this way.
    pub(crate) fn choosing(self, config: DispatcherConfig) -> Self {
        Self { config, ..self }
    }

    pub(crate) fn calling(self, way: Way) -> Self {
        Self { way, ..self }
    }
}

impl Side for Ours {
    fn name(&self) -> &str {
        self.name
    }

    fn note(&self) -> &str {
        match self.way {
            Way::Owned => "",
            Way::InPlace => {
                "the answer is copied out of the arena in pieces of 64 KiB, each over the one before"
            }
            Way::Unread => "the answer is left in the arena and not read",
        }
    }

    fn latency(&mut self, payload: &[u8], n: usize) -> Result<Vec<f64>, String> {
        let (pool, key, way, payload) = (self.pool.clone(), self.key.clone(), self.way, payload.to_vec());
        let calls = async move {
            let mut samples = Vec::with_capacity(n);
            let mut buffer = vec![0; 64 * 1024];
            for _ in 0..n {
                let begun = Instant::now();
                let mut worker = pool.acquire(&key).await.expect("a worker");
                way.call(&mut worker, &payload, &mut buffer).await;
                drop(worker);
                samples.push(begun.elapsed().as_nanos() as f64 / 1000.0);
            }
            samples
        };
        // In a task, as callers are; the thread that blocks on the runtime pays an extra hop.
        self.runtime.block_on(self.runtime.spawn(calls)).map_err(|error| error.to_string())
    }

    fn in_flight(&mut self, n: usize) -> Option<f64> {
        let dispatcher = Dispatcher::new(self.pool.clone(), self.key.clone(), self.config.clone());
        Some(throughput(&self.runtime, Arc::new(dispatcher), 64, n))
    }
}

/// Calls per second of one worker that has several at a time.
pub(crate) fn multiplexed(runtime: &Handle, calls: usize, n: usize) -> f64 {
    let _inside = runtime.enter();
    let config = DispatcherConfig::new(1, calls, Select::LeastBusy);
    let dispatcher = Dispatcher::new(pool(1), command().key(), config);
    throughput(runtime, Arc::new(dispatcher), calls, n)
}

/// Calls per second of so many tasks that together call `n` times.
fn throughput(runtime: &Handle, dispatcher: Arc<Dispatcher>, tasks: usize, n: usize) -> f64 {
    let each = (n / tasks).max(1);
    runtime.block_on(async {
        dispatcher.call(None, b"warm", soon()).await.expect("an answer");
        let begun = Instant::now();
        let task = |_| {
            let dispatcher = dispatcher.clone();
            tokio::spawn(async move {
                for _ in 0..each {
                    black_box(dispatcher.call(None, b"x", soon()).await.expect("an answer"));
                }
            })
        };
        let tasks: Vec<_> = (0..tasks).map(task).collect();
        let count = tasks.len() * each;
        for task in tasks {
            task.await.expect("no panic");
        }
        count as f64 / begun.elapsed().as_secs_f64()
    })
}
