//! One async pool for everything that is expensive to make and can be used again.

pub use poolyard_core::*;

/// Worker processes.
#[cfg(all(feature = "process", target_os = "linux"))]
pub use poolyard_process as process;
