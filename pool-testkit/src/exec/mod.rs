//! One suite of behaviour for every [`Exec`](poolyard_exec::Exec), and an executor without isolation.
//!
//! [`exec_suite!`](crate::exec_suite) makes one test per law of [`laws`]. An implementer writes an
//! [`ExecHarness`]:
//!
//! ```
//! use poolyard_testkit::availability::Availability;
//! use poolyard_testkit::exec::{ExecHarness, LocalExec};
//! use poolyard_exec::Limits;
//!
//! struct Local;
//!
//! impl ExecHarness for Local {
//!     type Exec = LocalExec;
//!     const NAME: &'static str = "local";
//!
//!     async fn availability() -> Availability {
//!         Availability::Ready
//!     }
//!
//!     async fn executor(limits: Limits) -> LocalExec {
//!         LocalExec::new().unwrap().made_with(limits).unwrap()
//!     }
//! }
//!
//! poolyard_testkit::exec_suite!(Local);
//! # fn main() {}
//! ```
//!
//! # What the suite needs inside
//!
//! `/bin/sh` and these programs, as busybox or any Linux has them: `cat`, `dd`, `env`, `head`, `ln`, `ls`,
//! `mkdir`, `mkfifo`, `pwd`, `setsid`, `sleep`, `true`, `wc`.
//!
//! # What it looks at
//!
//! Where a law is about processes that must be gone, they are counted from outside by
//! [`ExecHarness::survivors`], never by what the program says. Where an executor says that it cannot enforce
//! a limit, the law becomes that the limit is refused by name.

mod harness;
pub mod laws;
#[cfg(target_os = "linux")]
mod local;
mod suite;

pub use harness::{ExecHarness, run_law};
#[cfg(target_os = "linux")]
pub use local::LocalExec;
