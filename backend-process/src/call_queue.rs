//! [`CallQueue`]: a line of calls that the kernel keeps, and that idle workers take from by themselves.
//!
//! One end of a socket that keeps messages apart is the host's, the other one belongs to all workers, who wait
//! in `recv`: the kernel wakes one of them for a message, the one that has waited longest. There is no
//! lock that a dead worker could hold. Which call each worker has taken stands in memory that
//! outlives it.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, socketpair};
use parking_lot::Mutex;
use poolyard_worker::wire::{HEADER, Header};
use poolyard_worker::{Arena, SCORE_SLOT, Scoreboard};

use crate::sys::fds;
use crate::zygote::socket;

#[derive(Clone)]
pub(crate) struct CallQueue(Arc<Ends>);

struct Ends {
    id: u64,
    ours: OwnedFd,
    theirs: OwnedFd,
    page: OwnedFd,
    scores: Arc<Arena>,
    /// Which parts of the page belong to a worker.
    seats: Mutex<Vec<bool>>,
}

impl CallQueue {
    /// For so many workers at a time, their successors included.
    pub(crate) fn new(seats: usize) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        fds::set_nonblocking(&ours)?;
        let page = fds::memory("poolyard-queue", (seats * SCORE_SLOT).next_multiple_of(4096))?;
        let scores = Arc::new(Arena::map(page.try_clone()?)?);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(Self(Arc::new(Ends { id, ours, theirs, page, scores, seats: Mutex::new(vec![false; seats]) })))
    }

    /// Puts a call at its end; `EAGAIN` if the kernel has no room.
    pub(crate) fn push(&self, message: &[u8]) -> nix::Result<()> {
        socket::send(self.0.ours.as_fd(), message, &[])
    }

    /// The end to be watched for room.
    pub(crate) fn end(&self) -> io::Result<OwnedFd> {
        self.0.ours.try_clone()
    }

    /// The call that nobody has taken for longest.
    pub(crate) fn first(&self) -> Option<u32> {
        self.receive(MsgFlags::MSG_PEEK)
    }

    /// Takes a call back that no worker has taken, the oldest.
    pub(crate) fn take_back(&self) -> Option<u32> {
        self.receive(MsgFlags::empty())
    }

    fn receive(&self, flags: MsgFlags) -> Option<u32> {
        let mut head = [0; HEADER];
        let received = recv(self.0.theirs.as_raw_fd(), &mut head, flags | MsgFlags::MSG_DONTWAIT);
        // What is in it was encoded by this process.
        (received == Ok(HEADER)).then(|| Header::parse(&head).map_or(0, |header| header.id))
    }

    /// What a new worker is given: its end, the page, and a part of the page.
    pub(crate) fn seat(&self) -> io::Result<Seat> {
        let mut seats = self.0.seats.lock();
        let full = || io::Error::other("too many workers of this queue are still ending");
        let index = seats.iter().position(|taken| !taken).ok_or_else(full)?;
        let score = Scoreboard::new(self.0.scores.clone(), index)?;
        score.clear();
        seats[index] = true;
        Ok(Seat { queue: self.clone(), index, score })
    }

    pub(crate) fn theirs(&self) -> BorrowedFd<'_> {
        self.0.theirs.as_fd()
    }

    pub(crate) fn page(&self) -> BorrowedFd<'_> {
        self.0.page.as_fd()
    }

    /// Which calls the workers say that they have.
    pub(crate) fn taken(&self) -> Vec<u32> {
        let seats = self.0.seats.lock();
        let used = (0..seats.len()).filter(|index| seats[*index]);
        let scores = used.filter_map(|index| Scoreboard::new(self.0.scores.clone(), index).ok());
        scores.map(|score| score.served()).filter(|call| *call != 0).collect()
    }
}

impl PartialEq for CallQueue {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for CallQueue {}

impl Hash for CallQueue {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}

impl fmt::Debug for CallQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CallQueue").field(&self.0.id).finish()
    }
}

/// One worker's part of the page, its own as long as this lives.
pub(crate) struct Seat {
    queue: CallQueue,
    pub(crate) index: usize,
    score: Scoreboard,
}

impl Seat {
    /// The call that the worker has taken; 0 = none.
    pub(crate) fn call(&self) -> u32 {
        self.score.served()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.score.clear();
        self.queue.0.seats.lock()[self.index] = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use poolyard_worker::wire::Kind;

    fn call(id: u32) -> Vec<u8> {
        [&Header { len: 2, id, kind: Kind::Call }.to_bytes()[..], b"xy"].concat()
    }

    #[test]
    fn calls_stay_in_order_until_they_are_taken() {
        let queue = CallQueue::new(1).expect("a queue");
        assert_eq!((queue.first(), queue.take_back()), (None, None));
        for id in 1..=3 {
            queue.push(&call(id)).expect("room");
        }
        assert_eq!((queue.first(), queue.first()), (Some(1), Some(1)));
        let mut message = [0; 100];
        let len = recv(queue.theirs().as_raw_fd(), &mut message, MsgFlags::MSG_DONTWAIT);
        assert_eq!(&message[..len.expect("a call")], call(1));
        assert_eq!((queue.take_back(), queue.first(), queue.take_back()), (Some(2), Some(3), Some(3)));
    }

    #[test]
    fn seats_are_given_once_at_a_time_and_tell_what_is_taken() {
        let queue = CallQueue::new(2).expect("a queue");
        let (one, two) = (queue.seat().expect("a seat"), queue.seat().expect("another"));
        assert!(queue.seat().is_err() && one.index != two.index);
        one.score.serves(7);
        assert_eq!((one.call(), queue.taken()), (7, vec![7]));
        drop(one);
        assert!(queue.taken().is_empty());
        assert_eq!(queue.seat().expect("the seat that is free again").call(), 0);
    }

    #[test]
    fn a_full_queue_says_so_and_takes_more_when_there_is_room() {
        let queue = CallQueue::new(1).expect("a queue");
        let large = vec![0; poolyard_worker::MAX_QUEUED];
        let mut count = 0;
        while queue.push(&large).is_ok() {
            count += 1;
        }
        assert!(count > 0);
        assert_eq!(queue.push(&large), Err(nix::Error::EAGAIN));
        while queue.take_back().is_some() {}
        queue.push(&large).expect("room again");
    }
}
