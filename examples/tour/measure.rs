//! Repeating a job and keeping the times.

use std::time::{Duration, Instant};

use crate::screen::Screen;

/// Times of one job, sorted.
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    /// The median.
    pub(crate) fn p50(&self) -> Duration {
        self.0[self.0.len() / 2]
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }
}

/// Repeats `job`, which times itself, until there are `times` samples or `at_most` has passed, but
/// once at least.
pub(crate) async fn repeat<E>(
    screen: &Screen,
    label: &str,
    times: usize,
    at_most: Duration,
    mut job: impl AsyncFnMut() -> Result<Duration, E>,
) -> Result<Samples, E> {
    let start = Instant::now();
    let mut samples = Vec::with_capacity(times);
    while samples.is_empty() || (samples.len() < times && start.elapsed() < at_most) {
        samples.push(job().await?);
        screen.progress(label, samples.len(), times);
    }
    samples.sort_unstable();
    let samples = Samples(samples);
    screen.line(&format!("  {label:<34} {:>6} times, p50 {:>9}", samples.count(), duration(samples.p50())));
    Ok(samples)
}

/// Three digits and a unit.
pub(crate) fn duration(duration: Duration) -> String {
    let micros = duration.as_secs_f64() * 1e6;
    let (value, unit) = match micros {
        ..1e3 => (micros, "us"),
        ..1e6 => (micros / 1e3, "ms"),
        _ => (micros / 1e6, "s"),
    };
    let decimals = match value {
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_three_digits_and_a_unit() {
        assert_eq!(duration(Duration::from_nanos(1_234)), "1.23 us");
        assert_eq!(duration(Duration::from_micros(12_345)), "12.3 ms");
        assert_eq!(duration(Duration::from_millis(123)), "123 ms");
        assert_eq!(duration(Duration::from_secs(2)), "2.00 s");
    }

    #[tokio::test]
    async fn a_job_is_done_once_even_if_there_is_no_time() {
        let screen = Screen::silent();
        let job = async || Ok::<_, ()>(Duration::from_secs(1));
        let samples = repeat(&screen, "job", 5, Duration::ZERO, job).await.unwrap();
        assert_eq!((samples.count(), samples.p50()), (1, Duration::from_secs(1)));
    }
}
