//! Where slots may be made: below which directory of which hierarchy.

use std::collections::HashMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use cgroups_rs::cgroup::get_cgroups_relative_paths;
use cgroups_rs::hierarchies::{UNIFIED_MOUNTPOINT, V1, is_cgroup2_unified_mode};
use cgroups_rs::{Controllers, Hierarchy};

use super::rates;

/// Which interface the controllers are used through. A hybrid system has its controllers on version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    V2,
}

/// Controllers that every slot needs.
pub(crate) const REQUIRED: [&str; 2] = ["memory", "pids"];
/// What version 1 calls `blkio`.
pub(crate) const IO: &str = "io";
/// Controllers of version 1 that every slot uses if they are there. Version 2 has both built in.
pub(crate) const BASIC_V1: [&str; 2] = ["cpuacct", "freezer"];

/// On version 2, beside the slots: where keepers are.
const KEEPERS: &str = "keepers";

/// One directory per controller (version 1), or one for all (version 2).
#[derive(Debug)]
pub(crate) struct Place {
    version: Version,
    /// The controller (empty for version 2) and the directory that holds the instances.
    parents: Vec<(&'static str, PathBuf)>,
    instance: String,
}

impl Place {
    pub(crate) fn find() -> Result<Self, String> {
        let own =
            get_cgroups_relative_paths().map_err(|e| format!("/proc/self/cgroup is unreadable: {e}"))?;
        let (version, parents) = match is_cgroup2_unified_mode() {
            true => (Version::V2, vec![("", find_v2(&own)?)]),
            false => (Version::V1, find_v1(&own)?),
        };
        Ok(Self { version, parents, instance: instance_name() })
    }

    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// The directories that hold instances, ours and those of other processes.
    pub(crate) fn parents(&self) -> impl Iterator<Item = &Path> {
        self.parents.iter().map(|(_, path)| path.as_path())
    }

    /// The directory of slot `slot` in the hierarchy of `controller`, if there is such a controller.
    pub(crate) fn dir(&self, controller: &str, slot: &str) -> Option<PathBuf> {
        let unified = self.version == Version::V2;
        let (_, parent) = self.parents.iter().find(|(name, _)| unified || *name == controller)?;
        Some(parent.join(&self.instance).join(slot))
    }

    /// Whether slots can have this controller.
    pub(crate) fn has(&self, controller: &str) -> bool {
        match self.version {
            Version::V1 => self.parents.iter().any(|(name, _)| *name == controller),
            Version::V2 => self.parents.iter().any(|(_, parent)| enabled(parent, controller)),
        }
    }

    /// Why no slot can have a rate at which it uses disks, if so. Of use once the instance is made.
    pub(crate) fn missing_rates(&self) -> Option<&'static str> {
        if !self.has(IO) {
            return Some("the controller `io` (`blkio` of version 1) is not there; mount or delegate it");
        }
        let name = if self.version == Version::V1 { rates::V1[0] } else { rates::V2 };
        let throttles = self.parents_dir(IO).join(name).exists();
        (!throttles).then_some("this kernel cannot throttle disks; use one with CONFIG_BLK_DEV_THROTTLING")
    }

    /// Makes the directory of this process. With `many_owners`, whoever owns two slots may move between them: the
    /// kernel asks for that right where a runner is born in a slot, and sandboxes of root have ids of their own. It
    /// is the right to leave, not to enter: nobody but its owner comes into a slot.
    pub(crate) fn make_instance(&self, many_owners: bool) -> Result<(), String> {
        for (_, parent) in &self.parents {
            let dir = parent.join(&self.instance);
            fs::create_dir(&dir).map_err(|e| {
                format!("{} cannot be made: {e}; run as root or delegate a cgroup", dir.display())
            })?;
            if self.version == Version::V2 {
                enable_all(&dir);
                // What fails here costs time later: see `adopt`.
                let _ = fs::create_dir(dir.join(KEEPERS));
                if many_owners {
                    let _ = fs::set_permissions(dir.join("cgroup.procs"), Permissions::from_mode(0o666));
                }
            }
        }
        if self.parents.iter().any(|(name, _)| *name == "cpuset") {
            // A version 1 cpuset takes no process until it has processors and memory nodes.
            self.inherit_cpuset(&self.parents_dir("cpuset")).map_err(|e| format!("cpuset: {e}"))?;
        }
        Ok(())
    }

    fn parents_dir(&self, controller: &str) -> PathBuf {
        self.parents
            .iter()
            .find(|(name, _)| self.version == Version::V2 || *name == controller)
            .map(|(_, p)| p.clone())
            .unwrap_or_default()
            .join(&self.instance)
    }

    /// Copies the parent's processors and memory nodes into `dir`.
    pub(crate) fn inherit_cpuset(&self, dir: &Path) -> io::Result<()> {
        let parent = dir.parent().unwrap_or(dir);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            fs::write(dir.join(file), fs::read(parent.join(file))?)?;
        }
        Ok(())
    }

    /// Moves the launcher into a cgroup beside the slots; its keepers and their inits are born there. On version 2
    /// only who comes from there may be born in a slot. Says whether it worked; else runners are born outside and enter.
    pub(crate) fn adopt(&self, launcher: i32) -> bool {
        let enter = |keepers: PathBuf| fs::write(keepers.join("cgroup.procs"), launcher.to_string());
        self.unified(KEEPERS).is_some_and(|keepers| enter(keepers).is_ok())
    }

    /// Says whether no keeper is left; then their cgroup is gone, too.
    pub(crate) fn remove_keepers(&self) -> bool {
        let is_gone = |e: io::Error| e.kind() == io::ErrorKind::NotFound;
        self.unified(KEEPERS).is_none_or(|keepers| fs::remove_dir(keepers).map_or_else(is_gone, |()| true))
    }

    /// A directory beside the slots, or one of them, on version 2.
    pub(crate) fn unified(&self, name: &str) -> Option<PathBuf> {
        (self.version == Version::V2).then(|| self.parents_dir("").join(name))
    }

    /// Removes this process's directory, if its slots are gone.
    pub(crate) fn remove_instance(&self) {
        self.remove_keepers();
        for parent in self.parents() {
            let _ = fs::remove_dir(parent.join(&self.instance));
        }
    }
}

/// Below the own cgroup of each controller, as any part of an application would be accounted.
fn find_v1(own: &HashMap<String, String>) -> Result<Vec<(&'static str, PathBuf)>, String> {
    let hierarchies = V1::new();
    if hierarchies.subsystems().is_empty() {
        return Err("no cgroup controllers are mounted; mount them below /sys/fs/cgroup".into());
    }
    let known = [
        ("memory", Controllers::Mem),
        ("pids", Controllers::Pids),
        ("cpuacct", Controllers::CpuAcct),
        ("freezer", Controllers::Freezer),
        ("cpu", Controllers::Cpu),
        ("cpuset", Controllers::CpuSet),
        (IO, Controllers::BlkIo),
    ];
    let mut parents = Vec::new();
    for (name, controller) in known {
        let Some(mount) = hierarchies.get_mount_point(controller) else { continue };
        let relative =
            own.get(if name == IO { "blkio" } else { name }).map_or("", |path| path.trim_start_matches('/'));
        let inside = mount.join(relative);
        // In a container the path may be the host's, and only the mount's root be there.
        let parent = if inside.is_dir() { inside } else { mount };
        if rustix::fs::access(&parent, rustix::fs::Access::WRITE_OK).is_ok() {
            parents.push((name, parent));
        }
    }
    match REQUIRED.iter().find(|required| parents.iter().all(|(name, _)| name != *required)) {
        None => Ok(parents),
        Some(missing) => {
            let root = nix::unistd::geteuid().is_root();
            let remedy = if root { "in a container, make /sys/fs/cgroup writable" } else { "run as root" };
            Err(format!("the cgroup controller `{missing}` is missing or not writable; {remedy}"))
        }
    }
}

/// The own cgroup can hold slots only if it is the root: others cannot have both processes and
/// controllers. Then its parent may be delegated to us; and root has the top level, as engines use it.
fn find_v2(own: &HashMap<String, String>) -> Result<PathBuf, String> {
    let root = Path::new(UNIFIED_MOUNTPOINT);
    let relative = own.get("").map_or("", |path| path.trim_start_matches('/'));
    let own = root.join(relative);
    let delegated = own.parent().filter(|parent| parent.starts_with(root) && is_delegated(parent));
    let top = nix::unistd::geteuid().is_root().then_some(root);
    let candidates = (own == root).then_some(root).into_iter().chain(delegated).chain(top);
    for candidate in candidates {
        enable_all(candidate);
        if REQUIRED.iter().all(|controller| enabled(candidate, controller)) {
            return Ok(candidate.to_owned());
        }
    }
    Err(format!(
        "no cgroup is delegated to this process ({} is its own); run as root, or start it in a unit with \
         Delegate=yes and DelegateSubgroup=, such as that of `systemd-run --user --pipe --wait \
         -p Delegate=yes -p DelegateSubgroup=main`",
        own.display()
    ))
}

/// systemd marks what it delegates. The managers of users do not; but a unit of theirs that has subgroups
/// was delegated, and slices, which are systemd's own, have other names.
fn is_delegated(dir: &Path) -> bool {
    let mut value = [0u8; 8];
    let marked = ["user.delegate", "trusted.delegate"]
        .iter()
        .any(|name| rustix::fs::getxattr(dir, *name, &mut value[..]).is_ok_and(|len| value[..len] == *b"1"));
    let unit = dir.extension().is_some_and(|kind| kind == "service" || kind == "scope");
    marked || (unit && rustix::fs::access(dir, rustix::fs::Access::WRITE_OK).is_ok())
}

fn enabled(dir: &Path, controller: &str) -> bool {
    let list = fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap_or_default();
    list.split_whitespace().any(|name| name == controller)
}

/// One at a time: one that is missing must not keep the others off. What is off then is refused by name
/// where someone asks for it.
fn enable_all(dir: &Path) {
    for controller in ["memory", "pids", "cpu", "cpuset", IO] {
        if !enabled(dir, controller) {
            let _ = fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"));
        }
    }
}

/// The prefix of instance names in this pid namespace: only here a pid says who is alive.
pub(crate) fn prefix() -> String {
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let digits: String = namespace.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    format!("poolyard.{digits}.")
}

fn instance_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let pid = std::process::id();
    let started = started_at(pid).unwrap_or(0);
    format!("{}{pid}.{started}.{}", prefix(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// When a process started, in ticks since boot: with its pid, its identity.
pub(crate) fn started_at(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, so fields are counted after the last one.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}
