//! [`Shop`]: what all containers of one manager share, and what runs behind them.

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
    /// For removals where no runtime is.
    leftovers: Mutex<Vec<String>>,
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
            leftovers: Mutex::default(),
        })
    }

    fn owner_filter(&self) -> String {
        format!("{OWNER}={}", self.owner.label())
    }

    /// Sweeps, from the first container on.
    pub(crate) fn open(self: &Arc<Self>) {
        self.sweep_regularly();
        let leftovers = std::mem::take(&mut *self.leftovers.lock());
        leftovers.into_iter().for_each(|id| self.remove_later(id));
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

    /// Removes a container without waiting. Where there is no runtime, its agent has already been
    /// told, and the engine removes what ends; what is not covered by that waits for the next call.
    pub(crate) fn remove_later(self: &Arc<Self>, id: String) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return self.leftovers.lock().push(id);
        };
        let shop = self.clone();
        runtime.spawn(async move {
            if let Err(error) = shop.engine.remove(&id).await {
                tracing::warn!(%error, container = id, "a container could not be removed");
            }
        });
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
