//! [`Deadpool`]: a `deadpool::managed::Manager` in a pool of this crate.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Instant;

use ::deadpool::managed::{self, Metrics, RecycleError};

use super::managers::{Managers, check_before_use};
use crate::builder::Builder;
use crate::context::Context;
use crate::manager::{Manager, Reuse};
use crate::meta::Meta;
use crate::observer::Observer;

/// Runs a manager that was written for deadpool.
///
/// | deadpool | here |
/// |---|---|
/// | `create` | [`create`](Manager::create) |
/// | `recycle`, with its [`Metrics`] | [`health_check`](Manager::health_check) before every hand-out, or [`recycle`](Manager::recycle) with [`at_return`](Builder::at_return) |
/// | `detach` | when the object leaves the pool, in whatever way |
///
/// The module's page tells how to move from deadpool, and [what differs](super).
///
/// ```
/// use deadpool::managed::{Manager, Metrics, RecycleResult};
/// use poolyard_core::adapters::Deadpool;
///
/// /// Written for deadpool.
/// struct Numbers;
///
/// impl Manager for Numbers {
///     type Type = u32;
///     type Error = std::io::Error;
///
///     async fn create(&self) -> Result<u32, Self::Error> {
///         Ok(7)
///     }
///
///     async fn recycle(&self, _: &mut u32, _: &Metrics) -> RecycleResult<Self::Error> {
///         Ok(())
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let pool = Deadpool::builder(Numbers).max_total(16).build()?;
/// let number = pool.acquire(&()).await?;
/// assert_eq!(**number, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub struct Deadpool<M, K = ()> {
    managers: Managers<K, M>,
    at_return: bool,
}

impl<M> Deadpool<M>
where
    M: managed::Manager<Type: Send, Error: Error + Send + Sync> + 'static,
{
    /// Starts to build a pool over `manager`. Its resources are recycled before every hand-out.
    pub fn builder(manager: M) -> Builder<Deadpool<M>> {
        check_before_use(Deadpool { managers: Managers::one(manager), at_return: false })
    }
}

impl<M, K> Deadpool<M, K>
where
    M: managed::Manager<Type: Send, Error: Error + Send + Sync> + 'static,
    K: Clone + Eq + Hash + Send + Sync + 'static,
{
    /// Starts to build a pool with one manager for each key, which `manager` makes at the key's first
    /// use and the pool keeps.
    pub fn per_key(manager: impl Fn(&K) -> M + Send + Sync + 'static) -> Builder<Deadpool<M, K>> {
        check_before_use(Deadpool { managers: Managers::per_key(manager), at_return: false })
    }
}

impl<M, K, O, S> Builder<Deadpool<M, K>, O, S>
where
    M: managed::Manager<Type: Send, Error: Error + Send + Sync> + 'static,
    K: Clone + Eq + Hash + Send + Sync + 'static,
    O: Observer,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Recycles objects when they come back, off every caller's path, and not before every hand-out.
    /// What was idle for `check_after` is recycled once more before it is handed out.
    pub fn at_return(mut self) -> Self {
        self.manager.at_return = true;
        self.check_always = false;
        self
    }
}

impl<M, K> fmt::Debug for Deadpool<M, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deadpool").field("at_return", &self.at_return).finish_non_exhaustive()
    }
}

impl<M, K> Manager for Deadpool<M, K>
where
    M: managed::Manager<Type: Send, Error: Error + Send + Sync> + 'static,
    K: Clone + Eq + Hash + Send + Sync + 'static,
{
    type Key = K;
    type Resource = DeadpoolObject<M>;
    type Error = DeadpoolError<M::Error>;

    async fn create(&self, key: &K, _: &Context) -> Result<DeadpoolObject<M>, Self::Error> {
        let manager = self.managers.of(key);
        let object = manager.create().await.map_err(DeadpoolError::Backend)?;
        Ok(DeadpoolObject { object: Some(object), metrics: Metrics::default(), manager })
    }

    async fn recycle(&self, _: &K, object: &mut DeadpoolObject<M>, _: &Context) -> Result<(), Self::Error> {
        object.recycle().await
    }

    async fn health_check(
        &self,
        _: &K,
        object: &mut DeadpoolObject<M>,
        _: &Context,
    ) -> Result<(), Self::Error> {
        object.recycle().await
    }

    fn reuse(&self, _: &K, _: &mut DeadpoolObject<M>, _: &Meta) -> Reuse {
        if self.at_return { Reuse::Recycle } else { Reuse::Now }
    }
}

/// An object of a deadpool manager, with its metrics. It derefs to the object.
///
/// Dropping it calls the manager's `detach`.
pub struct DeadpoolObject<M: managed::Manager> {
    /// `None` only after it was taken.
    object: Option<M::Type>,
    metrics: Metrics,
    manager: Arc<M>,
}

impl<M: managed::Manager> DeadpoolObject<M> {
    /// The object, for ever. Its manager is told by `detach`.
    ///
    /// `DeadpoolObject::take(Lease::detach(lease))` is deadpool's `Object::take(object)`.
    pub fn take(mut this: Self) -> M::Type {
        this.detach().expect(THERE)
    }

    /// What deadpool would say of the object.
    pub fn metrics(this: &Self) -> &Metrics {
        &this.metrics
    }

    /// Counts as deadpool does: only what was recycled with success, and afterwards.
    async fn recycle(&mut self) -> Result<(), DeadpoolError<M::Error>> {
        let object = self.object.as_mut().expect(THERE);
        self.manager.recycle(object, &self.metrics).await.map_err(DeadpoolError::of_recycle)?;
        self.metrics.recycle_count += 1;
        self.metrics.recycled = Some(Instant::now());
        Ok(())
    }

    fn detach(&mut self) -> Option<M::Type> {
        let mut object = self.object.take()?;
        self.manager.detach(&mut object);
        Some(object)
    }
}

const THERE: &str = "the object is there until it is taken, which consumes its holder";

impl<M: managed::Manager> Drop for DeadpoolObject<M> {
    fn drop(&mut self) {
        self.detach();
    }
}

impl<M: managed::Manager> Deref for DeadpoolObject<M> {
    type Target = M::Type;

    fn deref(&self) -> &M::Type {
        self.object.as_ref().expect(THERE)
    }
}

impl<M: managed::Manager> DerefMut for DeadpoolObject<M> {
    fn deref_mut(&mut self) -> &mut M::Type {
        self.object.as_mut().expect(THERE)
    }
}

impl<M: managed::Manager<Type: fmt::Debug>> fmt::Debug for DeadpoolObject<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadpoolObject")
            .field("object", &**self)
            .field("metrics", &self.metrics)
            .finish_non_exhaustive()
    }
}

/// What went wrong in a deadpool manager.
#[derive(Debug)]
#[non_exhaustive]
pub enum DeadpoolError<E> {
    /// The manager's own error.
    Backend(E),
    /// The manager found an object unfit for use, and says why.
    Unfit(Cow<'static, str>),
}

impl<E> DeadpoolError<E> {
    fn of_recycle(error: RecycleError<E>) -> Self {
        match error {
            RecycleError::Backend(error) => DeadpoolError::Backend(error),
            RecycleError::Message(message) => DeadpoolError::Unfit(message),
        }
    }
}

impl<E: fmt::Display> fmt::Display for DeadpoolError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeadpoolError::Backend(error) => error.fmt(f),
            DeadpoolError::Unfit(message) => f.write_str(message),
        }
    }
}

impl<E: Error> Error for DeadpoolError<E> {
    /// The text is that of the manager's error, so its source is, too.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            DeadpoolError::Backend(error) => error.source(),
            DeadpoolError::Unfit(_) => None,
        }
    }
}
