//! [`Input`]: the bytes that a worker has sent and that nobody has used yet.

use super::Malformed;

/// How many bytes are asked for at a time when nothing is known about the message.
const CHUNK: usize = 64 * 1024;

/// Bytes that wait to be understood.
#[derive(Debug)]
pub struct Input {
    bytes: Vec<u8>,
    /// Everything before it has been consumed.
    start: usize,
    /// How many bytes the message at `start` has in all, as far as the protocol knows.
    wanted: usize,
    max: usize,
}

impl Input {
    /// An empty one that refuses messages of more than `max` bytes.
    pub fn new(max: usize) -> Self {
        Self { bytes: Vec::with_capacity(CHUNK), start: 0, wanted: 0, max }
    }

    /// What has arrived and is not consumed.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Whether everything has been consumed.
    pub fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// The largest message, in bytes.
    pub fn max(&self) -> usize {
        self.max
    }

    /// Says that the message has `len` bytes in all.
    ///
    /// # Errors
    ///
    /// [`Malformed::TooLarge`] if that is more than is allowed.
    pub fn want(&mut self, len: usize) -> Result<(), Malformed> {
        if len > self.max {
            return Err(Malformed::TooLarge { len, max: self.max });
        }
        self.wanted = len;
        Ok(())
    }

    /// Says that the message's length is not known before its end.
    ///
    /// # Errors
    ///
    /// [`Malformed::TooLarge`] if what is here is already more than is allowed.
    pub fn want_more(&mut self) -> Result<(), Malformed> {
        self.want(self.bytes().len() + 1)
    }

    /// Drops the first `len` bytes.
    ///
    /// # Panics
    ///
    /// If there are fewer.
    pub fn consume(&mut self, len: usize) {
        assert!(len <= self.bytes().len(), "more consumed than there is");
        self.start += len;
        self.wanted = 0;
        if self.is_empty() {
            self.bytes.clear();
            self.start = 0;
        }
    }

    /// Takes the first `len` bytes out, without copying them if they are many and nothing follows.
    ///
    /// # Panics
    ///
    /// If there are fewer.
    pub fn take(&mut self, len: usize) -> Vec<u8> {
        if len < CHUNK || self.start + len < self.bytes.len() {
            let taken = self.bytes()[..len].to_vec();
            self.consume(len);
            return taken;
        }
        let mut taken = std::mem::replace(&mut self.bytes, Vec::with_capacity(CHUNK));
        taken.drain(..self.start);
        self.start = 0;
        self.wanted = 0;
        taken
    }

    /// Adds bytes.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The place for what is read next: room for the rest of the message and then some.
    pub(crate) fn room(&mut self) -> &mut Vec<u8> {
        let rest = (self.start + self.wanted).saturating_sub(self.bytes.len());
        if self.start > 0 && self.bytes.capacity() - self.bytes.len() < rest.max(CHUNK / 2) {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        if self.bytes.capacity() == self.bytes.len() || rest > self.bytes.capacity() - self.bytes.len() {
            self.bytes.reserve(rest.max(CHUNK / 2));
        }
        &mut self.bytes
    }
}
