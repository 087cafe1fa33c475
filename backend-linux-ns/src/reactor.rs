//! Registers descriptors with the runtime.

use std::io;
use std::os::fd::AsRawFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers `fd` with the current runtime, which may be the pool driver's; it can be awaited from any. That runtime
/// must go on: where its thread is kept busy, limits of time and output of a command wait with everything else
/// there; where it has ended, a command ends with an error and its sandbox with it.
///
/// The successor of this tokio function is too new for the versions that we support; what it guards
/// against (a value whose descriptor changes or is closed early) none of our types does.
#[allow(deprecated)]
pub(crate) fn register<T: AsRawFd>(fd: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(fd, interest)
}
