//! [`Scoreboard`]: where a worker says what it does, without a system call.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::arena::Arena;

/// How many bytes of the shared page belong to one worker: two cache lines.
pub const SCORE_SLOT: usize = 128;

/// Names the descriptor of the shared page.
pub(crate) const PAGE: &str = "POOLYARD_SCOREBOARD";
/// Names the worker's slot in it.
pub(crate) const SLOT: &str = "POOLYARD_SCORE_SLOT";

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It has not yet said anything.
    Starting,
    /// It waits for work.
    Idle,
    /// It works.
    Busy,
}

/// One worker's slot of the shared page.
#[derive(Clone)]
pub struct Scoreboard {
    page: Arc<Arena>,
    slot: usize,
}

impl Scoreboard {
    /// The slot `slot` of a page.
    ///
    /// # Errors
    ///
    /// If the page has no such slot.
    pub fn new(page: Arc<Arena>, slot: usize) -> io::Result<Self> {
        if (slot + 1) * SCORE_SLOT > page.half() * 2 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the scoreboard has no such slot"));
        }
        Ok(Self { page, slot })
    }

    /// The slot that the pool gave to this process, if it gave one.
    pub(crate) fn from_env() -> io::Result<Option<Self>> {
        let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<i32>().ok());
        let (Some(fd), Some(slot)) = (number(PAGE), number(SLOT)) else { return Ok(None) };
        Self::new(Arc::new(Arena::map_fd(fd)?), slot.unsigned_abs() as usize).map(Some)
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        self.page.word(self.slot * SCORE_SLOT / 8 + index)
    }

    /// Says that a call begins.
    pub fn begin(&self) {
        self.word(2).store(now(), Ordering::Relaxed);
        self.word(0).store(2, Ordering::Release);
    }

    /// Says that a call ended.
    pub fn end(&self) {
        self.word(1).fetch_add(1, Ordering::Relaxed);
        self.idle();
    }

    /// Says that the worker waits for work.
    pub fn idle(&self) {
        self.word(2).store(now(), Ordering::Relaxed);
        self.word(0).store(1, Ordering::Release);
    }

    /// Says which call it has taken from a queue; 0 = none.
    pub fn serves(&self, call: u32) {
        self.word(3).store(call.into(), Ordering::Release);
    }

    /// Which call it has taken from a queue; 0 = none.
    pub fn served(&self) -> u32 {
        self.word(3).load(Ordering::Acquire) as u32
    }

    /// Empties the slot for its next worker.
    pub fn clear(&self) {
        (0..4).for_each(|index| self.word(index).store(0, Ordering::Relaxed));
    }

    /// What the worker does.
    pub fn activity(&self) -> Activity {
        match self.word(0).load(Ordering::Acquire) {
            0 => Activity::Starting,
            1 => Activity::Idle,
            _ => Activity::Busy,
        }
    }

    /// How many calls, or connections, it has finished.
    pub fn calls(&self) -> u64 {
        self.word(1).load(Ordering::Relaxed)
    }

    /// When its activity last changed, in milliseconds since the epoch; 0 = never.
    pub fn changed(&self) -> u64 {
        self.word(2).load(Ordering::Relaxed)
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
