//! One async pool for everything that is expensive to make and can be used again.

pub use poolyard_core::*;

#[cfg(all(feature = "linux-ns", target_os = "linux"))]
pub use poolyard_linux_ns as linux_ns;
