//! [`measure`]: what a manager's resources cost, cold and warm.

use std::fmt;
use std::time::{Duration, Instant};

use poolyard_core::{AcquireError, Lease, Manager, Pool};

use crate::census::memory_of_this_tree;

/// How long the end of all resources may take. Beyond it they end in the background.
const PATIENCE: Duration = Duration::from_secs(60);

/// What [`measure`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Measured {
    /// From asking an empty pool to the lease: a creation.
    pub cold: Times,
    /// From asking a pool that has a clean resource to the lease.
    pub warm: Times,
    /// From giving a resource back until it is clean again: what the next user does not wait for.
    pub recycle: Times,
    /// How many returned resources were destroyed instead, as they could not be cleaned.
    pub not_reused: usize,
    /// By how many bytes one resource makes this process and its children bigger, as a mean: memory
    /// shared with others counts by its share. `None` where the system does not tell.
    pub memory: Option<u64>,
}

/// The middle and the tail of many times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Half of all took no longer.
    pub p50: Duration,
    /// All but a hundredth took no longer.
    pub p99: Duration,
}

impl Times {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |share: usize| times.get((times.len() * share).div_ceil(100).saturating_sub(1));
        Self { p50: at(50).copied().unwrap_or_default(), p99: at(99).copied().unwrap_or_default() }
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p50 {:?}, p99 {:?}", self.p50, self.p99)
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "cold:    {}", self.cold)?;
        writeln!(f, "warm:    {}", self.warm)?;
        writeln!(f, "recycle: {}, {} not used again", self.recycle, self.not_reused)?;
        match self.memory {
            Some(bytes) => write!(f, "memory:  {} KiB each", bytes / 1024),
            None => f.write_str("memory:  this system does not tell"),
        }
    }
}

/// Makes `n` resources of `key` (one at least), one after the other, and then uses them `n` times:
/// the times of both, and what they take in memory while all of them exist.
///
/// It says what one caller waits on this machine at this moment, not how much many callers get done.
/// Resources that live neither in this process nor in its children, as containers do, are missing in
/// the memory.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use poolyard_testkit::{FakeManager, measure};
///
/// let measured = measure(FakeManager::new(), &7, 100).await?;
/// println!("{measured}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
///
/// # Errors
///
/// The first creation that fails; what was made so far is destroyed.
///
/// # Cancel safety
///
/// A dropped future ends what it has made in the background.
pub async fn measure<M: Manager>(
    manager: M,
    key: &M::Key,
    n: usize,
) -> Result<Measured, AcquireError<M::Error>> {
    let n = n.max(1);
    let pool = Pool::builder(manager)
        .name("measure")
        .max_total(n)
        .max_cost(poolyard_core::UNLIMITED as u64)
        .check_after(None)
        .build()
        .expect("these options do not contradict each other");
    let before = memory_of_this_tree();
    let (leases, cold) = cold(&pool, key, n).await?;
    let memory = memory_of_this_tree().zip(before).map(|(now, before)| now.saturating_sub(before) / n as u64);
    for lease in leases {
        _ = Lease::release(lease).await;
    }
    let (warm, recycle, not_reused) = warm(&pool, key, n).await?;
    pool.close(PATIENCE).await;
    Ok(Measured {
        cold: Times::of(cold),
        warm: Times::of(warm),
        recycle: Times::of(recycle),
        not_reused,
        memory,
    })
}

type Leases<M> = Vec<Lease<M>>;
type Failure<M> = AcquireError<<M as Manager>::Error>;

async fn cold<M: Manager>(
    pool: &Pool<M>,
    key: &M::Key,
    n: usize,
) -> Result<(Leases<M>, Vec<Duration>), Failure<M>> {
    let (mut leases, mut times) = (Vec::with_capacity(n), Vec::with_capacity(n));
    for _ in 0..n {
        let start = Instant::now();
        leases.push(pool.acquire(key).await?);
        times.push(start.elapsed());
    }
    Ok((leases, times))
}

/// The times of acquires and returns. What had to be made anew is no warm time.
async fn warm<M: Manager>(
    pool: &Pool<M>,
    key: &M::Key,
    n: usize,
) -> Result<(Vec<Duration>, Vec<Duration>, usize), Failure<M>> {
    let (mut warm, mut recycle, mut not_reused) = (Vec::with_capacity(n), Vec::with_capacity(n), 0);
    for _ in 0..n {
        let start = Instant::now();
        let lease = pool.acquire(key).await?;
        if Lease::meta(&lease).uses > 1 {
            warm.push(start.elapsed());
        }
        let start = Instant::now();
        match Lease::release(lease).await {
            Ok(()) => recycle.push(start.elapsed()),
            Err(_) => not_reused += 1,
        }
    }
    Ok((warm, recycle, not_reused))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FakeManager, Method, Step};

    #[test]
    fn the_tail_of_a_hundred_times_is_the_last_but_one() {
        let times = (1..=100).rev().map(Duration::from_millis).collect();
        let expected = Times { p50: Duration::from_millis(50), p99: Duration::from_millis(99) };
        assert_eq!(Times::of(times), expected);
        assert_eq!(Times::of(Vec::new()), Times::default());
    }

    #[tokio::test]
    async fn every_resource_is_made_used_and_ended() {
        let fake = FakeManager::new();
        let measured = measure(fake.clone(), &1, 10).await.unwrap();
        assert_eq!((fake.count(Method::Create), fake.count(Method::Recycle)), (10, 20));
        assert_eq!(measured.not_reused, 0);
        fake.assert_clean();
    }

    #[tokio::test]
    async fn what_cannot_be_cleaned_is_counted() {
        let fake = FakeManager::new().always(Method::Recycle, Step::err("it sticks"));
        let measured = measure(fake.clone(), &1, 5).await.unwrap();
        assert_eq!((measured.not_reused, measured.recycle), (5, Times::default()));
        fake.assert_clean();
    }

    #[tokio::test]
    async fn a_creation_that_fails_is_the_answer() {
        let fake = FakeManager::new().create_script([Step::ok(), Step::err("full")]);
        assert!(matches!(measure(fake, &1, 5).await, Err(AcquireError::Create(_))));
    }

    /// Its resources are memory.
    struct Megabytes;

    impl Manager for Megabytes {
        type Key = ();
        type Resource = Vec<u8>;
        type Error = std::convert::Infallible;

        async fn create(&self, _: &(), _: &poolyard_core::Context) -> Result<Vec<u8>, Self::Error> {
            Ok(vec![1; 8 << 20])
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_memory_of_a_resource_is_seen() {
        let bytes = measure(Megabytes, &(), 8).await.unwrap().memory.expect("Linux tells");
        assert!((7 << 20..64 << 20).contains(&bytes), "{bytes} bytes for 8 MiB");
    }
}
