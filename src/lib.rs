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
//! All backends need Linux. Elsewhere every feature compiles, and the module of a backend holds one
//! function, `absent`, that says what to use instead ([`Absent`]).

mod absent;
pub mod guide;

pub use absent::Absent;
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

#[cfg(all(not(target_os = "linux"), any(feature = "docker", feature = "linux-ns", feature = "process")))]
mod elsewhere {
    crate::absent::absent!(
        linux_ns,
        "linux-ns",
        "namespaces of the Linux kernel",
        "run the program in a Linux virtual machine or container, or write a manager of your own"
    );
    crate::absent::absent!(
        process,
        "process",
        "pidfds and prctl of the Linux kernel",
        "write a manager over std::process; the example custom_manager shows one"
    );
    crate::absent::absent!(
        docker,
        "docker",
        "an engine on the same Linux machine, for the socket of the resident agent",
        "run the program in a Linux virtual machine, such as that of the engine"
    );
}
#[cfg(all(
    not(target_os = "linux"),
    any(feature = "docker", feature = "linux-ns", feature = "process")
))]
pub use elsewhere::*;
