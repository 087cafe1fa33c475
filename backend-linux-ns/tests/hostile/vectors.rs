//! The attacks, as data.

use std::time::Duration;

use poolyard_exec::Limits;
use poolyard_linux_ns::{Filter, Mode};

/// One way out, tried in one or more cases.
pub(crate) struct Vector {
    pub(crate) number: u8,
    pub(crate) name: &'static str,
    pub(crate) cases: &'static [Case],
}

/// How an attack is tried, and where it succeeds.
///
/// Words in braces are filled in with what only the host knows, see `outside.rs`.
#[derive(Clone, Copy)]
pub(crate) enum Case {
    /// One run, of which no attempt may succeed.
    Alone(&'static [&'static str], Control),
    /// What one user leaves the next one must not find.
    Heritage(&'static [&'static str], &'static [&'static str], Control),
    /// What one sandbox does, another one must not see. The control is a neighbour in the same lease.
    Neighbours(&'static [&'static str], &'static [&'static str]),
    /// Under the limits it does not get to its end. The control is the same run without them.
    Bounded(&'static [&'static str], Bound),
    /// Judged in a way of its own, see `corpus.rs`.
    Special(Special),
}

/// Where an attack succeeds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Control {
    /// As root in namespaces without any other protection.
    Weak,
    /// The same, as an ordinary user.
    WeakUser,
    /// In the same lease, before anything is cleaned.
    SameLease,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    Memory,
    Processes,
    CpuTime,
    DiskBytes,
    DiskInodes,
}

impl Bound {
    pub(crate) fn limits(self) -> Limits {
        let limits = Limits::new();
        match self {
            Self::Memory => limits.memory(32 << 20),
            Self::Processes => limits.processes(30),
            Self::CpuTime => limits.cpu_time(Duration::from_millis(100)),
            Self::DiskBytes => limits.disk_bytes(1 << 20),
            Self::DiskInodes => limits.disk_inodes(100),
        }
    }

    pub(crate) fn needs_cgroups(self) -> bool {
        matches!(self, Self::Memory | Self::Processes | Self::CpuTime)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    /// Killing and stopping everything.
    SignalAll,
    /// Forks and execs as fast as it goes, and the pool goes on.
    ExecStorm,
    /// Files that lead whoever copies them elsewhere.
    CopyOut,
    CopyIn,
    /// Output without end.
    Flood,
    /// Not ending, in different ways.
    Stay,
    /// Memory that is still charged after its user is gone.
    Charges,
    /// Reports in the init's name.
    ForgeReport,
    ForgeVerdict,
}

/// An attempt that is known to succeed, and why.
pub(crate) fn known(mode: Mode, vector: u8, attempt: &str) -> Option<&'static str> {
    match (vector, attempt) {
        (25, "nowait") => Some("pages of shared files can be seen; use other files per tenant"),
        (24, "saw_lock" | "saw_activity") if mode != Mode::Root => {
            Some("device nodes are the host's without root; only there")
        }
        _ => None,
    }
}

/// The filter that a case is tried under.
pub(crate) const FILTER: Filter = Filter::Judge;

use Case::{Alone, Bounded, Heritage, Neighbours, Special as Own};
use Control::{SameLease, Weak, WeakUser};

#[rustfmt::skip]
pub(crate) const VECTORS: &[Vector] = &[
    Vector { number: 1, name: "memory and files of the init", cases: &[Alone(&["reach-init"], Weak)] },
    Vector { number: 2, name: "signals to everybody", cases: &[Own(Special::SignalAll)] },
    Vector { number: 3, name: "limits of the init", cases: &[Alone(&["change-init"], Weak)] },
    Vector { number: 4, name: "files that set the kernel", cases: &[Alone(&["kernel-files"], Weak)] },
    Vector { number: 5, name: "mounts, chroot", cases: &[Alone(&["mounts"], Weak)] },
    Vector { number: 6, name: "new and other namespaces", cases: &[Alone(&["namespaces"], Weak)] },
    Vector { number: 7, name: "keyrings", cases: &[Heritage(&["leave-key", "{token}"], &["find-key", "{token}"], Weak)] },
    Vector { number: 8, name: "System V and POSIX queues", cases: &[Heritage(&["leave-ipc"], &["find-ipc"], SameLease)] },
    Vector { number: 9, name: "survivors", cases: &[Heritage(&["leave-survivors"], &["find-survivors"], SameLease)] },
    Vector { number: 10, name: "storms of processes", cases: &[
        Bounded(&["fork-storm", "100"], Bound::Processes), Bounded(&["thread-storm", "100"], Bound::Processes),
        Own(Special::ExecStorm)] },
    Vector { number: 11, name: "inherited descriptors", cases: &[Alone(&["inherited-fds", "{file_from_root}"], Weak)] },
    Vector { number: 12, name: "overwriting the init's program", cases: &[Alone(&["overwrite-exe"], Weak)] },
    Vector { number: 13, name: "traps for copying out", cases: &[Own(Special::CopyOut)] },
    Vector { number: 14, name: "traps for copying in", cases: &[Own(Special::CopyIn)] },
    Vector { number: 15, name: "memory of every kind", cases: &[
        Bounded(&["take-memory", "anonymous"], Bound::Memory), Bounded(&["take-memory", "memfd"], Bound::Memory),
        Bounded(&["take-memory", "sysv"], Bound::Memory), Bounded(&["take-memory", "tmpfs"], Bound::Memory),
        Bounded(&["take-memory", "tables"], Bound::Memory), Bounded(&["take-memory", "sockets"], Bound::Memory)] },
    Vector { number: 16, name: "a full disk", cases: &[
        Bounded(&["take-disk", "bytes", "512"], Bound::DiskBytes), Bounded(&["take-disk", "files", "200"], Bound::DiskInodes),
        Bounded(&["take-disk", "deep", "200"], Bound::DiskInodes)] },
    Vector { number: 17, name: "a flood of output", cases: &[Own(Special::Flood)] },
    Vector { number: 18, name: "burning processors", cases: &[Bounded(&["burn", "150"], Bound::CpuTime)] },
    Vector { number: 19, name: "not ending", cases: &[Own(Special::Stay)] },
    Vector { number: 20, name: "the kernel's surface", cases: &[
        Alone(&["surface"], Weak), Alone(&["foreign-calls"], Weak)] },
    Vector { number: 21, name: "typing into a terminal", cases: &[Alone(&["type-into-terminal"], Weak)] },
    Vector { number: 22, name: "sockets and servers of the host", cases: &[Alone(&["sockets", "{name}", "{port}"], Weak)] },
    Vector { number: 23, name: "residue of a network", cases: &[Heritage(&["leave-network"], &["find-network"], SameLease)] },
    Vector { number: 24, name: "locks and watches on shared files", cases: &[
        Neighbours(&["hold-lock", "/usr/bin/env"], &["probe-lock", "/usr/bin/env"]),
        Neighbours(&["hold-lock", "/dev/null"], &["probe-lock", "/dev/null"])] },
    Vector { number: 25, name: "presence of pages", cases: &[Alone(&["page-presence", "/usr/bin/env"], Weak)] },
    Vector { number: 26, name: "control groups", cases: &[Alone(&["cgroups"], Weak)] },
    Vector { number: 27, name: "devices", cases: &[Alone(&["devices", "{shm}"], Weak)] },
    Vector { number: 28, name: "set-id programs", cases: &[Alone(&["set-id", "{rooted}"], WeakUser)] },
    Vector { number: 29, name: "clocks", cases: &[Alone(&["clocks"], Weak)] },
    Vector { number: 30, name: "secrets of the host", cases: &[Alone(&["secrets", "{token}", "{file}"], Weak)] },
    Vector { number: 31, name: "memory charged after its user", cases: &[Own(Special::Charges)] },
    Vector { number: 32, name: "frames in the init's name", cases: &[Own(Special::ForgeReport)] },
    Vector { number: 33, name: "a forged verdict", cases: &[Own(Special::ForgeVerdict)] },
    Vector { number: 34, name: "attributes that are passed on", cases: &[] },
    Vector { number: 35, name: "numbers that count up", cases: &[] },
];

#[test]
fn every_vector_has_its_number() {
    let numbers: Vec<u8> = VECTORS.iter().map(|vector| vector.number).collect();
    assert_eq!(numbers, (1..=35).collect::<Vec<u8>>());
    // The two without a case are what `observer.rs` looks at.
    let observed: Vec<u8> = VECTORS.iter().filter(|v| v.cases.is_empty()).map(|v| v.number).collect();
    assert_eq!(observed, [34, 35]);
}
