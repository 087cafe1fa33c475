//! The same job with a resource that is made for it and with a warm one out of a pool.

use std::time::{Duration, Instant};

use poolyard::{Lease, Manager, Pool};

use crate::measure::{Samples, repeat};
use crate::screen::Screen;

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// At most so long for each side.
const AT_MOST: Duration = Duration::from_secs(4);

/// What is compared, and how often.
pub(crate) struct Comparison<'a, K> {
    pub(crate) key: &'a K,
    /// How many resources are kept warm.
    pub(crate) warm: usize,
    /// The words for the two sides.
    pub(crate) labels: [&'a str; 2],
    /// How often the job is done on each side.
    pub(crate) times: [usize; 2],
}

/// Both sides: from asking to the answer. On the cold one each resource is made for its job and thrown away
/// after it, outside of the time.
pub(crate) async fn compare<M: Manager>(
    screen: &Screen,
    pool: &Pool<M>,
    comparison: &Comparison<'_, M::Key>,
    job: impl AsyncFn(&mut Lease<M>) -> Result<(), Failure>,
) -> Result<[Samples; 2], Failure> {
    let Comparison { key, warm, labels, times } = *comparison;
    let cold = repeat(screen, labels[0], times[0], AT_MOST, async || {
        let start = Instant::now();
        let mut lease = pool.acquire(key).await?;
        job(&mut lease).await?;
        let took = start.elapsed();
        Lease::discard(lease);
        until_empty(pool).await;
        Ok::<_, Failure>(took)
    });
    let cold = cold.await?;

    let report = pool.warm(key, warm).await;
    if let Some(failure) = report.failures.into_iter().next() {
        return Err(format!("warming up: {failure}").into());
    }
    let pooled = repeat(screen, labels[1], times[1], AT_MOST, async || {
        let start = Instant::now();
        let mut lease = pool.acquire(key).await?;
        job(&mut lease).await?;
        Ok::<_, Failure>(start.elapsed())
    });
    let pooled = pooled.await?;
    tell_counters(screen, pool);
    Ok([cold, pooled])
}

/// The next resource is made while no other is being taken apart.
async fn until_empty<M: Manager>(pool: &Pool<M>) {
    while pool.snapshot().counts.live() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn tell_counters<M: Manager>(screen: &Screen, pool: &Pool<M>) {
    let counters = pool.snapshot().counters;
    screen.line(&format!(
        "  made {}, given out {} times, cleaned {} times",
        counters.created, counters.returned, counters.recycled
    ));
}
