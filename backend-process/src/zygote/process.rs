//! A worker that is forked from the zygote and runs an entry of this program.

#![allow(unsafe_code, reason = "fork, and a new environment in a process with one thread")]

use std::collections::HashMap;
use std::ffi::{CString, c_char};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use nix::errno::Errno;
use nix::unistd::{ForkResult, fork as fork_process};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::Entry;
use super::wire::Order;
use crate::error::{Error, Stage};
use crate::sys::setup::{self, Failed, MAX_FDS};
use crate::sys::spawn::{Born, Image};

/// How a worker ends that could not be set up; what went wrong stands on its standard error.
const SETUP_FAILED: i32 = 127;

unsafe extern "C" {
    static mut environ: *const *const c_char;
}

/// What is the zygote's own, and no worker's.
pub(super) struct Own<'a> {
    pub(super) private: &'a [BorrowedFd<'a>],
    /// Looked up once: to reset all of them costs more than the rest of a worker's setting up.
    pub(super) changed_signals: &'a [i32],
}

/// What an order asks for.
pub(super) fn entry<'a>(entries: &'a HashMap<String, Entry>, order: &Order) -> Option<&'a Entry> {
    entries.get(order.image.path.to_str().ok()?)
}

/// Forks a worker that has `fds[i]` as its descriptor `i` and nothing that is the zygote's own.
pub(super) fn fork(entry: &Entry, image: &Image, fds: &[OwnedFd], own: &Own<'_>) -> Result<Born, Failed> {
    if fds.len() > MAX_FDS {
        return Err((Stage::Descriptors, libc::EMFILE));
    }
    let parent = std::process::id() as i32;
    // SAFETY: this process has one thread (asserted before the loop), so the child finds nothing locked.
    match unsafe { fork_process() }.map_err(|errno| (Stage::Clone, errno as i32))? {
        ForkResult::Parent { child } => admit(child.as_raw()),
        ForkResult::Child => run(entry, image, fds, own, parent),
    }
}

/// The handle on a new child.
pub(super) fn admit(pid: i32) -> Result<Born, Failed> {
    let pidfd = Pid::from_raw(pid).ok_or(rustix::io::Errno::SRCH);
    let pidfd = pidfd.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()));
    // A worker without a handle cannot be watched. It is ours and unreaped, so its number is right.
    pidfd.map(|pidfd| Born { pid, pidfd }).map_err(|errno| {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
        (Stage::Clone, errno.raw_os_error())
    })
}

/// What a forked process does from now on.
pub(super) fn run(entry: &Entry, image: &Image, fds: &[OwnedFd], own: &Own<'_>, parent: i32) -> ! {
    let environment = environment(image);
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    // SAFETY: this process has one thread. The list ends with a null, and neither it nor what it points at is
    // freed, since this process never returns from here.
    unsafe {
        environ = environment.as_ptr();
        libc::prctl(libc::PR_SET_NAME, c"poolyard-worker".as_ptr());
    }
    let code = match set_up(image, &raw, own, parent) {
        Ok(()) => call(entry),
        Err(failed) => {
            let error = Error::errno(failed);
            eprintln!("{error}: {}", Errno::from_raw(failed.1).desc());
            SETUP_FAILED
        }
    };
    // Not `exit`: the handlers registered in the zygote are not this process's to run.
    // SAFETY: ends the process.
    unsafe { libc::_exit(code) }
}

fn set_up(image: &Image, fds: &[RawFd], own: &Own<'_>, parent: i32) -> Result<(), Failed> {
    // SAFETY: a forked child has one thread, and tables of descriptors and signal actions of its own. The
    // numbers below MAX_FDS were kept free by the zygote. The received descriptors and the zygote's own
    // are used by nobody after this, since the process never returns from `run`.
    unsafe {
        setup::reset_signals(own.changed_signals.iter().copied());
        setup::install_fds(fds)?;
        setup::apply(&image.attrs, parent)?;
        for fd in fds.iter().copied().chain(own.private.iter().map(AsRawFd::as_raw_fd)) {
            libc::close(fd);
        }
        setup::close_between(fds.len(), MAX_FDS - 1);
    }
    let failed = |errno: Errno| (Stage::WorkingDirectory, errno as i32);
    image.cwd.as_ref().map_or(Ok(()), |dir| nix::unistd::chdir(dir.as_c_str()).map_err(failed))
}

/// The C library's list of variables: what it is pointed at, with a null at the end.
fn environment(image: &Image) -> Vec<*const c_char> {
    // A name has at least one byte, which may be `=` itself.
    let is_variable = |variable: &&CString| variable.as_bytes().iter().skip(1).any(|byte| *byte == b'=');
    image.envp.iter().filter(is_variable).map(|variable| variable.as_ptr()).chain([ptr::null()]).collect()
}

fn call(entry: &Entry) -> i32 {
    match catch_unwind(AssertUnwindSafe(entry)) {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => {
            eprintln!("{error}");
            1
        }
        // The panic's own message is already there.
        Err(_) => 101,
    }
}
