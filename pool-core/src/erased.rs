//! [`ErasedManager`]: a manager chosen at run time.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::context::Context;
use crate::manager::{Manager, Reuse};
use crate::meta::{Meta, Reason};
use crate::nothing::is_nothing4;

/// Any manager's error, behind one type.
#[derive(Clone)]
pub struct ErasedError(Arc<dyn Error + Send + Sync>);

impl ErasedError {
    /// The manager's own error, if it is an `E`.
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        self.0.downcast_ref()
    }
}

impl fmt::Debug for ErasedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ErasedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for ErasedError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// The object-safe twin of [`Manager`], implemented for every manager. Implement [`Manager`] and use
/// [`ErasedManager`]; this trait exists so that the choice can be made at run time.
#[async_trait]
pub trait DynManager<K, R>: Send + Sync + 'static {
    /// See [`Manager::create`].
    async fn create(&self, key: &K, cx: &Context) -> Result<R, ErasedError>;
    /// See [`Manager::recycle`].
    async fn recycle(&self, key: &K, resource: &mut R, cx: &Context) -> Result<(), ErasedError>;
    /// See [`Manager::health_check`].
    async fn health_check(&self, key: &K, resource: &mut R, cx: &Context) -> Result<(), ErasedError>;
    /// See [`Manager::destroy`].
    async fn destroy(&self, key: &K, resource: &mut R, reason: Reason, cx: &Context);
    /// See [`Manager::destroy_now`].
    fn destroy_now(&self, key: &K, resource: R, reason: Reason);
    /// See [`Manager::reuse`].
    fn reuse(&self, key: &K, resource: &mut R, meta: &Meta) -> Reuse;
    /// See [`Manager::cost`].
    fn cost(&self, key: &K) -> u64;
    /// See [`Manager::retry`].
    fn retry(&self, error: &ErasedError, attempt: u32) -> Option<Duration>;
    /// See [`Manager::describe`].
    fn describe(&self, resource: &R) -> Cow<'static, str>;
    /// See [`Manager::hibernate`].
    async fn hibernate(&self, key: &K, resource: &mut R, cx: &Context) -> Result<(), ErasedError>;
    /// See [`Manager::wake`].
    async fn wake(&self, key: &K, resource: &mut R, cx: &Context) -> Result<(), ErasedError>;
    /// See [`Manager::generic_key`].
    fn generic_key(&self, key: &K) -> Option<K>;
    /// See [`Manager::specialise`].
    async fn specialise(&self, from: &K, to: &K, resource: &mut R, cx: &Context) -> Result<(), ErasedError>;
}

fn erase<E: Error + Send + Sync + 'static>(error: E) -> ErasedError {
    ErasedError(Arc::new(error))
}

#[async_trait]
impl<M: Manager> DynManager<M::Key, M::Resource> for M {
    async fn create(&self, key: &M::Key, cx: &Context) -> Result<M::Resource, ErasedError> {
        Manager::create(self, key, cx).await.map_err(erase)
    }

    async fn recycle(
        &self,
        key: &M::Key,
        resource: &mut M::Resource,
        cx: &Context,
    ) -> Result<(), ErasedError> {
        Manager::recycle(self, key, resource, cx).await.map_err(erase)
    }

    async fn health_check(
        &self,
        key: &M::Key,
        resource: &mut M::Resource,
        cx: &Context,
    ) -> Result<(), ErasedError> {
        Manager::health_check(self, key, resource, cx).await.map_err(erase)
    }

    async fn destroy(&self, key: &M::Key, resource: &mut M::Resource, reason: Reason, cx: &Context) {
        Manager::destroy(self, key, resource, reason, cx).await;
    }

    fn destroy_now(&self, key: &M::Key, resource: M::Resource, reason: Reason) {
        Manager::destroy_now(self, key, resource, reason);
    }

    /// A manager without a recycle of its own pays nothing for it here either.
    fn reuse(&self, key: &M::Key, resource: &mut M::Resource, meta: &Meta) -> Reuse {
        match Manager::reuse(self, key, resource, meta) {
            Reuse::Recycle if is_nothing4(&<M as Manager>::recycle) => Reuse::Now,
            reuse => reuse,
        }
    }

    fn cost(&self, key: &M::Key) -> u64 {
        Manager::cost(self, key)
    }

    fn retry(&self, error: &ErasedError, attempt: u32) -> Option<Duration> {
        Manager::retry(self, error.downcast_ref()?, attempt)
    }

    fn describe(&self, resource: &M::Resource) -> Cow<'static, str> {
        Manager::describe(self, resource)
    }

    async fn hibernate(
        &self,
        key: &M::Key,
        resource: &mut M::Resource,
        cx: &Context,
    ) -> Result<(), ErasedError> {
        Manager::hibernate(self, key, resource, cx).await.map_err(erase)
    }

    async fn wake(&self, key: &M::Key, resource: &mut M::Resource, cx: &Context) -> Result<(), ErasedError> {
        Manager::wake(self, key, resource, cx).await.map_err(erase)
    }

    fn generic_key(&self, key: &M::Key) -> Option<M::Key> {
        Manager::generic_key(self, key)
    }

    async fn specialise(
        &self,
        from: &M::Key,
        to: &M::Key,
        resource: &mut M::Resource,
        cx: &Context,
    ) -> Result<(), ErasedError> {
        Manager::specialise(self, from, to, resource, cx).await.map_err(erase)
    }
}

/// Some manager of resources `R` for keys `K`, chosen at run time. Itself a [`Manager`], so pools
/// over different managers have one type and fit into one `Vec`. Costs a box per asynchronous call.
///
/// ```
/// use poolyard_core::{ErasedManager, Pool, from_fn};
///
/// let one = from_fn(|_: &()| async { Ok::<_, std::io::Error>(1) });
/// let two = from_fn(|_: &()| async { Ok::<_, std::fmt::Error>(2) });
/// let pools: Vec<Pool<ErasedManager<(), i32>>> = vec![
///     Pool::builder(ErasedManager::new(one)).build()?,
///     Pool::builder(ErasedManager::new(two)).build()?,
/// ];
/// # Ok::<(), poolyard_core::ConfigError>(())
/// ```
pub struct ErasedManager<K, R>(Arc<dyn DynManager<K, R>>);

impl<K, R> ErasedManager<K, R> {
    /// Forgets the type of `manager`.
    pub fn new(manager: impl Manager<Key = K, Resource = R>) -> Self {
        ErasedManager(Arc::new(manager))
    }
}

impl<K, R> Clone for ErasedManager<K, R> {
    fn clone(&self) -> Self {
        ErasedManager(Arc::clone(&self.0))
    }
}

impl<K, R> fmt::Debug for ErasedManager<K, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ErasedManager")
    }
}

impl<K, R> Manager for ErasedManager<K, R>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    R: Send + 'static,
{
    type Key = K;
    type Resource = R;
    type Error = ErasedError;

    async fn create(&self, key: &K, cx: &Context) -> Result<R, ErasedError> {
        self.0.create(key, cx).await
    }

    async fn recycle(&self, key: &K, resource: &mut R, cx: &Context) -> Result<(), ErasedError> {
        self.0.recycle(key, resource, cx).await
    }

    async fn health_check(&self, key: &K, resource: &mut R, cx: &Context) -> Result<(), ErasedError> {
        self.0.health_check(key, resource, cx).await
    }

    async fn destroy(&self, key: &K, resource: &mut R, reason: Reason, cx: &Context) {
        self.0.destroy(key, resource, reason, cx).await;
    }

    fn destroy_now(&self, key: &K, resource: R, reason: Reason) {
        self.0.destroy_now(key, resource, reason);
    }

    fn reuse(&self, key: &K, resource: &mut R, meta: &Meta) -> Reuse {
        self.0.reuse(key, resource, meta)
    }

    fn cost(&self, key: &K) -> u64 {
        self.0.cost(key)
    }

    fn retry(&self, error: &ErasedError, attempt: u32) -> Option<Duration> {
        self.0.retry(error, attempt)
    }

    fn describe(&self, resource: &R) -> Cow<'static, str> {
        self.0.describe(resource)
    }

    async fn hibernate(&self, key: &K, resource: &mut R, cx: &Context) -> Result<(), ErasedError> {
        self.0.hibernate(key, resource, cx).await
    }

    async fn wake(&self, key: &K, resource: &mut R, cx: &Context) -> Result<(), ErasedError> {
        self.0.wake(key, resource, cx).await
    }

    fn generic_key(&self, key: &K) -> Option<K> {
        self.0.generic_key(key)
    }

    async fn specialise(&self, from: &K, to: &K, resource: &mut R, cx: &Context) -> Result<(), ErasedError> {
        self.0.specialise(from, to, resource, cx).await
    }
}
