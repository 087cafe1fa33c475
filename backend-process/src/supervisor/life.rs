//! [`Life`]: what is known of a process, shared by its handle and its supervisor. [`Child`]: the handle.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use poolyard_core::Gone;
use rustix::process::Signal;
use tokio::sync::Notify;

use super::Supervisor;
use super::tail::Tail;
use crate::exit::{Death, Exit, Kill};
use crate::sys::wait;

#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) pid: i32,
    /// Closed when the process is buried.
    pidfd: Mutex<Option<OwnedFd>>,
    death: OnceLock<Death>,
    /// It is reaped, and nothing is left of what it had started.
    buried: AtomicBool,
    /// Who is told of its death.
    gone: Mutex<Option<Gone>>,
    /// Why we killed it, set before the signal is sent.
    kill: Mutex<Option<Kill>>,
    ended: Notify,
    /// Who is at the worker, in a call: it has one at a time.
    caller: Mutex<Option<Waker>>,
    pub(super) stderr: Mutex<Tail>,
}

impl Life {
    pub(super) fn new(pid: i32, pidfd: OwnedFd, tail: usize) -> Self {
        let (death, buried, gone, kill, ended, caller) = Default::default();
        let (pidfd, stderr) = (Mutex::new(Some(pidfd)), Mutex::new(Tail::new(tail)));
        Self { pid, pidfd, death, buried, gone, kill, ended, caller, stderr }
    }

    /// Does something with the process's handle, if it is not buried.
    pub(crate) fn with_pidfd<T>(&self, act: impl FnOnce(&OwnedFd) -> T) -> Option<T> {
        self.pidfd.lock().as_ref().map(act)
    }

    pub(crate) fn death(&self) -> Option<Death> {
        self.death.get().copied()
    }

    /// Waits for the end of the process. May be dropped at any time.
    pub(crate) async fn died(&self) -> Death {
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            ended.as_mut().enable();
            if let Some(death) = self.death() {
                return death;
            }
            ended.await;
        }
    }

    /// As [`died`](Life::died), for the one caller that the worker has at a time. Its waker stays until the next
    /// one comes: to put oneself into a list and out of it again costs more on every call.
    pub(crate) fn poll_died(&self, cx: &Context<'_>) -> Poll<Death> {
        let mut caller = self.caller.lock();
        if let Some(death) = self.death() {
            return Poll::Ready(death);
        }
        if caller.as_ref().is_none_or(|caller| !caller.will_wake(cx.waker())) {
            *caller = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Waits until nothing is left of the process and of what it had started. May be dropped at any time.
    pub(crate) async fn buried(&self) {
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            ended.as_mut().enable();
            if self.buried.load(Ordering::Acquire) {
                return;
            }
            ended.await;
        }
    }

    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().text()
    }

    /// Keeps the first reason.
    pub(super) fn blame(&self, kill: Kill) {
        self.kill.lock().get_or_insert(kill);
    }

    /// Tells everyone of the death.
    pub(super) fn end(&self, exit: Exit) {
        let death = Death { exit, kill: *self.kill.lock() };
        let _ = self.death.set(death);
        self.ended.notify_waiters();
        let caller = self.caller.lock().take();
        caller.into_iter().for_each(Waker::wake);
        if let Some(gone) = self.gone.lock().take() {
            gone.report(death.to_string());
        }
    }

    /// Has the death reported. A process that is dead already is reported at once.
    pub(crate) fn report_to(&self, gone: Gone) {
        let mut waiting = self.gone.lock();
        match self.death() {
            Some(death) => gone.report(death.to_string()),
            None => *waiting = Some(gone),
        }
    }

    pub(super) fn bury(&self) {
        drop(self.pidfd.lock().take());
        self.buried.store(true, Ordering::Release);
        self.ended.notify_waiters();
    }
}

/// A process that ends with its handle.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) life: Arc<Life>,
    pub(super) token: u64,
    pub(super) supervisor: Supervisor,
}

impl Child {
    /// Kills the process and everything that it has started. Does not wait; the supervisor reaps it.
    pub(crate) fn kill(&self, kill: Kill) {
        if self.life.death().is_none() {
            self.life.blame(kill);
            // At once: when the owner closes the channel now, the worker must not end by itself before what
            // it has started is found through it.
            self.life.with_pidfd(wait::stop);
            self.supervisor.kill(self.token);
        }
    }
}

impl Child {
    /// Sends a signal to the process alone. Numbers that are no signal are not sent.
    pub(crate) fn signal(&self, signal: i32) {
        if let Some(signal) = Signal::from_named_raw(signal) {
            self.life.with_pidfd(|pidfd| wait::signal(pidfd, signal));
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill(Kill::Dropped);
    }
}
