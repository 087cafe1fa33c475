//! The zygote: one small process with one thread, from which workers are forked.
//!
//! It is this very program, executed again: [`init`], called first in `main`, diverts there and
//! returns everywhere else. It loads what all workers share once ([`Zygote::preload`]), forks the
//! workers that run an entry of this program ([`Zygote::entry`]), and starts those that execute another
//! one. It is their parent: a worker dies with it, it dies with the host, and whatever a dead
//! worker has left behind comes to it and is killed.
//!
//! Once a worker was forked, the zygote keeps a spare one, forked in advance, which the next order employs.
//!
//! The host itself is never forked: it has threads, and a fork of those hangs sooner or later.

pub(crate) mod host;
mod process;
mod serve;
pub(crate) mod socket;
mod spare;
mod wire;

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tells the program that it is to be the zygote, and by which descriptor.
const TOKEN: &str = "POOLYARD_ZYGOTE";

static AVAILABLE: AtomicBool = AtomicBool::new(false);

/// Whether [`init`] was called, so that the program can be executed again as a zygote.
pub(crate) fn is_available() -> bool {
    AVAILABLE.load(Ordering::Acquire)
}

type Entry = Box<dyn Fn() -> io::Result<()>>;

/// What the zygote loads and what it can become.
#[derive(Default)]
pub struct Zygote {
    entries: HashMap<String, Entry>,
    preload: Vec<Box<dyn FnOnce()>>,
}

impl Zygote {
    /// Runs `load` once, before the first fork: what it leaves in statics is shared by all workers
    /// until one of them writes to it. (Small parts of a program that can be written to, 1 MiB in all, a
    /// worker that is forked ahead copies while it waits.) It must not leave a thread behind.
    pub fn preload(&mut self, load: impl FnOnce() + 'static) -> &mut Self {
        self.preload.push(Box::new(load));
        self
    }

    /// Registers what a worker of [`WorkerSpec::entry`](crate::WorkerSpec::entry) with this name does.
    /// It ends with code 0 when `run` returns `Ok`, with 1 on an error and 101 on a panic, which are
    /// printed to its standard error.
    pub fn entry(
        &mut self,
        name: impl Into<String>,
        run: impl Fn() -> io::Result<()> + 'static,
    ) -> &mut Self {
        self.entries.insert(name.into(), Box::new(run));
        self
    }
}

/// Makes this program able to be its own zygote. Call it first in `main`, before any thread exists.
///
/// In the zygote it does not return. Everywhere else it returns at once, without calling `setup`.
///
/// Once an entry was asked for, the zygote keeps a process in readiness for the next one. It is named
/// `poolyard-spare` and shares the zygote's memory, except for some hundred KiB that it will write to and has copied
/// beforehand; workers of entries are named `poolyard-worker`.
///
/// ```no_run
/// use poolyard_process::worker::Worker;
///
/// fn main() {
///     poolyard_process::init(|zygote| {
///         zygote.entry("shout", || Worker::connect()?.serve(|call| Ok(call.to_ascii_uppercase())));
///     });
///     // The program proper: runtime, pool, ...
/// }
/// ```
///
/// # Panics
///
/// In the zygote, if there is already a second thread.
pub fn init(setup: impl FnOnce(&mut Zygote)) {
    let Ok(control) = std::env::var(TOKEN) else {
        AVAILABLE.store(true, Ordering::Release);
        return;
    };
    let mut zygote = Zygote::default();
    setup(&mut zygote);
    serve::serve(zygote, control.parse().unwrap_or(3));
}
