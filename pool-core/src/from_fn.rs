//! [`from_fn`]: a manager made of a closure.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::marker::PhantomData;

use crate::context::Context;
use crate::manager::Manager;

/// A manager that creates by calling `create` with the key, and otherwise does nothing: resources
/// are ready again as soon as they are returned, and end by being dropped.
///
/// ```
/// use poolyard_core::{Pool, from_fn};
///
/// let pool = Pool::builder(from_fn(|_: &()| async { Ok::<_, std::io::Error>(Vec::<u8>::new()) }))
///     .max_total(4)
///     .build()?;
/// # Ok::<(), poolyard_core::ConfigError>(())
/// ```
pub fn from_fn<K, R, E, F, Fut>(create: F) -> FromFn<K, R, E, F>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    R: Send + 'static,
    E: Error + Send + Sync + 'static,
    F: Fn(&K) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, E>> + Send + 'static,
{
    FromFn { create, types: PhantomData }
}

/// The manager that [`from_fn`] makes.
pub struct FromFn<K, R, E, F> {
    create: F,
    types: PhantomData<fn(&K) -> Result<R, E>>,
}

impl<K, R, E, F> fmt::Debug for FromFn<K, R, E, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FromFn")
    }
}

impl<K, R, E, F, Fut> Manager for FromFn<K, R, E, F>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    R: Send + 'static,
    E: Error + Send + Sync + 'static,
    F: Fn(&K) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, E>> + Send + 'static,
{
    type Key = K;
    type Resource = R;
    type Error = E;

    async fn create(&self, key: &K, _: &Context) -> Result<R, E> {
        (self.create)(key).await
    }
}
