//! The words that every poolyard backend that runs commands shares.
//!
//! Code written against [`Exec`] runs unchanged in a Linux namespace sandbox, in a container, or (for
//! tests) as a plain process. A [`Command`] says what to run and under which [`Limits`]; an [`Outcome`]
//! says how it ended, with a [`Verdict`] to branch on and a [`Usage`] whose every number names its source.
//!
//! ```
//! use std::time::Duration;
//!
//! use poolyard_exec::{Command, Exec, ExecError, Limits, Outcome, Verdict};
//!
//! /// Judges one program; works on every backend.
//! async fn judge(sandbox: &impl Exec, source: &[u8], input: &[u8]) -> Result<Outcome, ExecError> {
//!     let limits = Limits::new()
//!         .wall_time(Duration::from_secs(2))
//!         .memory(256 << 20)
//!         .processes(16)
//!         .output(1 << 20);
//!     let command = Command::new("python3")
//!         .arg("main.py")
//!         .file_in("main.py", source, 0o644)
//!         .stdin_bytes(input)
//!         .limits(limits);
//!     let outcome = sandbox.exec(&command).await?;
//!     if let Verdict::Exceeded(limit) = outcome.verdict {
//!         eprintln!("over the limit: {limit}");
//!     }
//!     Ok(outcome)
//! }
//! ```
//!
//! # What is promised
//!
//! - **Nothing is weakened in silence.** [`Exec::support`] says per limit how it is enforced; a limit that
//!   cannot be enforced as asked is refused by name before anything starts
//!   ([`ErrorKind::UnsupportedLimit`]).
//! - **Bad input is refused early** and by field ([`Command::validate`]), the same on every backend, and
//!   leaves the executor usable.
//! - **A dropped future ends what it ran.** Dropping the future of [`Exec::exec`], or a [`Process`], kills
//!   every process that the command started.
//!
//! # Map
//!
//! | file | idea |
//! |---|---|
//! | `command` | what to run: argv, environment, directory, stdin, files, limits, terminal |
//! | `validate` | what is wrong with a command before anyone tries it |
//! | `limits`, `limit` | how much it may use; the name of one limit and its value |
//! | `support` | what an executor can enforce, and the refusal of the rest |
//! | `outcome`, `status`, `usage` | how it ended, the raw wait status, what it used and who measured that |
//! | `exec`, `erased`, `fds` | the trait, its object-safe twin, the extension for host descriptors |
//! | `process`, `stdio` | a running command: streams, signals, wait |
//! | `profile` | what a sandbox is made from, in words that every backend understands |
//! | `error` | stage, kind, message |
//!
//! The crate depends on no operating system; only [`ExecFds`] is for Unix hosts. What runs inside is always
//! Linux: paths and arguments are bytes, signal numbers and wait statuses are Linux's.

#![forbid(unsafe_code)]

mod command;
mod erased;
mod error;
mod exec;
#[cfg(unix)]
mod fds;
mod limit;
mod limits;
mod outcome;
mod process;
mod profile;
mod status;
mod stdio;
mod support;
mod usage;
mod validate;

pub use command::{Command, DEFAULT_CAPTURE, DEFAULT_PATH, FileIn, FileOut, Stdin, TtySize};
pub use erased::DynExec;
pub use error::{ErrorKind, ExecError, Stage};
pub use exec::Exec;
#[cfg(unix)]
pub use fds::{ExecFds, Fds};
pub use limit::{CpuSet, Limit, LimitValue, Network};
pub use limits::Limits;
pub use outcome::{CollectedFile, FileState, Outcome, Output, Verdict};
pub use process::{Process, ProcessControl, ProcessParts};
pub use profile::Profile;
pub use status::{Signal, WaitStatus};
pub use stdio::{InputWriter, OutputReader};
pub use support::{Enforcement, Feature, Support};
pub use usage::{Measured, Source, Usage};
