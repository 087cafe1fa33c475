//! The stream to the library: frames in, frames out, never blocking.

use alloc::vec::Vec;

use crate::sys::{self, Epoll, Errno, Fd};
use crate::wire::{self, HEADER, Header};

/// Read at once.
const PIECE: usize = 16 << 10;

pub struct Connection {
    fd: Fd,
    input: Vec<u8>,
    /// Bounded by the credit that the library gave.
    output: Vec<u8>,
    sent: usize,
    waiting: bool,
}

/// The other side has gone.
pub struct Closed;

impl Connection {
    pub fn new(fd: Fd, epoll: &Epoll, token: u64) -> Result<Connection, Errno> {
        sys::set_nonblocking(fd.0);
        epoll.add(fd.0, sys::EPOLLIN, token)?;
        Ok(Connection { fd, input: Vec::new(), output: Vec::new(), sent: 0, waiting: false })
    }

    pub fn send(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8]) {
        wire::frame(&mut self.output, kind, flags, id, payload);
    }

    /// Reads what is there and gives back all complete frames.
    pub fn receive(&mut self) -> Result<Vec<(Header, Vec<u8>)>, Closed> {
        loop {
            match sys::append(&mut self.input, self.fd.0, PIECE) {
                Ok(0) => return Err(Closed),
                Ok(_) => {}
                Err(sys::EINTR) => continue,
                Err(sys::EAGAIN) => break,
                Err(_) => return Err(Closed),
            }
            if self.input.len() > 2 * wire::MAX_PAYLOAD {
                break; // The rest stays with the kernel until these are done.
            }
        }
        self.split()
    }

    fn split(&mut self) -> Result<Vec<(Header, Vec<u8>)>, Closed> {
        let mut frames = Vec::new();
        let mut at = 0;
        while let Some(head) = self.input.get(at..at + HEADER) {
            let head = Header::read(head.try_into().expect("twelve bytes")).ok_or(Closed)?;
            let Some(payload) = self.input.get(at + HEADER..at + HEADER + head.len) else { break };
            frames.push((head, payload.to_vec()));
            at += HEADER + head.len;
        }
        self.input.drain(..at);
        Ok(frames)
    }

    /// Writes as much as fits, and asks for a call when more does.
    pub fn flush(&mut self, epoll: &Epoll, token: u64) -> Result<(), Closed> {
        while self.sent < self.output.len() {
            match sys::write(self.fd.0, &self.output[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(sys::EINTR) => {}
                Err(sys::EAGAIN) => return self.wait_for_room(true, epoll, token),
                Err(_) => return Err(Closed),
            }
        }
        self.output.clear();
        self.sent = 0;
        self.wait_for_room(false, epoll, token)
    }

    /// Before the end: blocks until everything is written.
    pub fn flush_blocking(&mut self) {
        while self.sent < self.output.len() {
            match sys::write(self.fd.0, &self.output[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(sys::EINTR) => {}
                Err(sys::EAGAIN) => sys::pause_us(200),
                Err(_) => return,
            }
        }
    }

    fn wait_for_room(&mut self, wait: bool, epoll: &Epoll, token: u64) -> Result<(), Closed> {
        if wait != self.waiting {
            self.waiting = wait;
            let events = sys::EPOLLIN | if wait { sys::EPOLLOUT } else { 0 };
            epoll.change(self.fd.0, events, token).map_err(|_| Closed)?;
        }
        Ok(())
    }
}
