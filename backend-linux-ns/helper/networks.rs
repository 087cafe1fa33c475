//! Networks made ahead: the kernel takes as long to make one as for a quarter of a sandbox.
//!
//! Nobody has been in the one that waits, and it belongs to the host's user namespace, so that not even a
//! sandbox's root could change it, and the files of /proc that tell of it belong to nobody. Only root can make one;
//! other launchers let the kernel make them with the keeper.

use poolyard_rt::sys;

use crate::keeper::ns;

/// The launcher's own network, and one for the next keeper.
pub struct Networks {
    /// -1 if it could not be opened; then none is made ahead.
    home: i32,
    /// -1 while there is none.
    next: i32,
    /// Whether somebody has asked for one.
    wanted: bool,
}

impl Networks {
    pub fn new() -> Self {
        // Whoever may leave it may not always come back: that takes rights over it, too. So it is tried first.
        let may_return = |&home: &i32| sys::setns(home, ns::NET).inspect_err(|_| sys::close(home)).is_ok();
        Self { home: own().ok().filter(may_return).unwrap_or(-1), next: -1, wanted: false }
    }

    /// Makes the next one.
    pub fn prepare(&mut self) {
        if sys::unshare(ns::NET).is_ok() {
            self.next = own().unwrap_or(-1);
            self.go_home();
        }
        // Tried again when the next one is asked for.
        self.wanted = false;
    }

    /// Whether one is to be made. None is for hosts whose sandboxes all have a network.
    pub fn are_wanted(&self) -> bool {
        self.wanted && self.next < 0
    }

    /// Moves into the next one, whose only user is then born here. Says whether there was one.
    pub fn enter(&mut self) -> bool {
        self.wanted = self.home >= 0;
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
