//! [`Stats`]: what a container uses, as its own control groups say.

use std::time::Duration;

use crate::agent::Link;
use crate::error::Error;

/// What a container uses. A number that the kernel does not give is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Memory at the moment, in bytes, with page cache.
    pub memory: Option<u64>,
    /// The most memory it ever had, in bytes.
    pub memory_peak: Option<u64>,
    /// Processes and threads at the moment, the agent included.
    pub processes: Option<u64>,
    /// Processor time since its start.
    pub cpu: Option<Duration>,
}

const MAX: u64 = 4096;

/// Where version 2 and version 1 of control groups say it.
const FILES: [[&str; 2]; 4] = [
    ["memory.current", "memory/memory.usage_in_bytes"],
    ["memory.peak", "memory/memory.max_usage_in_bytes"],
    ["pids.current", "pids/pids.current"],
    ["cpu.stat", "cpuacct/cpuacct.usage"],
];

pub(crate) async fn read(link: &Link) -> Result<Stats, Error> {
    let [memory, peak, processes, cpu] = FILES;
    let (memory, peak, processes, cpu) =
        tokio::try_join!(first(link, memory), first(link, peak), first(link, processes), first(link, cpu))?;
    let number = |text: &Option<String>| text.as_deref()?.trim().parse().ok();
    Ok(Stats {
        memory: number(&memory),
        memory_peak: number(&peak),
        processes: number(&processes),
        cpu: cpu.as_deref().and_then(cpu_time),
    })
}

async fn first(link: &Link, names: [&str; 2]) -> Result<Option<String>, Error> {
    for name in names {
        match link.read_file(format!("/sys/fs/cgroup/{name}").as_bytes(), MAX).await {
            Ok(content) => return Ok(Some(String::from_utf8_lossy(&content.bytes).into_owned())),
            Err(e) if matches!(e.kind(), crate::ErrorKind::File(_)) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}

/// `usage_usec 5` among other lines in version 2, a bare number of nanoseconds in version 1.
fn cpu_time(text: &str) -> Option<Duration> {
    let v2 = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
    match v2 {
        Some(us) => Some(Duration::from_micros(us.trim().parse().ok()?)),
        None => Some(Duration::from_nanos(text.trim().parse().ok()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_from_both_versions() {
        assert_eq!(cpu_time("usage_usec 1500\nuser_usec 1\n"), Some(Duration::from_micros(1500)));
        assert_eq!(cpu_time("1500\n"), Some(Duration::from_nanos(1500)));
        assert_eq!(cpu_time("x"), None);
    }
}
