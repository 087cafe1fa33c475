//! A worker that is forked before anybody has ordered it: the fork is more than a third of what a worker costs, and the
//! page faults after it are as much again.

#![allow(unsafe_code, reason = "fork")]

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::{ForkResult, fork};

use super::Entry;
use super::process::{self, Own};
use super::socket::{receive, send};
use super::wire::{MAX_ORDER, Order};
use crate::error::Stage;
use crate::sys::setup::{self, Failed};
use crate::sys::spawn::Born;
use crate::sys::touch;

/// A process that waits to be told what it is.
pub(super) struct Spare {
    born: Born,
    orders: OwnedFd,
}

impl Spare {
    /// Forks one. Nobody else's descriptors may be open in the zygote meanwhile: it would keep them.
    pub(super) fn fork(entries: &HashMap<String, Entry>, own: &Own<'_>) -> Result<Self, Failed> {
        let failed = |errno: Errno| (Stage::Clone, errno as i32);
        let flags = SockFlag::SOCK_CLOEXEC;
        let (orders, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).map_err(failed)?;
        let zygote = std::process::id() as i32;
        // SAFETY: this process has one thread (asserted before the loop), so the child finds nothing locked.
        match unsafe { fork() }.map_err(failed)? {
            ForkResult::Parent { child } => Ok(Self { born: process::admit(child.as_raw())?, orders }),
            ForkResult::Child => {
                drop(orders);
                wait(entries, &theirs, own, zygote)
            }
        }
    }

    pub(super) fn pid(&self) -> i32 {
        self.born.pid
    }

    /// Makes it the worker that is ordered. `None` if it does not hear that any more, and then it ends.
    pub(super) fn employ(self, order: &[u8], fds: &[OwnedFd]) -> Option<Born> {
        loop {
            match send(self.orders.as_fd(), order, fds) {
                Ok(()) => return Some(self.born),
                Err(Errno::EINTR) => {}
                Err(_) => return None,
            }
        }
    }
}

/// The life of a spare worker: it ends with the zygote, or when the zygote has no use for it.
fn wait(entries: &HashMap<String, Entry>, orders: &OwnedFd, own: &Own<'_>, zygote: i32) -> ! {
    // SAFETY: a forked child has one thread and a table of descriptors of its own. The zygote's descriptors
    // are used by nobody here, since this function does not return.
    let guarded = unsafe {
        libc::prctl(libc::PR_SET_NAME, c"poolyard-spare".as_ptr());
        for fd in own.private {
            libc::close(fd.as_raw_fd());
        }
        setup::die_with(zygote)
    };
    let mut buffer = vec![0; MAX_ORDER];
    touch::everything();
    let received = guarded.ok().and_then(|()| {
        loop {
            match receive(orders.as_fd(), &mut buffer) {
                Err(Errno::EINTR) => {}
                received => return received.ok().filter(|(len, _)| *len > 0),
            }
        }
    });
    let order = received.and_then(|(len, fds)| Some((Order::decode(&buffer[..len])?, fds)));
    if let Some((order, fds)) = order
        && let Some(entry) = process::entry(entries, &order)
    {
        let own = Own { private: &[orders.as_fd()], changed_signals: own.changed_signals };
        process::run(entry, &order.image, &fds, &own, zygote);
    }
    // SAFETY: ends the process, without the handlers registered in the zygote.
    unsafe { libc::_exit(0) }
}
