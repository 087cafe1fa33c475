//! [`Adaptive`]: the options of adaptive sizing.

use std::time::Duration;

use crate::config::{ConfigError, later, refuse};

/// Keeps as many resources of each key as serve most callers at once, judged by the callers of late.
///
/// Each caller needs one resource more than those of its key that are not free; so many are worth
/// having that serve `share` of the callers of all keys, and those that serve most come first. How far
/// the pool looks back follows from the callers too: four times the gap after which they come back to
/// what was there before. At each `interval`, what is missing is created, within all limits and only
/// while nobody waits; what is above the target and was idle for `linger` is destroyed.
///
/// `min_idle_per_key` is the floor, `max_per_key` and the idle limits are the ceiling.
///
/// | option | default | why |
/// |---|---|---|
/// | `share` | 0.95 | in the simulation, fewer resources than any fixed size that serves as many at once |
/// | `interval` | 1 s | a second of delay after a surge; less buys nothing |
/// | `linger` | 5 s | a longer one buys a warm hit dearer than a higher `share` does |
/// | `max_window` | 1 h | covers the gaps between bursts; the hours of a day are followed as they come |
///
/// It costs each acquire a few nanoseconds, and each interval a look at every key that had callers within
/// `max_window`, under the pool's lock: 10 us for a hundred keys, 2.5 ms for ten thousand. With so many,
/// take a longer interval.
///
/// ```
/// use poolyard_core::{Adaptive, Pool, from_fn};
///
/// let manager = from_fn(|_: &u32| async { Ok::<_, std::io::Error>(String::from("a resource")) });
/// let pool = Pool::builder(manager).max_total(100).adaptive(Adaptive::default()).build()?;
/// # Ok::<(), poolyard_core::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct Adaptive {
    /// Which share of the callers shall find an idle resource: above 0, below 1.
    pub share: f64,
    /// How often the targets are set anew.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_words::span"))]
    pub interval: Duration,
    /// How long a resource above its key's target may be idle.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_words::span"))]
    pub linger: Duration,
    /// How far to look back at most.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_words::span"))]
    pub max_window: Duration,
}

impl Default for Adaptive {
    fn default() -> Self {
        Adaptive {
            share: 0.95,
            interval: Duration::from_secs(1),
            linger: Duration::from_secs(5),
            max_window: Duration::from_secs(3600),
        }
    }
}

impl Adaptive {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if !(self.share > 0.0 && self.share < 1.0) {
            return refuse(format!("adaptive.share {} is not between 0 and 1", self.share));
        }
        if self.interval.is_zero() {
            return refuse(String::from("adaptive.interval is 0, so the pool would do nothing else"));
        }
        later("adaptive.interval", Some(self.interval), "adaptive.max_window", Some(self.max_window))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table above, pinned.
    #[test]
    fn the_defaults_are_those_of_the_table() {
        let adaptive = Adaptive::default();
        let table = include_str!("adaptive.rs");
        let row = |option: &str, default: String| {
            assert!(table.contains(&format!("/// | `{option}` | {default} |")), "{option} is not {default}");
        };
        row("share", adaptive.share.to_string());
        row("interval", format!("{} s", adaptive.interval.as_secs()));
        row("linger", format!("{} s", adaptive.linger.as_secs()));
        row("max_window", format!("{} h", adaptive.max_window.as_secs() / 3600));
    }
}
