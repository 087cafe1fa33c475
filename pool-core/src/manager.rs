//! [`Manager`]: how one kind of resource is made, cleaned, checked and ended.

use std::borrow::Cow;
use std::error::Error;
use std::future::Future;
use std::hash::Hash;
use std::time::Duration;

use crate::context::Context;
use crate::meta::{Meta, Reason};
use crate::nothing::Nothing;

/// How the pool makes, cleans, checks and ends one kind of resource.
///
/// Only [`create`](Manager::create) is required. Implementers write plain `async fn`. A method that
/// is not overridden costs nothing: the pool sees at compile time that the default does no work and
/// skips the call.
///
/// The laws below are named after the tests of `poolyard-testkit` that check them; its
/// `conformance!` macro runs all of them against any manager.
///
/// # Deadlines and panics
///
/// Every call runs under a deadline of the pool's configuration. A future that misses it is
/// dropped. A panic in any method is contained: the resource is destroyed, its place in the pool
/// is free again, and the pool's counters and events tell of it.
///
/// # Blocking
///
/// No method may block its thread for long; use `tokio::task::spawn_blocking` for work that does.
/// A call that holds its thread for more than 100 ms is counted in the snapshot and traced.
///
/// # Examples
///
/// ```
/// use poolyard_core::{Context, Manager};
///
/// struct Buffers;
///
/// impl Manager for Buffers {
///     type Key = ();
///     type Resource = Vec<u8>;
///     type Error = std::convert::Infallible;
///
///     async fn create(&self, _: &(), _: &Context) -> Result<Vec<u8>, Self::Error> {
///         Ok(Vec::with_capacity(64 * 1024))
///     }
///
///     async fn recycle(&self, _: &(), buffer: &mut Vec<u8>, _: &Context) -> Result<(), Self::Error> {
///         buffer.clear();
///         Ok(())
///     }
/// }
/// ```
pub trait Manager: Send + Sync + 'static {
    /// What a user asks for: an address, an image, a tenant. `()` makes an unkeyed pool.
    ///
    /// `Eq` is the only user code that runs under the pool's lock; keep it short.
    type Key: Clone + Eq + Hash + Send + Sync + 'static;

    /// What is pooled.
    type Resource: Send + 'static;

    /// What goes wrong in this manager's calls.
    type Error: Error + Send + Sync + 'static;

    /// Makes a resource for `key`.
    ///
    /// The creation belongs to the pool, not to the caller who asked: a caller that goes away does
    /// not stop it, and its result goes to whoever is next.
    ///
    /// # Contract
    ///
    /// 1. The resource is ready for use. Law: `create_gives_a_healthy_resource`.
    /// 2. Resources of one key, and of different keys, do not see each other. Laws:
    ///    `resources_do_not_see_each_other`, `keys_are_kept_apart`.
    /// 3. A dropped future leaves nothing behind. Law: `dropping_create_leaves_nothing`.
    ///
    /// # Deadline
    ///
    /// `create_timeout`, for all attempts of one creation together.
    fn create(
        &self,
        key: &Self::Key,
        cx: &Context,
    ) -> impl Future<Output = Result<Self::Resource, Self::Error>> + Send;

    /// Cleans a returned resource, so that the next user finds no trace of the last one.
    ///
    /// Runs at return, on the pool's driver, off every caller's path. An error destroys the
    /// resource and is counted; it is never the next user's error.
    ///
    /// # Contract
    ///
    /// 1. No trace is left. Law: `recycle_removes_every_trace`.
    /// 2. It can be repeated. Law: `recycle_is_repeatable`.
    /// 3. After a dropped future, [`destroy`](Manager::destroy) still works. Law:
    ///    `dropping_recycle_leaves_it_destroyable`.
    ///
    /// # Deadline
    ///
    /// `recycle_timeout`.
    ///
    /// # Default
    ///
    /// Nothing is done, at no cost: the resource is ready again as soon as it is returned.
    fn recycle(
        &self,
        _key: &Self::Key,
        _resource: &mut Self::Resource,
        _cx: &Context,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send {
        Nothing::<Result<(), Self::Error>>::new()
    }

    /// Finds out whether an unleased resource still works.
    ///
    /// Runs on the driver: before hand-out after long idleness, at return after every n-th recycle,
    /// and periodically while idle, as configured. An error destroys the resource as
    /// [`Reason::Unhealthy`].
    ///
    /// # Contract
    ///
    /// A dead resource is noticed here or in [`recycle`](Manager::recycle). Law:
    /// `a_dead_resource_is_noticed`.
    ///
    /// # Deadline
    ///
    /// `health_check_timeout`.
    ///
    /// # Default
    ///
    /// Nothing is checked, at no cost.
    fn health_check(
        &self,
        _key: &Self::Key,
        _resource: &mut Self::Resource,
        _cx: &Context,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send {
        Nothing::<Result<(), Self::Error>>::new()
    }

    /// Ends a resource. The pool drops it afterwards, outside its lock.
    ///
    /// # Contract
    ///
    /// 1. Nothing of the resource is left. Law: `destroy_leaves_nothing`.
    /// 2. It works on broken resources too. Law: `destroy_works_on_broken_resources`.
    ///
    /// # Deadline
    ///
    /// `destroy_timeout`. A destroy that misses it is given up: [`destroy_now`](Manager::destroy_now)
    /// runs and the place is put into quarantine (`max_abandoned`).
    ///
    /// # Default
    ///
    /// Nothing but the drop.
    fn destroy(
        &self,
        _key: &Self::Key,
        _resource: &mut Self::Resource,
        _reason: Reason,
        _cx: &Context,
    ) -> impl Future<Output = ()> + Send {
        Nothing::<()>::new()
    }

    /// Ends a resource at once: after a [`destroy`](Manager::destroy) that panicked or missed its
    /// deadline, or where no driver can exist any more. Must not block.
    ///
    /// # Default
    ///
    /// Drops the resource.
    fn destroy_now(&self, _key: &Self::Key, resource: Self::Resource, _reason: Reason) {
        drop(resource);
    }

    /// Says at return, synchronously and on the thread that returns it, what becomes of a resource.
    /// Must not block; tens of nanoseconds are the right order.
    ///
    /// # Default
    ///
    /// [`Reuse::Recycle`].
    fn reuse(&self, _key: &Self::Key, _resource: &mut Self::Resource, _meta: &Meta) -> Reuse {
        Reuse::Recycle
    }

    /// What a resource of `key` costs, in the unit of `max_cost` (bytes of memory, say).
    ///
    /// Read once when a resource is planned; must be constant for a key and not zero. A panic in it is
    /// contained, and ends the acquire with [`CreatePanicked`](crate::AcquireError::CreatePanicked).
    ///
    /// # Default
    ///
    /// 1.
    fn cost(&self, _key: &Self::Key) -> u64 {
        1
    }

    /// Says whether a failed creation is tried again, and after how long. `attempt` counts from 1.
    /// The pool adds up to 20 % of jitter, and `create_timeout` bounds all attempts together.
    ///
    /// # Default
    ///
    /// `None`: the error goes to the oldest waiter of the key.
    fn retry(&self, _error: &Self::Error, _attempt: u32) -> Option<Duration> {
        None
    }

    /// Describes a resource for people (a process id, a container name), once after it was created or
    /// [specialised](Manager::specialise).
    ///
    /// # Default
    ///
    /// An empty text.
    fn describe(&self, _resource: &Self::Resource) -> Cow<'static, str> {
        Cow::Borrowed("")
    }

    /// Puts a resource to sleep that was idle for `hibernate_after`, if that is set (pauses a container,
    /// say), to make it cheaper to keep. An error destroys it. Runs on the driver, off every caller's path.
    ///
    /// # Contract
    ///
    /// 1. [`wake`](Manager::wake) brings it back as it was. Law:
    ///    `a_hibernated_resource_wakes_as_it_was`.
    /// 2. [`destroy`](Manager::destroy) works on a sleeping resource, and after a dropped future. Law:
    ///    `destroy_works_on_hibernated_resources`.
    ///
    /// # Deadline
    ///
    /// `recycle_timeout`.
    ///
    /// # Default
    ///
    /// Nothing: resources do not hibernate.
    fn hibernate(
        &self,
        _key: &Self::Key,
        _resource: &mut Self::Resource,
        _cx: &Context,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send {
        Nothing::<Result<(), Self::Error>>::new()
    }

    /// Wakes a resource that [`hibernate`](Manager::hibernate) put to sleep, because somebody waits for
    /// it. An error destroys it; the caller goes on waiting, for another one.
    ///
    /// # Contract
    ///
    /// It fails if the resource does not work any more: no health check follows.
    ///
    /// # Deadline
    ///
    /// `recycle_timeout`.
    ///
    /// # Default
    ///
    /// Nothing.
    fn wake(
        &self,
        _key: &Self::Key,
        _resource: &mut Self::Resource,
        _cx: &Context,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send {
        Nothing::<Result<(), Self::Error>>::new()
    }

    /// Names the key whose resources can be [specialised](Manager::specialise) for `key`. The pool keeps
    /// `generic_stock` of them idle as soon as it knows a key that names it. Constant for a key; asked
    /// when the key comes to be known, and not again while the pool knows it.
    ///
    /// # Default
    ///
    /// `None`: each key's resources are made from nothing.
    fn generic_key(&self, _key: &Self::Key) -> Option<Self::Key> {
        None
    }

    /// Turns a resource of the generic key `from` into one of `to`, where that is faster than a
    /// creation. It takes the place of a creation for a waiter, also in the limits. An error destroys the
    /// resource, still under its generic key, and a creation from nothing follows; it is nobody's error.
    ///
    /// # Contract
    ///
    /// 1. The result is as if it had been created for `to`: from now on that key's limits, policy,
    ///    [`describe`](Manager::describe) and `invalidate` apply. Law: `specialise_gives_a_healthy_resource`.
    /// 2. It fails if the resource does not work any more: no health check comes before or after.
    /// 3. After a failure or a dropped future, [`destroy`](Manager::destroy) still works.
    ///
    /// # Deadline
    ///
    /// `create_timeout`.
    ///
    /// # Default
    ///
    /// Nothing.
    fn specialise(
        &self,
        _from: &Self::Key,
        _to: &Self::Key,
        _resource: &mut Self::Resource,
        _cx: &Context,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send {
        Nothing::<Result<(), Self::Error>>::new()
    }
}

/// What becomes of a returned resource: the answer of [`Manager::reuse`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// It is ready for the next user as it is.
    Now,
    /// It goes through [`Manager::recycle`] first.
    Recycle,
    /// It is destroyed as [`Reason::Broken`].
    Broken,
}
