//! How a worker that waits for the kernel is asked to end: a signal takes away what it waits for.

#![allow(unsafe_code, reason = "a signal handler, without a foreign crate")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};

const SIGTERM: i32 = 15;
const ENOTSOCK: i32 = 88;

unsafe extern "C" {
    fn dup2(from: RawFd, to: RawFd) -> RawFd;
    fn signal(signal: i32, handler: extern "C" fn(i32)) -> usize;
}

/// What the handler of the signal puts in the place of what.
static NOWHERE: AtomicI32 = AtomicI32::new(-1);
static WAITED_FOR: AtomicI32 = AtomicI32::new(-1);

/// Takes the socket away under a call that blocks on it, which then fails: none can begin after the signal, and
/// none that has got something is interrupted halfway.
extern "C" fn take_away(_: i32) {
    let (nowhere, socket) = (NOWHERE.load(Ordering::Relaxed), WAITED_FOR.load(Ordering::Relaxed));
    if nowhere >= 0 && socket >= 0 {
        // SAFETY: `dup2` may be called in a signal handler; both numbers stay open for ever.
        unsafe { dup2(nowhere, socket) };
    }
}

/// Has SIGTERM end the wait for this socket, which is to stay open.
pub(crate) fn on_signal(socket: &OwnedFd) -> io::Result<()> {
    NOWHERE.store(File::open("/dev/null")?.into_raw_fd(), Ordering::Relaxed);
    WAITED_FOR.store(socket.as_raw_fd(), Ordering::Relaxed);
    // SAFETY: the handler only does what may be done in one.
    unsafe { signal(SIGTERM, take_away) };
    Ok(())
}

/// Whether an error means that the handler has taken the socket away.
pub(crate) fn is_due(error: &io::Error) -> bool {
    error.raw_os_error() == Some(ENOTSOCK)
}
