//! What the rooms share.

use std::time::Duration;

use poolyard_core::{AcquireError, Builder, Counts, Lease, Pool, Reason};
use poolyard_testkit::{FakeError, FakeManager};
use tokio::task::JoinHandle;

pub(crate) type FakePool = Pool<FakeManager>;
pub(crate) type FakeLease = Lease<FakeManager>;
pub(crate) type Asked = JoinHandle<Result<FakeLease, AcquireError<FakeError>>>;

pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Paused time moves only when every task waits. So when this returns, everything that could happen
/// without time has happened.
pub(crate) async fn settle() {
    tokio::time::sleep(ms(1)).await;
}

/// A pool of `max_total` over `fake`, to be configured further.
pub(crate) fn pool_of(max_total: usize, fake: &FakeManager) -> Builder<FakeManager> {
    Pool::builder(fake.clone()).max_total(max_total)
}

/// A caller for `key`, in the queue when this returns if there was nothing for it.
pub(crate) async fn ask(pool: &FakePool, key: u32) -> Asked {
    let pool = pool.clone();
    let asked = tokio::spawn(async move { pool.acquire(&key).await });
    settle().await;
    asked
}

/// What a caller got.
pub(crate) async fn got(asked: Asked) -> FakeLease {
    asked.await.expect("the caller did not panic").expect("the caller was served")
}

/// `count` leases of `key`.
pub(crate) async fn take(pool: &FakePool, key: u32, count: usize) -> Vec<FakeLease> {
    let mut leases = Vec::new();
    for _ in 0..count {
        leases.push(pool.acquire(&key).await.expect("there is room"));
    }
    leases
}

pub(crate) fn counts(pool: &FakePool) -> Counts {
    pool.snapshot().counts
}

pub(crate) fn destroyed_for(pool: &FakePool, reason: Reason) -> u64 {
    pool.snapshot().counters.destroyed_for(reason)
}

/// Closes the pool: nothing may be left in it, and no rule of the game may have been broken.
pub(crate) async fn end(pool: FakePool, fake: &FakeManager) {
    let report = pool.close(secs(3600)).await;
    assert!(report.is_clean(), "{report:?}");
    fake.assert_clean();
}
