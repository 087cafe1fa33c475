//! [`Bb8`]: a `bb8::ManageConnection` in a pool of this crate.

use std::error::Error;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::time::Duration;

use ::bb8::ManageConnection;

use super::managers::{Managers, check_before_use};
use crate::builder::Builder;
use crate::context::Context;
use crate::manager::{Manager, Reuse};
use crate::meta::Meta;
use crate::observer::Observer;

/// bb8's first pause before it tries to connect again. Each one is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(400);
/// bb8's longest: half of its default `connection_timeout`.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Runs a manager that was written for bb8.
///
/// | bb8 | here |
/// |---|---|
/// | `connect` | [`create`](Manager::create), tried again until `create_timeout` |
/// | `is_valid` | [`health_check`](Manager::health_check) before every hand-out, or [`recycle`](Manager::recycle) with [`at_return`](Builder::at_return) |
/// | `has_broken` | [`reuse`](Manager::reuse), at return |
///
/// The module's page tells how to move from bb8, and [what differs](super).
///
/// ```
/// use bb8::ManageConnection;
/// use poolyard_core::adapters::Bb8;
///
/// /// Written for bb8.
/// struct Numbers;
///
/// impl ManageConnection for Numbers {
///     type Connection = u32;
///     type Error = std::io::Error;
///
///     async fn connect(&self) -> Result<u32, Self::Error> {
///         Ok(7)
///     }
///
///     async fn is_valid(&self, _: &mut u32) -> Result<(), Self::Error> {
///         Ok(())
///     }
///
///     fn has_broken(&self, _: &mut u32) -> bool {
///         false
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let pool = Bb8::builder(Numbers).max_total(15).build()?;
/// let number = pool.acquire(&()).await?;
/// assert_eq!(*number, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub struct Bb8<M, K = ()> {
    managers: Managers<K, M>,
    at_return: bool,
    retry_connection: bool,
}

impl<M: ManageConnection<Error: Error + Sync>> Bb8<M> {
    /// Starts to build a pool over `manager`. Its connections are checked before every hand-out.
    pub fn builder(manager: M) -> Builder<Bb8<M>> {
        check_before_use(Bb8::new(Managers::one(manager)))
    }
}

impl<M, K> Bb8<M, K>
where
    M: ManageConnection<Error: Error + Sync>,
    K: Clone + Eq + Hash + Send + Sync + 'static,
{
    /// Starts to build a pool with one manager for each key, which `manager` makes at the key's first
    /// use and the pool keeps.
    pub fn per_key(manager: impl Fn(&K) -> M + Send + Sync + 'static) -> Builder<Bb8<M, K>> {
        check_before_use(Bb8::new(Managers::per_key(manager)))
    }

    fn new(managers: Managers<K, M>) -> Self {
        Bb8 { managers, at_return: false, retry_connection: true }
    }
}

impl<M, K, O, S> Builder<Bb8<M, K>, O, S>
where
    M: ManageConnection<Error: Error + Sync>,
    K: Clone + Eq + Hash + Send + Sync + 'static,
    O: Observer,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Checks connections when they come back, off every caller's path, and not before every hand-out.
    /// What was idle for `check_after` is checked once more before it is handed out.
    pub fn at_return(mut self) -> Self {
        self.manager.at_return = true;
        self.check_always = false;
        self
    }

    /// Whether a connection that could not be made is tried again, as bb8 does: after 400 ms, each
    /// time after twice as long, up to 15 s. Default: `true`.
    pub fn retry_connection(mut self, retry_connection: bool) -> Self {
        self.manager.retry_connection = retry_connection;
        self
    }
}

impl<M, K> fmt::Debug for Bb8<M, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bb8")
            .field("at_return", &self.at_return)
            .field("retry_connection", &self.retry_connection)
            .finish_non_exhaustive()
    }
}

impl<M, K> Manager for Bb8<M, K>
where
    M: ManageConnection<Error: Error + Sync>,
    K: Clone + Eq + Hash + Send + Sync + 'static,
{
    type Key = K;
    type Resource = M::Connection;
    type Error = M::Error;

    async fn create(&self, key: &K, _: &Context) -> Result<M::Connection, M::Error> {
        self.managers.of(key).connect().await
    }

    async fn recycle(&self, key: &K, connection: &mut M::Connection, _: &Context) -> Result<(), M::Error> {
        self.managers.of(key).is_valid(connection).await
    }

    async fn health_check(
        &self,
        key: &K,
        connection: &mut M::Connection,
        _: &Context,
    ) -> Result<(), M::Error> {
        self.managers.of(key).is_valid(connection).await
    }

    fn reuse(&self, key: &K, connection: &mut M::Connection, _: &Meta) -> Reuse {
        match self.managers.of(key).has_broken(connection) {
            true => Reuse::Broken,
            false if self.at_return => Reuse::Recycle,
            false => Reuse::Now,
        }
    }

    fn retry(&self, _: &M::Error, attempt: u32) -> Option<Duration> {
        let doublings = attempt.saturating_sub(1).min(16);
        self.retry_connection.then(|| LONGEST_PAUSE.min(FIRST_PAUSE * (1 << doublings)))
    }
}
