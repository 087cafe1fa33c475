//! [`Tree`]: the process group of one command, which is killed and reaped exactly once.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Child;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use poolyard_exec::{
    ErrorKind, ExecError, Feature, Limit, ProcessControl, Signal, Stage, TtySize, WaitStatus,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{self, Pid, PidfdFlags, pidfd_open, pidfd_send_signal};

use super::sample::Sample;

/// Why we ended a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cause {
    Limit(Limit),
    Cancelled,
}

/// The process group of one command. The number of the main process, which is the group's as well, stays
/// taken until it is reaped: so every signal is sent under the lock, and none after.
#[derive(Debug)]
pub(crate) struct Tree {
    pid: Pid,
    pidfd: OwnedFd,
    state: Mutex<State>,
    /// Closed once no process of the group is left.
    gone: tokio::sync::Semaphore,
}

#[derive(Debug, Default)]
struct State {
    reaped: bool,
    /// The first cause wins: the later ones hit a program that was already dying.
    cause: Option<Cause>,
}

impl Tree {
    /// Takes over a child that leads its own process group.
    pub(crate) fn adopt(child: &Child) -> io::Result<Arc<Self>> {
        let pid = Pid::from_child(child);
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => {
                let gone = tokio::sync::Semaphore::new(0);
                Ok(Arc::new(Self { pid, pidfd, state: Mutex::default(), gone }))
            }
            Err(error) => {
                // Neither can fail: the child is ours and not reaped.
                let _ = process::kill_process_group(pid, process::Signal::KILL);
                let _ = wait4(pid);
                Err(error.into())
            }
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Kills the group. `cause` is remembered unless the main process has ended by itself.
    pub(crate) fn end(&self, cause: Cause) {
        let mut state = self.state.lock();
        if state.reaped {
            return;
        }
        if !self.has_exited() {
            state.cause.get_or_insert(cause);
        }
        self.kill_group();
    }

    pub(crate) fn cause(&self) -> Option<Cause> {
        self.state.lock().cause
    }

    /// Whether the main process ends within `timeout`.
    pub(crate) fn exits_within(&self, timeout: Option<std::time::Duration>) -> io::Result<bool> {
        let timeout = timeout.map(|time| Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        });
        let mut fds = [PollFd::from_borrowed_fd(self.pidfd.as_fd(), PollFlags::IN)];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn has_exited(&self) -> bool {
        self.exits_within(Some(std::time::Duration::ZERO)).unwrap_or(false)
    }

    /// Kills what is left of the group and reaps the main process. Waits for it if it has not ended.
    pub(crate) fn reap(&self) -> io::Result<(WaitStatus, libc::rusage)> {
        let mut state = self.state.lock();
        self.kill_group();
        let end = wait4(self.pid);
        state.reaped = true;
        end
    }

    fn kill_group(&self) {
        // Nothing to kill is what we want.
        let _ = process::kill_process_group(self.pid, process::Signal::KILL);
    }

    /// Whether a process of the group is left. Only after [`reap`](Self::reap): the number stays taken as long
    /// as a member is left, and nothing but a look happens if it is not.
    pub(crate) fn has_members(&self) -> bool {
        process::test_kill_process_group(self.pid).is_ok() && Sample::take(self.pid).processes > 0
    }

    /// Says that no process of the group is left.
    pub(crate) fn set_gone(&self) {
        self.gone.close();
    }

    /// Resolves once no process of the group is left.
    pub(crate) async fn gone(&self) {
        // There are no permits; the only end is that the semaphore closes.
        let _ = self.gone.acquire().await;
    }

    fn signal(&self, signal: Signal) -> Result<(), ExecError> {
        let Some(signal) = process::Signal::from_named_raw(signal.number()) else {
            let field = ErrorKind::InvalidCommand { field: "signal" };
            return Err(ExecError::new(
                Stage::Run,
                field,
                "real-time signals cannot be sent here; use SIGUSR1",
            ));
        };
        let state = self.state.lock();
        if state.reaped || self.has_exited() {
            return Err(ExecError::new(
                Stage::Run,
                ErrorKind::Ended,
                "the command has ended; wait for its outcome",
            ));
        }
        pidfd_send_signal(&self.pidfd, signal).map_err(|error| {
            ExecError::new(Stage::Run, ErrorKind::Internal, "the signal could not be sent").with_source(error)
        })
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if !self.state.get_mut().reaped {
            // It was adopted, but its start did not come to an end.
            let _ = self.reap();
        }
    }
}

/// What users hold; see [`ProcessControl`].
pub(crate) struct Control {
    tree: Arc<Tree>,
}

impl Control {
    pub(crate) fn new(tree: Arc<Tree>) -> Self {
        Self { tree }
    }
}

#[async_trait]
impl ProcessControl for Control {
    async fn signal(&self, signal: Signal) -> Result<(), ExecError> {
        self.tree.signal(signal)
    }

    async fn resize(&self, _: TtySize) -> Result<(), ExecError> {
        let kind = ErrorKind::UnsupportedFeature(Feature::Tty);
        Err(ExecError::new(Stage::Run, kind, "plain processes have no terminal; use a sandbox backend"))
    }

    fn kill(&self) {
        self.tree.end(Cause::Cancelled);
    }
}

#[expect(unsafe_code, reason = "no crate that we use has wait4, which alone gives status and usage at once")]
fn wait4(pid: Pid) -> io::Result<(WaitStatus, libc::rusage)> {
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // SAFETY: both pointers are to live, writable memory of the right types, for the whole call.
        let reaped = unsafe { libc::wait4(pid.as_raw_pid(), &raw mut status, 0, usage.as_mut_ptr()) };
        if reaped == pid.as_raw_pid() {
            // SAFETY: zeroes are a valid rusage, and the kernel has written another valid one over them.
            return Ok((WaitStatus::from_raw(status), unsafe { usage.assume_init() }));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
