//! Counts what a subject takes from the heap. A program that wants figures makes [`Counting`] its
//! global allocator; outside `count` it costs one load per call.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};

static ON: AtomicBool = AtomicBool::new(false);
static CALLS: AtomicI64 = AtomicI64::new(0);
static LIVE: AtomicI64 = AtomicI64::new(0);

/// The system's allocator, with an eye on it.
#[derive(Debug)]
pub struct Counting;

/// What happened on the heap while it was watched.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heap {
    /// Allocations and reallocations.
    pub calls: i64,
    /// Bytes allocated and not freed.
    pub live: i64,
}

/// Starts to count, from zero.
pub fn start() {
    CALLS.store(0, Relaxed);
    LIVE.store(0, Relaxed);
    ON.store(true, Relaxed);
}

/// Stops counting: what all threads did since [`start`].
pub fn stop() -> Heap {
    ON.store(false, Relaxed);
    Heap { calls: CALLS.load(Relaxed), live: LIVE.load(Relaxed) }
}

fn note(calls: i64, bytes: i64) {
    if ON.load(Relaxed) {
        CALLS.fetch_add(calls, Relaxed);
        LIVE.fetch_add(bytes, Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator unchanged; counting allocates nothing.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size() as i64);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        note(0, -(layout.size() as i64));
        // SAFETY: `block` came from `System` with this layout.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(1, size as i64 - layout.size() as i64);
        // SAFETY: `block` came from `System` with this layout; the caller answers for `size`.
        unsafe { System.realloc(block, layout, size) }
    }
}
