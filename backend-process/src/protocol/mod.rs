//! [`Protocol`]: how requests become bytes and bytes become responses.
//!
//! A protocol does no I/O and never waits: it is given the bytes that have arrived and says what they
//! mean. All of them come from another process and may be anything.

mod base64;
mod bazel;
mod fastcgi;
mod frames;
mod input;
mod json_lines;
mod proto;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

pub use bazel::{Bazel, BazelFormat, WorkInput, WorkRequest, WorkResponse};
pub use fastcgi::{CgiRequest, CgiResponse, FastCgi};
pub use frames::Frames;
pub use input::Input;
pub use json_lines::JsonLines;
use poolyard_worker::Arena;

/// A language between the pool and its workers. One value serves one worker at a time.
pub trait Protocol: Send + Sync + 'static {
    /// What a call says.
    type Request: ?Sized;
    /// What it returns.
    type Response: Send + 'static;

    /// Whether answers carry the id of their call, so that several calls may be under way at once.
    const HAS_IDS: bool;
    /// Whether a new worker says when it is ready.
    const SAYS_READY: bool;
    /// Whether workers can take calls from a queue that the kernel keeps, as those of the worker kit can.
    const TAKES_FROM_QUEUE: bool = false;

    /// A value for a new worker.
    fn session(&self) -> Self;

    /// Adds the bytes of a call. `id` is not 0 and not in use.
    ///
    /// # Errors
    ///
    /// When the request cannot be said in this protocol. Nothing has been added then.
    fn encode(&mut self, id: u32, request: &Self::Request, out: &mut Vec<u8>) -> Result<(), Malformed>;

    /// The next thing that the worker has said, or `None` if more bytes are needed for that.
    ///
    /// # Errors
    ///
    /// When the bytes are not of this protocol. The worker is not used again.
    fn decode(&mut self, input: &mut Input) -> Result<Option<Event<Self::Response>>, Malformed>;

    /// Adds a later part of a response to the ones before it.
    fn append(whole: &mut Self::Response, part: Self::Response);

    /// Adds the bytes of a question whose answer is [`Word::Pong`]. False if there is none.
    fn ping(&mut self, _id: u32, _out: &mut Vec<u8>) -> bool {
        false
    }

    /// Adds the bytes of a wish to be reset, whose answer is [`Word::Pong`]. False if there is none.
    fn reset(&mut self, _id: u32, _out: &mut Vec<u8>) -> bool {
        false
    }

    /// Adds the bytes that cancel a call, which is still answered once. False if there are none.
    fn cancel(&mut self, _id: u32, _out: &mut Vec<u8>) -> bool {
        false
    }

    /// Is given the memory that is shared with the worker; `None` takes it away.
    fn attach(&mut self, _arena: Option<Arena>) {}
}

/// Something that a worker has said.
#[derive(Debug, PartialEq, Eq)]
pub struct Event<R> {
    /// The call it is about; 0 = none, or a protocol without ids.
    pub id: u32,
    /// What it said.
    pub word: Word<R>,
}

/// What a worker can say.
#[derive(Debug, PartialEq, Eq)]
pub enum Word<R> {
    /// It is ready for its first call.
    Ready,
    /// A part of a response; more follows.
    Part(R),
    /// A response, or its last part.
    Done(R),
    /// The call failed, for this reason; the worker is fine.
    Failed(String),
    /// The answer to a ping or a reset.
    Pong,
    /// The call needs this long from now.
    Extend(Duration),
    /// It wants to be replaced.
    Retire,
}

/// Bytes, or a request, that do not fit the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Malformed {
    /// Not a message of this protocol; the text says how.
    NotAMessage(String),
    /// A message longer than the spec's `max_message`.
    TooLarge {
        /// How long it is, as far as known.
        len: usize,
        /// How long it may be.
        max: usize,
    },
    /// An answer to a call that is not under way.
    WrongId(u32),
    /// A message that does not belong here.
    Unexpected(&'static str),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::NotAMessage(why) => write!(f, "{why} (does the worker print to its standard output?)"),
            Malformed::TooLarge { len, max } => {
                write!(f, "{len} bytes or more, and at most {max} are allowed")
            }
            Malformed::WrongId(id) => write!(f, "it answers call {id}, which is not under way"),
            Malformed::Unexpected(what) => write!(f, "{what} does not belong here"),
        }
    }
}

impl std::error::Error for Malformed {}
