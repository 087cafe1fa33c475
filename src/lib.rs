//! One async pool for everything that is expensive to make and can be used again.

pub use poolyard_core::*;
