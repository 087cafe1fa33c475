//! Where a worker's frames come in and go out, and how standard output is kept free of them.

#![allow(unsafe_code, reason = "dup2, and descriptor numbers handed over by the pool")]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, RawFd};

use crate::wire::{HEADER, Header, Kind};

/// Names the descriptors of the channel, as `in,out`. Without it they are 0 and 1.
pub(crate) const CHANNEL: &str = "POOLYARD_CHANNEL";

/// How much is read at a time at first. A worker is sooner ready if it need not touch more memory.
const SMALL: usize = 4 * 1024;
/// How much is read at a time once more than [`SMALL`] was there.
const LARGE: usize = 64 * 1024;

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
        Self { input, output, buffer: vec![0; SMALL], start: 0, end: 0, pending: Vec::new() }
    }

    /// The next frame, or `None` at the end of input. Writes what is pending before it would block.
    pub(crate) fn next(&mut self) -> io::Result<Option<(Header, Vec<u8>)>> {
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

    fn payload(&mut self, len: usize) -> io::Result<Vec<u8>> {
        let buffered = len.min(self.end - self.start);
        let mut payload = Vec::with_capacity(len);
        payload.extend_from_slice(&self.buffer[self.start..self.start + buffered]);
        self.start += buffered;
        if buffered < len {
            let rest = (len - buffered) as u64;
            if (&self.input).take(rest).read_to_end(&mut payload)? < len - buffered {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(payload)
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

    /// Adds a frame to what is written at the next flush.
    pub(crate) fn push(&mut self, id: u32, kind: Kind, payload: &[u8]) -> io::Result<()> {
        let len = u32::try_from(payload.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.pending.extend_from_slice(&Header { len, id, kind }.to_bytes());
        self.pending.extend_from_slice(payload);
        Ok(())
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if !self.pending.is_empty() {
            self.output.write_all(&self.pending)?;
            self.pending.clear();
        }
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
