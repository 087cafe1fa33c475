//! [`Census`]: what the operating system holds for this process, to be compared before and after.
//!
//! Resources are counted where they live and not in our own books: processes below this one
//! (zombies too), open files, sockets, mounts, namespaces, control groups. It is Linux's `/proc`
//! that is read; elsewhere only the additions of [`Scope::with`] are counted.
//!
//! The census is that of the whole process, so a test that takes one must not run beside others in
//! the same process: give it a test binary of its own, or a runner that starts a process per test.

#[cfg(target_os = "linux")]
mod linux;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a census may take to come back to what it was.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait before looking again.
const PAUSE: Duration = Duration::from_millis(2);

/// What this process and its descendants take in memory, in bytes; what processes share counts by
/// shares. `None` where the system does not tell.
pub(crate) fn memory_of_this_tree() -> Option<u64> {
    #[cfg(target_os = "linux")]
    return linux::memory();
    #[cfg(not(target_os = "linux"))]
    return None;
}

type Counter = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// What a census counts.
#[derive(Clone, Default)]
pub struct Scope {
    cgroups: Vec<PathBuf>,
    /// Where mounts count; everywhere, if there is none.
    mounts: Vec<PathBuf>,
    threads: bool,
    /// Living processes that do not count, by name.
    without: Vec<String>,
    extra: Vec<(&'static str, Counter)>,
}

impl Scope {
    /// Processes, files, sockets, mounts and namespaces.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts the control groups below `directory`, too.
    pub fn cgroups_under(mut self, directory: impl Into<PathBuf>) -> Self {
        self.cgroups.push(directory.into());
        self
    }

    /// Counts only the mounts at `directory` and below it, and below others that are named so. Mounts have
    /// no owner: what anybody on this machine mounts meanwhile is counted elsewhere.
    pub fn mounts_under(mut self, directory: impl Into<PathBuf>) -> Self {
        self.mounts.push(directory.into());
        self
    }

    /// Counts this process's threads, too. Runtimes keep threads of their own for a while, so this
    /// is only for tests without one.
    pub fn threads(mut self) -> Self {
        self.threads = true;
        self
    }

    /// Does not count living processes of this name: what a manager keeps in readiness and replaces is another
    /// process each time. How many there may be is for [`with`](Self::with) to say.
    pub fn without(mut self, process: impl Into<String>) -> Self {
        self.without.push(process.into());
        self
    }

    /// Counts something else, too: containers with a label, files under a directory. Each item
    /// that `count` returns is listed under `section`.
    pub fn with(
        mut self,
        section: &'static str,
        count: impl Fn() -> Vec<String> + Send + Sync + 'static,
    ) -> Self {
        self.extra.push((section, Arc::new(count)));
        self
    }

    /// Counts.
    pub fn take(&self) -> Census {
        let mut items = Items::default();
        #[cfg(target_os = "linux")]
        linux::count(&mut items, self);
        for (section, count) in &self.extra {
            items.add_all(section, count());
        }
        Census { scope: self.clone(), items }
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let extra: Vec<_> = self.extra.iter().map(|(section, _)| section).collect();
        f.debug_struct("Scope")
            .field("cgroups", &self.cgroups)
            .field("mounts", &self.mounts)
            .field("threads", &self.threads)
            .field("without", &self.without)
            .field("extra", &extra)
            .finish()
    }
}

/// How many there are of each thing, by section and description.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Items(BTreeMap<(&'static str, String), isize>);

impl Items {
    fn add(&mut self, section: &'static str, what: String) {
        *self.0.entry((section, what)).or_default() += 1;
    }

    fn add_all(&mut self, section: &'static str, what: impl IntoIterator<Item = String>) {
        what.into_iter().for_each(|item| self.add(section, item));
    }
}

/// What the operating system held at one moment.
#[derive(Clone, Debug)]
pub struct Census {
    scope: Scope,
    items: Items,
}

impl Census {
    /// Counts processes, files, sockets, mounts and namespaces. See [`Scope`] for more.
    pub fn take() -> Self {
        Scope::new().take()
    }

    /// What is different from `before`.
    pub fn changes_since(&self, before: &Census) -> Changes {
        let mut change = self.items.0.clone();
        for (item, count) in &before.items.0 {
            *change.entry(item.clone()).or_default() -= count;
        }
        change.retain(|_, count| *count != 0);
        Changes(change)
    }

    /// Counts again, in the scope of `before`, until nothing is different or [`PATIENCE`] is over.
    ///
    /// # Panics
    ///
    /// With a list of what is different, when the patience is over.
    pub async fn assert_unchanged_since(before: &Census) {
        if let Err(changes) = before.settle(PATIENCE).await {
            panic!("the operating system does not hold what it held before:\n{changes}");
        }
    }

    /// Like [`assert_unchanged_since`](Self::assert_unchanged_since), without a runtime.
    ///
    /// # Panics
    ///
    /// With a list of what is different, when the patience is over.
    #[track_caller]
    pub fn assert_unchanged_since_blocking(before: &Census) {
        let deadline = Instant::now() + PATIENCE;
        while let Err(changes) = before.compare() {
            let over = Instant::now() >= deadline;
            assert!(!over, "the operating system does not hold what it held before:\n{changes}");
            std::thread::sleep(PAUSE);
        }
    }

    /// Counts again until everything is as in this census.
    ///
    /// # Errors
    ///
    /// What is still different when `patience` is over.
    pub async fn settle(&self, patience: Duration) -> Result<(), Changes> {
        // By the real clock: the operating system knows of no paused time.
        let deadline = Instant::now() + patience;
        loop {
            match self.compare() {
                Err(changes) if Instant::now() >= deadline => return Err(changes),
                Err(_) => tokio::time::sleep(PAUSE).await,
                Ok(()) => return Ok(()),
            }
        }
    }

    /// Counts again until nothing is there that is not in this census. What is gone since then
    /// does not matter.
    ///
    /// # Errors
    ///
    /// What is still left over when `patience` is over.
    pub async fn settle_leftovers(&self, patience: Duration) -> Result<(), Changes> {
        let deadline = Instant::now() + patience;
        while let Err(mut changes) = self.compare() {
            changes.0.retain(|_, count| *count > 0);
            if changes.is_empty() {
                break;
            }
            if Instant::now() >= deadline {
                return Err(changes);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    fn compare(&self) -> Result<(), Changes> {
        let changes = self.scope.take().changes_since(self);
        if changes.is_empty() { Ok(()) } else { Err(changes) }
    }
}

/// How two censuses differ. Its text is one line per thing: `+` for more, `-` for less.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes(BTreeMap<(&'static str, String), isize>);

impl Changes {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((section, what), count) in &self.0 {
            writeln!(f, "  {count:+} {section}: {what}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Changes {}
