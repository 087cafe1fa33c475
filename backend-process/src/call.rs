//! What a call is given, and how it fails.

use std::fmt;
use std::time::{Duration, Instant};

use crate::exit::Death;
use crate::protocol::Malformed;

/// When a call is given up. There is no call without one.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    pub(crate) at: Instant,
    /// How far the worker may move it.
    pub(crate) latest: Instant,
    /// A signal that it gets before.
    pub(crate) warning: Option<(Instant, i32)>,
}

impl Deadline {
    /// So long from now.
    pub fn after(time: Duration) -> Self {
        Self::at(Instant::now() + time)
    }

    /// At this time.
    pub fn at(at: Instant) -> Self {
        Self { at, latest: at, warning: None }
    }

    /// Lets the worker ask for more time, up to this much.
    pub fn extendable_by(mut self, time: Duration) -> Self {
        self.latest = self.at + time;
        self
    }

    /// Sends the worker this signal if it has not answered after so long: for workers that can give a call up
    /// by themselves, and stay usable. Sent once, to the worker's process alone. Not for calls through a
    /// dispatcher whose workers are shared, where it is not sent.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use poolyard_process::Deadline;
    /// const SIGUSR1: i32 = 10;
    /// let deadline = Deadline::after(Duration::from_secs(10)).signal_after(Duration::from_secs(8), SIGUSR1);
    /// ```
    pub fn signal_after(mut self, time: Duration, signal: i32) -> Self {
        self.warning = Some((Instant::now() + time, signal));
        self
    }

    /// When something is to be done next.
    pub(crate) fn next(&self) -> Instant {
        self.warning.map_or(self.at, |(at, _)| at.min(self.at))
    }

    pub(crate) fn extend(&mut self, from_now: Duration) {
        self.at = (Instant::now() + from_now).min(self.latest).max(self.at);
    }
}

/// A call failed. What became of the worker depends on [`cause`](CallError::cause): only
/// [`Cause::Failed`] and [`Cause::Refused`] leave it usable. After any other its pool replaces it.
pub struct CallError {
    inner: Box<Inner>,
}

struct Inner {
    phase: Phase,
    cause: Cause,
    pid: i32,
    elapsed: Duration,
    stderr: String,
    received: Vec<u8>,
}

/// How many bytes of an answer that cannot be understood are kept.
const RECEIVED: usize = 1024;

impl CallError {
    pub(crate) fn new(phase: Phase, cause: Cause, pid: i32, elapsed: Duration) -> Self {
        let (stderr, received) = Default::default();
        Self { inner: Box::new(Inner { phase, cause, pid, elapsed, stderr, received }) }
    }

    pub(crate) fn with(mut self, stderr: String, received: &[u8]) -> Self {
        self.inner.stderr = stderr;
        self.inner.received = received[..received.len().min(RECEIVED)].to_vec();
        self
    }

    /// How far the call had come.
    pub fn phase(&self) -> Phase {
        self.inner.phase
    }

    /// What went wrong.
    pub fn cause(&self) -> &Cause {
        &self.inner.cause
    }

    /// The worker's process id; 0 if there was none.
    pub fn pid(&self) -> i32 {
        self.inner.pid
    }

    /// How long the call had taken.
    pub fn elapsed(&self) -> Duration {
        self.inner.elapsed
    }

    /// The end of what the worker has written to standard error.
    pub fn stderr(&self) -> &str {
        &self.inner.stderr
    }

    /// The beginning of what had been received and not understood, at most 1 KiB.
    pub fn received(&self) -> &[u8] {
        &self.inner.received
    }
}

impl fmt::Debug for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallError")
            .field("phase", &self.inner.phase)
            .field("cause", &self.inner.cause)
            .field("pid", &self.inner.pid)
            .field("elapsed", &self.inner.elapsed)
            .field("stderr", &self.inner.stderr)
            .field("received", &self.inner.received.escape_ascii().to_string())
            .finish()
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { phase, cause, pid, elapsed, stderr, .. } = &*self.inner;
        write!(f, "call to worker {pid} failed after {elapsed:?}, {phase}: {cause}")?;
        match stderr.trim_end() {
            "" => Ok(()),
            text => write!(f, "; its standard error ends with:\n{text}"),
        }
    }
}

impl std::error::Error for CallError {}

/// How far a call had come. There are no others: tests go through all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// No worker had it yet.
    Queue,
    /// It was not written completely.
    Write,
    /// The worker had it, and had not begun to answer.
    Wait,
    /// A part of the answer had come.
    Read,
}

impl Phase {
    /// Every phase, in the order in which a call goes through them.
    pub const ALL: [Phase; 4] = [Phase::Queue, Phase::Write, Phase::Wait, Phase::Read];
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Queue => "waiting for a worker",
            Phase::Write => "writing the request",
            Phase::Wait => "waiting for the answer",
            Phase::Read => "reading the answer",
        })
    }
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// Its deadline passed.
    Deadline,
    /// The worker ended.
    Exited(Death),
    /// The worker closed its end of the channel and lives on.
    Closed,
    /// What the worker said cannot be understood.
    Malformed(Malformed),
    /// The worker says that it could not do it.
    Failed(String),
    /// The request cannot be said in this protocol; nothing was sent.
    Refused(Malformed),
    /// An earlier call on this worker was dropped or failed halfway; nothing was sent.
    Desynchronised,
    /// The dispatcher has been closed, or has no room in its queue.
    NotAccepted,
    /// No worker could be had; the text is the pool's.
    NoWorker(String),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Deadline => f.write_str("the deadline passed"),
            Cause::Exited(death) => write!(f, "the worker {death}"),
            Cause::Closed => f.write_str("the worker closed its output and lives on"),
            Cause::Malformed(what) => write!(f, "the worker cannot be understood: {what}"),
            Cause::Failed(why) => write!(f, "the worker could not do it: {why}"),
            Cause::Refused(why) => write!(f, "the request cannot be sent: {why}"),
            Cause::Desynchronised => f.write_str("an earlier call left this worker halfway; discard it"),
            Cause::NotAccepted => f.write_str("closed, or too many calls are waiting"),
            Cause::NoWorker(why) => write!(f, "no worker could be had: {why}"),
        }
    }
}
