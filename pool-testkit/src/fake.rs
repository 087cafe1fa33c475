//! [`FakeManager`]: a manager that does what the test's script says and remembers everything.
//!
//! It is the other side of every test of the pool itself: it can be slow, fail, hang and panic in
//! each of its methods, call by call, and it sees at once when the pool breaks a rule: when a
//! resource leaks, is destroyed twice, is used after its end, or is served under another key.

mod manager;
mod resource;

use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use poolyard_core::{Meta, Reason, ResourceId, Reuse};
use tokio::sync::Notify;

use crate::history::{Event, History};
use crate::registry::{Call, Outcome, Registry, Violation, by_hand};
use crate::script::{Method, Script, Step};

pub use resource::{FakeError, FakeResource};

/// What a key of a [`FakeManager`] must be. Every such type is one.
pub trait FakeKey: Clone + Eq + Hash + fmt::Debug + Send + Sync + 'static {}

impl<K: Clone + Eq + Hash + fmt::Debug + Send + Sync + 'static> FakeKey for K {}

/// A manager that does what the test's script says and remembers everything.
///
/// Clones are handles to the same manager: one goes into the pool, the other stays in the test.
/// Each method takes the next step of its queue, then its default step, then [`Step::ok`]. Every
/// setter returns another handle, so that setters can be chained, and can be called at any time.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use poolyard_core::Manager;
/// use poolyard_testkit::{FakeManager, Method, Step, context};
///
/// let fake = FakeManager::new().create_script([Step::err("full"), Step::ok().yields(2)]);
/// assert!(fake.create(&7, &context(1)).await.is_err());
/// let mut resource = fake.create(&7, &context(2)).await.unwrap();
/// assert_eq!((fake.live(), fake.count(Method::Create)), (1, 2));
///
/// fake.destroy(&7, &mut resource, poolyard_core::Reason::Closed, &context(2)).await;
/// drop(resource);
/// fake.assert_clean();
/// # });
/// ```
pub struct FakeManager<K = u32> {
    shared: Arc<Shared<K>>,
}

struct Shared<K> {
    registry: Mutex<Registry<K>>,
    script: Mutex<Script>,
    answers: Mutex<Answers<K>>,
    history: OnceLock<History<K>>,
    /// Told of every change, for [`FakeManager::until`].
    changed: Notify,
}

type OnReuse<K> = dyn Fn(&FakeResource<K>, &Meta) -> Reuse + Send + Sync;
type OnCost<K> = dyn Fn(&K) -> u64 + Send + Sync;
type OnRetry = dyn Fn(&FakeError, u32) -> Option<Duration> + Send + Sync;
type OnGenericKey<K> = dyn Fn(&K) -> Option<K> + Send + Sync;
type OnDescribe<K> = dyn Fn(&FakeResource<K>) -> String + Send + Sync;

/// What the synchronous methods say, where a test wants it different from the default.
struct Answers<K> {
    reuse: Option<Arc<OnReuse<K>>>,
    cost: Option<Arc<OnCost<K>>>,
    retry: Option<Arc<OnRetry>>,
    generic_key: Option<Arc<OnGenericKey<K>>>,
    describe: Option<Arc<OnDescribe<K>>>,
}

impl<K> Shared<K> {
    fn record(&self, event: impl FnOnce() -> Event<K>) {
        if let Some(history) = self.history.get() {
            history.record(None, event());
        }
    }

    /// Ends a resource.
    fn destroyed(&self, serial: u64, reason: Reason) {
        // Recorded first: the place is free only when this call has returned.
        let id = self.registry.lock().id_of(serial);
        self.record(|| Event::Destroyed { id });
        self.registry.lock().destroyed(serial, reason);
        self.changed.notify_waiters();
    }
}

impl FakeManager {
    /// A manager with numbers for keys.
    #[allow(clippy::new_without_default, reason = "only for the default key type")]
    pub fn new() -> Self {
        Self::keyed()
    }
}

impl<K: FakeKey> FakeManager<K> {
    /// A manager with keys of any type, as in `FakeManager::<String>::keyed()`.
    pub fn keyed() -> Self {
        let answers = Answers { reuse: None, cost: None, retry: None, generic_key: None, describe: None };
        let shared = Shared {
            registry: Mutex::default(),
            script: Mutex::default(),
            answers: Mutex::new(answers),
            history: OnceLock::new(),
            changed: Notify::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Adds steps to the queue of `method`.
    pub fn script(&self, method: Method, steps: impl IntoIterator<Item = Step>) -> Self {
        self.shared.script.lock().push(method, steps);
        self.clone()
    }

    /// Says what `method` does whenever its queue is empty.
    pub fn always(&self, method: Method, step: Step) -> Self {
        self.shared.script.lock().set_default(method, step);
        self.clone()
    }

    /// Forgets all queued and default steps: from now on everything goes well.
    pub fn clear_script(&self) -> Self {
        self.shared.script.lock().clear();
        self.clone()
    }

    /// Adds steps for `create`.
    pub fn create_script(&self, steps: impl IntoIterator<Item = Step>) -> Self {
        self.script(Method::Create, steps)
    }

    /// Adds steps for `recycle`.
    pub fn recycle_script(&self, steps: impl IntoIterator<Item = Step>) -> Self {
        self.script(Method::Recycle, steps)
    }

    /// Adds steps for `health_check`.
    pub fn health_check_script(&self, steps: impl IntoIterator<Item = Step>) -> Self {
        self.script(Method::HealthCheck, steps)
    }

    /// Adds steps for `destroy`.
    pub fn destroy_script(&self, steps: impl IntoIterator<Item = Step>) -> Self {
        self.script(Method::Destroy, steps)
    }

    /// Says what `reuse` answers; without it, [`Reuse::Recycle`].
    pub fn on_reuse(
        &self,
        answer: impl Fn(&FakeResource<K>, &Meta) -> Reuse + Send + Sync + 'static,
    ) -> Self {
        self.shared.answers.lock().reuse = Some(Arc::new(answer));
        self.clone()
    }

    /// Says what a key costs; without it, 1.
    pub fn on_cost(&self, answer: impl Fn(&K) -> u64 + Send + Sync + 'static) -> Self {
        self.shared.answers.lock().cost = Some(Arc::new(answer));
        self.clone()
    }

    /// Says which failed creations are tried again; without it, none.
    pub fn on_retry(
        &self,
        answer: impl Fn(&FakeError, u32) -> Option<Duration> + Send + Sync + 'static,
    ) -> Self {
        self.shared.answers.lock().retry = Some(Arc::new(answer));
        self.clone()
    }

    /// Says from which key's resources others can be specialised; without it, none.
    pub fn on_generic_key(&self, answer: impl Fn(&K) -> Option<K> + Send + Sync + 'static) -> Self {
        self.shared.answers.lock().generic_key = Some(Arc::new(answer));
        self.clone()
    }

    /// Says how a resource is described; without it, `fake` and its serial number.
    pub fn on_describe(&self, answer: impl Fn(&FakeResource<K>) -> String + Send + Sync + 'static) -> Self {
        self.shared.answers.lock().describe = Some(Arc::new(answer));
        self.clone()
    }

    /// Records creations, recycles and ends into `history` from now on.
    ///
    /// # Panics
    ///
    /// If the manager already records into a history.
    pub fn record_into(&self, history: &History<K>) -> Self {
        let set = self.shared.history.set(history.clone());
        assert!(set.is_ok(), "the manager already records into a history");
        self.clone()
    }

    /// All calls so far, in the order of their start.
    pub fn calls(&self) -> Vec<Call<K>> {
        self.shared.registry.lock().calls.clone()
    }

    /// The methods called so far, in the order of their start. Those that only answer a question
    /// (`reuse`, `cost`, `retry`, `describe`, `generic_key`) are left out.
    pub fn methods(&self) -> Vec<Method> {
        use Method::*;
        let answers = [Reuse, Cost, Retry, Describe, GenericKey];
        let registry = self.shared.registry.lock();
        registry.calls.iter().map(|call| call.method).filter(|m| !answers.contains(m)).collect()
    }

    /// Makes a resource outside any call, to insert it into a pool by hand.
    pub fn resource(&self, key: K) -> FakeResource<K> {
        self.bear(key, None)
    }

    fn bear(&self, key: K, id: Option<ResourceId>) -> FakeResource<K> {
        let serial = self.shared.registry.lock().born(key.clone(), id);
        FakeResource { serial, key, marks: Vec::new(), asleep: false, shared: self.shared.clone() }
    }
}

impl<K> FakeManager<K> {
    /// How many resources are alive: created and not yet destroyed.
    pub fn live(&self) -> usize {
        self.shared.registry.lock().live.len()
    }

    /// The ids of the living resources, in the order of creation.
    pub fn live_ids(&self) -> Vec<ResourceId> {
        let registry = self.shared.registry.lock();
        registry.live.iter().map(|(serial, entry)| entry.id.unwrap_or(by_hand(*serial))).collect()
    }

    /// The ids of the resources that are being created, in no order.
    pub fn creating_ids(&self) -> Vec<ResourceId> {
        self.shared.registry.lock().creating.keys().copied().collect()
    }

    /// The most resources that ever existed at once, those being created included. This is what
    /// `max_total` bounds.
    pub fn peak_held(&self) -> usize {
        self.shared.registry.lock().peak_held()
    }

    /// How often `method` was called.
    pub fn count(&self, method: Method) -> usize {
        self.shared.registry.lock().calls.iter().filter(|call| call.method == method).count()
    }

    /// How often a call of `method` ended in `outcome`.
    pub fn count_of(&self, method: Method, outcome: Outcome) -> usize {
        let registry = self.shared.registry.lock();
        registry.calls.iter().filter(|call| call.method == method && call.outcome == outcome).count()
    }

    /// How many calls of `method` are under way.
    pub fn running(&self, method: Method) -> usize {
        self.shared.registry.lock().running(method)
    }

    /// The most calls of `method` that were ever under way at once.
    pub fn peak_running(&self, method: Method) -> usize {
        self.shared.registry.lock().peak_running(method)
    }

    /// The resources that were destroyed, in that order, and why.
    pub fn ended(&self) -> Vec<(ResourceId, Reason)> {
        self.shared.registry.lock().ended.clone()
    }

    /// Why resources were destroyed, in that order.
    pub fn reasons(&self) -> Vec<Reason> {
        self.shared.registry.lock().ended.iter().map(|(_, reason)| *reason).collect()
    }

    /// Reports that `id` is gone, as a watcher of the resource would: in creation or alive.
    /// Returns whether there is such a resource.
    pub fn gone(&self, id: ResourceId) -> bool {
        let gone = {
            let mut registry = self.shared.registry.lock();
            let creating = registry.creating.get(&id).cloned();
            creating.or_else(|| registry.by_id(id).and_then(|entry| entry.gone.clone()))
        };
        // The pool may call back into the manager: no lock is held here.
        if let Some(gone) = &gone {
            gone.report("reported by the test");
        }
        gone.is_some()
    }

    /// Breaks a living resource without telling anyone: its recycling and its health checks fail
    /// from now on. Returns whether there is such a resource.
    pub fn kill(&self, id: ResourceId) -> bool {
        let mut registry = self.shared.registry.lock();
        registry.by_id(id).map(|entry| entry.dead = true).is_some()
    }

    /// The rules that were broken so far.
    pub fn violations(&self) -> Vec<Violation> {
        self.shared.registry.lock().violations.clone()
    }

    /// Fails if a rule was broken so far.
    ///
    /// # Panics
    ///
    /// With the list of broken rules.
    #[track_caller]
    pub fn assert_rules_kept(&self) {
        let violations: Vec<_> = self.violations().iter().map(Violation::to_string).collect();
        assert!(violations.is_empty(), "rules were broken: {}", violations.join("; "));
    }

    /// Fails if a rule was broken, or if a resource still lives or is being made.
    ///
    /// # Panics
    ///
    /// With what was broken or left.
    #[track_caller]
    pub fn assert_clean(&self) {
        self.assert_rules_kept();
        let (live, creating) = (self.live_ids(), self.creating_ids());
        assert!(live.is_empty(), "resources still live: {live:?}");
        assert!(creating.is_empty(), "resources are still being made: {creating:?}");
    }

    /// Waits until `condition` holds; it is looked at after every change in this manager.
    ///
    /// # Cancel safety
    ///
    /// A dropped future loses nothing.
    pub async fn until(&self, mut condition: impl FnMut(&Self) -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.shared.changed.notified());
            // Registered before the condition is read, so that no change falls in between.
            changed.as_mut().enable();
            if condition(self) {
                return;
            }
            changed.await;
        }
    }
}

impl<K> Clone for FakeManager<K> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<K: FakeKey> fmt::Debug for FakeManager<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let registry = self.shared.registry.lock();
        f.debug_struct("FakeManager")
            .field("live", &registry.live.len())
            .field("creating", &registry.creating.len())
            .field("calls", &registry.calls.len())
            .field("violations", &registry.violations)
            .finish()
    }
}

#[cfg(test)]
mod tests;
