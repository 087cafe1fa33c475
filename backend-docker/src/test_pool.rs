//! [`TestPool`]: one pool for all tests of a crate.

use std::fmt;
use std::time::Duration;

use parking_lot::Mutex;
use poolyard_core::{AcquireError, CloseReport, Lease, Pool, Snapshot};

use crate::error::Error;
use crate::manager::DockerManager;
use crate::spec::ContainerSpec;

/// A container for each test, made once and cleaned in between: a pool that lives in a static.
///
/// It is made by the first test that asks, with a thread of its own, because each test has another
/// runtime. Tests of one process share its containers; where each test is a process (`cargo
/// nextest`), each has its own. Either way they end with the process, although statics are never
/// dropped.
///
/// Starting, acquiring and cleaning up may take 30 s each. No more containers are made at once than
/// twice the engine's processors.
///
/// ```no_run
/// use poolyard_docker::{ContainerSpec, Port, TestPool, Wait};
///
/// static REDIS: TestPool = TestPool::new(|| {
///     ContainerSpec::service("redis:7").publish(Port::tcp(6379)).wait(Wait::Port(6379))
/// });
///
/// #[tokio::test]
/// async fn a_key_is_stored() {
///     let redis = REDIS.acquire().await.unwrap();
///     let address = redis.addr(6379).unwrap();
///     // ...
/// }
/// ```
pub struct TestPool {
    spec: fn() -> ContainerSpec,
    manager: fn() -> Result<DockerManager, Error>,
    max_total: usize,
    limit: Duration,
    running: Mutex<Option<Running>>,
}

#[derive(Clone)]
struct Running {
    pool: Pool<DockerManager>,
    manager: DockerManager,
    spec: ContainerSpec,
}

/// What a [cleanup](TestPool::cleanup) could not do.
#[derive(Debug)]
#[non_exhaustive]
pub struct CleanupError {
    /// What the pool still had when the time was over.
    pub report: CloseReport<ContainerSpec>,
    /// Every container that was not removed, and why.
    pub failures: Vec<String>,
}

impl TestPool {
    /// A pool of one kind of container, on the engine of this machine.
    pub const fn new(spec: fn() -> ContainerSpec) -> Self {
        let limit = Duration::from_secs(30);
        Self { spec, manager: DockerManager::local, max_total: 0, limit, running: Mutex::new(None) }
    }

    /// How many containers there are at most; by default as many as this machine has processors,
    /// which is how many tests run at once.
    pub const fn max_total(mut self, count: usize) -> Self {
        self.max_total = count;
        self
    }

    /// How long starting, acquiring and cleaning up may take, each.
    pub const fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// For another engine.
    pub const fn manager(mut self, manager: fn() -> Result<DockerManager, Error>) -> Self {
        self.manager = manager;
        self
    }

    /// A container for one test; given back when it is dropped.
    ///
    /// # Errors
    ///
    /// As [`Pool::acquire`]; [`AcquireError::Create`] if there is no engine.
    ///
    /// # Cancel safety
    ///
    /// Nothing but the place in the queue is lost.
    pub async fn acquire(&self) -> Result<Lease<DockerManager>, AcquireError<Error>> {
        let running = self.running().map_err(AcquireError::Create)?;
        running.pool.acquire(&running.spec).await
    }

    /// How the pool stands; `None` before the first test.
    pub fn snapshot(&self) -> Option<Snapshot> {
        self.running.lock().as_ref().map(|running| running.pool.snapshot())
    }

    /// Removes all containers, and waits for it. The next acquire starts afresh.
    ///
    /// # Errors
    ///
    /// Everything that could not be removed, not only the first.
    pub async fn cleanup(&self) -> Result<(), CleanupError> {
        let Some(running) = self.running.lock().take() else { return Ok(()) };
        let report = running.pool.close(self.limit).await;
        let failures = running.manager.not_removed();
        match report.is_clean() && failures.is_empty() {
            true => Ok(()),
            false => Err(CleanupError { report, failures }),
        }
    }

    fn running(&self) -> Result<Running, Error> {
        let mut slot = self.running.lock();
        if let Some(running) = &*slot {
            return Ok(running.clone());
        }
        let manager = (self.manager)()?;
        let pool = self.build(manager.clone());
        Ok(slot.insert(Running { pool, manager, spec: (self.spec)() }).clone())
    }

    fn build(&self, manager: DockerManager) -> Pool<DockerManager> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let max_total = if self.max_total == 0 { processors } else { self.max_total };
        let builder = Pool::builder(manager).max_total(max_total).own_thread();
        let builder = builder.create_timeout(self.limit).wait_timeout(self.limit).destroy_timeout(self.limit);
        builder.build().expect("no limit contradicts another")
    }
}

impl fmt::Debug for TestPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestPool").field("snapshot", &self.snapshot()).finish_non_exhaustive()
    }
}

impl fmt::Display for CleanupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (left, abandoned) = (self.report.left.len(), self.report.abandoned);
        write!(f, "{left} containers in use or in the making, {abandoned} given up, ")?;
        write!(f, "{} not removed; the next start removes them", self.failures.len())?;
        self.failures.iter().try_for_each(|failure| write!(f, "\n{failure}"))
    }
}

impl std::error::Error for CleanupError {}
