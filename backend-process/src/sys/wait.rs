//! Waiting for processes by their pidfd, and signalling them.

use std::os::fd::{AsFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use rustix::process::{Signal, pidfd_send_signal};

use crate::exit::Exit;

/// Takes the status of a child that has ended. Blocks if it has not.
///
/// Never waits for anyone else's children. A status that somebody else took (a `waitpid(-1)` in the
/// application, an ignored SIGCHLD) is [`Exit::Unknown`], not an error.
pub(crate) fn reap(pidfd: &OwnedFd) -> Exit {
    loop {
        match waitid(Id::PIDFd(pidfd.as_fd()), WaitPidFlag::WEXITED) {
            Ok(WaitStatus::Exited(_, code)) => return Exit::Code(code),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Exit::Signal(signal as i32),
            Err(nix::Error::EINTR) => {}
            _ => return Exit::Unknown,
        }
    }
}

/// Sends SIGKILL. A process that is already gone is fine.
pub(crate) fn kill(pidfd: &OwnedFd) {
    let _ = pidfd_send_signal(pidfd, Signal::KILL);
}

/// Stops the process, so that it cannot have more children. False if it has been reaped.
pub(crate) fn stop(pidfd: &OwnedFd) -> bool {
    pidfd_send_signal(pidfd, Signal::STOP).is_ok()
}

/// Sends a signal. A process that is already gone is fine.
pub(crate) fn signal(pidfd: &OwnedFd, signal: Signal) {
    let _ = pidfd_send_signal(pidfd, signal);
}

/// Waits for the end of a process, for so many milliseconds at most.
pub(crate) fn ended_within(pidfd: &OwnedFd, millis: u16) -> bool {
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, millis).is_ok_and(|count| count > 0)
}
