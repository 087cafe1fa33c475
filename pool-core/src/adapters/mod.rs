//! Managers that were written for other pools, unchanged: [`Deadpool`] takes every
//! `deadpool::managed::Manager` (0.13), [`Bb8`] every `bb8::ManageConnection` (0.9).
//!
//! # Clean before use, or clean at return
//!
//! In those pools one method both cleans and checks a connection, and runs before it is handed out.
//! Here it does, too: before *every* hand-out, by the driver, while the caller waits in its place. The
//! pools that these builders make do so whatever `check_after` says; it can't be forgotten, nor
//! configured away. A connection that fails is destroyed and the next one tried, all under the one
//! deadline of the caller; after a second in a check (`hedge_after`), a new connection is made meanwhile.
//!
//! `at_return()` on the builder moves the method to where this crate has it for managers of its own:
//! the connection is cleaned when it comes back, off every caller's path, and an acquire with an idle
//! connection takes nanoseconds. Checks then follow `check_after` (and `check_interval`, if set): a connection
//! that died within `check_after` (30 s) of its last check can be handed out. Zero excludes that
//! again, at the price of both.
//!
//! # From deadpool, in five lines
//!
//! ```text
//! deadpool                                      poolyard
//! Pool::builder(manager).max_size(16).build()   Deadpool::builder(manager).max_total(16).build()
//! pool.get().await                              pool.acquire(&()).await
//! Timeouts { wait, create, recycle }            wait_timeout, create_timeout, health_check_timeout
//! &mut *object                                  &mut **lease
//! Object::take(object)                          DeadpoolObject::take(Lease::detach(lease))
//! ```
//!
//! What differs:
//!
//! - `wait_timeout` bounds the whole acquire, failed checks and creations included.
//! - A creation belongs to the pool: it goes on when the caller that wanted it gives up.
//! - Resources end after 10 min of idleness or an hour of life; `idle_timeout(None)` and
//!   `max_lifetime(None)` keep them for ever, as deadpool does.
//! - `detach` is called exactly once for each object, however it ends; deadpool leaves it out when a pool
//!   is closed or dropped.
//! - There are no hooks: [`Manager`] is implemented on top, or the foreign manager is wrapped.
//! - `try_acquire` finds nothing, because nothing is ready without a check, unless `at_return()`.
//! - What is written for deadpool's own wrapper types (the trait `GenericClient` of `deadpool-postgres`,
//!   for one) is written for the connection itself as well, or is called on `&mut **lease`.
//!
//! # From bb8, in five lines
//!
//! ```text
//! bb8                                              poolyard
//! Pool::builder().max_size(15).build(manager)      Bb8::builder(manager).max_total(15).build()
//! connection_timeout(t), test_on_check_out(false)  wait_timeout(t), at_return()
//! pool.get().await, pool.get_owned().await         pool.acquire(&()).await
//! &mut *connection                                 &mut *lease
//! pool.add(connection)                             pool.insert(&(), connection)
//! ```
//!
//! What differs:
//!
//! - Callers are served in the order in which they came.
//! - Building opens no connection; [`warm`](crate::Pool::warm) does, and `min_idle_per_key` keeps them.
//! - A new connection is not checked before its first use.
//! - The warmest connection is used first; `order(ReuseOrder::Fifo)` is bb8's default.
//! - Failing creations are tried again with bb8's pauses, until `create_timeout`. Then the caller gets
//!   the error, where bb8 tells it only that time is up.
//!
//! # By key
//!
//! `Deadpool::per_key` and `Bb8::per_key` take a function from key to manager: one pool for many
//! servers or tenants, with one total, limits by key, and idle connections that make room across
//! keys. A key's manager is made once and kept as long as the pool, so keys should be of a bounded set.

#[cfg(feature = "bb8")]
mod bb8;
#[cfg(feature = "deadpool")]
mod deadpool;
mod managers;

#[cfg(doc)]
use crate::Manager;

#[cfg(feature = "bb8")]
pub use self::bb8::Bb8;
#[cfg(feature = "deadpool")]
pub use self::deadpool::{Deadpool, DeadpoolError, DeadpoolObject};
