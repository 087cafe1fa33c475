//! One waiter: a caller's place in the queue of its key.

use std::panic::Location;

use super::list::{Link, Linked};
use crate::error::Phase;
use crate::time::Time;

/// The lists a waiter can be in.
pub(crate) const IN_GROUP: u8 = 0;
pub(crate) const BY_ARRIVAL: u8 = 1;

/// What has become of a waiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It stands in the queue.
    Waiting,
    /// This slot is promised to it.
    Granted(u32),
    /// Its deadline passed while it waited for this.
    TimedOut(Phase),
    /// The pool was closed.
    Closed,
    /// A creation failed; the error lies with the shell.
    CreateFailed,
    /// Only a creation could serve it, and none is tried until then.
    CircuitOpen(Time),
}

#[derive(Clone, Debug)]
pub(crate) struct Waiter {
    pub(crate) group: u32,
    /// Its place in the order of arrival of all waiters.
    pub(crate) ticket: u64,
    pub(crate) deadline: Time,
    /// Its deadline stands in the sorted set, not in the list by arrival.
    pub(crate) own_deadline: bool,
    /// How many resources had passed an older waiter of another key when it came.
    pub(crate) passes_before: u64,
    /// How many times what was promised to it was taken by somebody else.
    pub(crate) robbed: u64,
    pub(crate) fate: Fate,
    pub(crate) location: &'static Location<'static>,
    pub(crate) in_group: Link,
    pub(crate) by_arrival: Link,
}

impl Linked<IN_GROUP> for Waiter {
    fn link(&self) -> &Link {
        &self.in_group
    }

    fn link_mut(&mut self) -> &mut Link {
        &mut self.in_group
    }
}

impl Linked<BY_ARRIVAL> for Waiter {
    fn link(&self) -> &Link {
        &self.by_arrival
    }

    fn link_mut(&mut self) -> &mut Link {
        &mut self.by_arrival
    }
}
