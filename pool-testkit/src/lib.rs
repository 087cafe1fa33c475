//! **Unstable**: this crate follows the needs of tests and may change in any release.

pub mod availability;
mod by_hand;
pub mod cancel;
pub mod census;
mod fake;
mod faults;
mod gate;
mod harness;
pub mod laws;
mod macros;
mod registry;
mod script;
mod trial;

pub use by_hand::{GoneLog, context};
pub use census::Census;
pub use fake::{FakeError, FakeKey, FakeManager, FakeResource};
pub use faults::{Faulty, FaultyError};
pub use gate::Gate;
pub use harness::{Capabilities, Capability, Harness, KeyOf, ResourceOf};
pub use registry::{Call, Outcome, Violation};
pub use script::{Method, Step, Then, steps};
pub use trial::{SEED, Subject, Trial, try_law};
