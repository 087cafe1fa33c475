//! Prefork worker processes as a poolyard backend: kept warm, called over framed pipes, never wedged.
//!
//! A [`WorkerSpec`] says what a worker is; its [`key`](WorkerSpec::key) is what a pool over a
//! [`ProcessManager`] is asked with. What comes out is a [`Worker`], to be called with a [`Deadline`]:
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use poolyard_core::Pool;
//! use poolyard_process::{Deadline, ProcessManager, WorkerSpec};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = Pool::builder(ProcessManager::new()?).max_total(8).build()?;
//! let python = WorkerSpec::command("python3").arg("worker.py").max_calls(10_000).key();
//!
//! let mut worker = pool.acquire(&python).await?;
//! let answer = worker.call(b"resize image 7", Deadline::after(Duration::from_secs(2))).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Where workers come from
//!
//! A worker is a program ([`WorkerSpec::command`]) or an entry of this very program that is forked from a
//! zygote without executing anything ([`WorkerSpec::entry`], [`init`]). Programs are started by a thread of
//! their own or, once [`init`] was called, by the zygote ([`Spawner`]). All attributes ([`Attrs`]) are set in
//! a time that does not depend on this process's memory, which is never forked.
//!
//! | | direct | through the zygote |
//! |---|---|---|
//! | a worker ends with everything that it has started | yes | yes |
//! | a SIGKILL of this process ends its workers | yes | yes |
//! | ... and what those have started | no | yes |
//! | a `waitpid(-1)` in this process can take a worker's status | yes; it is [`Exit::Unknown`] then | no |
//!
//! What a worker has started is found through the kernel's list of children, and after a sudden death of a
//! direct worker through its environment. A program that empties its environment *and* leaves its session
//! escapes the latter.
//!
//! # How workers are spoken to
//!
//! [`Frames`] (raw bytes; the [`worker`] kit and 20 lines in any language), [`JsonLines`], [`Bazel`],
//! [`FastCgi`], or a [`Protocol`] of one's own. A worker whose call was dropped, failed or timed out halfway is
//! never given to anyone else; every [`CallError`] says how far the call had come, why it failed, how
//! long it took, and what the worker last wrote to its standard error.
//!
//! Over pipes, or over sockets ([`Transport`]); large payloads in memory that both share ([`WorkerSpec::arena`],
//! [`Worker::request`]).
//!
//! A [`Dispatcher`] shares workers among callers; a [`PreforkServer`] has them serve a listener.
//!
//! # Inside
//!
//! - `spec`, `attrs`, `image`: what a worker is; `manager`: the pool's side
//! - `supervisor`: the thread that starts, watches, kills and reaps; `zygote`: the process that does
//! - `worker_process`, `in_place`, `io`, `call`, `protocol`: calls
//! - `shared`, `call_queue`, `dispatch`, `server`: many callers and many connections
//! - `sys`: system calls; nearly all unsafe code

mod attrs;
mod call;
mod call_queue;
mod dispatch;
mod error;
mod exit;
mod image;
mod in_place;
mod io;
mod manager;
mod memory;
pub mod protocol;
mod server;
mod shared;
mod spec;
mod supervisor;
mod sys;
mod worker_process;
mod zygote;

pub use attrs::{Attrs, Grouping, Limit};
pub use call::{CallError, Cause, Deadline, Phase};
pub use dispatch::{Dispatcher, DispatcherConfig, Select};
pub use error::{Error, ErrorKind, Stage};
pub use exit::{Death, Exit, Kill};
pub use in_place::{AnswerReader, RequestWriter};
pub use manager::ProcessManager;
pub use poolyard_worker as worker;
pub use protocol::{
    Bazel, BazelFormat, CgiRequest, CgiResponse, FastCgi, Frames, JsonLines, Malformed, Protocol, WorkInput,
    WorkRequest, WorkResponse,
};
pub use server::{Accept, PreforkServer, ServerConfig, WorkerStatus, systemd_sockets};
pub use spec::{Channel, OnReturn, Ready, Spawner, Transport, WorkerKey, WorkerSpec};
pub use worker_process::{Stream, Worker};
pub use zygote::{Zygote, init};
