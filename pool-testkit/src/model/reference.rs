//! [`Reference`]: a naive account of one pool, which knows what may happen next.

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};
use std::time::Duration;

use poolyard_core::{Counts, Fairness, PoolConfig};

use super::event::{Event, Refusal, Seen};
use super::invariant::{Broken, Invariant};
use crate::script::Method;

/// So much later than it should a pool may do what time brings: its clock is coarse.
pub(super) const SLACK: Duration = Duration::from_millis(20);

/// A cost limit that does not limit: the default.
const NO_COST_LIMIT: u64 = 1 << 40;

type Verdict = Result<(), Broken>;

/// One resource, for as long as the pool answers for it.
#[derive(Clone, Debug)]
struct Resource<K> {
    key: K,
    cost: u64,
    /// When it was made; `None` while it is.
    made: Option<Duration>,
    leased: bool,
    /// The call into the manager that is under way.
    call: Option<Method>,
    /// It came back from a user and was not cleaned since.
    unclean: bool,
    /// Why nobody may be given it.
    condemned: Option<&'static str>,
    end: End,
}

/// How far the end of a resource has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    No,
    /// `destroy` was called.
    Asked,
    /// `destroy` failed or was given up: `destroy_now` may follow.
    Failed,
    Done,
    /// It belongs to a user.
    Detached,
}

impl<K> Resource<K> {
    /// It counts against the limits.
    fn lives(&self) -> bool {
        matches!(self.end, End::No | End::Asked)
    }
}

/// Somebody who waits.
#[derive(Clone, Debug)]
struct Wait<K> {
    key: K,
    since: Duration,
}

/// A limit. After it was lowered there may be more than it allows, but never more again.
#[derive(Clone, Copy, Debug)]
struct Limit {
    limit: u64,
    allowed: u64,
}

impl Limit {
    fn new(limit: usize) -> Self {
        Self { limit: limit as u64, allowed: limit as u64 }
    }

    fn set(&mut self, limit: usize) {
        self.limit = limit as u64;
        self.allowed = self.allowed.max(self.limit);
    }

    /// There are `count`: what is above the limit goes, and does not come again.
    fn saw(&mut self, count: usize) {
        self.allowed = self.limit.max(self.allowed.min(count as u64));
    }
}

/// A naive account of one pool: it is told what happens, and says what may not have happened. It
/// decides nothing by itself, so it holds for every manager and every configuration.
#[derive(Clone, Debug)]
pub struct Reference<K> {
    config: PoolConfig,
    total: Limit,
    per_key: Limit,
    slack: Duration,
    resources: BTreeMap<u64, Resource<K>>,
    waits: BTreeMap<u64, Wait<K>>,
    /// Creations that failed and of which nobody was told yet.
    failures: usize,
    suspended: bool,
    closed: bool,
}

fn broken(invariant: Invariant, evidence: impl Display) -> Verdict {
    Err(Broken { invariant, evidence: evidence.to_string() })
}

fn hold(holds: bool, invariant: Invariant, otherwise: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { broken(invariant, otherwise()) }
}

/// By their texts, too: who relies on a key's `Eq` does not notice one that lies.
fn same<K: Eq + Debug>(one: &K, other: &K) -> bool {
    one == other && format!("{one:?}") == format!("{other:?}")
}

/// Resources that are not on their way out.
fn serving(counts: &Counts) -> usize {
    counts.live() - counts.destroying
}

impl<K: Clone + Eq + Debug> Reference<K> {
    /// The account of a pool with this configuration, to which nothing has happened.
    ///
    /// `slack`: how late a pool may do what time brings; generous where time is real.
    pub fn new(config: &PoolConfig, slack: Duration) -> Self {
        Self {
            total: Limit::new(config.max_total),
            per_key: Limit::new(config.max_per_key.unwrap_or(config.max_total)),
            config: config.clone(),
            slack,
            resources: BTreeMap::new(),
            waits: BTreeMap::new(),
            failures: 0,
            suspended: false,
            closed: false,
        }
    }

    /// Takes note of what happened at `now`, counted from any beginning.
    ///
    /// # Errors
    ///
    /// The promise that it breaks.
    pub fn observe(&mut self, now: Duration, event: &Event<K>) -> Verdict {
        match event {
            Event::Creating { resource, key, cost } => self.creating(*resource, key, *cost),
            Event::NotCreated { resource } => self.not_created(*resource),
            Event::Created { resource } => self.created(*resource, now),
            Event::Called { resource, method, key } => self.called(*resource, *method, key),
            Event::Ended { resource, method, well } => self.ended(*resource, *method, *well),
            Event::Became { resource, key } => self.became(*resource, key),
            Event::Dropped { resource } => self.dropped(*resource),
            Event::Detached { resource } => self.change(*resource, |it| it.end = End::Detached),
            Event::Condemned { resource, why } => self.condemned(*resource, why),
            Event::Asked { wait, key } => {
                self.waits.insert(*wait, Wait { key: key.clone(), since: now });
                Ok(())
            }
            Event::Served { wait, resource, key, uses, woken } => {
                self.served(*wait, *resource, key, *woken)?;
                self.fit(*resource, *uses, now)?;
                self.change(*resource, |it| it.leased = true)
            }
            Event::Refused { wait, why } => self.refused(*wait, why, now),
            Event::Left { wait } => {
                self.waits.remove(wait);
                Ok(())
            }
            Event::GivenBack { resource } => self.change(*resource, |it| {
                it.leased = false;
                it.unclean = true;
            }),
            Event::Unexpected { resource, what } => {
                broken(Invariant::Expected, format_args!("the user of resource {resource} finds {what}"))
            }
            Event::Resized(config) => self.resized(config),
            Event::Suspended => self.gate(true),
            Event::Resumed => self.gate(false),
            Event::Closed => {
                self.closed = true;
                Ok(())
            }
            Event::Seen(seen) => self.seen(seen, now),
            Event::Finished => self.finished(),
        }
    }

    /// Whether the manager is at work.
    pub fn is_busy(&self) -> bool {
        self.resources.values().any(|resource| resource.made.is_none() || resource.call.is_some())
    }

    /// The resources that somebody may be given some time, of one key or of all.
    pub(super) fn all_of(&self, key: Option<&K>) -> Vec<u64> {
        let of = |resource: &Resource<K>| resource.lives() && key.is_none_or(|key| *key == resource.key);
        self.resources.iter().filter(|(_, resource)| of(resource)).map(|(number, _)| *number).collect()
    }

    fn change(&mut self, resource: u64, change: impl FnOnce(&mut Resource<K>)) -> Verdict {
        match self.resources.get_mut(&resource) {
            Some(resource) => {
                change(resource);
                Ok(())
            }
            None => broken(Invariant::OneEnd, format_args!("resource {resource} is not there")),
        }
    }

    fn gate(&mut self, suspended: bool) -> Verdict {
        self.suspended = suspended;
        Ok(())
    }

    fn resized(&mut self, config: &PoolConfig) -> Verdict {
        self.total.set(config.max_total);
        self.per_key.set(config.max_per_key.unwrap_or(config.max_total));
        self.config = config.clone();
        Ok(())
    }

    fn creating(&mut self, number: u64, key: &K, cost: u64) -> Verdict {
        let made = Resource {
            key: key.clone(),
            cost,
            made: None,
            leased: false,
            call: None,
            unclean: false,
            condemned: None,
            end: End::No,
        };
        self.resources.insert(number, made);
        let living = || self.resources.values().filter(|resource| resource.lives());
        let (count, cost) = (living().count() as u64, living().map(|resource| resource.cost).sum::<u64>());
        let most = self.total.allowed.saturating_add(self.config.max_surge as u64);
        hold(count <= most, Invariant::MaxTotal, || format!("{count} exist, {most} may"))?;
        let most = self.config.max_cost;
        hold(cost <= most, Invariant::MaxCost, || format!("they cost {cost}, and {most} is allowed"))
    }

    fn not_created(&mut self, number: u64) -> Verdict {
        self.failures += 1;
        self.resources.remove(&number);
        Ok(())
    }

    fn created(&mut self, number: u64, now: Duration) -> Verdict {
        self.change(number, |resource| resource.made = Some(now))
    }

    fn condemned(&mut self, number: u64, why: &'static str) -> Verdict {
        let Some(resource) = self.resources.get_mut(&number) else { return Ok(()) };
        // Who waits for it may be told so.
        self.failures += usize::from(resource.made.is_none());
        resource.condemned = Some(why);
        Ok(())
    }

    fn called(&mut self, number: u64, method: Method, key: &K) -> Verdict {
        let Some(resource) = self.resources.get_mut(&number) else {
            return broken(Invariant::OneEnd, format_args!("{method:?} of resource {number} after its end"));
        };
        hold(same(&resource.key, key), Invariant::OwnKey, || {
            format!("{method:?} of resource {number}, made for {:?}, is called for {key:?}", resource.key)
        })?;
        let other = if resource.leased { Some("a user has it".to_owned()) } else { None };
        let other = other.or(resource.call.map(|call| format!("{call:?} is under way")));
        if let Some(other) = other {
            return broken(
                Invariant::OneHand,
                format_args!("{method:?} of resource {number} begins while {other}"),
            );
        }
        let may_come = match method {
            Method::DestroyNow => matches!(resource.end, End::No | End::Failed),
            _ => resource.end == End::No,
        };
        hold(may_come, Invariant::OneEnd, || format!("{method:?} of resource {number} after its destroy"))?;
        resource.call = Some(method);
        if matches!(method, Method::Destroy | Method::DestroyNow) {
            resource.end = End::Asked;
        }
        Ok(())
    }

    fn ended(&mut self, number: u64, method: Method, well: bool) -> Verdict {
        self.change(number, |resource| {
            resource.call = None;
            match method {
                Method::Destroy if !well => resource.end = End::Failed,
                Method::Destroy | Method::DestroyNow => resource.end = End::Done,
                Method::Reuse => resource.unclean &= !well,
                Method::Recycle if well => resource.unclean = false,
                Method::Recycle => resource.condemned = Some("its recycle failed"),
                _ if !well => resource.condemned = Some("a call with it failed"),
                _ => {}
            }
        })
    }

    fn became(&mut self, number: u64, key: &K) -> Verdict {
        self.change(number, |resource| resource.key = key.clone())
    }

    fn dropped(&mut self, number: u64) -> Verdict {
        match self.resources.remove(&number) {
            Some(resource) if resource.lives() => {
                broken(Invariant::OneEnd, format_args!("resource {number} is dropped without a destroy"))
            }
            _ => Ok(()),
        }
    }

    fn served(&mut self, wait: u64, resource: u64, key: &K, woken: bool) -> Verdict {
        let closed = || format!("caller {wait} is given resource {resource}");
        hold(!self.closed, Invariant::NoneLeft, closed)?;
        hold(woken, Invariant::Wake, || format!("caller {wait} could be served, and was not woken"))?;
        self.waits.remove(&wait);
        let older = self.waits.iter().find(|(number, other)| **number < wait && other.key == *key);
        let older = older.filter(|_| self.config.fairness == Fairness::Fifo);
        hold(older.is_none(), Invariant::Order, || {
            format!("caller {wait} is served before caller {}", older.map_or(0, |(number, _)| *number))
        })?;
        let Some(given) = self.resources.get(&resource) else {
            return broken(Invariant::OneEnd, format_args!("resource {resource} is given after its end"));
        };
        hold(same(&given.key, key), Invariant::OwnKey, || {
            format!("resource {resource}, made for {:?}, is given for {key:?}", given.key)
        })?;
        let hand = if given.leased { Some("a user".to_owned()) } else { None };
        let hand = hand.or(given.call.map(|call| format!("the manager ({call:?})")));
        match hand {
            Some(hand) => broken(
                Invariant::OneHand,
                format_args!("resource {resource} is given while it is in the hands of {hand}"),
            ),
            None => Ok(()),
        }
    }

    /// Whether a user may be given the resource.
    fn fit(&self, number: u64, uses: u64, now: Duration) -> Verdict {
        let Some(resource) = self.resources.get(&number) else { return Ok(()) };
        let age = now.saturating_sub(resource.made.unwrap_or(now));
        let too_old = |life: Duration| age > life.saturating_add(self.slack);
        let why = match resource {
            _ if resource.condemned.is_some() => resource.condemned,
            _ if resource.unclean => Some("it was not cleaned after its last user"),
            _ if !resource.lives() => Some("it was destroyed"),
            _ if uses > self.config.max_uses => Some("it has served max_uses already"),
            _ if self.config.max_lifetime.is_some_and(too_old) => Some("it is older than max_lifetime"),
            _ => None,
        };
        hold(why.is_none(), Invariant::Fit, || {
            format!("resource {number} is given although {}", why.unwrap_or_default())
        })
    }

    fn refused(&mut self, wait: u64, why: &Refusal, now: Duration) -> Verdict {
        let Some(waited) = self.waits.remove(&wait).map(|wait| now.saturating_sub(wait.since)) else {
            return broken(Invariant::Refusal, format_args!("caller {wait} has not asked"));
        };
        let cause = match why {
            Refusal::Closed => self.closed,
            Refusal::TimedOut => {
                let over = self.config.wait_timeout.is_some_and(|most| waited + self.slack >= most);
                over || self.tell_of_a_failure()
            }
            Refusal::TooManyWaiters => self.waits.len() >= self.config.max_waiters,
            Refusal::CircuitOpen => self.config.breaker_after.is_some(),
            Refusal::TooCostly => self.config.max_cost < NO_COST_LIMIT,
            Refusal::Create => self.tell_of_a_failure(),
            Refusal::Other(_) => false,
        };
        hold(cause, Invariant::Refusal, || format!("caller {wait} is told {why:?} after {waited:?}"))
    }

    /// Whether there was a failed creation of which nobody was told yet.
    fn tell_of_a_failure(&mut self) -> bool {
        let any = self.failures > 0;
        self.failures = self.failures.saturating_sub(1);
        any
    }

    fn seen(&mut self, seen: &Seen<K>, now: Duration) -> Verdict {
        self.within_limits(seen)?;
        if seen.calm {
            self.account(seen)?;
            self.idle_within_limits(seen)?;
            self.progress(seen)?;
            self.in_time(seen, now)?;
        }
        Ok(())
    }

    fn within_limits(&mut self, seen: &Seen<K>) -> Verdict {
        let (live, surge) = (seen.counts.live(), self.config.max_surge);
        let most = self.total.allowed.saturating_add(surge as u64);
        hold(live as u64 <= most, Invariant::MaxTotal, || format!("the pool has {live}, {most} may be"))?;
        self.total.saw(live.saturating_sub(surge));
        let by_key = seen.keys.iter().map(|(key, counts)| (key, serving(counts)));
        let Some((key, count)) = by_key.max_by_key(|(_, count)| *count) else { return Ok(()) };
        let most = self.per_key.allowed.saturating_add(surge as u64);
        hold(count as u64 <= most, Invariant::MaxPerKey, || {
            format!("there are {count} of {key:?}, and {most} may be")
        })?;
        self.per_key.saw(count.saturating_sub(surge));
        let (cost, most) = (seen.cost, self.config.max_cost);
        hold(cost <= most, Invariant::MaxCost, || format!("the pool says {cost}, and {most} is allowed"))
    }

    fn account(&self, seen: &Seen<K>) -> Verdict {
        let counted = |what: &str, theirs: u64, ours: u64| {
            hold(theirs == ours, Invariant::Account, || format!("{what}: the pool says {theirs}, not {ours}"))
        };
        let lives = |resource: &&Resource<K>| resource.lives() && resource.made.is_some();
        let living = || self.resources.values().filter(lives);
        let leased = living().filter(|resource| resource.leased).count() as u64;
        counted("resources", seen.counts.live() as u64, living().count() as u64)?;
        counted("leased", seen.counts.leased as u64, leased)?;
        counted("waiters", seen.counts.waiters as u64, self.waits.len() as u64)?;
        counted("cost", seen.cost, living().map(|resource| resource.cost).sum())?;
        for (key, counts) in &seen.keys {
            let ours = living().filter(|resource| resource.key == *key).count() as u64;
            counted(&format!("resources of {key:?}"), counts.live() as u64, ours)?;
        }
        Ok(())
    }

    fn idle_within_limits(&self, seen: &Seen<K>) -> Verdict {
        let resting = |counts: &Counts| counts.idle + counts.hibernated;
        let (idle, most) = (resting(&seen.counts), self.config.max_idle.unwrap_or(usize::MAX));
        hold(idle <= most, Invariant::MaxIdle, || format!("{idle} are idle, and {most} may be"))?;
        let most = self.config.max_idle_per_key.unwrap_or(usize::MAX);
        let above = seen.keys.iter().find(|(_, counts)| resting(counts) > most);
        hold(above.is_none(), Invariant::MaxIdle, || format!("more than {most} are idle of {above:?}"))
    }

    /// In a calm pool: nobody waits for what is idle, or for what there is room for.
    fn progress(&self, seen: &Seen<K>) -> Verdict {
        if self.suspended || self.closed {
            return Ok(());
        }
        let none = Counts::default();
        for (number, wait) in &self.waits {
            let of_key =
                seen.keys.iter().find(|(key, _)| *key == wait.key).map_or(&none, |(_, counts)| counts);
            let idle = of_key.idle + of_key.hibernated;
            hold(idle == 0, Invariant::Progress, || {
                format!("caller {number} waits while {idle} of {:?} are idle", wait.key)
            })?;
            // What is idle of other keys has to make room.
            let room = (seen.counts.leased as u64) < self.total.limit
                && (serving(of_key) as u64) < self.per_key.limit
                && seen.circuits_open == 0
                && self.config.max_cost >= NO_COST_LIMIT;
            hold(!room, Invariant::Progress, || {
                format!("caller {number} waits for {:?} though there is room ({})", wait.key, seen.counts)
            })?;
        }
        Ok(())
    }

    fn in_time(&self, seen: &Seen<K>, now: Duration) -> Verdict {
        let late = |since: Duration, most: Option<Duration>| {
            most.is_some_and(|most| since > most.saturating_add(self.slack))
        };
        let waited = |wait: &Wait<K>| now.saturating_sub(wait.since);
        let waits = self.waits.iter().find(|(_, wait)| late(waited(wait), self.config.wait_timeout));
        hold(waits.is_none(), Invariant::Patience, || {
            format!("caller {:?} has waited for too long", waits.map(|(number, _)| *number))
        })?;
        // What is kept idle on purpose may stay.
        let timeout = self.config.idle_timeout.filter(|_| self.config.min_idle_per_key == 0);
        let expired = |(age, idle): &&(Duration, Duration)| {
            late(*idle, timeout) || late(*age, self.config.max_lifetime)
        };
        let expired = seen.idle.iter().find(expired);
        hold(expired.is_none(), Invariant::Expiry, || {
            format!("one is idle, with this age and idleness: {expired:?}")
        })
    }

    fn finished(&self) -> Verdict {
        let waiting: Vec<&u64> = self.waits.keys().collect();
        hold(waiting.is_empty(), Invariant::Progress, || {
            format!("everything was given back, and callers {waiting:?} were neither served nor refused")
        })?;
        let left = self.all_of(None);
        hold(left.is_empty(), Invariant::NoneLeft, || format!("these resources are left: {left:?}"))
    }
}
