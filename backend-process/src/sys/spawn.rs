//! Starts a program in a time that does not depend on the host's memory.
//!
//! `fork` copies the page tables: 80 ms at 2 GiB. The standard library avoids that only as long as no
//! attribute is asked for. Here the child shares the parent's memory until it executes its program
//! (`CLONE_VM | CLONE_VFORK`, as in the C library's own `posix_spawn`) and sets all attributes itself.

#![allow(unsafe_code, reason = "clone and execve")]

use std::ffi::{CString, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use crate::attrs::Attrs;
use crate::error::Stage;
use crate::sys::setup::{self, Failed, MAX_FDS};

/// A program ready to be executed: everything that needs memory has been done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Image {
    pub(crate) path: CString,
    pub(crate) argv: Vec<CString>,
    pub(crate) envp: Vec<CString>,
    pub(crate) cwd: Option<CString>,
    pub(crate) attrs: Attrs,
}

/// A process that has just been started.
#[derive(Debug)]
pub(crate) struct Born {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
}

/// Room for the child's calls while it runs in the parent's memory.
const STACK: usize = 64 * 1024;

struct Order<'a> {
    image: &'a Image,
    argv: &'a [*const c_char],
    envp: &'a [*const c_char],
    fds: &'a [RawFd],
    parent: i32,
    /// Written by the child, read by the parent after the child is gone: they share the memory.
    failed: Failed,
}

/// Starts `image` with `fds[i]` as its descriptor `i`, as a child of the calling thread, whose death
/// will kill it. The calling thread must have all signals blocked. Blocks until the program is
/// executing.
pub(crate) fn spawn(image: &Image, fds: &[BorrowedFd<'_>]) -> Result<Born, Failed> {
    if fds.len() > MAX_FDS {
        return Err((Stage::Descriptors, libc::EMFILE));
    }
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let (argv, envp) = (pointers(&image.argv), pointers(&image.envp));
    let parent = std::process::id() as i32;
    let mut order = Order { image, argv: &argv, envp: &envp, fds: &raw, parent, failed: (Stage::Clone, 0) };
    let born = clone_into(&mut order)?;
    if order.failed.1 != 0 {
        super::wait::reap(&born.pidfd);
        return Err(order.failed);
    }
    Ok(born)
}

fn clone_into(order: &mut Order<'_>) -> Result<Born, Failed> {
    let mut stack = vec![0_u128; STACK / 16];
    let mut pidfd: c_int = -1;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    // SAFETY: the stack is aligned and large enough for `child`, which gets a valid order. The parent's
    // thread sleeps until the child has executed or ended, so that stack, order and pidfd outlive it.
    let pid = unsafe {
        let top = stack.as_mut_ptr().add(stack.len()).cast::<c_void>();
        libc::clone(child, top, flags, ptr::from_mut(order).cast(), &mut pidfd)
    };
    if pid < 0 {
        let error = io::Error::last_os_error();
        return Err((Stage::Clone, error.raw_os_error().unwrap_or(libc::EAGAIN)));
    }
    // SAFETY: the kernel has just opened it for us.
    Ok(Born { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
}

extern "C" fn child(order: *mut c_void) -> c_int {
    // SAFETY: `clone_into` passes an order that nobody touches while this function runs.
    let order = unsafe { &mut *order.cast::<Order<'_>>() };
    // SAFETY: this process has one thread, and a descriptor table and signal actions of its own, since
    // neither CLONE_FILES nor CLONE_SIGHAND was given.
    order.failed = unsafe { become_program(order) };
    127
}

/// Returns only if it fails.
unsafe fn become_program(order: &Order<'_>) -> Failed {
    let steps = || -> Result<(), Failed> {
        // SAFETY: see `child`; the paths and lists are C strings and null-terminated lists.
        unsafe {
            setup::reset_signals(setup::SIGNALS);
            setup::apply(&order.image.attrs, order.parent)?;
            if let Some(cwd) = &order.image.cwd
                && libc::chdir(cwd.as_ptr()) < 0
            {
                return Err((Stage::WorkingDirectory, *libc::__errno_location()));
            }
            setup::install_fds(order.fds)?;
            setup::close_on_exec(order.fds.len())?;
            libc::execve(order.image.path.as_ptr(), order.argv.as_ptr(), order.envp.as_ptr());
            Err((Stage::Exec, *libc::__errno_location()))
        }
    };
    match steps() {
        Err(failed) => failed,
        Ok(()) => (Stage::Exec, libc::ENOSYS),
    }
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
}
