//! [`Faulty`]: puts a script around any manager, so that real resources fail on demand.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use poolyard_core::{Context, Manager, Meta, Reason, Reuse};

use crate::script::{Method, Script, Step};

/// A manager whose calls take a scripted step first, and then go to the manager inside.
///
/// A step that fails, panics or hangs keeps the call away from the manager inside. Only the methods
/// that end a resource always reach it after a step that fails, for nothing may leak on purpose.
/// Faults are scripted and not random, so that a failure can be replayed. Clones are handles to the
/// same manager.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use poolyard_core::Manager;
/// use poolyard_testkit::{FakeManager, Faulty, Method, Step, context};
///
/// let faulty = Faulty::new(FakeManager::new()).script(Method::Create, [Step::err("no space left")]);
/// let error = faulty.create(&1, &context(1)).await.unwrap_err();
/// assert_eq!(error.to_string(), "Create failed as scripted: no space left");
/// assert!(faulty.create(&1, &context(2)).await.is_ok());
/// # });
/// ```
pub struct Faulty<M> {
    inner: Arc<M>,
    script: Arc<Mutex<Script>>,
}

impl<M> Faulty<M> {
    /// Wraps `manager`; without a script, every call goes straight to it.
    pub fn new(manager: M) -> Self {
        Self { inner: Arc::new(manager), script: Arc::default() }
    }

    /// The manager inside.
    pub fn inner(&self) -> &M {
        &self.inner
    }

    /// Adds steps to the queue of `method`.
    pub fn script(&self, method: Method, steps: impl IntoIterator<Item = Step>) -> Self {
        self.script.lock().push(method, steps);
        self.clone()
    }

    /// Says what `method` does whenever its queue is empty.
    pub fn always(&self, method: Method, step: Step) -> Self {
        self.script.lock().set_default(method, step);
        self.clone()
    }

    /// Forgets all queued and default steps.
    pub fn clear_script(&self) -> Self {
        self.script.lock().clear();
        self.clone()
    }

    fn next(&self, method: Method) -> Step {
        self.script.lock().next(method)
    }

    /// Takes the step of `method` and then makes the call inside.
    fn around<T, E, F: Future<Output = Result<T, E>> + Send>(
        &self,
        method: Method,
        call: impl FnOnce() -> F + Send,
    ) -> impl Future<Output = Result<T, FaultyError<E>>> + Send {
        let step = self.next(method);
        step.at_call();
        async move {
            step.play().await.map_err(|text| FaultyError::Scripted { method, text })?;
            call().await.map_err(FaultyError::Inner)
        }
    }
}

impl<M> Clone for Faulty<M> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), script: self.script.clone() }
    }
}

impl<M: fmt::Debug> fmt::Debug for Faulty<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faulty").field("inner", &self.inner).field("script", &self.script.lock()).finish()
    }
}

/// The error of a [`Faulty`] manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultyError<E> {
    /// The script said so.
    Scripted {
        /// The method that failed.
        method: Method,
        /// What the script said.
        text: &'static str,
    },
    /// The manager inside failed by itself.
    Inner(E),
}

impl<E> fmt::Display for FaultyError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scripted { method, text } => write!(f, "{method:?} failed as scripted: {text}"),
            Self::Inner(_) => f.write_str("the wrapped manager failed"),
        }
    }
}

impl<E: Error + 'static> Error for FaultyError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Scripted { .. } => None,
            Self::Inner(error) => Some(error),
        }
    }
}

impl<M: Manager> Manager for Faulty<M> {
    type Key = M::Key;
    type Resource = M::Resource;
    type Error = FaultyError<M::Error>;

    fn create(
        &self,
        key: &M::Key,
        cx: &Context,
    ) -> impl Future<Output = Result<M::Resource, Self::Error>> + Send {
        self.around(Method::Create, || self.inner.create(key, cx))
    }

    fn recycle(
        &self,
        key: &M::Key,
        resource: &mut M::Resource,
        cx: &Context,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send {
        self.around(Method::Recycle, move || self.inner.recycle(key, resource, cx))
    }

    fn health_check(
        &self,
        key: &M::Key,
        resource: &mut M::Resource,
        cx: &Context,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send {
        self.around(Method::HealthCheck, move || self.inner.health_check(key, resource, cx))
    }

    fn destroy(
        &self,
        key: &M::Key,
        resource: &mut M::Resource,
        reason: Reason,
        cx: &Context,
    ) -> impl Future<Output = ()> + Send {
        let step = self.next(Method::Destroy);
        step.at_call();
        async move {
            let _ = step.play().await;
            self.inner.destroy(key, resource, reason, cx).await;
        }
    }

    fn destroy_now(&self, key: &M::Key, resource: M::Resource, reason: Reason) {
        self.inner.destroy_now(key, resource, reason);
        self.next(Method::DestroyNow).in_sync();
    }

    fn reuse(&self, key: &M::Key, resource: &mut M::Resource, meta: &Meta) -> Reuse {
        self.next(Method::Reuse).in_sync();
        self.inner.reuse(key, resource, meta)
    }

    fn cost(&self, key: &M::Key) -> u64 {
        self.next(Method::Cost).in_sync();
        self.inner.cost(key)
    }

    /// Scripted errors are not tried again.
    fn retry(&self, error: &Self::Error, attempt: u32) -> Option<Duration> {
        self.next(Method::Retry).in_sync();
        match error {
            FaultyError::Scripted { .. } => None,
            FaultyError::Inner(error) => self.inner.retry(error, attempt),
        }
    }

    fn describe(&self, resource: &M::Resource) -> Cow<'static, str> {
        self.next(Method::Describe).in_sync();
        self.inner.describe(resource)
    }

    fn hibernate(
        &self,
        key: &M::Key,
        resource: &mut M::Resource,
        cx: &Context,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send {
        self.around(Method::Hibernate, move || self.inner.hibernate(key, resource, cx))
    }

    fn wake(
        &self,
        key: &M::Key,
        resource: &mut M::Resource,
        cx: &Context,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send {
        self.around(Method::Wake, move || self.inner.wake(key, resource, cx))
    }

    fn generic_key(&self, key: &M::Key) -> Option<M::Key> {
        self.next(Method::GenericKey).in_sync();
        self.inner.generic_key(key)
    }

    fn specialise(
        &self,
        from: &M::Key,
        to: &M::Key,
        resource: &mut M::Resource,
        cx: &Context,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send {
        self.around(Method::Specialise, move || self.inner.specialise(from, to, resource, cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::by_hand::context;
    use crate::cancel::HandPolled;
    use crate::fake::FakeManager;

    #[tokio::test]
    async fn a_fault_keeps_the_call_away_from_the_manager_inside() {
        let fake = FakeManager::new();
        let faulty = Faulty::new(fake.clone()).script(Method::Create, [Step::err("no")]);
        let error = faulty.create(&1, &context(1)).await.expect_err("scripted");
        assert_eq!(error, FaultyError::Scripted { method: Method::Create, text: "no" });
        assert_eq!(fake.count(Method::Create), 0);
    }

    #[tokio::test]
    async fn without_a_fault_every_method_reaches_the_manager_inside() {
        let fake = FakeManager::new();
        let faulty = Faulty::new(fake.clone());
        let cx = context(1);
        let mut resource = faulty.create(&1, &cx).await.expect("no fault");
        faulty.recycle(&1, &mut resource, &cx).await.expect("no fault");
        faulty.health_check(&1, &mut resource, &cx).await.expect("no fault");
        faulty.hibernate(&1, &mut resource, &cx).await.expect("no fault");
        faulty.wake(&1, &mut resource, &cx).await.expect("no fault");
        faulty.specialise(&1, &2, &mut resource, &cx).await.expect("no fault");
        faulty.destroy(&2, &mut resource, Reason::Closed, &cx).await;
        use Method::*;
        assert_eq!(fake.methods(), [Create, Recycle, HealthCheck, Hibernate, Wake, Specialise, Destroy]);
        drop(resource);
        fake.assert_clean();
    }

    #[test]
    fn a_scripted_hang_never_ends() {
        let faulty = Faulty::new(FakeManager::new()).always(Method::Create, Step::hang());
        let cx = context(1);
        assert!(HandPolled::new(faulty.create(&1, &cx)).run().is_pending());
    }

    #[tokio::test]
    async fn a_destroy_that_fails_still_reaches_the_manager_inside() {
        let fake = FakeManager::new();
        let faulty = Faulty::new(fake.clone()).script(Method::Destroy, [Step::err("no")]);
        let mut resource = faulty.create(&1, &context(1)).await.expect("no fault");
        faulty.destroy(&1, &mut resource, Reason::Closed, &context(1)).await;
        drop(resource);
        fake.assert_clean();
    }
}
