//! Control groups: a pool of slots, each a leaf cgroup with its files kept open.
//!
//! Finding the hierarchies is `cgroups-rs`'s work (0.3.4; with its dependencies 28 crates, most of which a
//! tokio application has anyway). Making and removing directories is not: the crate only logs a failed
//! `mkdir` on version 1. Nor is reading: it takes an unreadable limit for none, and cannot see
//! `memory.events`. On the hot path there are only reads and writes at offset 0 of files that stay open.

mod place;
mod slot;
mod sweep;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

pub(crate) use place::{Place, Version};
pub(crate) use slot::{Reading, Slot, SlotLimits};

/// Idle slots that are kept for the next sandbox.
const KEEP: usize = 64;

/// The slots of one [`LinuxNs`](crate::LinuxNs), all below one directory that is named after this process.
#[derive(Debug)]
pub(crate) struct Slots {
    place: Place,
    free: Mutex<Vec<Arc<Slot>>>,
    /// Slots whose processes may not be quite gone; emptied and removed later.
    retired: Mutex<Vec<Arc<Slot>>>,
    next: AtomicU64,
}

impl Slots {
    /// Finds a place for slots, sweeps what killed processes left there, and makes this one's directory.
    ///
    /// # Errors
    ///
    /// A sentence that says why there are no cgroups here and what to do.
    pub(crate) fn new() -> Result<Arc<Self>, String> {
        let place = Place::find()?;
        sweep::sweep(&place);
        place.make_instance()?;
        let (free, retired) = (Mutex::default(), Mutex::default());
        Ok(Arc::new(Self { place, free, retired, next: AtomicU64::new(0) }))
    }

    pub(crate) fn version(&self) -> Version {
        self.place.version()
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// A slot without processes, its limits off. `extra` names further controllers that it needs.
    pub(crate) fn take(&self, extra: &[&'static str]) -> std::io::Result<Arc<Slot>> {
        let mut free = self.free.lock();
        if let Some(at) = free.iter().position(|slot| slot.extra() == extra) {
            return Ok(free.swap_remove(at));
        }
        drop(free);
        let name = format!("s{}", self.next.fetch_add(1, Ordering::Relaxed));
        Slot::make(&self.place, &name, extra).map(Arc::new)
    }

    /// Takes back a slot whose processes are gone, or will be in a moment.
    pub(crate) fn give_back(&self, slot: Arc<Slot>) {
        let mut free = self.free.lock();
        if slot.is_empty() && slot.clear().is_ok() && free.len() < KEEP {
            free.push(slot);
            return;
        }
        drop(free);
        self.retired.lock().push(slot);
    }

    /// Removes what could not be removed before, and what killed processes left.
    pub(crate) fn sweep(&self) {
        // Slots that are still populated stay for the next time.
        self.retired.lock().retain(|slot| slot.remove().is_err());
        sweep::sweep(&self.place);
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        for slot in self.free.get_mut().drain(..).chain(self.retired.get_mut().drain(..)) {
            // What is populated still is swept by the next process that starts.
            let _ = slot.remove();
        }
        self.place.remove_instance();
    }
}
