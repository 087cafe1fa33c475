//! [`Pool`]: the handle.

use std::fmt;
use std::future::Future;
use std::hash::BuildHasher;
use std::panic::Location;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::acquire::{Acquire, Acquiring};
use crate::builder::Builder;
use crate::config::{ConfigError, PoolConfig};
use crate::context::Gone;
use crate::error::{AcquireError, CreateFailure, InsertError, InsertErrorKind, TryAcquireError};
use crate::hash::RandomState;
use crate::job::lifetime_end;
use crate::lease::Lease;
use crate::ledger::Gate;
use crate::manager::Manager;
use crate::meta::{Meta, Reason, ResourceId};
use crate::observer::Observer;
use crate::pressure::{Shed, ShedReport};
use crate::rt;
use crate::shared::Shared;
use crate::snapshot::{CloseReport, KeyInfo, ResourceInfo, Snapshot};
use crate::warm::WarmReport;

/// A pool of resources, by key. Cheap to clone: all clones are handles of one pool.
///
/// When the last handle is dropped, the pool is closed: idle resources are destroyed in the
/// background, leased ones when they come back.
///
/// # Fork
///
/// A pool belongs to the process that made it. In a child of `fork`, taking, inserting and warming are
/// refused with an error, and leases and handles that are dropped end nothing. Looking at the pool and
/// changing it panic there: a thread of the parent may have held the lock at the moment of the fork, and
/// then nobody gives it back. Make a new pool in the child.
///
/// # Examples
///
/// ```
/// use poolyard_core::{Pool, from_fn};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let pool = Pool::builder(from_fn(|host: &&'static str| {
///     let host = *host;
///     async move { Ok::<_, std::io::Error>(format!("a connection to {host}")) }
/// }))
/// .max_total(10)
/// .build()?;
///
/// let connection = pool.acquire(&"localhost").await?;
/// assert_eq!(*connection, "a connection to localhost");
/// drop(connection);
/// assert_eq!(pool.snapshot().counts.idle, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub struct Pool<M: Manager, O: Observer = (), S: BuildHasher + Send + Sync + 'static = RandomState> {
    pub(crate) shared: Arc<Shared<M, O, S>>,
}

impl<M: Manager> Pool<M> {
    /// Starts to build a pool over `manager`.
    pub fn builder(manager: M) -> Builder<M> {
        Builder::new(manager)
    }
}

impl<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> Pool<M, O, S> {
    /// Takes a resource of `key`: an idle one at once, else whichever comes first, one that is
    /// returned, recycled, checked or created. Callers for one key are served in the order in which
    /// they came.
    ///
    /// With an idle resource it takes tens of nanoseconds, allocates nothing and reads a clock of
    /// low resolution. The manager is never called on the caller's path.
    ///
    /// # Errors
    ///
    /// - [`AcquireError::TimedOut`] after `wait_timeout`, or when a creation passed its own deadline
    /// - [`AcquireError::Create`], [`CreatePanicked`](AcquireError::CreatePanicked) and
    ///   [`CreateGone`](AcquireError::CreateGone): a creation failed, and this caller was the oldest
    ///   that waited for its key
    /// - [`AcquireError::CircuitOpen`]: creations for the key keep failing, and none of its resources
    ///   is left to wait for
    /// - [`AcquireError::TooManyWaiters`]: the queue is full
    /// - [`AcquireError::TooCostly`] and [`AcquireError::Policy`]: this key can never be served
    /// - [`AcquireError::Closed`] and [`AcquireError::Forked`]: this pool is of no more use here
    ///
    /// # Cancel safety
    ///
    /// A dropped future loses its place in the queue and nothing else: a creation that was started
    /// for it goes on, and what was promised to it goes to the next in line.
    #[inline]
    #[track_caller]
    pub fn acquire<'a>(
        &'a self,
        key: &'a M::Key,
    ) -> impl Future<Output = Result<Lease<M, O, S>, AcquireError<M::Error>>> + Send + 'a {
        self.acquire_with(key, Acquire::default())
    }

    /// As [`acquire`](Pool::acquire), with options.
    #[inline]
    #[track_caller]
    pub fn acquire_with<'a>(
        &'a self,
        key: &'a M::Key,
        options: Acquire,
    ) -> impl Future<Output = Result<Lease<M, O, S>, AcquireError<M::Error>>> + Send + 'a {
        Acquiring::new(&self.shared, key, options, Location::caller())
    }

    /// Takes a resource of `key` that is ready without a check. Never waits, never creates.
    ///
    /// # Errors
    ///
    /// A [`TryAcquireError`] that says why there is none.
    #[track_caller]
    pub fn try_acquire(&self, key: &M::Key) -> Result<Lease<M, O, S>, TryAcquireError> {
        self.shared.try_acquire(key, Location::caller())
    }

    /// As [`acquire`](Pool::acquire), for plain threads: blocks the thread, in the same queue as
    /// asynchronous callers.
    ///
    /// # Errors
    ///
    /// Those of [`acquire`](Pool::acquire), and [`AcquireError::InsideRuntime`] where an async
    /// runtime would be blocked.
    #[track_caller]
    pub fn acquire_blocking(&self, key: &M::Key) -> Result<Lease<M, O, S>, AcquireError<M::Error>> {
        self.acquire_blocking_with(key, Acquire::default())
    }

    /// As [`acquire_blocking`](Pool::acquire_blocking), with options.
    #[track_caller]
    pub fn acquire_blocking_with(
        &self,
        key: &M::Key,
        options: Acquire,
    ) -> Result<Lease<M, O, S>, AcquireError<M::Error>> {
        self.shared.acquire_blocking(key, &options, Location::caller())
    }

    /// Puts a resource into the pool that was made elsewhere.
    ///
    /// # Errors
    ///
    /// The resource, with the reason for which the pool did not take it.
    pub fn insert(
        &self,
        key: &M::Key,
        resource: M::Resource,
    ) -> Result<ResourceId, InsertError<M::Resource>> {
        let shared = &self.shared;
        if shared.is_forked() {
            return Err(InsertError { resource, kind: InsertErrorKind::Forked });
        }
        let newcomer = match shared.introduce(key) {
            Ok(newcomer) => newcomer,
            Err(unusable) => return Err(InsertError { resource, kind: unusable.into() }),
        };
        let description = shared.description_of(&resource);
        // Stays out here until it is parked, so that nothing drops it under the lock.
        let mut held =
            Some(crate::job::new_held::<M>(ResourceId::standalone(0), Arc::clone(&newcomer.key), resource));
        let now = shared.now();
        let inserted = shared.event(|inner| {
            if inner.ledger.gate() == Gate::Closed {
                return Err(InsertErrorKind::Closed);
            }
            let group = inner.find_or_add_group(&newcomer);
            let lifetime = inner.key_config(group).max_lifetime;
            let lifetime_end = lifetime_end(lifetime, inner.config.lifetime_jitter, now);
            let slot = inner.ledger.insert(group, lifetime_end, now).ok_or(InsertErrorKind::NoRoom)?;
            let (id, generation) = inner.ledger.identity(slot);
            if let Some(mut held) = held.take() {
                held.meta.id = id;
                held.meta.generation = generation;
                inner.park(slot, held);
            }
            inner.describe(slot, &description);
            Ok(id)
        });
        inserted.map_err(|kind| {
            let resource = held.expect("what was not inserted is still here").resource;
            InsertError { resource, kind }
        })
    }

    /// A handle with which anyone may report that the resource `id` is gone: for resources put in
    /// by [`insert`](Pool::insert), whose maker has no [`Context`](crate::Context).
    pub fn gone_handle(&self, id: ResourceId) -> Gone {
        Gone::new(id, Arc::downgrade(&self.shared.sink))
    }

    /// Makes sure that `wanted` resources of `key` are idle, within the limits and as many at a time
    /// as `max_creating` allows. Resources that have expired are destroyed first; those that sleep are
    /// woken, and count as idle already. Evicts nothing, and waits for waiters to be served first.
    ///
    /// # Cancel safety
    ///
    /// Creations that were asked for go on when the future is dropped.
    pub async fn warm(&self, key: &M::Key, wanted: usize) -> WarmReport<M::Error> {
        let shared = &self.shared;
        let most = u32::try_from(wanted).unwrap_or(u32::MAX).min(crate::meta::SLOTS);
        if shared.is_forked() {
            return WarmReport::all_failed(most, || CreateFailure::Interrupted);
        }
        let newcomer = match shared.introduce(key) {
            Ok(newcomer) => newcomer,
            Err(unusable) => return WarmReport::all_failed(most, || CreateFailure::from(&unusable)),
        };
        let now = shared.clock.fine();
        let call = shared.event(|inner| {
            if inner.ledger.gate() == Gate::Closed {
                let call = inner.warm_calls.begin(most as usize);
                for _ in 0..most {
                    inner.fail_warm(call, CreateFailure::Interrupted);
                }
                return call;
            }
            let group = inner.find_or_add_group(&newcomer);
            let call = inner.warm_calls.begin(most as usize);
            let there = inner.ledger.warm(group, most, call, now);
            inner.warm_calls.began(call, there as usize);
            call
        });
        let _forget = Forget { shared, call };
        shared.start_driver(true);
        std::future::poll_fn(|cx| {
            let waker = cx.waker().clone();
            let polled = shared.state.lock().warm_calls.poll(call, waker);
            match polled {
                Ok(report) => std::task::Poll::Ready(report),
                Err(_old) => {
                    shared.start_driver(true);
                    std::task::Poll::Pending
                }
            }
        })
        .await
    }

    /// What only the process that made the pool may look at and change.
    #[track_caller]
    fn own(&self) -> &Arc<Shared<M, O, S>> {
        assert!(!self.shared.is_forked(), "{}", AcquireError::<M::Error>::Forked);
        &self.shared
    }

    /// The pool at this moment.
    #[track_caller]
    pub fn snapshot(&self) -> Snapshot {
        let inner = self.own().state.lock();
        let gate = inner.ledger.gate();
        Snapshot {
            counts: inner.counts(),
            cost: inner.ledger.cost(),
            keys: inner.groups.iter().flatten().count(),
            circuits_open: inner.ledger.circuits_open() as usize,
            stuck: inner.ledger.stuck() as usize,
            pressure: inner.pressure.as_ref().map(|(cause, _)| Arc::clone(cause)),
            suspended: gate == Gate::Suspended,
            closed: gate == Gate::Closed,
            hedge_after: inner.config.hedge_after.unwrap_or_else(|| inner.recycle_times.p95()),
            counters: inner.ledger.counters.clone(),
        }
    }

    /// Every resource at this moment. O(resources).
    #[track_caller]
    pub fn resources(&self) -> Vec<ResourceInfo<M::Key>> {
        let now = self.own().clock.fine();
        let infos: Vec<_> = self.shared.state.lock().resource_infos(now);
        infos.into_iter().map(|info| info.with_key(|key| M::Key::clone(&key))).collect()
    }

    /// Every key that has resources or waiters at this moment, or creations that failed lately. O(keys).
    #[track_caller]
    pub fn keys(&self) -> Vec<KeyInfo<M::Key>> {
        let now = self.own().clock.fine();
        let infos: Vec<_> = self.shared.state.lock().key_infos(now);
        infos.into_iter().map(|info| info.with_key(|key| M::Key::clone(&key))).collect()
    }

    /// The configuration in force.
    #[track_caller]
    pub fn config(&self) -> PoolConfig {
        PoolConfig::clone(&self.own().state.lock().config)
    }

    /// Changes options while the pool runs. What exceeds new limits goes: idle resources now, least
    /// recently used first, leased ones at their return.
    ///
    /// `change` runs without the lock. If another call has changed the options meanwhile, it runs again on
    /// what that one left, so that no change is lost.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] if the result would contradict itself; then nothing has changed.
    #[track_caller]
    pub fn resize(&self, mut change: impl FnMut(&mut PoolConfig)) -> Result<(), ConfigError> {
        loop {
            let before = Arc::clone(&self.own().state.lock().config);
            let mut config = PoolConfig::clone(&before);
            change(&mut config);
            config.validate()?;
            if self.put_config_in_force(&before, config) {
                return Ok(());
            }
        }
    }

    /// Whether the options were still those of `before`, and so were replaced.
    fn put_config_in_force(&self, before: &Arc<PoolConfig>, config: PoolConfig) -> bool {
        let rules = Shared::<M, O, S>::rules(&config, self.shared.check_always);
        let (config, now) = (Arc::new(config), self.shared.clock.fine());
        self.shared.event(|inner| {
            let unchanged = Arc::ptr_eq(&inner.config, before);
            if unchanged {
                inner.resize(config, rules, now);
            }
            unchanged
        })
    }

    /// Shows every idle resource to `keep` and destroys those that it does not keep. Runs on the
    /// calling thread, one resource at a time; each is out of the pool only while it is looked at. A
    /// look is no use: it keeps its place among the idle. Those that sleep are passed over. Returns how
    /// many went.
    ///
    /// A panic in `keep` destroys the resource that it was looking at, and goes on to the caller.
    #[track_caller]
    pub fn retain(&self, mut keep: impl FnMut(&M::Key, &mut M::Resource, &Meta) -> bool) -> usize {
        let ids = self.own().state.lock().ledger.idle_ids();
        ids.into_iter().filter(|&id| self.look_at(id, &mut keep)).count()
    }

    /// Whether the resource was destroyed.
    fn look_at(
        &self,
        id: ResourceId,
        keep: &mut impl FnMut(&M::Key, &mut M::Resource, &Meta) -> bool,
    ) -> bool {
        let shared = &self.shared;
        let picked = shared.event(|inner| inner.ledger.pick_idle(id).then(|| inner.unpark(id.slot())));
        let Some(mut held) = picked else { return false };
        let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            keep(&held.key, &mut held.resource, &held.meta)
        }));
        let result = match &looked {
            Ok(true) => Ok(()),
            Ok(false) => Err(Reason::NotRetained),
            Err(_) => Err(Reason::Panicked),
        };
        let now = shared.clock.fine();
        shared.event(|inner| {
            inner.park(id.slot(), held);
            inner.ledger.put_down(id.slot(), result, now);
        });
        match looked {
            Ok(kept) => !kept,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Destroys idle resources now, those that sleep first, then least recently used first, and reports
    /// what went. What a minimum idle keeps stays, because it would be made again at once. O(idle
    /// resources).
    #[track_caller]
    pub fn shed(&self, amount: Shed) -> ShedReport<M::Key> {
        let now = self.own().clock.fine();
        let (resources, cost) = self.shared.event(|inner| {
            let ids = inner.ledger.to_shed(amount, true);
            let slots = || ids.iter().filter_map(|id| inner.ledger.find(*id));
            let infos: Vec<_> = slots().map(|slot| inner.resource_info(slot, now)).collect();
            let cost = slots().map(|slot| slot.cost).sum();
            inner.ledger.shed(&ids, now);
            (infos, cost)
        });
        let resources = resources.into_iter().map(|info| info.with_key(|key| M::Key::clone(&key))).collect();
        ShedReport { resources, cost }
    }

    /// Nothing made so far for `key` is used again: idle resources are destroyed now, others when
    /// they come back. A creation under way counts as made.
    #[track_caller]
    pub fn invalidate(&self, key: &M::Key) {
        let hash = self.own().hasher.hash_one(key);
        let now = self.shared.clock.fine();
        self.shared.event(|inner| {
            if let Some(group) = inner.find_group(hash, key) {
                inner.ledger.invalidate(group, now);
            }
        });
    }

    /// Nothing made so far is used again, whatever its key.
    #[track_caller]
    pub fn invalidate_all(&self) {
        let now = self.own().clock.fine();
        self.shared.event(|inner| inner.ledger.invalidate_all(now));
    }

    /// Gives nothing out until [`resume`](Pool::resume). Callers wait, under their deadlines.
    #[track_caller]
    pub fn suspend(&self) {
        self.own().event(|inner| inner.ledger.suspend());
    }

    /// Ends [`suspend`](Pool::suspend): those who wait are served in order.
    #[track_caller]
    pub fn resume(&self) {
        let now = self.own().clock.fine();
        self.shared.event(|inner| inner.ledger.resume(now));
    }

    /// Closes the pool: waiters and later callers get [`AcquireError::Closed`], idle resources are
    /// destroyed now, leased ones when they come back. Waits up to `patience` for all of that and
    /// reports what is left; the pool goes on to end the rest in the background.
    ///
    /// Closing twice is harmless: the second call only waits. In a child of `fork`, closing does
    /// nothing and reports nothing: what is in the pool belongs to the parent.
    ///
    /// # Cancel safety
    ///
    /// The pool is closed from the first poll on; a dropped future only does not report.
    pub async fn close(&self, patience: Duration) -> CloseReport<M::Key> {
        let shared = &self.shared;
        if shared.is_forked() {
            return CloseReport { left: Vec::new(), abandoned: 0, destroyed: 0 };
        }
        let now = shared.clock.fine();
        shared.event(|inner| inner.ledger.close(now));
        if !shared.state.lock().ledger.is_drained() && shared.start_driver(true) {
            self.drained(patience).await;
        }
        let now = shared.clock.fine();
        let (left, abandoned, destroyed) = {
            let inner = shared.state.lock();
            let abandoned = inner.ledger.abandoned() as usize;
            (inner.resource_infos(now), abandoned, inner.ledger.counters.destroyed_total())
        };
        let left: Vec<_> = left.into_iter().map(|info| info.with_key(|key| M::Key::clone(&key))).collect();
        let ending = left.iter().filter(|r| r.state == crate::snapshot::ResourceState::Destroying).count();
        CloseReport { left, abandoned, destroyed: destroyed - ending as u64 }
    }

    /// Waits until nothing is left, or patience is at its end.
    async fn drained(&self, patience: Duration) {
        let shared = &self.shared;
        let give_up = crate::time::now().checked_add(patience);
        let mut sleep = None;
        std::future::poll_fn(|cx| {
            let waker = cx.waker().clone();
            let handle = {
                let mut inner = shared.state.lock();
                if inner.ledger.is_drained() {
                    return std::task::Poll::Ready(());
                }
                inner.draining.push(waker);
                inner.after.watch();
                inner.driver.handle.clone()
            };
            shared.start_driver(true);
            if sleep.is_none() {
                sleep = rt::current().or(handle).map(|handle| rt::sleep_until(&handle, give_up));
            }
            match &mut sleep {
                Some(sleep) => sleep.as_mut().poll(cx),
                None => std::task::Poll::Pending,
            }
        })
        .await
    }

    /// A handle that does not keep the pool open.
    pub fn downgrade(&self) -> WeakPool<M, O, S> {
        WeakPool { shared: Arc::downgrade(&self.shared) }
    }

    /// The manager.
    pub fn manager(&self) -> &M {
        &self.shared.manager
    }

    /// The observer.
    pub fn observer(&self) -> &O {
        &self.shared.observer
    }
}

/// Forgets a call of `warm` whose caller has gone away.
struct Forget<'a, M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> {
    shared: &'a Arc<Shared<M, O, S>>,
    call: u64,
}

impl<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> Drop for Forget<'_, M, O, S> {
    fn drop(&mut self) {
        let forgotten = self.shared.state.lock().warm_calls.forget(self.call);
        drop(forgotten);
    }
}

impl<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> Clone for Pool<M, O, S> {
    fn clone(&self) -> Self {
        self.shared.handles.fetch_add(1, Ordering::Relaxed);
        Pool { shared: Arc::clone(&self.shared) }
    }
}

impl<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> Drop for Pool<M, O, S> {
    fn drop(&mut self) {
        let last = self.shared.handles.fetch_sub(1, Ordering::AcqRel) == 1;
        if self.shared.is_forked() {
            // What is in the pool belongs to the parent: nothing of it may be dropped here.
            return std::mem::forget(Arc::clone(&self.shared));
        }
        if last {
            let now = self.shared.clock.fine();
            let keep = Arc::clone(&self.shared);
            self.shared.event(|inner| {
                inner.ledger.close(now);
                inner.keep = Some(keep);
                inner.after.watch();
            });
        }
    }
}

impl<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> fmt::Debug for Pool<M, O, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.shared.is_forked() {
            return f.write_str("Pool { of the process before the fork }");
        }
        let (name, counts) = {
            let inner = self.shared.state.lock();
            (inner.config.name.clone(), inner.counts())
        };
        f.debug_struct("Pool").field("name", &name).field("counts", &counts).finish_non_exhaustive()
    }
}

/// A handle that does not keep the pool open. Made by [`Pool::downgrade`].
pub struct WeakPool<M: Manager, O: Observer = (), S: BuildHasher + Send + Sync + 'static = RandomState> {
    shared: Weak<Shared<M, O, S>>,
}

impl<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> WeakPool<M, O, S> {
    /// The pool, unless its last handle has been dropped.
    pub fn upgrade(&self) -> Option<Pool<M, O, S>> {
        let shared = self.shared.upgrade()?;
        let add = |handles: usize| (handles > 0).then_some(handles + 1);
        shared.handles.fetch_update(Ordering::AcqRel, Ordering::Acquire, add).ok()?;
        Some(Pool { shared })
    }
}

impl<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> Clone for WeakPool<M, O, S> {
    fn clone(&self) -> Self {
        WeakPool { shared: Weak::clone(&self.shared) }
    }
}

impl<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> fmt::Debug for WeakPool<M, O, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakPool")
    }
}
