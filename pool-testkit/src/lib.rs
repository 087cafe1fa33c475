//! **Unstable**: this crate follows the needs of tests and may change in any release.

mod by_hand;
pub mod cancel;
mod fake;
mod gate;
mod registry;
mod script;

pub use by_hand::{GoneLog, context};
pub use fake::{FakeError, FakeKey, FakeManager, FakeResource};
pub use gate::Gate;
pub use registry::{Call, Outcome, Violation};
pub use script::{Method, Step, Then, steps};
