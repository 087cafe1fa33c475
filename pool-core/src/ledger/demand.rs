//! The adaptive sizer, pure: how many resources of each key there should be, from what callers needed.
//!
//! A caller needs one resource more than those of its key that are not free: its *level*. Had so many
//! been there, it would have been served at once. The levels of all keys compete: the sizer takes those
//! that serve most callers, until they serve the wanted share of all.
//!
//! How far it looks back follows from the *gaps*: for how long what a caller needs was not used. Where
//! callers come back after seconds, a minute is enough; where bursts are ten minutes apart, it is not.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Time;

/// Parts of a share.
pub(crate) const WHOLE: u64 = 1_000_000;

/// Into how many parts the time looked back on is cut; the oldest is forgotten as a whole.
pub(crate) const PARTS: u32 = 4;

/// For how many of a key's ended resources it is remembered since when they were idle.
const ENDED: usize = 64;

/// What the callers of one key needed lately.
#[derive(Clone, Debug)]
pub(crate) struct Demand {
    /// By part, the current one first, and by level: how many callers came.
    parts: [Vec<u32>; PARTS as usize],
    /// Since when resources were idle that were ended instead of being used again, the oldest first.
    ended: VecDeque<Time>,
    /// When the last caller came.
    last: Time,
}

impl Demand {
    pub(crate) fn new(now: Time) -> Demand {
        Demand { parts: Default::default(), ended: VecDeque::new(), last: now }
    }

    /// A caller of `level` came.
    pub(crate) fn came(&mut self, level: u32, now: Time) {
        self.last = now;
        let index = level as usize;
        let current = &mut self.parts[0];
        if current.len() <= index {
            current.resize(index + 1, 0);
        }
        current[index] = current[index].saturating_add(1);
    }

    /// A resource was ended that had been idle since then.
    pub(crate) fn ended(&mut self, idle_since: Time) {
        if self.ended.len() == ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back(idle_since);
    }

    /// Since when the resource was idle that a caller would have got if none had been ended.
    pub(crate) fn missed(&mut self) -> Option<Time> {
        self.ended.pop_back()
    }

    pub(crate) fn is_forgotten(&self, window: Duration, now: Time) -> bool {
        now.since(self.last) > window
    }

    /// A part of the time is over.
    pub(crate) fn turn(&mut self) {
        self.parts.rotate_right(1);
        self.parts[0].clear();
    }

    /// By level: how many callers came.
    pub(crate) fn levels(&self) -> Vec<u64> {
        let most = self.parts.iter().map(Vec::len).max().unwrap_or(0);
        let mut levels = vec![0; most];
        for part in &self.parts {
            part.iter().zip(&mut levels).for_each(|(count, sum)| *sum += u64::from(*count));
        }
        levels
    }
}

/// For each key the number of resources that, with the fewest in all, would have served `share` of all
/// callers at once. `keys`: by key and level, how many callers came.
pub(crate) fn targets(keys: &[Vec<u64>], share: u64) -> Vec<u32> {
    let mut by_worth: Vec<(Reverse<u64>, usize, usize)> = Vec::new();
    for (key, levels) in keys.iter().enumerate() {
        by_worth.extend(levels.iter().enumerate().map(|(level, callers)| (Reverse(*callers), key, level)));
    }
    by_worth.sort_unstable();
    let all: u64 = keys.iter().flatten().sum();
    let mut targets = vec![0; keys.len()];
    let mut served = 0;
    for (_, key, level) in by_worth {
        let target = targets[key] as usize;
        if served * WHOLE >= all * share {
            break;
        }
        if level > target {
            served += keys[key][target + 1..=level].iter().sum::<u64>();
            targets[key] = level as u32;
        }
    }
    targets
}

/// Four buckets to each doubling, from four milliseconds to two years.
const BUCKETS: usize = 140;

/// When so many gaps were counted, each of them counts half.
const ENOUGH: u64 = 1 << 14;

/// For how long what callers of late needed was not used.
#[derive(Clone, Debug)]
pub(crate) struct Gaps {
    buckets: [u64; BUCKETS],
    /// Those included that needed what had never been there.
    all: u64,
    never: u64,
}

impl Default for Gaps {
    fn default() -> Self {
        Gaps { buckets: [0; BUCKETS], all: 0, never: 0 }
    }
}

impl Gaps {
    /// `None`: it had never been there.
    pub(crate) fn note(&mut self, gap: Option<Duration>) {
        match gap {
            Some(gap) => self.buckets[bucket(gap)] += 1,
            None => self.never += 1,
        }
        self.all += 1;
        if self.all >= ENOUGH {
            self.halve();
        }
    }

    fn halve(&mut self) {
        self.buckets.iter_mut().for_each(|count| *count /= 2);
        self.never /= 2;
        self.all = self.never + self.buckets.iter().sum::<u64>();
    }

    /// The gap that `share` of the callers did not exceed; `None` if more than the others exceeded all.
    pub(crate) fn quantile(&self, share: u64) -> Option<Duration> {
        let mut within = 0;
        let found = self.buckets.iter().position(|count| {
            within += count;
            within * WHOLE >= self.all * share
        });
        found.map(longest_in)
    }
}

fn bucket(gap: Duration) -> usize {
    let millis = u64::try_from(gap.as_millis()).unwrap_or(u64::MAX).max(4);
    let octave = millis.ilog2() - 2;
    let quarter = (millis >> octave) & 3;
    ((octave * 4) as usize + quarter as usize).min(BUCKETS - 1)
}

fn longest_in(bucket: usize) -> Duration {
    let (octave, quarter) = (bucket / 4, bucket as u64 % 4);
    Duration::from_millis((5 + quarter) << octave)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF: u64 = WHOLE / 2;

    fn demand(levels: &[u32]) -> Demand {
        let mut demand = Demand::new(Time::ZERO);
        levels.iter().for_each(|level| demand.came(*level, Time::ZERO));
        demand
    }

    #[test]
    fn one_key_gets_the_level_that_serves_the_wanted_share() {
        let levels = demand(&[1, 1, 1, 1, 1, 1, 2, 2, 2, 3]).levels();
        assert_eq!(targets(std::slice::from_ref(&levels), WHOLE / 10 * 9), [2]);
        assert_eq!(targets(&[levels], WHOLE), [3]);
    }

    #[test]
    fn levels_that_serve_more_callers_come_first_whatever_their_key() {
        let popular = demand(&[1, 1, 1, 1, 2, 2, 2, 2]).levels();
        let rare = demand(&[1]).levels();
        assert_eq!(targets(&[rare, popular], WHOLE / 100 * 85), [0, 2]);
    }

    #[test]
    fn a_level_brings_those_below_it() {
        let busy = demand(&[1, 3, 3, 3, 3]).levels();
        assert_eq!(targets(&[busy], HALF), [3]);
    }

    #[test]
    fn nobody_wants_anything_of_a_key_without_callers() {
        assert_eq!(targets(&[Vec::new(), demand(&[1]).levels()], WHOLE), [0, 1]);
        assert!(targets(&[], WHOLE).is_empty());
    }

    #[test]
    fn callers_are_forgotten_part_by_part() {
        let mut demand = demand(&[1, 2]);
        (1..PARTS).for_each(|_| demand.turn());
        assert_eq!(demand.levels(), [0, 1, 1]);
        demand.turn();
        assert!(demand.levels().is_empty());
    }

    #[test]
    fn the_resource_ended_last_is_the_one_that_was_missed() {
        let mut demand = demand(&[]);
        (0..=ENDED as u64).for_each(|nanos| demand.ended(Time::from_nanos(nanos)));
        assert_eq!(demand.missed(), Some(Time::from_nanos(ENDED as u64)));
        let left = std::iter::from_fn(|| demand.missed()).count();
        assert_eq!(left, ENDED - 1, "the oldest was forgotten");
    }

    #[test]
    fn a_quantile_of_gaps_is_right_to_a_quarter_of_an_octave() {
        let mut gaps = Gaps::default();
        (1..=1000).for_each(|seconds| gaps.note(Some(Duration::from_secs(seconds))));
        let median = gaps.quantile(HALF).unwrap().as_secs_f64();
        assert!((500.0..=625.0).contains(&median), "{median}");
    }

    #[test]
    fn gaps_of_what_never_was_exceed_all_others() {
        let mut gaps = Gaps::default();
        gaps.note(Some(Duration::from_secs(1)));
        gaps.note(None);
        assert!(gaps.quantile(HALF).is_some());
        assert_eq!(gaps.quantile(HALF + 1), None);
    }

    #[test]
    fn a_key_is_forgotten_when_nobody_came_for_longer_than_the_window() {
        let (window, nanos) = (Duration::from_nanos(5), Time::from_nanos);
        let demand = demand(&[1]);
        assert_eq!([4, 5, 6].map(|now| demand.is_forgotten(window, nanos(now))), [false, false, true]);
    }

    #[test]
    fn a_gap_of_any_length_counts() {
        let mut gaps = Gaps::default();
        gaps.note(Some(Duration::MAX));
        assert_eq!(gaps.quantile(WHOLE), Some(longest_in(BUCKETS - 1)));
    }

    #[test]
    fn gaps_that_count_half_keep_their_shares() {
        let mut gaps = Gaps::default();
        (0..ENOUGH / 2).for_each(|_| gaps.note(Some(Duration::from_secs(1))));
        (0..ENOUGH / 2).for_each(|_| gaps.note(None));
        assert_eq!((gaps.all, gaps.never), (ENOUGH / 2, ENOUGH / 4));
        assert!(gaps.quantile(HALF).is_some());
        assert_eq!(gaps.quantile(HALF + 1), None);
    }

    #[test]
    fn old_gaps_lose_their_weight() {
        let mut gaps = Gaps::default();
        (0..ENOUGH).for_each(|_| gaps.note(None));
        (0..2 * ENOUGH).for_each(|_| gaps.note(Some(Duration::from_secs(1))));
        assert!(gaps.quantile(WHOLE / 4 * 3).is_some());
    }
}
