//! Where a worker's frames come in and go out, and how standard output is kept free of them.

#![allow(unsafe_code, reason = "dup2, and descriptor numbers handed over by the pool")]

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, RawFd};

use crate::wire::{HEADER, Header, Kind};

/// Names the descriptors of the channel, as `in,out`. Without it they are 0 and 1.
pub(crate) const CHANNEL: &str = "POOLYARD_CHANNEL";

/// How much is read at a time at first. A worker is sooner ready if it need not touch more memory.
const SMALL: usize = 4 * 1024;
/// How much is read at a time once more than [`SMALL`] was there, and from what size on a payload is written from
/// where it lies.
const LARGE: usize = 64 * 1024;
/// Room of more than this is not kept between calls.
const KEPT: usize = 2 << 20;

/// Empties a buffer for the next call. One that is given back to the system is made of fresh pages the next time,
/// which costs more than what is then done with them.
pub(crate) fn keep(mut buffer: Vec<u8>) -> Vec<u8> {
    if buffer.capacity() > KEPT {
        return Vec::new();
    }
    buffer.clear();
    buffer
}

/// What a frame carries. Dereferences to its bytes.
#[derive(Default)]
pub(crate) struct Payload {
    /// As long as the longest so far: what has been overwritten once need not be made of zeros again.
    room: Vec<u8>,
    len: usize,
}

impl Payload {
    /// Room for so many bytes.
    fn fit(mut self, len: usize) -> Self {
        if self.room.len() < len {
            self.room = vec![0; len];
        }
        self.len = len;
        self
    }
}

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.room[..self.len]
    }
}

unsafe extern "C" {
    fn dup2(from: RawFd, to: RawFd) -> RawFd;
}

/// Both directions of the connection with the pool.
pub(crate) struct Channel {
    input: File,
    output: File,
    /// Bytes read and not yet consumed: `buffer[start..end]`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// For the next payload.
    spare: Payload,
    /// Frames that wait to be written together.
    pending: Vec<u8>,
}

impl Channel {
    pub(crate) fn from_env() -> io::Result<Self> {
        match std::env::var(CHANNEL) {
            Ok(pair) => {
                let (input, output) = parse_pair(&pair)?;
                // SAFETY: the pool opened these two descriptors for this purpose, and nobody else in
                // this process was told their numbers.
                Ok(unsafe { Self::new(File::from_raw_fd(input), File::from_raw_fd(output)) })
            }
            Err(_) => Self::from_stdio(),
        }
    }

    /// Takes standard input and output over. Prints go to standard error from now on, and reads of
    /// standard input find its end, so that neither can get into the frames.
    fn from_stdio() -> io::Result<Self> {
        let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        redirect(File::open("/dev/null")?.as_raw_fd(), 0)?;
        redirect(2, 1)?;
        Ok(Self::new(input, output))
    }

    pub(crate) fn new(input: File, output: File) -> Self {
        Self {
            input,
            output,
            buffer: vec![0; SMALL],
            start: 0,
            end: 0,
            spare: Payload::default(),
            pending: Vec::new(),
        }
    }

    /// The next frame, or `None` at the end of input. Writes what is pending before it would block.
    pub(crate) fn next(&mut self) -> io::Result<Option<(Header, Payload)>> {
        if !self.fill(HEADER)? {
            return Ok(None);
        }
        let mut bytes = [0; HEADER];
        bytes.copy_from_slice(&self.buffer[self.start..self.start + HEADER]);
        self.start += HEADER;
        let header = Header::parse(&bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        let payload = self.payload(header.len as usize)?;
        Ok(Some((header, payload)))
    }

    fn payload(&mut self, len: usize) -> io::Result<Payload> {
        let mut payload = std::mem::take(&mut self.spare).fit(len);
        let buffered = len.min(self.end - self.start);
        let (front, rest) = payload.room[..len].split_at_mut(buffered);
        front.copy_from_slice(&self.buffer[self.start..self.start + buffered]);
        self.start += buffered;
        self.input.read_exact(rest)?;
        Ok(payload)
    }

    /// Takes a payload back that nobody reads any more.
    pub(crate) fn give_back(&mut self, payload: Payload) {
        if payload.room.len() <= KEPT {
            self.spare = payload;
        }
    }

    /// Reads until `want` bytes are buffered; false if the input ended before the first of them.
    fn fill(&mut self, want: usize) -> io::Result<bool> {
        while self.end - self.start < want {
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            }
            self.flush()?;
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) if self.end == 0 => return Ok(false),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.filled(n),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    /// Takes in what was read. Where it was all that there was room for, the next read has more.
    fn filled(&mut self, count: usize) {
        self.end += count;
        if self.end == SMALL && self.buffer.len() == SMALL {
            self.buffer.resize(LARGE, 0);
        }
    }

    /// Adds a frame to what is written at the next flush. A large one is written at once.
    pub(crate) fn push(&mut self, id: u32, kind: Kind, payload: &[u8]) -> io::Result<()> {
        let len = u32::try_from(payload.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.pending.extend_from_slice(&Header { len, id, kind }.to_bytes());
        if payload.len() >= LARGE {
            return self.write_with(payload);
        }
        self.pending.extend_from_slice(payload);
        Ok(())
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() { Ok(()) } else { self.write_with(&[]) }
    }

    /// Writes what is pending and these bytes behind it, which are not copied together for that.
    fn write_with(&mut self, payload: &[u8]) -> io::Result<()> {
        let mut parts = [IoSlice::new(&self.pending), IoSlice::new(payload)];
        let mut parts = &mut parts[..];
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            match self.output.write_vectored(parts) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => IoSlice::advance_slices(&mut parts, count),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.pending.clear();
        Ok(())
    }
}

fn parse_pair(pair: &str) -> io::Result<(RawFd, RawFd)> {
    let bad =
        || io::Error::new(io::ErrorKind::InvalidInput, format!("{CHANNEL} must be \"in,out\": {pair:?}"));
    let (input, output) = pair.split_once(',').ok_or_else(bad)?;
    Ok((input.parse().map_err(|_| bad())?, output.parse().map_err(|_| bad())?))
}

fn redirect(from: RawFd, to: RawFd) -> io::Result<()> {
    // SAFETY: both numbers are open; `to` is one of the standard descriptors, which Rust never closes.
    if unsafe { dup2(from, to) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
