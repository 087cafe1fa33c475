//! Jobs: what the driver does with one slot, each as a task of its own.
//!
//! A job holds a [`Claim`] on its slot. However the job ends, done, dropped with its runtime or by a
//! panic, the claim returns the slot to the ledger.

mod sleep;
mod specialise;

use std::borrow::Cow;
use std::convert::Infallible;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::call::{Called, call, chain, contained};
use crate::config::PoolConfig;
use crate::context::Context;
use crate::error::CreateFailure;
use crate::held::Held;
use crate::ledger::{Gate, Job, Order, Origin, State};
use crate::manager::Manager;
use crate::meta::{Meta, Reason, ResourceId};
use crate::observer::Observer;
use crate::policy::KeyConfig;
use crate::shared::{Inner, Shared};
use crate::time::{Time, now};

/// One order with everything that is needed to carry it out.
pub(crate) struct Task<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> {
    claim: Claim<M, O, S>,
    job: Job,
    key: Arc<M::Key>,
    cx: Context,
    config: Arc<PoolConfig>,
    /// The options of its key.
    options: KeyConfig,
    /// After how long a recycle or check is unusually slow.
    hedge_after: Duration,
}

impl<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> Task<M, O, S> {
    pub(crate) fn new(shared: &Arc<Shared<M, O, S>>, inner: &mut Inner<M>, order: Order) -> Self {
        let Order { id, job } = order;
        let slot = inner.ledger.find(id).expect("an order is for a slot that exists");
        let (generation, uses, group) = (slot.generation, slot.uses, slot.group);
        let held = match job {
            Job::Create => None,
            _ => Some(inner.unpark(id.slot())),
        };
        let cx =
            Context { id, generation, uses, attempt: 1, deadline: now(), sink: Arc::downgrade(&shared.sink) };
        let config = Arc::clone(&inner.config);
        let hedge_after = config.hedge_after.unwrap_or_else(|| inner.recycle_times.p95());
        let claim = Claim { shared: Some(Arc::clone(shared)), id, held };
        let options = inner.key_config(group);
        // A donor that could not be specialised ends under the key that it still has.
        let key = match &claim.held {
            Some(held) if matches!(job, Job::Destroy(_)) => Arc::clone(&held.key),
            _ => inner.key(group),
        };
        Task { claim, job, key, cx, config, options, hedge_after }
    }
}

/// Carries out one order.
pub(crate) async fn run<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static>(
    task: Task<M, O, S>,
) {
    match task.job {
        Job::Create => task.create().await,
        Job::Recycle => task.recycle().await,
        Job::Check => task.check().await,
        Job::Hibernate => task.hibernate().await,
        Job::Wake => task.wake().await,
        Job::Specialise => task.specialise().await,
        Job::Destroy(reason) => task.destroy(reason).await,
    }
}

impl<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> Task<M, O, S> {
    async fn create(mut self) {
        let start = now();
        self.cx.deadline = start + self.options.create_timeout;
        let shared = self.claim.shared();
        let made = loop {
            let blocked = blocked(&shared, self.cx.id, "create");
            let create = async { shared.manager.create(&self.key, &self.cx).await };
            let failure = match call(create, self.cx.deadline, NO_HEDGE, blocked).await {
                Called::Done(Ok(resource)) => break Ok(resource),
                Called::Done(Err(error)) => match self.pause(&error) {
                    Some(pause) => {
                        tokio::time::sleep(pause).await;
                        if !shared.is_closed() {
                            self.cx.attempt += 1;
                            continue;
                        }
                        CreateFailure::Error(error)
                    }
                    None => CreateFailure::Error(error),
                },
                Called::TimedOut => CreateFailure::TimedOut,
                Called::Panicked(message) => CreateFailure::Panicked(message),
            };
            break Err(failure);
        };
        match made {
            Ok(resource) => {
                let lifetime = (self.options.max_lifetime, self.config.lifetime_jitter);
                self.claim.created(resource, self.key, lifetime, start);
            }
            Err(failure) => self.claim.create_failed(failure, now() - start),
        }
    }

    /// How long to pause before the next attempt; `None`: the error is final.
    fn pause(&self, error: &M::Error) -> Option<Duration> {
        let shared = self.claim.shared();
        let pause = shared.ask("retry", |manager| manager.retry(error, self.cx.attempt)).ok()??;
        let pause = pause.mul_f64(1.0 + 0.2 * roll());
        let in_time = now() + pause < self.cx.deadline;
        let text = Arc::from(chain(error));
        shared.state.lock().remember_error(self.cx.id, text);
        tracing::debug!(id = %self.cx.id, attempt = self.cx.attempt, error = %error, ?pause, "poolyard: creation failed, trying again");
        (in_time && !shared.is_closed()).then_some(pause)
    }

    async fn recycle(mut self) {
        let start = now();
        self.cx.deadline = start + self.config.recycle_timeout;
        let shared = self.claim.shared();
        let called = {
            let blocked = blocked(&shared, self.cx.id, "recycle");
            let hedge = hedge(&shared, self.cx.id, self.hedge_after);
            let held = self.claim.held();
            let work = async { shared.manager.recycle(&self.key, &mut held.resource, &self.cx).await };
            call(work, self.cx.deadline, hedge, blocked).await
        };
        shared.note_call(&called);
        let verdict = called.verdict(Reason::RecycleFailed);
        self.claim.held().meta.recycles += 1;
        let took = now() - start;
        let result = self.claim.cleaned("recycle", verdict);
        tracing::trace!(id = %self.cx.id, ?took, "poolyard: recycled");
        _ = contained(|| shared.observer.recycled(self.cx.id, result.err(), took));
        self.claim.finish(|inner, slot, at| {
            inner.recycle_times.record(took);
            inner.ledger.recycled(slot, result, at);
        });
    }

    async fn check(mut self) {
        let start = now();
        self.cx.deadline = start + self.config.health_check_timeout;
        let shared = self.claim.shared();
        let called = {
            let blocked = blocked(&shared, self.cx.id, "health_check");
            let hedge = hedge(&shared, self.cx.id, self.hedge_after);
            let held = self.claim.held();
            let work = async { shared.manager.health_check(&self.key, &mut held.resource, &self.cx).await };
            call(work, self.cx.deadline, hedge, blocked).await
        };
        shared.note_call(&called);
        let result = self.claim.cleaned("health_check", called.verdict(Reason::Unhealthy));
        let result = result.map_err(|_| Reason::Unhealthy);
        _ = contained(|| shared.observer.checked(self.cx.id, result.err(), now() - start));
        self.claim.finish(|inner, slot, at| inner.ledger.checked(slot, result, at));
    }

    async fn destroy(mut self, reason: Reason) {
        let start = now();
        self.cx.deadline = start + self.config.destroy_timeout;
        let shared = self.claim.shared();
        let called = {
            let blocked = blocked(&shared, self.cx.id, "destroy");
            let held = self.claim.held();
            let work = async {
                shared.manager.destroy(&self.key, &mut held.resource, reason, &self.cx).await;
                Ok::<(), Infallible>(())
            };
            call(work, self.cx.deadline, NO_HEDGE, blocked).await
        };
        shared.note_call(&called);
        let hung = matches!(called, Called::TimedOut);
        let held = self.claim.held.take().expect("a destroy has its resource");
        end(&shared, held, reason, matches!(called, Called::Done(_)));
        let id = self.cx.id;
        if hung {
            tracing::error!(%id, %reason, "poolyard: a destroy missed its deadline; its resource is abandoned");
            _ = contained(|| shared.observer.abandoned(id, reason));
        } else {
            tracing::debug!(%id, %reason, "poolyard: destroyed");
            _ = contained(|| shared.observer.destroyed(id, reason, now() - start));
        }
        self.claim.finish(|inner, slot, at| match hung {
            true => inner.ledger.destroy_hung(slot, at),
            false => inner.ledger.destroyed(slot, at),
        });
    }
}

const NO_HEDGE: Option<(Duration, fn())> = None;

/// Drops a resource, by `destroy_now` where its destroy did not come to its end.
fn end<M: Manager, O, S>(shared: &Shared<M, O, S>, held: Box<Held<M>>, reason: Reason, destroyed: bool) {
    let ended = contained(|| match destroyed {
        true => drop(held),
        false => {
            let held = *held;
            shared.manager.destroy_now(&held.key, held.resource, reason);
        }
    });
    if let Err(panic) = ended {
        tracing::error!(%reason, %panic, "poolyard: a resource's end panicked");
        shared.state.lock().ledger.counters.panicked_calls += 1;
    }
}

fn hedge<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static>(
    shared: &Arc<Shared<M, O, S>>,
    id: ResourceId,
    after: Duration,
) -> Option<(Duration, impl FnOnce() + use<M, O, S>)> {
    let shared = Arc::clone(shared);
    Some((after, move || shared.event(|inner| inner.ledger.hedge(id, shared.now()))))
}

fn blocked<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static>(
    shared: &Arc<Shared<M, O, S>>,
    id: ResourceId,
    call: &'static str,
) -> impl Fn(Duration) + use<M, O, S> {
    let shared = Arc::clone(shared);
    move |held| {
        tracing::warn!(%id, call, ?held, "poolyard: the manager blocks its thread; use spawn_blocking");
        shared.state.lock().ledger.counters.blocked_polls += 1;
        _ = contained(|| shared.observer.blocked(id, call, held));
    }
}

/// A number in [0, 1), different for each call.
fn roll() -> f64 {
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    (random >> 11) as f64 / (1u64 << 53) as f64
}

impl<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> Shared<M, O, S> {
    /// A call of one of the manager's synchronous methods; the message of its panic.
    pub(crate) fn ask<T>(&self, method: &'static str, call: impl FnOnce(&M) -> T) -> Result<T, String> {
        contained(|| call(&self.manager)).inspect_err(|panic| {
            tracing::error!(method, %panic, "poolyard: the manager panicked");
            self.state.lock().ledger.counters.panicked_calls += 1;
        })
    }

    /// What a resource of `key` costs; the message of a panic.
    pub(crate) fn cost(&self, key: &M::Key) -> Result<u64, String> {
        self.ask("cost", |manager| manager.cost(key).max(1))
    }

    fn is_closed(&self) -> bool {
        self.state.lock().ledger.gate() == Gate::Closed
    }

    /// What the manager says of a resource, for people.
    pub(crate) fn description_of(&self, resource: &M::Resource) -> Cow<'static, str> {
        self.ask("describe", |manager| manager.describe(resource)).unwrap_or_default()
    }

    /// Counts a call that did not come to its own end.
    fn note_call<E>(&self, called: &Called<Result<(), E>>) {
        match called {
            Called::Done(_) => {}
            Called::TimedOut => self.state.lock().ledger.counters.timed_out_calls += 1,
            Called::Panicked(_) => self.state.lock().ledger.counters.panicked_calls += 1,
        }
    }
}

/// When a resource made at `now` has lived long enough: jitter only shortens.
pub(crate) fn lifetime_end(max_lifetime: Option<Duration>, jitter: f64, now: Time) -> Time {
    let share = 1.0 - jitter * roll();
    now.plus_maybe(max_lifetime.map(|lifetime| lifetime.mul_f64(share)))
}

/// The record of a new resource; its generation is filled in under the lock.
pub(crate) fn new_held<M: Manager>(id: ResourceId, key: Arc<M::Key>, resource: M::Resource) -> Box<Held<M>> {
    let meta = Meta { id, created: now(), uses: 0, recycles: 0, generation: 0 };
    Box::new(Held { resource, key, meta })
}

/// A job's hold on its slot.
struct Claim<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> {
    /// `None` once the ledger has heard how the job ended.
    shared: Option<Arc<Shared<M, O, S>>>,
    id: ResourceId,
    held: Option<Box<Held<M>>>,
}

impl<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> Claim<M, O, S> {
    fn shared(&self) -> Arc<Shared<M, O, S>> {
        Arc::clone(self.shared.as_ref().expect("a claim is held until its job ends"))
    }

    fn held(&mut self) -> &mut Held<M> {
        self.held.as_mut().expect("this job has a resource")
    }

    /// Traces what failed and keeps the reason.
    fn cleaned(&self, call: &'static str, verdict: Result<(), (Reason, String)>) -> Result<(), Reason> {
        verdict.map_err(|(reason, error)| {
            tracing::warn!(id = %self.id, call, %reason, %error, "poolyard: the resource is not used again");
            reason
        })
    }

    /// The job is done: parks the resource, if there is one, and tells the ledger.
    fn finish(mut self, tell: impl FnOnce(&mut Inner<M>, u32, Time)) {
        let shared = self.shared.take().expect("a job ends once");
        let held = self.held.take();
        let slot = self.id.slot();
        shared.event(|inner| {
            if let Some(held) = held {
                inner.park(slot, held);
            }
            tell(inner, slot, shared.now());
        });
    }

    fn created(
        mut self,
        resource: M::Resource,
        key: Arc<M::Key>,
        (max_lifetime, jitter): (Option<Duration>, f64),
        start: Instant,
    ) {
        let shared = self.shared();
        let took = now() - start;
        let description = shared.description_of(&resource);
        self.held = Some(new_held(self.id, key, resource));
        tracing::debug!(id = %self.id, ?took, %description, "poolyard: created");
        _ = contained(|| shared.observer.created(self.id, took));
        let lifetime_end = lifetime_end(max_lifetime, jitter, shared.now());
        let (id, slot) = (self.id, self.id.slot());
        let mut held = self.held.take();
        self.shared = None;
        shared.event(|inner| {
            let record = inner.ledger.find(id).expect("a slot lives while it is claimed");
            let (gone, generation) = (record.gone, record.generation);
            if let Some(mut held) = held.take() {
                held.meta.generation = generation;
                inner.park(slot, held);
            }
            inner.describe(slot, &description);
            if gone {
                let cause = inner.note(slot).gone_cause.as_deref().unwrap_or_default().to_owned();
                let failure = CreateFailure::Gone(cause);
                inner.remember_error(id, Arc::from(failure.to_string()));
                let failed = inner.ledger.created_but_gone(slot, shared.now());
                inner.deliver(failed, failure);
            } else {
                let call = inner.warm_call(id);
                let wanted = inner.ledger.created(slot, lifetime_end, shared.now());
                if let Some(call) = call {
                    match wanted {
                        true => {
                            let waker = inner.warm_calls.inserted(call);
                            inner.after.wake(waker);
                        }
                        false => inner.fail_warm(call, CreateFailure::Interrupted),
                    }
                }
            }
        });
    }

    fn create_failed(mut self, failure: CreateFailure<M::Error>, took: Duration) {
        let shared = self.shared.take().expect("a job ends once");
        let (id, slot) = (self.id, self.id.slot());
        let text = match &failure {
            CreateFailure::Error(error) => chain(error),
            failure => failure.to_string(),
        };
        tracing::warn!(%id, error = %text, ?took, "poolyard: creation failed");
        _ = contained(|| shared.observer.create_failed(id, &text, took));
        shared.event(|inner| {
            match failure {
                CreateFailure::TimedOut => inner.ledger.counters.timed_out_calls += 1,
                CreateFailure::Panicked(_) => inner.ledger.counters.panicked_calls += 1,
                _ => {}
            }
            // Where the last attempt ran out of time, the error of the one before says more.
            if !matches!(failure, CreateFailure::TimedOut) || inner.last_error(id).is_none() {
                inner.remember_error(id, Arc::from(text.as_str()));
            }
            let failed = inner.ledger.create_failed(slot, shared.now());
            inner.deliver(failed, failure);
        });
    }
}

impl<M: Manager> Inner<M> {
    /// The call of `warm` that waits for this creation.
    fn warm_call(&self, id: ResourceId) -> Option<u64> {
        let slot = self.ledger.find(id).filter(|slot| slot.state == State::Creating)?;
        match slot.origin {
            Origin::Warm(call) => Some(call),
            _ => None,
        }
    }

    fn last_error(&self, id: ResourceId) -> Option<&str> {
        let group = self.ledger.find(id)?.group;
        self.groups[group as usize].as_ref()?.last_error.as_deref()
    }

    /// Keeps the error of a creation for those who time out waiting for its key.
    fn remember_error(&mut self, id: ResourceId, error: Arc<str>) {
        if let Some(group) = self.ledger.find(id).map(|slot| slot.group)
            && let Some(shell) = &mut self.groups[group as usize]
        {
            shell.last_error = Some(error);
        }
    }
}

impl<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> Drop for Claim<M, O, S> {
    /// The job was dropped with its runtime, or unwinds.
    fn drop(&mut self) {
        let Some(shared) = self.shared.take() else { return };
        let reason = if std::thread::panicking() { Reason::Panicked } else { Reason::Interrupted };
        let held = self.held.take();
        let (id, slot) = (self.id, self.id.slot());
        tracing::warn!(%id, %reason, "poolyard: a job was lost");
        shared.event(|inner| {
            let left = held.is_some();
            if let Some(held) = held {
                inner.park(slot, held);
            }
            if let Some(call) = inner.warm_call(id) {
                inner.fail_warm(call, CreateFailure::Interrupted);
            }
            inner.ledger.lost(slot, reason, left, shared.now());
        });
    }
}
