//! Prefork worker processes as a poolyard backend: kept warm, called over framed pipes, never wedged.

mod attrs;
mod call;
mod dispatch;
mod error;
mod exit;
mod image;
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
pub use manager::ProcessManager;
pub use poolyard_worker as worker;
pub use protocol::{
    Bazel, BazelFormat, CgiRequest, CgiResponse, FastCgi, Frames, JsonLines, Malformed, Protocol, WorkInput,
    WorkRequest, WorkResponse,
};
pub use server::{Accept, PreforkServer, ServerConfig, WorkerStatus, systemd_sockets};
pub use spec::{Channel, OnReturn, Ready, Spawner, WorkerKey, WorkerSpec};
pub use worker_process::{Stream, Worker};
pub use zygote::{Zygote, init};
