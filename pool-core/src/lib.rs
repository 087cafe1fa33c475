//! The heart of poolyard: a keyed, fair, cancel-safe async resource pool.

mod context;
mod manager;
mod meta;
mod nothing;

pub use context::{Context, Gone, GoneSink};
pub use manager::{Manager, Reuse};
pub use meta::{Meta, Reason, ResourceId};
