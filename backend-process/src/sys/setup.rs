//! What a new process does to itself before its program starts.
//!
//! This code runs in a child that may share its parent's memory (see [`spawn`](super::spawn)): it
//! neither allocates, locks, panics nor unwinds, and calls only what is async-signal-safe. For
//! changes of credentials it makes the system calls itself, because the C library's functions
//! would try to change all threads of the *parent*.

#![allow(unsafe_code, reason = "system calls between fork and exec")]

use libc::{c_int, c_long};

use crate::attrs::{Attrs, Grouping};
use crate::error::Stage;

/// The largest number of descriptors that a worker can be given.
pub(crate) const MAX_FDS: usize = 16;

/// The step that failed, and the system's error number.
pub(crate) type Failed = (Stage, i32);

fn check(stage: Stage, result: c_long) -> Result<c_long, Failed> {
    // SAFETY: the C library's error number of this thread.
    if result < 0 { Err((stage, unsafe { *libc::__errno_location() })) } else { Ok(result) }
}

/// Gives the calling process its attributes. `parent` is who must still be the parent at the end.
///
/// # Safety
///
/// The caller is the only thread of its process.
pub(crate) unsafe fn apply(attrs: &Attrs, parent: i32) -> Result<(), Failed> {
    // SAFETY: plain system calls; every pointer is to memory that lives through the call.
    unsafe {
        match attrs.grouping {
            Grouping::Session => check(Stage::Session, libc::setsid().into())?,
            Grouping::ProcessGroup => check(Stage::Session, libc::setpgid(0, 0).into())?,
        };
        for (limit, soft, hard) in &attrs.rlimits {
            let value = libc::rlimit { rlim_cur: *soft, rlim_max: *hard };
            check(Stage::Rlimit, libc::syscall(libc::SYS_prlimit64, 0, limit.number(), &value, 0))?;
        }
        if let Some(nice) = attrs.nice {
            check(Stage::Priority, libc::setpriority(libc::PRIO_PROCESS, 0, nice).into())?;
        }
        set_cpus(&attrs.cpus)?;
        if let Some(umask) = attrs.umask {
            libc::umask(umask);
        }
        set_identity(attrs)?;
        if attrs.no_new_privs {
            check(Stage::Privileges, libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).into())?;
        }
        if attrs.outlives_parent { Ok(()) } else { die_with(parent) }
    }
}

unsafe fn set_cpus(cpus: &[usize]) -> Result<(), Failed> {
    if cpus.is_empty() {
        return Ok(());
    }
    // SAFETY: a zeroed set is an empty one; `CPU_SET` ignores numbers that do not fit.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        for cpu in cpus {
            if *cpu < libc::CPU_SETSIZE as usize {
                libc::CPU_SET(*cpu, &mut set);
            }
        }
        check(Stage::Cpus, libc::sched_setaffinity(0, size_of_val(&set), &set).into()).map(drop)
    }
}

/// Groups first: afterwards there is no privilege left to change them.
unsafe fn set_identity(attrs: &Attrs) -> Result<(), Failed> {
    let none: &[u32] = &[];
    let groups = attrs.groups.as_deref().or(attrs.uid.map(|_| none));
    // SAFETY: plain system calls, the list of groups lives through its call.
    unsafe {
        if let Some(groups) = groups {
            check(Stage::Groups, libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()))?;
        }
        if let Some(gid) = attrs.gid {
            check(Stage::Gid, libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
        }
        if let Some(uid) = attrs.uid {
            check(Stage::Uid, libc::syscall(libc::SYS_setresuid, uid, uid, uid))?;
        }
    }
    Ok(())
}

/// Has the calling process end with its parent. To be called after a change of identity, which would clear
/// it. A parent that died before the call is noticed by its number.
///
/// # Safety
///
/// The caller is the only thread of its process.
pub(crate) unsafe fn die_with(parent: i32) -> Result<(), Failed> {
    // SAFETY: plain system calls.
    unsafe {
        check(Stage::ParentDeath, libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0).into())?;
        // Its own orphans come back to the worker, so that its whole tree is found below it.
        check(Stage::ParentDeath, libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0).into())?;
        if libc::getppid() == parent { Ok(()) } else { Err((Stage::ParentDeath, libc::ESRCH)) }
    }
}

/// Makes `fds[i]` descriptor `i`, for all `i`.
///
/// # Safety
///
/// The caller has a descriptor table of its own in which the numbers below [`MAX_FDS`] may be
/// overwritten. At most [`MAX_FDS`] descriptors, all open.
pub(crate) unsafe fn install_fds(fds: &[c_int]) -> Result<(), Failed> {
    let lowest = MAX_FDS as c_int;
    let mut high = [-1; MAX_FDS];
    let count = fds.len().min(MAX_FDS);
    // SAFETY: plain system calls on descriptors that the caller vouches for.
    unsafe {
        for (high, fd) in high.iter_mut().zip(fds) {
            // Above all targets, so that no later `dup2` overwrites a source.
            *high = match *fd {
                fd if fd >= lowest => fd,
                fd => {
                    check(Stage::Descriptors, libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, lowest).into())? as c_int
                }
            };
        }
        for (target, (high, fd)) in (0..).zip(high[..count].iter().zip(fds)) {
            check(Stage::Descriptors, libc::dup2(*high, target).into())?;
            if high != fd {
                libc::close(*high);
            }
        }
    }
    Ok(())
}

/// Has every descriptor from `first` on closed when a program is executed, whoever opened it and
/// whatever for.
///
/// # Safety
///
/// The caller has a descriptor table of its own.
pub(crate) unsafe fn close_on_exec(first: usize) -> Result<(), Failed> {
    // SAFETY: a plain system call.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    check(Stage::Descriptors, result).map(drop)
}

/// Every signal there is.
pub(crate) const SIGNALS: std::ops::RangeInclusive<c_int> = 1..=64;

/// The signals whose action is not the default one.
pub(crate) fn changed_signals() -> Vec<c_int> {
    let is_changed = |signal: &c_int| {
        // SAFETY: a zeroed action is a valid one, and only read into.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            libc::sigaction(*signal, std::ptr::null(), &mut action) == 0
                && action.sa_sigaction != libc::SIG_DFL
        }
    };
    SIGNALS.filter(is_changed).collect()
}

/// Gives these signals their default action and unblocks all.
///
/// # Safety
///
/// The caller is the only thread of its process and has a table of signal actions of its own.
pub(crate) unsafe fn reset_signals(signals: impl Iterator<Item = c_int>) {
    // SAFETY: a zeroed action is the default one with an empty mask. The calls fail for the few
    // numbers that cannot be changed, which is right.
    unsafe {
        let default: libc::sigaction = std::mem::zeroed();
        for signal in signals {
            libc::sigaction(signal, &default, std::ptr::null_mut());
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

/// Closes the descriptors from `first` to `last`, whichever of them are open.
///
/// # Safety
///
/// Nobody uses them any more.
pub(crate) unsafe fn close_between(first: usize, last: usize) {
    if first <= last {
        // SAFETY: a plain system call.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    }
}
