//! [`Arena`]: memory shared with the pool, for payloads that are too large for a pipe.

#![allow(unsafe_code, reason = "maps a descriptor that the pool handed over")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU64;
#[cfg(any(test, not(target_arch = "x86_64")))]
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

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
/// answered. The worker trusts the pool to keep to that, and uses plain slices. The pool does not trust
/// the worker: a slice whose bytes change would be undefined behaviour, so it only copies, into the requests'
/// half and out of the answers'. A worker that breaks the rule changes the bytes that are copied, and nothing else.
pub struct Arena {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to no thread, and goes with its only owner.
unsafe impl Send for Arena {}
// SAFETY: `&Arena` gives copies and atomics; whatever else writes takes `&mut Arena`.
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
        let start = unsafe { mmap(ptr::null_mut(), len, PROT_READ_WRITE, MAP_SHARED, file.as_raw_fd(), 0) };
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

    /// Copies bytes into the half for requests, `at` bytes behind its beginning.
    ///
    /// # Panics
    ///
    /// If they do not fit there.
    pub fn write_request(&mut self, at: usize, bytes: &[u8]) {
        assert!(self.has(at, bytes.len()), "outside the arena");
        // SAFETY: the bytes are the caller's and initialised; in this half they have room.
        unsafe { copy_in(bytes.as_ptr(), self.start.as_ptr().add(at), bytes.len()) };
    }

    /// Adds the first `len` bytes of the half for requests to a vector.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    pub fn append_request(&self, len: usize, to: &mut Vec<u8>) {
        self.append(0, 0, len, to);
    }

    /// Copies bytes out of the half for answers, from `at` bytes behind its beginning.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    pub fn read_answer(&self, at: usize, into: &mut [u8]) {
        assert!(self.has(at, into.len()), "outside the arena");
        // SAFETY: so many bytes lie in the second half, and the target is the caller's alone.
        unsafe { copy_out(self.start.as_ptr().add(self.half() + at), into.as_mut_ptr(), into.len()) };
    }

    /// Adds `len` bytes of the half for answers, from `at` bytes behind its beginning, to a vector.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    pub fn append_answer(&self, at: usize, len: usize, to: &mut Vec<u8>) {
        self.append(self.half(), at, len, to);
    }

    /// Adds bytes of the half that begins there.
    fn append(&self, half: usize, at: usize, len: usize, to: &mut Vec<u8>) {
        assert!(self.has(at, len), "outside the arena");
        to.reserve(len);
        let room = to.spare_capacity_mut();
        // SAFETY: so many bytes lie in that half, and behind the vector's end there is room for them, which is
        // initialised when its length says so.
        unsafe {
            copy_out(self.start.as_ptr().add(half + at), room.as_mut_ptr().cast(), len);
            to.set_len(to.len() + len);
        }
    }

    /// Whether a half has so many bytes there.
    fn has(&self, at: usize, len: usize) -> bool {
        at.checked_add(len).is_some_and(|end| end <= self.half())
    }
}

/// Copies between memory of this process's own and memory that another process may write to at any time.
///
/// A data race is undefined behaviour where the compiler knows of the access, in `ptr::copy` as in a slice. It
/// knows nothing of what this instruction does, which reads each byte once, whichever it is: at the speed of the C
/// library's copy where the processor has fast strings (`erms`), as Intel's since 2012 and AMD's since 2020.
///
/// # Safety
///
/// So many bytes are mapped at `from`, and can be written to at `to`; they do not overlap.
#[cfg(target_arch = "x86_64")]
unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: the caller vouches for the memory; the direction flag is clear, as everywhere in Rust.
    unsafe {
        std::arch::asm!(
            "rep movsb",
            inout("rcx") len => _, inout("rsi") from => _, inout("rdi") to => _,
            options(nostack, preserves_flags),
        );
    }
}

#[cfg(target_arch = "x86_64")]
use {copy as copy_in, copy as copy_out};
#[cfg(not(target_arch = "x86_64"))]
use {copy_in_by_atomics as copy_in, copy_out_by_atomics as copy_out};

/// As `copy`, to memory that others may use at the same time: accesses that are atomic do not race.
///
/// # Safety
///
/// So many bytes can be read at `from`, which nobody writes to, and written to at `to`; they do not overlap.
#[cfg(any(test, not(target_arch = "x86_64")))]
unsafe fn copy_in_by_atomics(from: *const u8, to: *mut u8, len: usize) {
    let words = words(to, len);
    // SAFETY: the caller vouches for the memory; the target is aligned where it is used in words.
    unsafe {
        for at in 0..words {
            let word = from.cast::<u64>().add(at).read_unaligned();
            AtomicU64::from_ptr(to.cast::<u64>().add(at)).store(word, Relaxed);
        }
        for at in words * 8..len {
            AtomicU8::from_ptr(to.add(at)).store(from.add(at).read(), Relaxed);
        }
    }
}

/// As `copy`, from memory that others may use at the same time and that can be written to.
///
/// # Safety
///
/// So many bytes are mapped at `from`, and can be written to at `to`, which nobody else uses; they do not overlap.
#[cfg(any(test, not(target_arch = "x86_64")))]
unsafe fn copy_out_by_atomics(from: *const u8, to: *mut u8, len: usize) {
    let words = words(from, len);
    // SAFETY: the caller vouches for the memory; the source is aligned where it is used in words.
    unsafe {
        for at in 0..words {
            let word = AtomicU64::from_ptr(from.cast_mut().cast::<u64>().add(at)).load(Relaxed);
            to.cast::<u64>().add(at).write_unaligned(word);
        }
        for at in words * 8..len {
            to.add(at).write(AtomicU8::from_ptr(from.cast_mut().add(at)).load(Relaxed));
        }
    }
}

/// How many words of shared memory can be copied at once.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn words(shared: *const u8, len: usize) -> usize {
    if shared.addr().is_multiple_of(8) { len / 8 } else { 0 }
}

impl Arena {
    /// The request half to read and the answer half to write.
    pub(crate) fn halves(&mut self) -> (&[u8], &mut [u8]) {
        let half = self.half();
        // SAFETY: both lie in a live mapping that nothing else in this process points to, for as long as `self` is
        // borrowed, and do not overlap. The pool keeps off while the worker has its turn.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_copied_and_no_other() {
        let mut from: Vec<u8> = (0..100).collect();
        let ways: [unsafe fn(*const u8, *mut u8, usize); 4] =
            [copy_in, copy_out, copy_in_by_atomics, copy_out_by_atomics];
        for copy in ways {
            for (at, len) in [(0, 0), (0, 1), (0, 64), (0, 77), (3, 16), (8, 92)] {
                let mut to = [255; 110];
                // SAFETY: both have so many bytes there, and are this function's own.
                unsafe { copy(from[at..].as_mut_ptr(), to[8..].as_mut_ptr(), len) };
                assert_eq!(to[8..8 + len], from[at..at + len]);
                assert!(to[..8].iter().chain(&to[8 + len..]).all(|byte| *byte == 255));
            }
        }
    }
}
