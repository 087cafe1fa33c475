//! [`Queue`]: calls that several workers take from one socket, whoever is free first.

#![allow(unsafe_code, reason = "receives from a descriptor that the pool handed over")]

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::leave;
use crate::scoreboard::Scoreboard;
use crate::wire::{HEADER, Header, Kind};

/// Names the descriptor of the queue.
pub(crate) const QUEUE: &str = "POOLYARD_QUEUE";

/// The largest call that such a queue carries, its header included, in bytes: it is one message.
pub const MAX_QUEUED: usize = 64 * 1024;

unsafe extern "C" {
    fn recv(fd: RawFd, buffer: *mut c_void, len: usize, flags: i32) -> isize;
}

/// The end of the queue that all workers have.
pub(crate) struct Queue {
    socket: OwnedFd,
    /// Where the pool sees which call this worker has, even after a sudden death.
    score: Scoreboard,
    message: Vec<u8>,
}

impl Queue {
    pub(crate) fn from_env(score: Option<&Scoreboard>) -> io::Result<Option<Self>> {
        let fd = std::env::var(QUEUE).ok().and_then(|fd| fd.parse::<RawFd>().ok());
        let (Some(fd), Some(score)) = (fd, score) else { return Ok(None) };
        // SAFETY: the pool opened this descriptor for this purpose and told nobody else its number.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        leave::on_signal(&socket)?;
        Ok(Some(Self { socket, score: score.clone(), message: vec![0; MAX_QUEUED] }))
    }

    /// The next call; `None` when this worker is to end. The one before must have been answered.
    pub(crate) fn next(&mut self) -> io::Result<Option<(Header, &[u8])>> {
        self.score.serves(0);
        let len = loop {
            let room = self.message.as_mut_ptr().cast();
            // SAFETY: the kernel writes at most as many bytes as the buffer has.
            let len = unsafe { recv(self.socket.as_raw_fd(), room, self.message.len(), 0) };
            match usize::try_from(len) {
                Ok(0) => return Ok(None),
                Ok(len) => break len,
                Err(_) => {
                    let error = io::Error::last_os_error();
                    if leave::is_due(&error) {
                        return Ok(None);
                    }
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        };
        let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
        let (head, payload) =
            self.message[..len].split_first_chunk::<HEADER>().ok_or_else(|| wrong("half a header".into()))?;
        let header = Header::parse(head).map_err(|bad| wrong(bad.to_string()))?;
        self.score.serves(header.id);
        match header.kind {
            Kind::Call if header.len as usize == payload.len() => Ok(Some((header, payload))),
            kind => Err(wrong(format!("a {kind:?} of {} bytes came by the queue of calls", payload.len()))),
        }
    }
}
