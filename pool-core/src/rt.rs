//! The runtime on which the driver lives. The only file that names one.

use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use tokio::runtime::{Handle, RuntimeFlavor};

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

/// Whether timers of this runtime ring though nobody is in it.
pub(crate) fn is_steady(handle: &Handle) -> bool {
    handle.runtime_flavor() == RuntimeFlavor::MultiThread
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

#[cfg(not(any(poolyard_loom, poolyard_shuttle)))]
pub(crate) use self::real::{spawn, spawn_thread};

#[cfg(any(poolyard_loom, poolyard_shuttle))]
pub(crate) use self::model::{spawn, spawn_thread};

#[cfg(not(any(poolyard_loom, poolyard_shuttle)))]
mod real {
    use super::{Future, Handle};

    /// Runs a task on `handle`'s runtime.
    pub(crate) fn spawn(handle: &Handle, task: impl Future<Output = ()> + Send + 'static) {
        drop(handle.spawn(task));
    }

    /// Runs what `driver` makes on a thread and a small runtime of its own until it ends.
    pub(crate) fn spawn_thread<F: Future<Output = ()>>(
        name: String,
        driver: impl FnOnce(Handle) -> F + Send + 'static,
    ) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let run = move || runtime.block_on(driver(runtime.handle().clone()));
        std::thread::Builder::new().name(name).spawn(run).map(drop)
    }
}

/// What a model checker runs instead: threads are the model's, a task runs to its end where it is
/// started, and no timer rings, because nobody runs the runtime that has it.
#[cfg(any(poolyard_loom, poolyard_shuttle))]
mod model {
    use std::sync::LazyLock;

    #[cfg(poolyard_loom)]
    use loom::{future::block_on, thread};
    #[cfg(all(poolyard_shuttle, not(poolyard_loom)))]
    use shuttle::{future::block_on, thread};
    use tokio::runtime::{Builder, Runtime};

    use super::{Future, Handle};

    static CLOCK: LazyLock<Runtime> = LazyLock::new(|| {
        Builder::new_current_thread().enable_time().build().expect("a runtime without I/O can be made")
    });

    pub(crate) fn spawn(_: &Handle, task: impl Future<Output = ()> + Send + 'static) {
        block_on(task);
    }

    pub(crate) fn spawn_thread<F: Future<Output = ()>>(
        _: String,
        driver: impl FnOnce(Handle) -> F + Send + 'static,
    ) -> std::io::Result<()> {
        drop(thread::spawn(move || block_on(driver(CLOCK.handle().clone()))));
        Ok(())
    }
}
