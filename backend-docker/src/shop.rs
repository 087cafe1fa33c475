//! [`Shop`]: what all containers of one manager share, and what runs behind them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::engine::Engine;
use crate::engine::events::{Lifeline, Watch};
use crate::error::Error;
use crate::owner::{OWNER, Owner};
use crate::reap;
use crate::run_dir::RunDirs;

/// How often others' leavings are looked for, and our lease is renewed.
const SWEEP: Duration = Duration::from_secs(60);

pub(crate) struct Shop {
    pub(crate) engine: Arc<Engine>,
    pub(crate) owner: Owner,
    pub(crate) watch: Watch,
    pub(crate) counts: Counts,
    pub(crate) run_base: PathBuf,
    run_dirs: Mutex<Option<Arc<RunDirs>>>,
    next: AtomicU64,
    /// Like the follower of events, it may end with its runtime.
    sweeper: Mutex<Option<JoinHandle<()>>>,
    /// Containers that could not be removed so far, and why.
    failures: Mutex<BTreeMap<String, String>>,
}

/// What happened, for the statistics.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) created: AtomicU64,
    pub(crate) resets_clean: AtomicU64,
    pub(crate) resets_dirty: AtomicU64,
    pub(crate) reaped: AtomicU64,
}

impl Counts {
    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}

impl Shop {
    pub(crate) fn new(engine: Engine, run_base: PathBuf) -> Arc<Shop> {
        Arc::new(Shop {
            engine: Arc::new(engine),
            owner: Owner::this_process(),
            watch: Watch::new(),
            counts: Counts::default(),
            run_base,
            run_dirs: Mutex::default(),
            next: AtomicU64::new(0),
            sweeper: Mutex::default(),
            failures: Mutex::default(),
        })
    }

    fn owner_filter(&self) -> String {
        format!("{OWNER}={}", self.owner.label())
    }

    /// Sweeps, from the first container on.
    pub(crate) fn open(self: &Arc<Self>) {
        self.sweep_regularly();
    }

    /// Follows what happens to a container from here on.
    pub(crate) async fn follow(&self, id: &str, lifeline: &Arc<Lifeline>) -> Result<(), Error> {
        self.watch.add(id, lifeline);
        self.watch.start(&self.engine, &self.owner_filter()).await
    }

    fn sweep_regularly(self: &Arc<Self>) {
        let mut task = self.sweeper.lock();
        if task.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let shop = Arc::downgrade(self);
        *task = Some(tokio::spawn(async move {
            while let Some(shop) = shop.upgrade() {
                reap::round(&shop).await;
                drop(shop);
                tokio::time::sleep(SWEEP).await;
            }
        }));
    }

    pub(crate) fn run_dirs(&self) -> Result<Arc<RunDirs>, Error> {
        let mut dirs = self.run_dirs.lock();
        if let Some(dirs) = &*dirs {
            return Ok(dirs.clone());
        }
        let made = Arc::new(RunDirs::new(&self.run_base, &self.owner)?);
        Ok(dirs.insert(made).clone())
    }

    /// Which port of a range a container tries first: each another one.
    pub(crate) fn next_turn(&self) -> u32 {
        self.next.fetch_add(1, Ordering::Relaxed) as u32
    }

    /// A name that no other container has, and that says until when its owner surely lives.
    pub(crate) fn next_name(&self) -> String {
        let label = self.owner.label();
        let host = &label[..8.min(label.len())];
        let rest = label.split_once('.').map_or("", |(_, rest)| rest).replace('.', "-");
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        format!("poolyard-{host}-{rest}-{n}-{}", reap::lease_end())
    }

    /// Removes a container without waiting; on a thread where there is no runtime.
    pub(crate) fn remove_later(self: &Arc<Self>, id: String) {
        let removal = Removal { shop: self.clone(), id: Some(id) };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(removal.carry_out());
        }
    }

    /// Removes a container, and remembers it if that fails; says whether it is gone.
    pub(crate) async fn remove(&self, id: &str) -> bool {
        let result = self.engine.remove(id).await;
        let mut failures = self.failures.lock();
        match result {
            Ok(()) => drop(failures.remove(id)),
            Err(ref error) => {
                tracing::warn!(%error, container = id, "a container could not be removed yet");
                failures.insert(id.to_owned(), error.to_string());
            }
        }
        result.is_ok()
    }

    pub(crate) fn failures(&self) -> Vec<String> {
        self.failures.lock().iter().map(|(id, error)| format!("{id}: {error}")).collect()
    }
}

/// A container that is to be removed, by a task if that may run to its end.
struct Removal {
    shop: Arc<Shop>,
    id: Option<String>,
}

impl Removal {
    async fn carry_out(mut self) {
        if let Some(id) = self.id.clone() {
            self.shop.remove(&id).await;
            self.id = None;
        }
    }
}

impl Drop for Removal {
    /// There is no runtime, or it has ended before the engine answered.
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.shop.engine.http.address.remove_from_a_thread(id, Duration::ZERO);
        }
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        if let Some(sweeper) = self.sweeper.get_mut().take() {
            sweeper.abort();
        }
        self.watch.stop();
    }
}
