//! [`Shared`]: what all handles, leases and the driver of one pool share; the one lock lives here.
//!
//! Every change goes through [`Shared::event`]: lock, tell the ledger, collect what follows, unlock,
//! and only then wake, send and drop. Under the lock runs no user code but `Key::eq`.

use std::any::Any;
use std::borrow::Cow;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::Waker;

use hashbrown::HashTable;
use tokio::sync::oneshot;

use crate::call::contained;
use crate::config::PoolConfig;
use crate::context::GoneSink;
use crate::driver::DriverSeat;
use crate::error::{Counts, CreateFailure};
use crate::held::Held;
use crate::ledger::{Failed, Fate, Ledger, Opened, Rules, State, Unmet};
use crate::manager::Manager;
use crate::meta::{Reason, ResourceId};
use crate::newcomer::Newcomer;
use crate::observer::Observer;
use crate::patience::Patience;
use crate::policy::{KeyConfig, KeyPolicy, Policies};
use crate::pressure::Source;
use crate::quantile::Quantile;
use crate::rt::Placement;
use crate::snapshot::counts_of;
use crate::sync::Mutex;
use crate::time::{Clock, Time};
use crate::warm::WarmCalls;

pub(crate) struct Shared<M: Manager, O, S> {
    pub(crate) manager: M,
    pub(crate) observer: O,
    pub(crate) hasher: S,
    pub(crate) clock: Clock,
    pub(crate) placement: Placement,
    pub(crate) policies: Policies<M>,
    pub(crate) source: Source,
    /// Resources are checked before every hand-out, whatever the configuration says.
    pub(crate) check_always: bool,
    /// The generation of forks in which the pool was made.
    pub(crate) forks: u32,
    pub(crate) patience: Patience,
    /// How many `Pool` handles there are.
    pub(crate) handles: AtomicUsize,
    /// Where `Gone` handles report to.
    pub(crate) sink: Arc<dyn GoneSink>,
    pub(crate) state: Mutex<Inner<M>>,
}

/// Everything under the lock.
pub(crate) struct Inner<M: Manager> {
    pub(crate) ledger: Ledger,
    pub(crate) config: Arc<PoolConfig>,
    /// Groups by key.
    table: HashTable<u32>,
    /// What the shell knows of each group, by its index.
    pub(crate) groups: Vec<Option<GroupShell<M::Key>>>,
    /// The resources that are in the pool's hands, by slot.
    pub(crate) parked: Vec<Option<Box<Held<M>>>>,
    /// What the shell knows of each slot, by its index.
    pub(crate) notes: Vec<SlotNote>,
    /// What the shell knows of each waiter, by its index.
    pub(crate) seats: Vec<Seat<M::Error>>,
    pub(crate) driver: DriverSeat,
    pub(crate) warm_calls: WarmCalls<M::Error>,
    /// Callers that wait for a resource to be clean again.
    pub(crate) releasing: Vec<(ResourceId, oneshot::Sender<Result<(), Reason>>)>,
    /// Callers that wait for their leased resource to be reported gone.
    pub(crate) gone_watchers: Vec<(ResourceId, oneshot::Sender<Arc<str>>)>,
    /// Callers of `close` that wait for the pool to be drained.
    pub(crate) draining: Vec<Waker>,
    pub(crate) recycle_times: Quantile,
    /// What is short, and since when.
    pub(crate) pressure: Option<(Arc<str>, Time)>,
    /// What the current event leaves to be done after the lock is released.
    pub(crate) after: After<M>,
    /// What keeps the pool when its last handle is gone, as long as anything is leased.
    pub(crate) keep: Option<Keep>,
}

/// A reference to the pool, whatever its types.
pub(crate) type Keep = Arc<dyn Any + Send + Sync>;

pub(crate) struct GroupShell<K> {
    pub(crate) key: Arc<K>,
    pub(crate) hash: u64,
    pub(crate) last_error: Option<Arc<str>>,
    /// Options of its own.
    pub(crate) policy: Option<Arc<KeyPolicy>>,
}

#[derive(Default)]
pub(crate) struct SlotNote {
    pub(crate) description: Option<Arc<str>>,
    pub(crate) gone_cause: Option<Arc<str>>,
}

pub(crate) struct Seat<E> {
    pub(crate) waker: Option<Waker>,
    pub(crate) failure: Option<CreateFailure<E>>,
    /// The last error of its key, kept here because the key may be forgotten before it is told.
    pub(crate) last_error: Option<Arc<str>>,
}

impl<E> Default for Seat<E> {
    fn default() -> Self {
        Seat { waker: None, failure: None, last_error: None }
    }
}

/// What is left to do after the lock is released.
pub(crate) struct After<M: Manager> {
    /// The first waker; almost always all there is.
    wake: Option<Waker>,
    rest: Option<Box<Rest<M>>>,
    needs_driver: bool,
    /// There is something in here, or somebody waits for what the next event may bring.
    news: bool,
}

/// What is seldom left to do: kept apart, so that waking one waiter moves little.
struct Rest<M: Manager> {
    wake: Vec<Waker>,
    released: Vec<(oneshot::Sender<Result<(), Reason>>, Result<(), Reason>)>,
    gone: Vec<(oneshot::Sender<Arc<str>>, Arc<str>)>,
    /// What only waits to be dropped, since that runs a user's code.
    keys: Vec<Arc<M::Key>>,
    failures: Vec<CreateFailure<M::Error>>,
    /// For the observer.
    opened: Vec<Opened>,
    /// Maybe the last reference to the pool.
    keep: Option<Keep>,
}

impl<M: Manager> After<M> {
    pub(crate) const fn new() -> Self {
        After { wake: None, rest: None, needs_driver: false, news: false }
    }

    /// Somebody begins to wait for what an event may bring: from now on each of them looks.
    pub(crate) fn watch(&mut self) {
        self.news = true;
    }

    pub(crate) fn wake(&mut self, waker: Option<Waker>) {
        self.news = true;
        match (&self.wake, waker) {
            (None, waker) => self.wake = waker,
            (Some(_), None) => {}
            (Some(_), Some(waker)) => self.rest().wake.push(waker),
        }
    }

    fn drop_later(&mut self, failure: CreateFailure<M::Error>) {
        self.rest().failures.push(failure);
    }

    fn rest(&mut self) -> &mut Rest<M> {
        self.news = true;
        self.rest.get_or_insert_with(|| {
            Box::new(Rest {
                wake: Vec::new(),
                released: Vec::new(),
                gone: Vec::new(),
                keys: Vec::new(),
                failures: Vec::new(),
                opened: Vec::new(),
                keep: None,
            })
        })
    }

    /// Wakes, sends and drops; the caller no longer holds the lock. Whether a driver must be started.
    pub(crate) fn carry_out(self) -> bool {
        if let Some(waker) = self.wake {
            waker.wake();
        }
        if let Some(rest) = self.rest {
            rest.carry_out();
        }
        self.needs_driver
    }
}

impl<M: Manager> Rest<M> {
    fn carry_out(self) {
        for waker in self.wake {
            waker.wake();
        }
        for (sender, result) in self.released {
            _ = sender.send(result);
        }
        for (sender, cause) in self.gone {
            _ = sender.send(cause);
        }
    }
}

impl<M: Manager> Inner<M> {
    pub(crate) fn new(ledger: Ledger, config: PoolConfig) -> Self {
        Inner {
            ledger,
            config: Arc::new(config),
            table: HashTable::new(),
            groups: Vec::new(),
            parked: Vec::new(),
            notes: Vec::new(),
            seats: Vec::new(),
            driver: DriverSeat::default(),
            warm_calls: WarmCalls::default(),
            releasing: Vec::new(),
            gone_watchers: Vec::new(),
            draining: Vec::new(),
            recycle_times: Quantile::default(),
            pressure: None,
            after: After::new(),
            keep: None,
        }
    }

    #[inline]
    pub(crate) fn find_group(&self, hash: u64, key: &M::Key) -> Option<u32> {
        let groups = &self.groups;
        let is_it = |&group: &u32| groups[group as usize].as_ref().is_some_and(|shell| *shell.key == *key);
        self.table.find(hash, is_it).copied()
    }

    /// The group of a key, made now if there is none.
    pub(crate) fn find_or_add_group(&mut self, newcomer: &Newcomer<M::Key>) -> u32 {
        let hash = newcomer.hash;
        if let Some(group) = self.find_group(hash, &newcomer.key) {
            return group;
        }
        let generic = newcomer.generic.as_ref().map(|generic| self.find_or_add_group(generic));
        let policy = newcomer.policy.clone();
        let rules = match &policy {
            Some(policy) => self.ledger.rules().for_key(&policy.resolve(&self.config)),
            None => self.ledger.rules().key,
        };
        let group = self.ledger.add_group(newcomer.cost, rules);
        let index = group as usize;
        if self.groups.len() <= index {
            self.groups.resize_with(index + 1, || None);
        }
        self.groups[index] =
            Some(GroupShell { key: Arc::clone(&newcomer.key), hash, last_error: None, policy });
        let groups = &self.groups;
        self.table.insert_unique(hash, group, |&other| groups[other as usize].as_ref().map_or(0, |g| g.hash));
        if let Some(generic) = generic {
            self.ledger.set_generic(group, generic);
        }
        group
    }

    pub(crate) fn key(&self, group: u32) -> Arc<M::Key> {
        Arc::clone(&self.shell(group).key)
    }

    pub(crate) fn shell(&self, group: u32) -> &GroupShell<M::Key> {
        self.groups[group as usize].as_ref().expect("a group of the ledger has a key")
    }

    /// The options in force for the key of a group.
    pub(crate) fn key_config(&self, group: u32) -> KeyConfig {
        match &self.shell(group).policy {
            Some(policy) => policy.resolve(&self.config),
            None => KeyPolicy::default().resolve(&self.config),
        }
    }

    /// New options for the pool, and so for its keys.
    pub(crate) fn resize(&mut self, config: Arc<PoolConfig>, rules: Rules, now: Time) {
        self.config = config;
        let (groups, config) = (&self.groups, &self.config);
        let own = |group: u32| {
            let policy = groups.get(group as usize)?.as_ref()?.policy.as_ref()?;
            Some(policy.resolve(config))
        };
        self.ledger.resize(rules, own, now);
        // It may have to look at something sooner.
        let driver = self.driver.rouse();
        self.after.wake(driver);
    }

    #[inline]
    pub(crate) fn unpark(&mut self, slot: u32) -> Box<Held<M>> {
        self.parked[slot as usize].take().expect("a resource in the pool's hands is parked")
    }

    pub(crate) fn park(&mut self, slot: u32, held: Box<Held<M>>) {
        let index = slot as usize;
        if self.parked.len() <= index {
            self.parked.resize_with(index + 1, || None);
        }
        self.parked[index] = Some(held);
    }

    pub(crate) fn note(&mut self, slot: u32) -> &mut SlotNote {
        let index = slot as usize;
        if self.notes.len() <= index {
            self.notes.resize_with(index + 1, SlotNote::default);
        }
        &mut self.notes[index]
    }

    /// Keeps what the manager says of a resource, for people.
    pub(crate) fn describe(&mut self, slot: u32, description: &str) {
        self.note(slot).description = (!description.is_empty()).then(|| Arc::from(description));
    }

    pub(crate) fn seat(&mut self, waiter: u32) -> &mut Seat<M::Error> {
        let index = waiter as usize;
        if self.seats.len() <= index {
            self.seats.resize_with(index + 1, Seat::default);
        }
        &mut self.seats[index]
    }

    /// A creation has failed: its error goes where the ledger says.
    pub(crate) fn deliver(&mut self, failed: Failed, failure: CreateFailure<M::Error>) {
        match failed {
            Failed::Waiter(waiter) => self.seat(waiter).failure = Some(failure),
            Failed::Warm(call) => self.fail_warm(call, failure),
            Failed::Nobody => self.after.drop_later(failure),
        }
    }

    /// A creation for a call of `warm` has failed; a caller that has gone away is not told.
    pub(crate) fn fail_warm(&mut self, call: u64, failure: CreateFailure<M::Error>) {
        match self.warm_calls.failed(call, failure) {
            Ok(waker) => self.after.wake(waker),
            Err(failure) => self.after.drop_later(failure),
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        let abandoned = self.ledger.abandoned() as usize;
        let waiters = self.ledger.waiting() as usize;
        Counts { abandoned, ..counts_of(self.ledger.counts(), waiters) }
    }

    /// Collects what follows from the last event; `None`, as almost always, if nothing does.
    #[inline]
    pub(crate) fn settle(&mut self) -> Option<After<M>> {
        let news = self.ledger.out.news || self.after.news || self.ledger.alarm() < self.driver.armed;
        news.then(|| self.settle_news())
    }

    fn settle_news(&mut self) -> After<M> {
        self.ledger.out.news = false;
        let mut after = std::mem::replace(&mut self.after, After::new());
        self.settle_waiters(&mut after);
        self.settle_rest(&mut after);
        self.settle_releasing(&mut after);
        if self.keep.is_some() && self.ledger.counts()[State::Leased.kind()] == 0 {
            after.rest().keep = self.keep.take();
        }
        if self.ledger.is_drained() {
            for waker in self.draining.drain(..) {
                after.wake(Some(waker));
            }
            // The driver has nothing left to do, and ends.
            after.wake(self.driver.rouse());
        }
        if !self.ledger.out.orders.is_empty() || self.ledger.alarm() < self.driver.armed {
            match self.driver.alive {
                true => after.wake(self.driver.rouse()),
                false => after.needs_driver = true,
            }
        }
        self.after.news = self.is_waited_for();
        after
    }

    /// Somebody waits for what any event may bring.
    fn is_waited_for(&self) -> bool {
        !self.releasing.is_empty() || !self.draining.is_empty() || self.keep.is_some()
    }

    fn settle_waiters(&mut self, after: &mut After<M>) {
        let mut settled = std::mem::take(&mut self.ledger.out.settled);
        for waiter in settled.drain(..) {
            let granted = matches!(self.ledger.fate(waiter), Fate::Granted(_));
            let last_error = if granted { None } else { self.last_error_for(waiter) };
            let seat = self.seat(waiter);
            seat.last_error = last_error;
            after.wake(seat.waker.take());
        }
        self.ledger.out.settled = settled;
    }

    fn last_error_for(&self, waiter: u32) -> Option<Arc<str>> {
        let group = self.ledger.group_of_waiter(waiter);
        self.groups.get(group as usize)?.as_ref()?.last_error.clone()
    }

    fn settle_rest(&mut self, after: &mut After<M>) {
        for group in std::mem::take(&mut self.ledger.out.dead_groups) {
            let shell = self.groups[group as usize].take().expect("a group dies once");
            if let Ok(entry) = self.table.find_entry(shell.hash, |&other| other == group) {
                entry.remove();
            }
            after.rest().keys.push(shell.key);
        }
        if !self.ledger.out.opened.is_empty() {
            after.rest().opened.append(&mut self.ledger.out.opened);
        }
        for (call, unmet) in std::mem::take(&mut self.ledger.out.unmet_warm) {
            let failure = match unmet {
                Unmet::NoRoom => CreateFailure::NoRoom,
                Unmet::CircuitOpen => CreateFailure::CircuitOpen,
                Unmet::Pressure => CreateFailure::Pressure,
                Unmet::Closed => CreateFailure::Interrupted,
            };
            if let Ok(waker) = self.warm_calls.failed(call, failure) {
                after.wake(waker);
            }
        }
    }

    /// Tells those who wait for a returned resource what became of it.
    fn settle_releasing(&mut self, after: &mut After<M>) {
        let mut index = 0;
        while index < self.releasing.len() {
            match self.became_of(self.releasing[index].0) {
                None => index += 1,
                Some(result) => {
                    let (_, sender) = self.releasing.swap_remove(index);
                    after.rest().released.push((sender, result));
                }
            }
        }
    }

    /// What became of a returned resource; `None` while it is being cleaned.
    pub(crate) fn became_of(&self, id: ResourceId) -> Option<Result<(), Reason>> {
        match self.ledger.find(id).map(|slot| slot.state) {
            Some(State::Recycling | State::Checking(_)) => None,
            Some(State::Destroying(reason)) => Some(Err(reason)),
            Some(_) => Some(Ok(())),
            None => Some(Err(Reason::Broken)),
        }
    }
}

impl<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> Shared<M, O, S> {
    /// Whether the manager's recycle does anything.
    pub(crate) const RECYCLES: bool = !crate::nothing::is_nothing4(&M::recycle);
    /// Whether the manager's health check does anything.
    const CHECKS: bool = !crate::nothing::is_nothing4(&M::health_check);

    /// Whether a hibernation does anything.
    const SLEEPS: bool = !crate::nothing::is_nothing4(&M::hibernate);

    /// What `config` means for this manager.
    pub(crate) fn rules(config: &PoolConfig, check_always: bool) -> Rules {
        let rules = Rules::new(config, Self::CHECKS);
        let rules = if Self::SLEEPS { rules } else { rules.always_awake() };
        if check_always { rules.checking_always() } else { rules }
    }

    /// The one way to change anything.
    #[inline]
    pub(crate) fn event<R>(self: &Arc<Self>, change: impl FnOnce(&mut Inner<M>) -> R) -> R {
        let mut inner = self.state.lock();
        let result = change(&mut inner);
        let after = inner.settle();
        drop(inner);
        if let Some(after) = after {
            self.carry_out(after);
        }
        result
    }

    #[cold]
    pub(crate) fn carry_out(self: &Arc<Self>, mut after: After<M>) {
        for opened in after.rest.as_mut().map(|rest| std::mem::take(&mut rest.opened)).unwrap_or_default() {
            self.tell_opened(opened);
        }
        if after.carry_out() {
            self.want_driver();
        }
    }

    fn tell_opened(&self, opened: Opened) {
        let Opened { id, failures, pause } = opened;
        tracing::warn!(%id, failures, ?pause, "poolyard: creations of a key keep failing; none is tried for a while");
        _ = contained(|| self.observer.circuit_opened(id, failures, pause));
    }

    /// The time for the hot path.
    #[inline]
    pub(crate) fn now(&self) -> Time {
        self.clock.coarse()
    }

    /// Whether this process is a child of the one that made the pool.
    #[inline]
    pub(crate) fn is_forked(&self) -> bool {
        self.forks != crate::fork::generation()
    }
}

/// Gives a pool's report method to [`Gone`](crate::Gone) handles, which hold only a weak reference.
pub(crate) struct Sink<M: Manager, O, S>(pub(crate) std::sync::Weak<Shared<M, O, S>>);

impl<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> GoneSink for Sink<M, O, S> {
    fn gone(&self, id: ResourceId, cause: Cow<'static, str>) {
        if let Some(shared) = self.0.upgrade().filter(|shared| !shared.is_forked()) {
            shared.report_gone(id, Arc::from(&*cause));
        }
    }
}

impl<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> Shared<M, O, S> {
    fn report_gone(self: &Arc<Self>, id: ResourceId, cause: Arc<str>) {
        tracing::debug!(%id, %cause, "poolyard: gone");
        self.event(|inner| {
            if inner.ledger.find(id).is_none_or(|slot| slot.gone) {
                return;
            }
            inner.note(id.slot()).gone_cause = Some(Arc::clone(&cause));
            if inner.ledger.gone(id, self.now()) {
                inner.tell_gone(id, &cause);
            }
        });
    }
}

impl<M: Manager> Inner<M> {
    fn tell_gone(&mut self, id: ResourceId, cause: &Arc<str>) {
        for (watched, sender) in std::mem::take(&mut self.gone_watchers) {
            match watched == id {
                true => self.after.rest().gone.push((sender, Arc::clone(cause))),
                false => self.gone_watchers.push((watched, sender)),
            }
        }
    }
}
