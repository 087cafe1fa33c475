//! Sandboxes of Linux namespaces for poolyard.

#[cfg(target_os = "linux")]
mod cgroup;
#[cfg(target_os = "linux")]
mod channel;
#[cfg(target_os = "linux")]
mod error;
#[cfg(target_os = "linux")]
mod exec;
#[cfg(target_os = "linux")]
mod files;
#[cfg(target_os = "linux")]
mod launcher;
#[cfg(target_os = "linux")]
mod lease;
#[cfg(target_os = "linux")]
mod manager;
#[cfg(target_os = "linux")]
mod mode;
#[cfg(target_os = "linux")]
mod plan;
#[cfg(target_os = "linux")]
#[path = "../helper/protocol.rs"]
#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "the guest uses the other half, and its docs are in tables"
)]
mod protocol;
#[cfg(target_os = "linux")]
mod reactor;
#[cfg(target_os = "linux")]
mod request;
#[cfg(target_os = "linux")]
mod run;
#[cfg(target_os = "linux")]
mod sandbox;
#[cfg(target_os = "linux")]
mod seccomp;
#[cfg(target_os = "linux")]
mod spec;
#[cfg(target_os = "linux")]
mod streams;

#[cfg(target_os = "linux")]
pub use error::{Error, ErrorKind, Stage};
#[cfg(target_os = "linux")]
pub use manager::LinuxNs;
#[cfg(target_os = "linux")]
pub use mode::Mode;
#[cfg(target_os = "linux")]
pub use sandbox::Sandbox;
#[cfg(target_os = "linux")]
pub use seccomp::Filter;
#[cfg(target_os = "linux")]
pub use spec::{Background, Base, Canary, ProcView, ReusePolicy, SandboxSpec, SandboxSpecBuilder};
