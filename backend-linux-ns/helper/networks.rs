//! Networks made ahead: the kernel takes as long to make one as for a quarter of a sandbox.
//!
//! Nobody has been in the one that waits, and it belongs to the host's user namespace, so that not even a
//! sandbox's root could change it. Only root can make one; other launchers let the kernel make them with the keeper.

use poolyard_rt::sys;

use crate::keeper::ns;

/// The launcher's own network, and one for the next keeper.
pub struct Networks {
    /// -1 if it could not be opened; then none is made ahead.
    home: i32,
    /// -1 while there is none.
    next: i32,
}

impl Networks {
    pub fn new() -> Self {
        Self { home: own().unwrap_or(-1), next: -1 }
    }

    /// Makes the next one, unless it is there or cannot be had.
    pub fn prepare(&mut self) {
        if self.home >= 0 && self.next < 0 && sys::unshare(ns::NET).is_ok() {
            self.next = own().unwrap_or(-1);
            self.go_home();
        }
    }

    /// Whether there is none ahead and there could be.
    pub fn wants_one(&self) -> bool {
        self.home >= 0 && self.next < 0
    }

    /// Moves into the next one, whose only user is then born here. Says whether there was one.
    pub fn enter(&mut self) -> bool {
        let entered = self.next >= 0 && sys::setns(self.next, ns::NET).is_ok();
        if entered {
            sys::close(self.next);
            self.next = -1;
        }
        entered
    }

    /// Moves back. In a wrong network this process would give it to sandboxes that are to share the host's.
    pub fn go_home(&self) {
        if sys::setns(self.home, ns::NET).is_err() {
            sys::exit(1)
        }
    }

    /// For a keeper, who is to have neither.
    pub fn close(&self) {
        [self.home, self.next].into_iter().for_each(sys::close);
    }
}

fn own() -> sys::Result<i32> {
    const READ_CLOEXEC: u32 = 0o2_000_000;
    sys::openat(sys::AT_FDCWD, c"/proc/self/ns/net", READ_CLOEXEC, 0)
}
