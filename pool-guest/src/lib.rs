//! What the programs share that poolyard runs inside sandboxes and containers.
//!
//! A *guest* is a small static program without a C library. It is compiled by the build script of
//! the crate that needs it ([`build`]), embedded in that crate, and started from memory
//! ([`spawn`]). So a library can bring its own resident init along: no hook in the user's `main`,
//! nothing to install, nothing of the host's address space inside.
//!
//! | part | for | what |
//! |---|---|---|
//! | `frame` | both sides | the header and the codec of every message |
//! | `build` | build scripts | compiles a guest with the `rustc` of the build |
//! | `spawn` | hosts | starts a guest from a sealed memory file, without forking the host |
//! | `rt/` | guests | entry point, system calls, memory functions: the crate `poolyard_rt` that guests link |

#[cfg(feature = "build")]
pub mod build;
pub mod frame;
#[cfg(all(feature = "spawn", target_os = "linux"))]
pub mod spawn;
