//! **Unstable**: this crate follows the needs of tests, and any release may change it.
//!
//! Laws that any poolyard [`Manager`](poolyard_core::Manager) can be put to, and what tests of
//! pools need. The README says how to start.
//!
//! - [`Harness`], [`conformance!`], [`laws`]: your manager against what the pool relies on.
//! - [`FakeManager`], [`Faulty`], [`Step`], [`Gate`]: managers that do what the test says.
//! - [`cancel`]: futures dropped at every point, and futures polled by hand.
//! - [`census`]: what the operating system holds before and after.
//! - [`history`]: what many tasks did with one pool, judged afterwards.
//! - [`model`]: random plans over a whole pool of a manager of yours, judged by a naive reference.
//! - [`exec`]: the laws of `Exec`, and a plain implementation without isolation.
//! - [`measure`]: what a manager's resources cost, cold and warm, in time and memory.
//! - [`availability`]: what cannot run here is skipped loudly.
//!
//! It knows no backend: each brings a harness of its own.

pub mod availability;
mod by_hand;
pub mod cancel;
pub mod census;
pub mod exec;
mod fake;
mod faults;
mod gate;
mod harness;
pub mod history;
pub mod laws;
mod macros;
mod measure;
pub mod model;
mod registry;
mod script;
mod trial;

pub use by_hand::{GoneLog, context};
pub use census::Census;
pub use fake::{FakeError, FakeKey, FakeManager, FakeResource};
pub use faults::{Faulty, FaultyError};
pub use gate::Gate;
pub use harness::{Capabilities, Capability, Harness, KeyOf, ResourceOf};
pub use measure::{Measured, Times, measure};
pub use registry::{Call, Outcome, Violation};
pub use script::{Method, Step, Then, steps};
pub use trial::{CASES, SEED, Subject, Trial, try_law};

/// The README's code compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
