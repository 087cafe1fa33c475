//! Control groups: a pool of slots, each a leaf cgroup with its files kept open.
//!
//! Finding the hierarchies is `cgroups-rs`'s work (0.3.4; with its dependencies 28 crates, most of which a
//! tokio application has anyway). Making and removing directories is not: the crate only logs a failed
//! `mkdir` on version 1. Nor is reading: it takes an unreadable limit for none, and cannot see
//! `memory.events`. On the hot path there are only reads and writes at offset 0 of files that stay open.

mod place;
mod rates;
mod slot;
mod sweep;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, eventfd};

pub(crate) use place::{IO, Place, Version};
pub(crate) use slot::{Reading, Slot, SlotLimits};

/// The slots of one [`LinuxNs`](crate::LinuxNs), all below one directory that is named after this process.
///
/// A slot belongs to a sandbox for its whole life and is used by all its leases.
#[derive(Debug)]
pub(crate) struct Slots {
    place: Place,
    /// Slots whose processes may not be quite gone; removed as soon as they are.
    retired: Mutex<Vec<Arc<Slot>>>,
    /// Tells the launcher's thread that something was retired.
    bell: OwnedFd,
    next: AtomicU64,
    /// Whether the launcher is where it belongs.
    adopted: AtomicBool,
}

impl Slots {
    /// Finds a place for slots, sweeps what killed processes left there, and makes this one's directory. With
    /// `many_owners` the slots will belong to different users.
    ///
    /// # Errors
    ///
    /// A sentence that says why there are no cgroups here and what to do.
    pub(crate) fn new(many_owners: bool) -> Result<Arc<Self>, String> {
        let place = Place::find()?;
        sweep::sweep(&place);
        place.make_instance(many_owners)?;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let bell = eventfd(0, flags).map_err(|e| format!("no eventfd can be made: {e}"))?;
        Ok(Arc::new(Self {
            place,
            retired: Mutex::default(),
            bell,
            next: AtomicU64::new(0),
            adopted: AtomicBool::new(false),
        }))
    }

    pub(crate) fn version(&self) -> Version {
        self.place.version()
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// A slot without processes, its limits off. `extra` names further controllers that it needs; `disks` are
    /// those that its rate is about, `owner` who is root in its sandbox.
    pub(crate) fn make(
        &self,
        name: &str,
        extra: &[&'static str],
        disks: &[String],
        owner: u32,
    ) -> std::io::Result<Arc<Slot>> {
        Slot::make(&self.place, name, extra, disks, owner).map(Arc::new)
    }

    /// A name that no slot has had.
    pub(crate) fn next(&self) -> String {
        format!("s{}", self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Where runners are born whose slot has this name and these controllers, if they can be. With a cpuset none is,
    /// since kernels before 6.3 forget to give it to who is born into it.
    pub(crate) fn births(&self, name: &str, extra: &[&str]) -> Option<PathBuf> {
        let can_be = self.adopted.load(Ordering::Relaxed) && !extra.contains(&"cpuset");
        if can_be { self.place.unified(name) } else { None }
    }

    /// Takes the launcher to where the runners of its keepers can be born in slots.
    pub(crate) fn adopt(&self, launcher: i32) {
        self.adopted.store(self.place.adopt(launcher), Ordering::Relaxed);
    }

    /// Removes a slot whose processes are gone, or will be in a moment.
    pub(crate) fn retire(&self, slot: Arc<Slot>) {
        if slot.remove().is_err() {
            self.retired.lock().push(slot);
            // Fails only if the bell rings already.
            let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
        }
    }

    /// Removes the retired slots that have become empty, and says whether there are others.
    pub(crate) fn tidy(&self) -> bool {
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
        let mut retired = self.retired.lock();
        retired.retain(|slot| slot.remove().is_err());
        !retired.is_empty()
    }

    /// Removes what is left once the launcher is dead, and says whether something is not quite gone yet.
    pub(crate) fn close(&self) -> bool {
        self.tidy() | !self.place.remove_keepers()
    }

    /// Readable when something was retired.
    pub(crate) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Removes what killed processes left.
    pub(crate) fn sweep(&self) {
        sweep::sweep(&self.place);
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        // What is populated still is swept by the next process that starts.
        self.place.remove_instance();
    }
}
