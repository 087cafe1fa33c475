//! [`Sample`]: what a process group uses at this moment, from `/proc`.

use std::fs;
use std::time::Duration;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::Pid;

/// What the living processes of one group use together.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Sample {
    /// Threads of all processes.
    pub(crate) processes: u64,
    /// Processor time, that of awaited children included.
    pub(crate) cpu_time: Duration,
    /// Resident memory in bytes; what processes share counts for each.
    pub(crate) memory: u64,
}

impl Sample {
    /// Looks at every process of this host once. Zombies use nothing but time.
    pub(crate) fn take(group: Pid) -> Self {
        let Ok(processes) = fs::read_dir("/proc") else { return Self::default() };
        let is_pid = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
        let names = processes.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        // A process may end between the listing and the reading.
        let stats =
            names.filter(|name| is_pid(name)).flat_map(|pid| fs::read_to_string(format!("/proc/{pid}/stat")));
        stats.filter_map(|stat| Self::parse(&stat, group)).fold(Self::default(), Self::plus)
    }

    /// One line of `/proc/<pid>/stat`, if it is of this group. The name may contain anything, so fields are
    /// counted from behind its bracket: state is 0.
    fn parse(stat: &str, group: Pid) -> Option<Self> {
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        if number(2)? != group.as_raw_pid() as u64 {
            return None;
        }
        let ticks = number(11)? + number(12)? + number(13)? + number(14)?;
        let cpu_time = Duration::from_millis(ticks * 1000 / clock_ticks_per_second());
        if matches!(fields[0], "Z" | "X") {
            return Some(Self { cpu_time, ..Self::default() });
        }
        Some(Self { processes: number(17)?, cpu_time, memory: number(21)? * page_size() as u64 })
    }

    fn plus(self, other: Self) -> Self {
        Self {
            processes: self.processes + other.processes,
            cpu_time: self.cpu_time + other.cpu_time,
            memory: self.memory + other.memory,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(state: &str, group: u32) -> String {
        let rest = "1 1 0 -1 0 0 0 0 0 10 20 30 40 20 0 3 0 100 1000 7 0";
        // Fields 3 and 4 are state and parent; the group is the fifth.
        let rest = rest.split_once(' ').unwrap().1;
        format!("42 (a (b) c) {state} 1 {group} {rest}")
    }

    #[test]
    fn a_line_is_read_whatever_the_name_contains() {
        let group = Pid::from_raw(7).unwrap();
        let sample = Sample::parse(&stat("S", 7), group).unwrap();
        assert_eq!(sample.processes, 3);
        assert_eq!(sample.memory, 7 * page_size() as u64);
        assert_eq!(sample.cpu_time, Duration::from_millis(100 * 1000 / clock_ticks_per_second()));
        assert_eq!(Sample::parse(&stat("S", 8), group), None, "another group");
        assert_eq!(Sample::parse("7", group), None, "torn");
    }

    #[test]
    fn a_zombie_counts_only_its_time() {
        let sample = Sample::parse(&stat("Z", 7), Pid::from_raw(7).unwrap()).unwrap();
        assert_eq!((sample.processes, sample.memory), (0, 0));
        assert!(sample.cpu_time > Duration::ZERO);
    }

    #[test]
    fn this_process_is_alive_and_uses_memory() {
        let sample = Sample::take(rustix::process::getpgrp());
        assert!(sample.processes >= 1 && sample.memory > 0, "{sample:?}");
    }
}
