//! Removes the directories of processes that were killed, and only those.

use std::fs;
use std::path::Path;

use super::place::{Place, prefix, started_at};

/// Looks at every instance beside ours. A directory that still has processes cannot be removed; they are
/// ending, and the next sweep finds it empty.
pub(crate) fn sweep(place: &Place) {
    let prefix = prefix();
    for parent in place.parents() {
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.to_str().and_then(|name| name.strip_prefix(&prefix)).is_some_and(is_orphan) {
                remove(&entry.path());
            }
        }
    }
}

/// Whether the process that `pid.started.count` names is gone. A name that is not of this form is not
/// ours to judge.
fn is_orphan(name: &str) -> bool {
    let mut numbers = name.split('.').map(|number| number.parse::<u64>());
    match (numbers.next(), numbers.next(), numbers.next(), numbers.next()) {
        (Some(Ok(pid)), Some(Ok(started)), Some(Ok(_)), None) => {
            started_at(pid as u32).is_none_or(|now| now != started)
        }
        _ => false,
    }
}

fn remove(instance: &Path) {
    for entry in fs::read_dir(instance).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
    let _ = fs::remove_dir(instance);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_process_is_no_orphan_and_a_strange_name_is_left_alone() {
        let pid = std::process::id();
        let started = started_at(pid).unwrap();
        assert!(!is_orphan(&format!("{pid}.{started}.0")));
        assert!(is_orphan(&format!("{pid}.{}.0", started + 1)), "the pid was given to another process");
        for strange in ["", "1", "1.2", "1.2.x", "1.2.3.4", "a.2.3"] {
            assert!(!is_orphan(strange), "{strange}");
        }
    }
}
