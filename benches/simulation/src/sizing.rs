//! Ways to size a pool.

use std::fmt;
use std::time::Duration;

use poolyard_core::simulation::{Replay, Trace, replay};
use poolyard_core::{Adaptive, PoolConfig, UNLIMITED};

/// A way to size a pool.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sizing {
    /// So many resources of each key, made before the first caller comes: never more, never fewer.
    PerKey(u32),
    /// So many resources for all keys together; the least recently used one makes room.
    Total(u32),
    /// So many idle resources of each key, whatever is leased. A creation follows almost every lease.
    MinIdle(u32),
    /// What was made stays until nobody wanted it for so long.
    IdleTimeout(Duration),
    /// By the callers of late.
    Adaptive(Adaptive),
}

impl Sizing {
    /// What becomes of `trace`. `step`: how often a point of the series is taken.
    pub fn replay(self, trace: &Trace, step: Duration) -> Replay {
        let warm = match self {
            Sizing::PerKey(size) => size,
            _ => 0,
        };
        replay(&self.config(), trace, warm, step)
    }

    /// The sizing alone: no other limit, and nothing ends for another reason.
    fn config(self) -> PoolConfig {
        let open = PoolConfig {
            max_total: UNLIMITED,
            max_waiters: UNLIMITED,
            max_creating: UNLIMITED,
            max_creating_per_key: UNLIMITED,
            max_recycling: UNLIMITED,
            max_destroying: UNLIMITED,
            wait_timeout: None,
            idle_timeout: None,
            max_lifetime: None,
            ..PoolConfig::default()
        };
        match self {
            Sizing::PerKey(size) => PoolConfig { max_per_key: Some(size as usize), ..open },
            Sizing::Total(size) => PoolConfig { max_total: size as usize, ..open },
            Sizing::MinIdle(idle) => {
                PoolConfig { min_idle_per_key: idle as usize, max_idle_per_key: Some(idle as usize), ..open }
            }
            Sizing::IdleTimeout(timeout) => PoolConfig { idle_timeout: Some(timeout), ..open },
            Sizing::Adaptive(adaptive) => PoolConfig { adaptive: Some(adaptive), ..open },
        }
    }
}

impl fmt::Display for Sizing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sizing::PerKey(size) => write!(f, "{size} of each key"),
            Sizing::Total(size) => write!(f, "{size} in all"),
            Sizing::MinIdle(idle) => write!(f, "{idle} idle of each key"),
            Sizing::IdleTimeout(timeout) => write!(f, "idle timeout {timeout:?}"),
            Sizing::Adaptive(adaptive) => write!(f, "adaptive {}", adaptive.share),
        }
    }
}

/// A family of sizings, from small to large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// [`Sizing::PerKey`].
    PerKey,
    /// [`Sizing::Total`].
    Total,
    /// [`Sizing::MinIdle`].
    MinIdle,
    /// [`Sizing::IdleTimeout`].
    IdleTimeout,
}

impl Family {
    /// All of them.
    pub const ALL: [Family; 4] = [Family::PerKey, Family::Total, Family::MinIdle, Family::IdleTimeout];

    /// The fixed sizes: those that the line is drawn against.
    pub const FIXED_SIZES: [Family; 2] = [Family::PerKey, Family::Total];

    /// A name for tables and files.
    pub fn name(self) -> &'static str {
        match self {
            Family::PerKey => "size for each key",
            Family::Total => "size in all",
            Family::MinIdle => "minimum idle",
            Family::IdleTimeout => "idle timeout",
        }
    }

    /// The `n`th member. Idle timeouts grow by a tenth.
    pub fn member(self, n: u32) -> Sizing {
        match self {
            Family::PerKey => Sizing::PerKey(n),
            Family::Total => Sizing::Total(n),
            Family::MinIdle => Sizing::MinIdle(n),
            Family::IdleTimeout => {
                let millis = 1000.0 * 1.1f64.powi(n as i32);
                Sizing::IdleTimeout(Duration::from_millis(millis.round() as u64))
            }
        }
    }

    /// The smallest member that reaches `share` of warm hits on `trace`, and its replay: the best of
    /// the family, since a larger one takes more. `None` if not even the largest sensible one does.
    pub fn smallest(self, trace: &Trace, share: f64) -> Option<(Sizing, Replay)> {
        const LARGEST: u32 = 1 << 12;
        let step = trace.length;
        let reaches = |n: u32| Some(self.member(n).replay(trace, step)).filter(|r| r.warm_share() >= share);
        let most = if self == Family::IdleTimeout { 128 } else { LARGEST };
        let mut high = 1;
        let mut found = reaches(high);
        while found.is_none() && high < most {
            high *= 2;
            found = reaches(high);
        }
        let mut best = (high, found?);
        let mut low = high / 2;
        while best.0 - low > 1 {
            let middle = low + (best.0 - low) / 2;
            match reaches(middle) {
                Some(replay) => best = (middle, replay),
                None => low = middle,
            }
        }
        Some((self.member(best.0), best.1))
    }
}
