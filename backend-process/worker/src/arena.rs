//! [`Arena`]: memory shared with the pool, for payloads that are too large for a pipe.

#![allow(unsafe_code, reason = "maps a descriptor that the pool handed over")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

/// Names the descriptor of the arena.
pub(crate) const ARENA: &str = "POOLYARD_ARENA";

const PROT_READ_WRITE: i32 = 3;
const MAP_SHARED: i32 = 1;

unsafe extern "C" {
    fn mmap(addr: *mut u8, len: usize, prot: i32, flags: i32, fd: RawFd, offset: i64) -> *mut u8;
    fn munmap(addr: *mut u8, len: usize) -> i32;
}

/// A shared mapping whose first half carries requests and whose second half carries answers.
///
/// Only one side uses it at a time: the pool until it has sent a call, the worker until it has
/// answered. A half is therefore read and written through plain slices, behind `&mut self`.
pub struct Arena {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is reached through `&mut self` only, and belongs to no thread.
unsafe impl Send for Arena {}
// SAFETY: as above; `&Arena` gives nothing away but its size.
unsafe impl Sync for Arena {}

impl Arena {
    /// Maps all of `file`, whose length must be even and not change any more.
    ///
    /// # Errors
    ///
    /// What the system says to mapping it; an empty file cannot be mapped.
    pub fn map(file: OwnedFd) -> io::Result<Self> {
        let file = File::from(file);
        let len = usize::try_from(file.metadata()?.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        // SAFETY: a new shared mapping at an address that the kernel chooses overlaps nothing; the
        // descriptor is open and may be closed after the call.
        let start =
            unsafe { mmap(std::ptr::null_mut(), len, PROT_READ_WRITE, MAP_SHARED, file.as_raw_fd(), 0) };
        match NonNull::new(start) {
            Some(start) if start.as_ptr().addr() != usize::MAX => Ok(Self { start, len }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    pub(crate) fn from_env() -> io::Result<Option<Self>> {
        let fd = std::env::var(ARENA).ok().and_then(|fd| fd.parse::<RawFd>().ok());
        fd.map(Self::map_fd).transpose()
    }

    /// Maps the descriptor with this number and closes it.
    pub(crate) fn map_fd(fd: RawFd) -> io::Result<Self> {
        // SAFETY: the pool opened this descriptor for this purpose and told nobody else its number.
        Self::map(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// The `index`th word of the mapping, for counters that both sides read at any time.
    pub(crate) fn word(&self, index: usize) -> &AtomicU64 {
        assert!((index + 1) * 8 <= self.len, "word {index} lies outside the arena");
        // SAFETY: inside the mapping, aligned because the mapping starts on a page, and atomics may be
        // shared between processes. A mapping whose words are used is never used through slices.
        unsafe { self.start.cast::<AtomicU64>().add(index).as_ref() }
    }

    /// The largest request, and the largest answer, in bytes.
    pub fn half(&self) -> usize {
        self.len / 2
    }

    /// The request half.
    pub fn request(&mut self) -> &mut [u8] {
        // SAFETY: the first half of a live mapping that nothing else in this process points to, for as
        // long as `self` is borrowed. The other process keeps off while this side has its turn; if
        // it breaks that promise the bytes are wrong, and bytes are never taken for anything else.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.half()) }
    }

    /// The answer half.
    pub fn answer(&mut self) -> &mut [u8] {
        // SAFETY: as in `request`, for the second half.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().add(self.half()), self.half()) }
    }
}

impl Arena {
    /// The request half to read and the answer half to write.
    pub(crate) fn halves(&mut self) -> (&[u8], &mut [u8]) {
        let half = self.half();
        // SAFETY: as in `request`; the halves do not overlap.
        unsafe {
            let start = self.start.as_ptr();
            (std::slice::from_raw_parts(start, half), std::slice::from_raw_parts_mut(start.add(half), half))
        }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` with this length, and no slice of it outlives `self`.
        unsafe { munmap(self.start.as_ptr(), self.len) };
    }
}
