//! The runtime on which the driver lives. The only file that names one.

use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use tokio::runtime::Handle;

/// Where the driver runs.
#[derive(Clone, Debug, Default)]
pub(crate) enum Placement {
    /// On the runtime of whoever needs it first, or on a thread of its own where there is none.
    #[default]
    FirstUse,
    /// On this runtime, or as with `FirstUse` once it has ended.
    Runtime(Handle),
    /// On a thread of its own.
    OwnThread,
}

/// The runtime that the calling thread is in.
pub(crate) fn current() -> Option<Handle> {
    Handle::try_current().ok()
}

/// A timer on `handle`'s clock; it can be awaited anywhere.
pub(crate) fn sleep_until(handle: &Handle, at: Option<Instant>) -> Pin<Box<tokio::time::Sleep>> {
    let _inside = handle.enter();
    Box::pin(tokio::time::sleep_until(deadline(at)))
}

/// Where there is no instant: a day from now, when whoever sleeps looks again.
pub(crate) fn deadline(at: Option<Instant>) -> tokio::time::Instant {
    match at {
        Some(at) => tokio::time::Instant::from_std(at),
        None => tokio::time::Instant::now() + std::time::Duration::from_secs(24 * 60 * 60),
    }
}

/// Runs `future` on a thread and a small runtime of its own until it ends.
pub(crate) fn spawn_thread(
    name: String,
    future: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(name).spawn(move || runtime.block_on(future)).map(drop)
}
