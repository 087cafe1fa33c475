//! Reads `/proc`. What vanishes while it is read is not there any more and is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::{Items, Scope};

pub(super) fn count(items: &mut Items, scope: &Scope) {
    let below = processes_below(std::process::id());
    items.add_all("namespaces", namespaces(&below));
    let counts = |process: &&Process| process.zombie || !scope.without.contains(&process.name);
    items.add_all("processes", below.values().filter(counts).map(Process::to_text));
    for target in open_files() {
        let section = if target.starts_with("socket:") { "sockets" } else { "files" };
        items.add(section, target);
    }
    items.add_all("mounts", mounts(&scope.mounts));
    for directory in &scope.cgroups {
        items.add_all("cgroups", directories_below(directory));
    }
    if scope.threads {
        items.add_all("threads", names_in("/proc/self/task"));
    }
}

struct Process {
    pid: u32,
    parent: u32,
    name: String,
    zombie: bool,
}

impl Process {
    fn read(pid: u32) -> Option<Self> {
        Self::parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// `pid (name) state parent ...`, where the name may hold spaces and brackets.
    fn parse(pid: u32, stat: &str) -> Option<Self> {
        let (head, tail) = stat.rsplit_once(") ")?;
        let (_, name) = head.split_once(" (")?;
        let mut fields = tail.split(' ');
        let zombie = fields.next()? == "Z";
        let parent = fields.next()?.parse().ok()?;
        Some(Self { pid, parent, name: name.to_owned(), zombie })
    }

    fn to_text(&self) -> String {
        let state = if self.zombie { ", a zombie" } else { "" };
        format!("{} (pid {}{state})", self.name, self.pid)
    }
}

/// The proportional shares of this process and its descendants, in bytes.
pub(super) fn memory() -> Option<u64> {
    let below = processes_below(std::process::id());
    let shares = below.keys().filter_map(|&pid| share(pid));
    Some(share(std::process::id())? + shares.sum::<u64>())
}

fn share(pid: u32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let kibibytes = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    Some(kibibytes.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// All descendants of `root`, by process id.
fn processes_below(root: u32) -> BTreeMap<u32, Process> {
    let pids = names_in("/proc").into_iter().filter_map(|name| name.parse().ok());
    let mut others: Vec<_> = pids.filter_map(Process::read).collect();
    let mut below = BTreeMap::new();
    loop {
        let is_below = |p: &mut Process| p.parent == root || below.contains_key(&p.parent);
        let found: Vec<_> = others.extract_if(.., is_below).collect();
        if found.is_empty() {
            return below;
        }
        below.extend(found.into_iter().map(|process| (process.pid, process)));
    }
}

/// The namespaces that descendants live in.
fn namespaces(processes: &BTreeMap<u32, Process>) -> BTreeSet<String> {
    processes.keys().flat_map(|pid| links_in(&format!("/proc/{pid}/ns"))).collect()
}

/// What each open file of this process is; the one that lists them is left out.
fn open_files() -> Vec<String> {
    let own = format!("/proc/{}/fd", std::process::id());
    links_in("/proc/self/fd").into_iter().filter(|target| *target != own).collect()
}

/// Mount points with their kinds; the numbers in `mountinfo` are left out, for they are used again.
fn mounts(below: &[PathBuf]) -> Vec<String> {
    let info = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    info.lines().filter_map(|line| mount(line, below)).collect()
}

fn mount(line: &str, below: &[PathBuf]) -> Option<String> {
    let (left, right) = line.split_once(" - ")?;
    let (place, kind) = (left.split(' ').nth(4)?, right.split(' ').next()?);
    let counts = below.is_empty() || below.iter().any(|directory| Path::new(place).starts_with(directory));
    counts.then(|| format!("{place} ({kind})"))
}

fn directories_below(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let paths = entries.filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path());
    paths.flat_map(|path| [vec![path.display().to_string()], directories_below(&path)].concat()).collect()
}

fn links_in(directory: &str) -> Vec<String> {
    let links =
        names_in(directory).into_iter().filter_map(|n| fs::read_link(format!("{directory}/{n}")).ok());
    links.map(|target| target.display().to_string()).collect()
}

fn names_in(directory: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_may_hold_anything() {
        let process = Process::parse(7, "7 (a) b (c) Z 3 7 7 0").expect("it is well formed");
        assert_eq!((process.name.as_str(), process.parent, process.zombie), ("a) b (c", 3, true));
        assert_eq!(process.to_text(), "a) b (c (pid 7, a zombie)");
    }

    #[test]
    fn a_mount_is_its_place_and_kind() {
        let line = "29 1 0:25 / /run rw,nosuid shared:5 - tmpfs tmpfs rw,size=1k";
        assert_eq!(mount(line, &[]).as_deref(), Some("/run (tmpfs)"));
    }

    #[test]
    fn mounts_of_others_are_left_out_where_a_directory_is_named() {
        let line = "29 1 0:25 / /run/ours/a rw shared:5 - tmpfs tmpfs rw,size=1k";
        assert_eq!(mount(line, &["/run/ours".into()]).as_deref(), Some("/run/ours/a (tmpfs)"));
        assert_eq!(mount(line, &["/run/our".into(), "/mnt".into()]), None);
    }
}
