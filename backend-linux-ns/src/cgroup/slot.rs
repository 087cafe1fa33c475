//! One slot: a leaf cgroup whose files stay open.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, chown};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::place::{BASIC_V1, IO, Place, REQUIRED, Version};
use super::rates::Rates;

/// A leaf cgroup that one sandbox's commands run in.
#[derive(Debug)]
pub(crate) struct Slot {
    version: Version,
    dirs: Vec<PathBuf>,
    /// Writing 0 into each of them moves the writer here.
    entries: Vec<File>,
    memory: Setting,
    /// On version 1 this is the sum of memory and swap.
    swap: Option<Setting>,
    processes: Setting,
    bandwidth: Option<Setting>,
    cpus: Option<File>,
    /// Only where asked for.
    rates: Option<Rates>,
    freezer: Option<File>,
    /// Whether it was frozen and not thawed since.
    frozen: AtomicBool,
    cpu_usage: Option<File>,
    memory_peak: Option<File>,
    /// Whether the peak can be set back; otherwise a used slot's peak says nothing about a new run.
    peak_resets: bool,
    processes_peak: Option<File>,
    memory_events: Option<File>,
    pids_events: Option<File>,
}

/// What a slot bounds. `None` is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SlotLimits {
    pub(crate) memory: Option<u64>,
    pub(crate) swap: Option<u64>,
    pub(crate) processes: Option<u64>,
    /// Thousandths of one processor.
    pub(crate) bandwidth: Option<u32>,
    /// In the kernel's list format.
    pub(crate) cpus: Option<String>,
    /// Bytes that are read from each disk in a second, and as many that are written.
    pub(crate) disks: Option<u64>,
}

/// What a slot has counted since it was made.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reading {
    pub(crate) cpu: Option<Duration>,
    pub(crate) memory_peak: Option<u64>,
    pub(crate) processes_peak: Option<u64>,
    /// Processes that were killed for want of memory.
    pub(crate) memory_kills: u64,
    /// Forks that were refused.
    pub(crate) forks_refused: u64,
}

/// A numeric limit file. Writes are skipped if they change nothing.
#[derive(Debug)]
struct Setting {
    file: File,
    last: AtomicU64,
    unlimited: &'static str,
}

pub(super) const UNLIMITED: u64 = u64::MAX;

impl Setting {
    fn open(path: PathBuf, unlimited: &'static str) -> io::Result<Self> {
        Ok(Self { file: File::options().write(true).open(path)?, last: AtomicU64::new(UNLIMITED), unlimited })
    }

    fn last(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    fn set(&self, value: u64) -> io::Result<()> {
        if self.last() == value {
            return Ok(());
        }
        match value {
            UNLIMITED => self.file.write_at(self.unlimited.as_bytes(), 0)?,
            _ => self.file.write_at(value.to_string().as_bytes(), 0)?,
        };
        self.last.store(value, Ordering::Relaxed);
        Ok(())
    }
}

/// The file names in which the versions differ.
struct Names {
    /// Who writes 0 here enters. On version 1 it is the file that moves one thread: to move all threads of a process,
    /// the kernel first waits for an RCU grace period, for 8 ms if it was not done lately. Version 2 has no such file;
    /// its runners are born in their cgroup.
    entry: &'static str,
    memory: &'static str,
    swap: &'static str,
    unlimited: &'static str,
    peak: &'static str,
    oom: &'static str,
    cpu: (&'static str, &'static str),
    bandwidth: &'static str,
    freezer: &'static str,
}

const V1: Names = Names {
    entry: "tasks",
    memory: "memory.limit_in_bytes",
    swap: "memory.memsw.limit_in_bytes",
    unlimited: "-1",
    peak: "memory.max_usage_in_bytes",
    oom: "memory.oom_control",
    cpu: ("cpuacct", "cpuacct.usage"),
    bandwidth: "cpu.cfs_quota_us",
    freezer: "freezer.state",
};

const V2: Names = Names {
    entry: "cgroup.procs",
    memory: "memory.max",
    swap: "memory.swap.max",
    unlimited: "max",
    peak: "memory.peak",
    oom: "memory.events",
    cpu: ("cpu", "cpu.stat"),
    bandwidth: "cpu.max",
    freezer: "cgroup.freeze",
};

/// The period of the processor share: 100 ms, the kernel's own default.
const PERIOD_US: u64 = 100_000;

impl Slot {
    pub(crate) fn make(
        place: &Place,
        name: &str,
        extra: &[&'static str],
        disks: &[String],
        owner: u32,
    ) -> io::Result<Self> {
        let version = place.version();
        let names = if version == Version::V1 { V1 } else { V2 };
        let dirs = make_dirs(place, name, extra)?;
        let file = |controller: &str, name_of: &str| place.dir(controller, name).map(|dir| dir.join(name_of));
        let optional = |controller: &str, file_name: &str, write: bool| {
            let path = file(controller, file_name)?;
            File::options().read(true).write(write).open(path).ok()
        };
        let required = |controller: &str, file_name: &str| {
            file(controller, file_name).ok_or(io::Error::from(io::ErrorKind::NotFound))
        };
        let memory_peak = optional("memory", names.peak, true).or(optional("memory", names.peak, false));
        let peak_resets = memory_peak.as_ref().is_some_and(|file| file.write_at(b"0", 0).is_ok());
        let wants = |controller| extra.contains(&controller);
        let slot = Self {
            version,
            entries: dirs
                .iter()
                .map(|dir| File::options().write(true).open(dir.join(names.entry)))
                .collect::<io::Result<_>>()?,
            dirs,
            memory: Setting::open(required("memory", names.memory)?, names.unlimited)?,
            swap: file("memory", names.swap).and_then(|path| Setting::open(path, names.unlimited).ok()),
            processes: Setting::open(required("pids", "pids.max")?, "max")?,
            bandwidth: match wants("cpu") {
                true => Some(Setting::open(required("cpu", names.bandwidth)?, names.unlimited)?),
                false => None,
            },
            cpus: if wants("cpuset") { optional("cpuset", "cpuset.cpus", true) } else { None },
            rates: match wants(IO).then(|| place.dir(IO, name)).flatten() {
                Some(dir) => Some(Rates::open(&dir, version, disks)?),
                None => None,
            },
            freezer: optional("freezer", names.freezer, true),
            frozen: AtomicBool::new(false),
            cpu_usage: optional(names.cpu.0, names.cpu.1, false),
            memory_peak,
            peak_resets,
            processes_peak: optional("pids", "pids.peak", false),
            memory_events: optional("memory", names.oom, false),
            pids_events: optional("pids", "pids.events", false),
        };
        if version == Version::V2 {
            // One victim of the kernel's choice would leave half a program running.
            fs::write(slot.dirs[0].join("memory.oom.group"), "1")?;
            // Where it fails, nobody is born here.
            let _ = chown(slot.dirs[0].join("cgroup.procs"), Some(owner), None);
        }
        Ok(slot)
    }

    /// The files through which a process enters the slot.
    pub(crate) fn entries(&self) -> &[File] {
        &self.entries
    }

    pub(crate) fn limits_swap(&self) -> bool {
        self.swap.is_some()
    }

    pub(crate) fn freezes(&self) -> bool {
        self.freezer.is_some()
    }

    pub(crate) fn counts_cpu(&self) -> bool {
        self.cpu_usage.is_some()
    }

    /// Sets all limits; what is `None` is unlimited.
    pub(crate) fn limit(&self, limits: &SlotLimits) -> io::Result<()> {
        self.limit_memory(limits.memory.unwrap_or(UNLIMITED), limits.swap)?;
        self.processes.set(limits.processes.unwrap_or(UNLIMITED))?;
        if let Some(bandwidth) = &self.bandwidth {
            bandwidth.set(limits.bandwidth.map_or(UNLIMITED, |milli| u64::from(milli) * PERIOD_US / 1000))?;
        }
        if let (Some(file), Some(cpus)) = (&self.cpus, &limits.cpus) {
            file.write_at(cpus.as_bytes(), 0)?;
        }
        if let Some(rates) = &self.rates {
            rates.set(limits.disks.unwrap_or(UNLIMITED))?;
        }
        Ok(())
    }

    fn limit_memory(&self, memory: u64, swap: Option<u64>) -> io::Result<()> {
        let Some(swap_setting) = &self.swap else { return self.memory.set(memory) };
        let swap = match (self.version, swap) {
            (_, None) => UNLIMITED,
            (Version::V2, Some(swap)) => swap,
            (Version::V1, Some(swap)) => memory.saturating_add(swap),
        };
        // On version 1 the sum may at no moment be below the part.
        if self.version == Version::V1 && swap < self.memory.last() {
            self.memory.set(memory)?;
            return swap_setting.set(swap);
        }
        swap_setting.set(swap)?;
        self.memory.set(memory)
    }

    /// Whether it bounds the use of disks.
    pub(crate) fn bounds_disks(&self) -> bool {
        self.rates.is_some()
    }

    /// Lets all that waits for a disk at a bounded rate have it at once.
    pub(crate) fn unbind_disks(&self) {
        if let Some(rates) = &self.rates {
            // Fails only if a disk is gone, and then nobody waits for it.
            let _ = rates.set(UNLIMITED);
        }
    }

    /// Forgets the peak, if this kernel can.
    pub(crate) fn reset_peak(&self) {
        if let (true, Some(peak)) = (self.peak_resets, &self.memory_peak) {
            let _ = peak.write_at(b"0", 0);
        }
    }

    pub(crate) fn peak_resets(&self) -> bool {
        self.peak_resets
    }

    /// Processor time that the slot's processes have used so far.
    pub(crate) fn cpu(&self) -> Option<Duration> {
        let mut buffer = [0; 512];
        let text = read(self.cpu_usage.as_ref()?, &mut buffer)?;
        match self.version {
            Version::V1 => text.trim().parse().ok().map(Duration::from_nanos),
            Version::V2 => field(text, "usage_usec").map(Duration::from_micros),
        }
    }

    /// Everything that the slot counts.
    pub(crate) fn read(&self) -> Reading {
        let number = |file: &Option<File>| {
            let mut buffer = [0; 64];
            read(file.as_ref()?, &mut buffer)?.trim().parse().ok()
        };
        let event = |file: &Option<File>, name: &str| {
            let mut buffer = [0; 512];
            file.as_ref().and_then(|file| field(read(file, &mut buffer)?, name)).unwrap_or(0)
        };
        Reading {
            cpu: self.cpu(),
            memory_peak: number(&self.memory_peak),
            processes_peak: number(&self.processes_peak),
            memory_kills: event(&self.memory_events, "oom_kill"),
            forks_refused: event(&self.pids_events, "max"),
        }
    }

    /// Stops all processes of the slot, or lets them go on.
    pub(crate) fn freeze(&self, frozen: bool) -> io::Result<()> {
        let file = self.freezer.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        let word = match (self.version, frozen) {
            (Version::V1, true) => "FROZEN",
            (Version::V1, false) => "THAWED",
            (Version::V2, true) => "1",
            (Version::V2, false) => "0",
        };
        self.frozen.store(frozen, Ordering::Relaxed);
        file.write_at(word.as_bytes(), 0).map(drop)
    }

    /// Lets what was frozen go on, so that it can end. Limits may stay: every command sets its own.
    pub(crate) fn thaw(&self) -> io::Result<()> {
        match self.frozen.load(Ordering::Relaxed) {
            true => self.freeze(false),
            false => Ok(()),
        }
    }

    /// Removes the directories. Fails while there are processes.
    pub(crate) fn remove(&self) -> io::Result<()> {
        for dir in &self.dirs {
            match fs::remove_dir(dir) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }
}

fn make_dirs(place: &Place, name: &str, extra: &[&'static str]) -> io::Result<Vec<PathBuf>> {
    let mut dirs = Vec::new();
    let controllers = REQUIRED.iter().chain(&BASIC_V1).chain(extra);
    for &controller in controllers {
        let Some(dir) = place.dir(controller, name) else { continue };
        if dirs.contains(&dir) {
            continue;
        }
        fs::create_dir(&dir)?;
        if place.version() == Version::V1 && controller == "cpuset" {
            place.inherit_cpuset(&dir)?;
        }
        dirs.push(dir);
    }
    Ok(dirs)
}

fn read<'a>(file: &File, buffer: &'a mut [u8]) -> Option<&'a str> {
    let len = file.read_at(buffer, 0).ok()?;
    std::str::from_utf8(&buffer[..len]).ok()
}

/// The number behind `name` in a file of lines `name number`.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let events = "low 0\nhigh 3\nmax 7\noom 1\noom_kill 2\noom_group_kill 5\n";
        assert_eq!(field(events, "oom_kill"), Some(2));
        assert_eq!(field(events, "oom"), Some(1));
        assert_eq!(field(events, "kill"), None);
        assert_eq!(field("usage_usec x", "usage_usec"), None);
    }
}
