//! Adaptive sizing: callers are noted as they come; at every interval each key gets a target, what is
//! missing is created as room allows, and what is too much goes.

use std::time::Duration;

use super::demand::{Demand, Gaps, PARTS, WHOLE, targets};
use super::{Group, Ledger, NIL, Timer};
use crate::adaptive::Adaptive;
use crate::meta::Reason;
use crate::time::{Span, Time};

/// It is looked back on as many times the gap of callers.
const GAPS_BACK: u32 = 4;
/// It is looked back on a minute at least: a shorter time holds too few callers to count.
const MIN_WINDOW: Duration = Duration::from_secs(60);

/// [`Adaptive`], in the ledger's terms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizing {
    /// Which share of the callers of late the targets must have served.
    share: u64,
    /// Which share of the gaps must lie within the time looked back on.
    gap_share: u64,
    interval: Span,
    linger: Span,
    max_window: Duration,
}

impl Sizing {
    /// What was needed lately is not quite what will be needed: the sizer aims at a tenth less than
    /// the allowed misses, and looks back far enough for all but six tenths of them.
    pub(crate) fn new(adaptive: &Adaptive) -> Sizing {
        let missed = 1.0 - adaptive.share;
        let share = |missed: f64| WHOLE - (missed * WHOLE as f64).round() as u64;
        Sizing {
            share: share(missed * 0.9),
            gap_share: share(missed * 0.6),
            interval: Span::new(Some(adaptive.interval)),
            linger: Span::new(Some(adaptive.linger)),
            max_window: adaptive.max_window,
        }
    }
}

/// What sizing knows of all keys together.
#[derive(Clone, Debug)]
pub(super) struct Sizer {
    gaps: Gaps,
    /// When the current part of the time looked back on began.
    part_began: Time,
    /// A timer is set for the next interval.
    armed: bool,
}

impl Default for Sizer {
    fn default() -> Self {
        Sizer { gaps: Gaps::default(), part_began: Time::ZERO, armed: false }
    }
}

impl Sizer {
    /// Whether a part of the time looked back on is over; then the next one begins.
    fn turns(&mut self, sizing: &Sizing, now: Time) -> bool {
        let gap = self.gaps.quantile(sizing.gap_share).unwrap_or(sizing.max_window);
        let window = gap.saturating_mul(GAPS_BACK).max(MIN_WINDOW).min(sizing.max_window);
        let over = now.since(self.part_began) >= window / (PARTS - 1);
        if over {
            self.part_began = now;
        }
        over
    }
}

impl Ledger {
    /// A caller has come, and is in the counts: as a lease of what was idle since then, or in the queue.
    #[cold]
    pub(super) fn note_demand(&mut self, group: u32, idle_since: Option<Time>, now: Time) {
        let Some(sizing) = self.rules.sizing else { return };
        let record = &mut self.groups[group as usize];
        let most = record.rules.max_per_key.min(self.rules.max_total);
        let busy = record.awake() - record.idle_count() - record.creating();
        let level = busy.saturating_add(record.waiters.len).min(most);
        let demand = record.demand.get_or_insert_with(|| Box::new(Demand::new(now)));
        demand.came(level, now);
        let since = idle_since.or_else(|| demand.missed());
        self.sizer.gaps.note(since.map(|since| now.since(since)));
        if !self.sizer.armed {
            self.sizer.part_began = now;
            self.size_at(now.after(sizing.interval));
        }
    }

    /// A resource that nobody uses is about to be ended.
    pub(super) fn note_ended(&mut self, group: u32, idle_since: Time) {
        if let Some(demand) = &mut self.group(group).demand {
            demand.ended(idle_since);
        }
    }

    fn size_at(&mut self, due: Time) {
        self.sizer.armed = true;
        self.timers.insert((due, Timer::Sizing));
        self.ring(due);
    }

    /// The interval has passed: sizes every group that had callers lately.
    pub(super) fn size_all(&mut self, now: Time) {
        self.sizer.armed = false;
        let sized = |(index, group): (usize, &Group)| group.demand.is_some().then_some(index as u32);
        let groups: Vec<u32> = self.groups.iter().filter_map(sized).collect();
        let Some(sizing) = self.rules.sizing.filter(|_| !groups.is_empty()) else {
            return groups.into_iter().for_each(|group| self.forget_demand(group));
        };
        self.size_at(now.after(sizing.interval));
        let turns = self.sizer.turns(&sizing, now);
        let levels: Vec<_> = groups.iter().map(|group| self.levels_of(*group, turns)).collect();
        for (group, target) in groups.into_iter().zip(targets(&levels, sizing.share)) {
            self.size(group, target, &sizing, now);
        }
    }

    fn levels_of(&mut self, group: u32, turns: bool) -> Vec<u64> {
        let Some(demand) = &mut self.group(group).demand else { return Vec::new() };
        if turns {
            demand.turn();
        }
        demand.levels()
    }

    fn size(&mut self, group: u32, target: u32, sizing: &Sizing, now: Time) {
        let demand = &self.groups[group as usize].demand;
        let forgotten = demand.as_ref().is_some_and(|demand| demand.is_forgotten(sizing.max_window, now));
        self.group(group).target = if forgotten { 0 } else { target };
        self.drop_surplus(group, sizing.linger, now);
        match forgotten {
            true => self.forget_demand(group),
            false => self.refresh(group),
        }
    }

    /// The group is as if sizing were off.
    fn forget_demand(&mut self, group: u32) {
        let record = self.group(group);
        record.demand = None;
        record.target = 0;
        self.refresh(group);
    }

    /// Resources above the target that were idle for long enough go, least recently used first.
    fn drop_surplus(&mut self, group: u32, linger: Span, now: Time) {
        loop {
            let record = &self.groups[group as usize];
            let spare = !record.asleep.is_empty() || record.staying_idle() > record.rules.min_idle;
            let surplus = record.serving() > record.target && spare && record.waiters.is_empty();
            let oldest = self.oldest_idle_of(group);
            if !surplus || oldest == NIL || !now.is_past(linger, self.slots[oldest as usize].idle_since) {
                return;
            }
            self.destroy(oldest, Reason::IdleLimit);
        }
    }
}

impl Group {
    /// How many creations it needs to come to its target, as far as they may be idle. Sleepers do not
    /// count: they are woken first.
    pub(super) fn lacks_target(&self, coming: u32) -> u32 {
        let may_be_idle = self.rules.max_idle.saturating_sub(self.idle_count() + coming);
        self.target.saturating_sub(self.awake()).min(may_be_idle)
    }
}

#[cfg(test)]
mod tests {
    use std::panic::Location;

    use super::super::{Acquired, Rules, Verdict};
    use super::*;
    use crate::config::{Fairness, PoolConfig};

    const SECOND: Duration = Duration::from_secs(1);

    fn adaptive() -> Adaptive {
        Adaptive { share: 0.9, max_window: SECOND * 3_000, ..Adaptive::default() }
    }

    /// After how many seconds the current part is over.
    fn part(sizer: &mut Sizer) -> u32 {
        let (sizing, began) = (Sizing::new(&adaptive()), sizer.part_began);
        (0..).find(|seconds| sizer.turns(&sizing, began.plus(SECOND * *seconds))).unwrap()
    }

    #[test]
    fn it_is_looked_back_on_four_gaps_a_minute_at_least_and_no_more_than_the_maximum() {
        let mut sizer = Sizer::default();
        assert_eq!((part(&mut sizer), part(&mut sizer)), (20, 20), "parts of a minute");
        (0..100).for_each(|_| sizer.gaps.note(Some(SECOND * 60)));
        // Counted as up to a quarter of an octave longer: 65.536 seconds.
        assert_eq!(part(&mut sizer), 88, "parts of four gaps");
        (0..10).for_each(|_| sizer.gaps.note(None));
        assert_eq!(part(&mut sizer), 1_000, "parts of the maximum");
    }

    fn sized(fairness: Fairness) -> (Ledger, u32) {
        let config = PoolConfig { adaptive: Some(adaptive()), fairness, ..PoolConfig::default() };
        let mut ledger = Ledger::new(Rules::new(&config, false));
        let group = ledger.add_group(1, ledger.rules().key);
        (ledger, group)
    }

    fn at(seconds: u32) -> Time {
        Time::ZERO.plus(SECOND * seconds)
    }

    fn come(ledger: &mut Ledger, group: u32, seconds: u32) -> Acquired {
        ledger.acquire(group, None, Time::NEVER, at(seconds), Location::caller())
    }

    fn wait(ledger: &mut Ledger, group: u32, seconds: u32) -> u32 {
        match come(ledger, group, seconds) {
            Acquired::Queued(waiter) => waiter,
            other => panic!("{other:?}"),
        }
    }

    /// A first caller came, got a new resource at once, and gave it back. Of what it needed nothing had
    /// been there: that is one gap that is longer than all others.
    fn used_once(fairness: Fairness) -> (Ledger, u32, u32) {
        let (mut ledger, group) = sized(fairness);
        let waiter = wait(&mut ledger, group, 1);
        let slot = ledger.out.orders.pop_front().expect("a creation").id.slot();
        ledger.created(slot, Time::NEVER, at(1));
        ledger.pick_up(waiter, at(1));
        (ledger, group, slot)
    }

    /// The shorter one of two gaps.
    fn shorter_gap(ledger: &Ledger) -> Option<Duration> {
        ledger.sizer.gaps.quantile(WHOLE / 2)
    }

    #[test]
    fn a_gap_is_for_how_long_a_resource_was_idle_or_would_have_been_had_it_not_been_ended() {
        for ended in [false, true] {
            let (mut ledger, group, slot) = used_once(Fairness::Fifo);
            ledger.give_back(slot, Verdict::Ready, at(1));
            if ended {
                ledger.shed(&ledger.idle_ids(), at(31));
            }
            assert_eq!(matches!(come(&mut ledger, group, 61), Acquired::Ready(_)), !ended);
            assert!(shorter_gap(&ledger).is_some_and(|gap| gap >= SECOND * 60), "ended: {ended}");
        }
    }

    #[test]
    fn what_was_ended_in_use_was_not_missed() {
        let (mut ledger, group, slot) = used_once(Fairness::Fifo);
        ledger.give_back(slot, Verdict::Destroy(Reason::Discarded), at(1));
        wait(&mut ledger, group, 61);
        assert_eq!(shorter_gap(&ledger), None);
    }

    #[test]
    fn what_was_promised_to_somebody_else_was_not_idle() {
        let (mut ledger, group, slot) = used_once(Fairness::Throughput);
        ledger.out.orders.clear();
        wait(&mut ledger, group, 1);
        ledger.give_back(slot, Verdict::Ready, at(1));
        assert!(matches!(come(&mut ledger, group, 61), Acquired::Ready(_)));
        assert_eq!(ledger.sizer.gaps.quantile(1), None);
    }

    #[test]
    fn a_caller_needs_one_more_than_those_that_are_in_use_and_that_wait() {
        let (mut ledger, group) = sized(Fairness::Fifo);
        (0..3).for_each(|_| _ = wait(&mut ledger, group, 1));
        let demand = ledger.groups[group as usize].demand.as_ref().expect("callers came");
        assert_eq!(demand.levels(), [0, 1, 1, 1], "what is being made is for those who wait");
    }
}
