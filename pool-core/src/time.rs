//! The pool's clock: nanoseconds since the pool was built. The only file that names a clock.

use std::time::{Duration, Instant};

/// A point on a pool's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Time(u64);

impl Time {
    pub(crate) const ZERO: Time = Time(0);
    pub(crate) const NEVER: Time = Time(u64::MAX);

    #[cfg(test)]
    pub(crate) const fn from_nanos(nanos: u64) -> Time {
        Time(nanos)
    }

    pub(crate) fn plus(self, span: Duration) -> Time {
        Time(self.0.saturating_add(nanos(span)))
    }

    /// `NEVER` where there is no span.
    pub(crate) fn plus_maybe(self, span: Option<Duration>) -> Time {
        self.after(Span::new(span))
    }

    /// `NEVER` after a span that never passes.
    #[inline]
    pub(crate) fn after(self, span: Span) -> Time {
        Time(self.0.saturating_add(span.0))
    }

    /// `span` earlier, but not before the beginning; never stays never.
    #[inline]
    pub(crate) fn before(self, span: Span) -> Time {
        if self == Time::NEVER { self } else { Time(self.0.saturating_sub(span.0)) }
    }

    /// The time in the middle; never where `end` is never.
    pub(crate) fn half_way_to(self, end: Time) -> Time {
        if end == Time::NEVER { end } else { Time(self.0 + end.0.saturating_sub(self.0) / 2) }
    }

    /// Whether `span` has passed since `earlier`.
    #[inline]
    pub(crate) fn is_past(self, span: Span, earlier: Time) -> bool {
        self.0.saturating_sub(earlier.0) >= span.0
    }

    /// Zero where `earlier` is later: readings of a coarse and a fine clock differ by a few milliseconds.
    pub(crate) fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A length of time, in nanoseconds: cheaper on the hot path than a `Duration`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(u64);

impl Span {
    pub(crate) const ZERO: Span = Span(0);
    pub(crate) const NEVER: Span = Span(u64::MAX);

    /// `None` is a span that never passes.
    pub(crate) fn new(span: Option<Duration>) -> Span {
        Span(span.map_or(u64::MAX, nanos))
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// Reads the time. Cheap to copy around; all times of one pool come from one clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
    #[cfg(all(target_os = "linux", not(feature = "test-util")))]
    coarse_start: u64,
}

impl Clock {
    /// How far [`coarse`](Clock::coarse) can lag behind [`fine`](Clock::fine).
    #[cfg(all(target_os = "linux", not(feature = "test-util")))]
    pub(crate) const LAG: Span = Span(10_000_000);
    #[cfg(not(all(target_os = "linux", not(feature = "test-util"))))]
    pub(crate) const LAG: Span = Span::ZERO;

    pub(crate) fn new() -> Clock {
        Clock {
            start: now(),
            #[cfg(all(target_os = "linux", not(feature = "test-util")))]
            coarse_start: coarse_nanos(),
        }
    }

    /// The time to within the kernel's tick (at most 10 ms late), in 2 to 3 ns instead of more
    /// than 20: what the hot path reads.
    #[cfg(all(target_os = "linux", not(feature = "test-util")))]
    pub(crate) fn coarse(&self) -> Time {
        Time(coarse_nanos().saturating_sub(self.coarse_start))
    }

    #[cfg(not(all(target_os = "linux", not(feature = "test-util"))))]
    pub(crate) fn coarse(&self) -> Time {
        self.fine()
    }

    /// The exact time.
    pub(crate) fn fine(&self) -> Time {
        self.at(now())
    }

    /// The pool's time of `instant`.
    pub(crate) fn at(&self, instant: Instant) -> Time {
        Time(nanos(instant.saturating_duration_since(self.start)))
    }

    /// The instant of a pool's time; `None` for times that never come.
    pub(crate) fn instant(&self, time: Time) -> Option<Instant> {
        if time == Time::NEVER {
            return None;
        }
        self.start.checked_add(Duration::from_nanos(time.0))
    }
}

/// Now, by tokio's clock under `test-util` so that paused time is obeyed, else by the system's.
pub(crate) fn now() -> Instant {
    #[cfg(feature = "test-util")]
    return tokio::time::Instant::now().into_std();
    #[cfg(not(feature = "test-util"))]
    return Instant::now();
}

#[cfg(all(target_os = "linux", not(feature = "test-util")))]
fn coarse_nanos() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
