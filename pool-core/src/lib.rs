//! The heart of poolyard: a keyed, fair, cancel-safe async resource pool.
//!
//! [`Manager`] says how one kind of resource is made, cleaned, checked and ended; [`Pool`] keeps them
//! made, clean and checked, and hands them out as [`Lease`]s.
//!
//! ```
//! use poolyard_core::{Context, Manager, Pool};
//!
//! /// Hands out scratch buffers, empty each time.
//! struct Buffers;
//!
//! impl Manager for Buffers {
//!     type Key = ();
//!     type Resource = Vec<u8>;
//!     type Error = std::convert::Infallible;
//!
//!     async fn create(&self, _: &(), _: &Context) -> Result<Vec<u8>, Self::Error> {
//!         Ok(Vec::with_capacity(64 * 1024))
//!     }
//!
//!     async fn recycle(&self, _: &(), buffer: &mut Vec<u8>, _: &Context) -> Result<(), Self::Error> {
//!         buffer.clear();
//!         Ok(())
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let pool = Pool::builder(Buffers).max_total(8).build()?;
//! let mut buffer = pool.acquire(&()).await?;
//! buffer.extend_from_slice(b"hello");
//! drop(buffer); // goes back, is recycled in the background
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! # Inside
//!
//! - `ledger`: every decision, as a plain value; `shared`: the one lock around it
//! - `acquire`, `lease`: the callers' side; `driver`, `job`, `call`, `watch`: the manager's side
//! - `pool`, `builder`, `config`, `policy`, `pressure`, `snapshot`, `warm`: what users see
//! - `adapters`: managers written for other pools
//! - `sync`, `time`, `rt`, `fork`, `host`: the only files that name a lock, a clock, a runtime, a fork,
//!   the machine's memory

#[cfg(any(feature = "bb8", feature = "deadpool"))]
pub mod adapters;
pub mod events;
pub mod guarantees;
#[cfg(feature = "simulation")]
#[doc(hidden)]
pub mod simulation;

mod acquire;
mod adaptive;
mod anchor;
mod builder;
mod call;
mod config;
mod context;
mod counters;
mod driver;
mod erased;
mod error;
mod fork;
mod from_fn;
mod hash;
mod held;
mod host;
mod job;
mod lease;
mod ledger;
mod manager;
mod meta;
#[cfg(feature = "metrics")]
mod metrics;
mod newcomer;
mod nothing;
mod observer;
mod patience;
mod policy;
mod pool;
mod pressure;
mod quantile;
mod rt;
#[cfg(feature = "serde")]
mod serde_words;
mod shared;
mod snapshot;
mod sync;
mod time;
mod warm;
mod watch;

pub use acquire::Acquire;
pub use adaptive::Adaptive;
pub use builder::Builder;
pub use config::{ConfigError, Fairness, PoolConfig, ReuseOrder, UNLIMITED};
pub use context::{Context, Gone, GoneSink};
pub use counters::Counters;
pub use erased::{DynManager, ErasedError, ErasedManager};
pub use error::{AcquireError, Counts, CreateFailure, InsertError, InsertErrorKind, Phase, TryAcquireError};
pub use from_fn::{FromFn, from_fn};
pub use hash::{KeyHasher, RandomState};
pub use host::HostMemory;
pub use lease::Lease;
pub use manager::{Manager, Reuse};
pub use meta::{Meta, Reason, ResourceId};
#[cfg(feature = "metrics")]
pub use metrics::MetricsObserver;
pub use observer::Observer;
pub use policy::KeyPolicy;
pub use pool::{Pool, WeakPool};
pub use pressure::{Pressed, PressureSource, Shed, ShedReport};
pub use snapshot::{Circuit, CloseReport, KeyInfo, ResourceInfo, ResourceState, Snapshot};
pub use warm::WarmReport;
