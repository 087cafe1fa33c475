//! Notices that the process was forked: a pool and its resources belong to the parent.
//!
//! A handler that `fork` runs in the child counts generations, so that the check costs one load.
//! A child made by a raw system call, past the C library, is not noticed.

use std::sync::atomic::{AtomicU32, Ordering};

static GENERATION: AtomicU32 = AtomicU32::new(0);

/// Changes in a child after each fork.
#[inline]
pub(crate) fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// Makes sure that forks are noticed from now on.
pub(crate) fn watch() {
    #[cfg(all(unix, not(miri)))]
    {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(at_fork);
    }
}

#[cfg(all(unix, not(miri)))]
#[allow(unsafe_code)]
fn at_fork() {
    extern "C" fn child() {
        GENERATION.fetch_add(1, Ordering::Relaxed);
    }
    // SAFETY: `child` lives as long as the program, and does nothing but an atomic addition, which
    // is async-signal-safe as code after fork must be. A failure (no memory) leaves forks unnoticed.
    unsafe { libc::pthread_atfork(None, None, Some(child)) };
}
