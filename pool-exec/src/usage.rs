//! [`Usage`]: what a command used, each number with its source.

use std::time::Duration;

/// What a command used. A number that nobody could measure is `None`, never zero.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Usage {
    /// From the start of the program to its end.
    pub wall_time: Option<Measured<Duration>>,
    /// Processor time of all processes, user and system.
    pub cpu_time: Option<Measured<Duration>>,
    /// The part of the processor time in user mode.
    pub user_time: Option<Measured<Duration>>,
    /// The part of the processor time in the kernel.
    pub system_time: Option<Measured<Duration>>,
    /// The most memory at any time, in bytes. Its meaning depends on the source: control groups count all
    /// processes and their page cache, rusage the largest single process.
    pub memory_peak: Option<Measured<u64>>,
    /// The most processes and threads at any time.
    pub processes_peak: Option<Measured<u64>>,
}

/// A number, and where it comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Measured<T> {
    /// The number.
    pub value: T,
    /// Who measured it.
    pub source: Source,
}

impl<T> Measured<T> {
    /// A number from this source.
    pub fn new(value: T, source: Source) -> Self {
        Self { value, source }
    }
}

/// Who measured a number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Source {
    /// The clock of this process.
    HostClock,
    /// The clock of the agent inside the container.
    AgentClock,
    /// Control group version 1: `cpuacct.usage`, `cpuacct.stat`, `memory.max_usage_in_bytes`.
    CgroupV1,
    /// Control group version 2: `cpu.stat`, `memory.peak`, `pids.peak`.
    CgroupV2,
    /// The kernel's account of the main process and its awaited children (`wait4`).
    Rusage,
    /// The engine's statistics of the whole container.
    EngineStats,
    /// Looked at now and then; the true peak may be higher.
    Sampled,
}
