//! Medians and fairness.

/// What is quoted of a number of runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// The median.
    pub p50: f64,
    /// The 99th percentile.
    pub p99: f64,
}

impl Figures {
    /// `None` without runs.
    pub fn of(runs: &[f64]) -> Option<Figures> {
        let mut sorted = runs.to_vec();
        sorted.sort_by(f64::total_cmp);
        (!sorted.is_empty()).then(|| Figures { p50: quantile(&sorted, 0.5), p99: quantile(&sorted, 0.99) })
    }
}

/// The nearest-rank quantile of sorted values.
pub fn quantile<T: Copy>(sorted: &[T], share: f64) -> T {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// Jain's index of fairness: 1 where all got the same, 1/n where one got everything.
pub fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    sum * sum / (shares.len() as f64 * squares)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        assert_eq!(Figures::of(&[3.0, 1.0, 2.0]), Some(Figures { p50: 2.0, p99: 3.0 }));
        assert_eq!(Figures::of(&[]), None);
    }

    #[test]
    fn the_index_of_fairness_runs_from_one_taker_to_all_alike() {
        assert_eq!(jain(&[5.0, 5.0, 5.0, 5.0]), 1.0);
        assert_eq!(jain(&[8.0, 0.0, 0.0, 0.0]), 0.25);
    }
}
