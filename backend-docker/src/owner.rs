//! Who owns a container: this process, as a label that others can check.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Whose it is. On everything that we make.
pub(crate) const OWNER: &str = "dev.poolyard.owner";

/// One manager of one process: where it lives, which process it is, which of its managers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    /// The machine since its last start, and the process namespace in it.
    host: String,
    pid: u32,
    /// When the process started: process ids come again.
    start: u64,
    serial: u64,
}

static SERIAL: AtomicU64 = AtomicU64::new(0);

impl Owner {
    pub(crate) fn this_process() -> Owner {
        let pid = std::process::id();
        Owner {
            host: host(),
            pid,
            start: start_time(pid).unwrap_or(0),
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
        }
    }

    pub(crate) fn label(&self) -> String {
        format!("{}.{}.{}.{}", self.host, self.pid, self.start, self.serial)
    }

    pub(crate) fn parse(label: &str) -> Option<Owner> {
        let mut parts = label.rsplitn(4, '.');
        let serial = parts.next()?.parse().ok()?;
        let start = parts.next()?.parse().ok()?;
        let pid = parts.next()?.parse().ok()?;
        Some(Owner { host: parts.next()?.into(), pid, start, serial })
    }

    pub(crate) fn labels(&self) -> HashMap<String, String> {
        HashMap::from([(OWNER.to_owned(), self.label())])
    }

    /// Whether it lives; `None` where we cannot see: on another machine, or in another namespace.
    pub(crate) fn is_alive(&self) -> Option<bool> {
        (self.host == host()).then(|| start_time(self.pid) == Some(self.start))
    }
}

/// The boot, which no other machine has, and the process namespace.
fn host() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = std::fs::metadata("/proc/self/ns/pid").map_or(0, |m| m.ino());
    format!("{}-{namespace:x}", boot.trim().replace('-', ""))
}

/// In clock ticks since boot.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may contain any character; field 22 is the start time.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    // A zombie has ended; only nobody has asked for its exit code yet.
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_names_its_owner() {
        let owner = Owner::this_process();
        assert_eq!(Owner::parse(&owner.label()), Some(owner.clone()));
        assert_eq!(owner.is_alive(), Some(true));
    }

    #[test]
    fn a_process_id_that_came_again_is_not_the_owner() {
        let mut owner = Owner::this_process();
        owner.start += 1;
        assert_eq!(owner.is_alive(), Some(false));
    }

    #[test]
    fn an_owner_that_cannot_be_seen_is_not_called_dead() {
        let mut owner = Owner::this_process();
        owner.host = "elsewhere".into();
        assert_eq!(owner.is_alive(), None);
    }

    #[test]
    fn two_managers_of_one_process_are_two_owners() {
        assert_ne!(Owner::this_process(), Owner::this_process());
    }
}
