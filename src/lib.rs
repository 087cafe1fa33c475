//! One async pool for everything that is expensive to make and can be used again.
//!
//! The pool and everything that a custom [`Manager`] needs is here, re-exported from
//! `poolyard-core`. Backends come by cargo feature, none by default:
//!
//! | feature | module | what it pools |
//! |---|---|---|
//! | `linux-ns` | `poolyard::linux_ns` | sandboxes of Linux namespaces |
//! | `process` | `poolyard::process` | worker processes |
//! | `docker` | `poolyard::docker` | containers of a Docker or Podman engine |
//! | `full` | | all of them |
//! | `deadpool`, `bb8` | [`adapters`](poolyard_core) | managers written for those pools |
//! | `metrics`, `serde` | | the `metrics` facade; the configuration from files |
//!
//! The [`guide`]s take a reader from a manager of one's own to its operation.
//!
//! A backend exists where its system does; elsewhere the feature compiles and the module is absent.

pub mod guide;

pub use poolyard_core::*;

#[cfg(all(feature = "docker", target_os = "linux"))]
pub use poolyard_docker as docker;
/// The words that sandbox backends share: commands, limits, outcomes.
#[cfg(any(feature = "docker", feature = "linux-ns"))]
pub use poolyard_exec as exec;
#[cfg(all(feature = "linux-ns", target_os = "linux"))]
pub use poolyard_linux_ns as linux_ns;
#[cfg(all(feature = "process", target_os = "linux"))]
pub use poolyard_process as process;
