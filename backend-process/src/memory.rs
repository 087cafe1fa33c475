//! How much memory a process has, and whether that is too much.

use std::fs;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// How often memory is looked at.
pub(crate) const EVERY: Duration = Duration::from_millis(100);

/// How much of the time an exact look may take: one part in so many.
const EXACT_SHARE: u32 = 50;

/// Watches the memory of one process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    limit: u64,
    /// It shares memory with what it was forked from, which is not its own.
    forked: bool,
    next: Instant,
}

impl Scale {
    pub(crate) fn new(limit: u64, forked: bool) -> Self {
        Self { limit, forked, next: Instant::now() }
    }

    /// Whether the process has more than it may. Looks every 100 ms at most, and says no in between.
    ///
    /// Resident bytes are read at 6 us, whatever their number. They count what is shared with other
    /// processes in full, so above the limit the exact shares of a forked one are summed up. That takes
    /// 24 ms at 512 MiB, and so is done the less often the longer it takes.
    pub(crate) fn exceeded(&mut self, pid: i32) -> bool {
        let begun = Instant::now();
        if begun < self.next {
            return false;
        }
        self.next = begun + EVERY;
        let more = |bytes: Option<u64>| bytes.is_some_and(|bytes| bytes > self.limit);
        if !more(resident(pid)) {
            return false;
        }
        if !self.forked {
            return true;
        }
        let exceeded = more(proportional(pid));
        self.next = begun + (begun.elapsed() * EXACT_SHARE).max(EVERY);
        exceeded
    }
}

/// Resident bytes of a process, shared ones included; `None` when it is gone.
fn resident(pid: i32) -> Option<u64> {
    static PAGE: LazyLock<u64> = LazyLock::new(|| rustix::param::page_size() as u64);
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    Some(statm.split(' ').nth(1)?.parse::<u64>().ok()? * *PAGE)
}

/// Resident bytes of a process, of shared ones its share.
fn proportional(pid: i32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}
