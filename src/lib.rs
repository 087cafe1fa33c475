//! One async pool for everything that is expensive to make and can be used again.

pub use poolyard_core::*;

/// Containers of a Docker or Podman engine.
#[cfg(feature = "docker")]
pub mod docker {
    pub use poolyard_docker::*;
}
