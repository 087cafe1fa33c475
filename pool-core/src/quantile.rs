//! The 95th percentile of the last recycling times: after how long a recycle is unusually slow.

use std::time::Duration;

const KEPT: usize = 32;
/// Fewer observations say nothing about the tail.
const ENOUGH: usize = 8;
const BEFORE_ENOUGH: Duration = Duration::from_millis(50);

/// A ring of the last observations.
#[derive(Debug, Default)]
pub(crate) struct Quantile {
    ring: [Duration; KEPT],
    seen: usize,
}

impl Quantile {
    pub(crate) fn record(&mut self, took: Duration) {
        self.ring[self.seen % KEPT] = took;
        self.seen += 1;
    }

    /// The 95th percentile of what was recorded, 50 ms before there are eight observations.
    pub(crate) fn p95(&self) -> Duration {
        let kept = self.seen.min(KEPT);
        if kept < ENOUGH {
            return BEFORE_ENOUGH;
        }
        let mut sorted = self.ring;
        let sorted = &mut sorted[..kept];
        sorted.sort_unstable();
        sorted[(kept * 95).div_ceil(100) - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_unknown_before_eight_observations() {
        let mut times = Quantile::default();
        (0..7).for_each(|_| times.record(Duration::from_millis(1)));
        assert_eq!(times.p95(), Duration::from_millis(50));
        times.record(Duration::from_millis(1));
        assert_eq!(times.p95(), Duration::from_millis(1));
    }

    #[test]
    fn it_is_the_95th_percentile_of_the_last_32() {
        let mut times = Quantile::default();
        (0..100).for_each(|_| times.record(Duration::from_secs(9)));
        (1..=32).for_each(|ms| times.record(Duration::from_millis(ms)));
        assert_eq!(times.p95(), Duration::from_millis(31));
    }
}
