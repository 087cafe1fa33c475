//! [`Patience`]: how often a caller looks again before it queues, learnt from how that went.

use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

/// At most so many looks.
const MOST: i32 = 16;
/// After looks in vain so many callers do without.
const REST: i32 = 64;

/// Positive: the number of looks. Negative: how many callers more do without.
///
/// What threads write here at once may get lost, which costs a look or saves one.
pub(crate) struct Patience(AtomicI32);

impl Patience {
    pub(crate) const fn new() -> Self {
        // Models of all orders of steps have no use for one that is repeated.
        Patience(AtomicI32::new(if cfg!(any(poolyard_loom, poolyard_shuttle)) { i32::MIN } else { MOST }))
    }

    pub(crate) fn rounds(&self) -> i32 {
        self.0.load(Relaxed)
    }

    /// Whether there was a resource within as many looks as [`rounds`](Patience::rounds) said.
    pub(crate) fn learn(&self, found: bool) {
        let next = match self.0.load(Relaxed) {
            _ if found => MOST,
            resting @ ..=0 => resting + 1,
            1 => -REST,
            rounds => rounds / 2,
        };
        self.0.store(next, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_in_vain_become_fewer_and_then_rare() {
        let patience = Patience::new();
        let looks: Vec<i32> = std::iter::repeat_with(|| {
            let rounds = patience.rounds().max(0);
            patience.learn(false);
            rounds
        })
        .take(200)
        .collect();
        assert_eq!(looks[..5], [16, 8, 4, 2, 1]);
        assert!(looks[5..].iter().sum::<i32>() <= 3, "then one look of one caller in {REST}");
        patience.learn(true);
        assert_eq!(patience.rounds(), MOST);
    }
}
