//! Makes a program a worker of `poolyard-process`: it reads framed calls and answers them.
//!
//! Nothing but the standard library is used, no thread is started, and standard output stays free for
//! printing: what the program prints goes to standard error, where the pool keeps its tail.
//!
//! ```no_run
//! fn main() -> std::io::Result<()> {
//!     poolyard_worker::Worker::connect()?.serve(|call| Ok(call.to_ascii_uppercase()))
//! }
//! ```
//!
//! The frames are described in [`wire`]; a worker in another language needs some twenty lines.

mod answer;
mod arena;
mod call;
mod channel;
mod leave;
mod queue;
mod scoreboard;
mod server;
pub mod wire;
mod worker;

pub use answer::Answer;
pub use arena::Arena;
pub use call::Call;
pub use queue::MAX_QUEUED;
pub use scoreboard::{Activity, SCORE_SLOT, Scoreboard};
pub use server::{Connection, Next, Server, word};
pub use worker::Worker;
