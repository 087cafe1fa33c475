//! [`Limits`]: how much a command, or everything in a resource, may use.

use std::time::Duration;

use crate::error::ExecError;
use crate::limit::{CpuSet, Limit, LimitValue, Network};
use crate::support::Support;

/// How much a command may use. A limit that is `None` is not asked for; what the resource was made with
/// stays in force.
///
/// ```
/// use std::time::Duration;
/// use poolyard_exec::Limits;
///
/// let limits = Limits::new().cpu_time(Duration::from_secs(1)).memory(64 << 20).processes(1);
/// assert_eq!(limits.memory, Some(64 << 20));
/// assert_eq!(limits.swap, None);
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub struct Limits {
    /// Processor time (user and system) of all processes together.
    pub cpu_time: Option<Duration>,
    /// Time from the start of the program to the end of its last process.
    pub wall_time: Option<Duration>,
    /// Memory of all processes together, in bytes, page cache and kernel memory included as the kernel
    /// charges them.
    pub memory: Option<u64>,
    /// Swap in bytes, on top of `memory`. `Some(0)` forbids swapping.
    pub swap: Option<u64>,
    /// Processes and threads at the same time.
    pub processes: Option<u64>,
    /// Bytes per output stream. The first byte beyond ends the command. See also
    /// [`Command::capture`](crate::Command::capture), which only bounds what is kept.
    pub output: Option<u64>,
    /// Bytes in any one file that the command writes.
    pub file_size: Option<u64>,
    /// Bytes in the writable file systems together.
    pub disk_bytes: Option<u64>,
    /// Files, directories and links in the writable file systems together.
    pub disk_inodes: Option<u64>,
    /// Open file descriptors per process.
    pub open_files: Option<u64>,
    /// Stack of each process's first thread, in bytes.
    pub stack: Option<u64>,
    /// The processors that may be used.
    pub cpu_set: Option<CpuSet>,
    /// Share of processor time, in thousandths of one processor: 1500 is one and a half.
    pub cpu_bandwidth: Option<u32>,
    /// Bytes that may be read from each disk in a second, and as many that may be written to it. What is in memory
    /// already is not read.
    pub io_bandwidth: Option<u64>,
    /// The reach of the network.
    pub network: Option<Network>,
}

impl Limits {
    /// No limit is asked for.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`cpu_time`](Self::cpu_time).
    pub fn cpu_time(mut self, time: Duration) -> Self {
        self.cpu_time = Some(time);
        self
    }

    /// Sets [`wall_time`](Self::wall_time).
    pub fn wall_time(mut self, time: Duration) -> Self {
        self.wall_time = Some(time);
        self
    }

    /// Sets [`memory`](Self::memory), in bytes.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// Sets [`swap`](Self::swap), in bytes.
    pub fn swap(mut self, bytes: u64) -> Self {
        self.swap = Some(bytes);
        self
    }

    /// Sets [`processes`](Self::processes).
    pub fn processes(mut self, count: u64) -> Self {
        self.processes = Some(count);
        self
    }

    /// Sets [`output`](Self::output), in bytes per stream.
    pub fn output(mut self, bytes: u64) -> Self {
        self.output = Some(bytes);
        self
    }

    /// Sets [`file_size`](Self::file_size), in bytes.
    pub fn file_size(mut self, bytes: u64) -> Self {
        self.file_size = Some(bytes);
        self
    }

    /// Sets [`disk_bytes`](Self::disk_bytes).
    pub fn disk_bytes(mut self, bytes: u64) -> Self {
        self.disk_bytes = Some(bytes);
        self
    }

    /// Sets [`disk_inodes`](Self::disk_inodes).
    pub fn disk_inodes(mut self, count: u64) -> Self {
        self.disk_inodes = Some(count);
        self
    }

    /// Sets [`open_files`](Self::open_files).
    pub fn open_files(mut self, count: u64) -> Self {
        self.open_files = Some(count);
        self
    }

    /// Sets [`stack`](Self::stack), in bytes.
    pub fn stack(mut self, bytes: u64) -> Self {
        self.stack = Some(bytes);
        self
    }

    /// Sets [`cpu_set`](Self::cpu_set).
    pub fn cpu_set(mut self, cpus: impl IntoIterator<Item = u32>) -> Self {
        self.cpu_set = Some(cpus.into_iter().collect());
        self
    }

    /// Sets [`cpu_bandwidth`](Self::cpu_bandwidth), in thousandths of one processor.
    pub fn cpu_bandwidth(mut self, millicpus: u32) -> Self {
        self.cpu_bandwidth = Some(millicpus);
        self
    }

    /// Sets [`io_bandwidth`](Self::io_bandwidth), in bytes per second.
    pub fn io_bandwidth(mut self, bytes_per_second: u64) -> Self {
        self.io_bandwidth = Some(bytes_per_second);
        self
    }

    /// Sets [`network`](Self::network).
    pub fn network(mut self, network: Network) -> Self {
        self.network = Some(network);
        self
    }

    /// What `limit` is set to.
    pub fn value(&self, limit: Limit) -> Option<LimitValue> {
        match limit {
            Limit::CpuTime => self.cpu_time.map(LimitValue::Time),
            Limit::WallTime => self.wall_time.map(LimitValue::Time),
            Limit::Memory => self.memory.map(LimitValue::Bytes),
            Limit::Swap => self.swap.map(LimitValue::Bytes),
            Limit::Processes => self.processes.map(LimitValue::Count),
            Limit::Output => self.output.map(LimitValue::Bytes),
            Limit::FileSize => self.file_size.map(LimitValue::Bytes),
            Limit::DiskBytes => self.disk_bytes.map(LimitValue::Bytes),
            Limit::DiskInodes => self.disk_inodes.map(LimitValue::Count),
            Limit::OpenFiles => self.open_files.map(LimitValue::Count),
            Limit::Stack => self.stack.map(LimitValue::Bytes),
            Limit::CpuSet => self.cpu_set.clone().map(LimitValue::Cpus),
            Limit::CpuBandwidth => self.cpu_bandwidth.map(LimitValue::Millicpus),
            Limit::IoBandwidth => self.io_bandwidth.map(LimitValue::Bytes),
            Limit::Network => self.network.map(LimitValue::Network),
        }
    }

    /// Refuses, by name, what an executor with `support` cannot enforce; otherwise gives the limits that
    /// are in force: these, and what the resource was made with where these are silent.
    ///
    /// A per-command limit may be stricter than the resource's own, never looser. A per-resource limit is
    /// accepted exactly when the resource was made with it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnsupportedLimit`](crate::ErrorKind::UnsupportedLimit) with the first limit that is
    /// refused; the message says why, and what would be accepted.
    pub fn refuse_unsupported(&self, support: &Support) -> Result<Limits, ExecError> {
        for limit in Limit::ALL {
            if let Some(wanted) = self.value(limit) {
                support.admit(limit, &wanted)?;
            }
        }
        Ok(self.clone().or(support.made_with()))
    }

    /// These limits, and those of `other` where these are silent.
    pub fn or(self, other: &Limits) -> Limits {
        Limits {
            cpu_time: self.cpu_time.or(other.cpu_time),
            wall_time: self.wall_time.or(other.wall_time),
            memory: self.memory.or(other.memory),
            swap: self.swap.or(other.swap),
            processes: self.processes.or(other.processes),
            output: self.output.or(other.output),
            file_size: self.file_size.or(other.file_size),
            disk_bytes: self.disk_bytes.or(other.disk_bytes),
            disk_inodes: self.disk_inodes.or(other.disk_inodes),
            open_files: self.open_files.or(other.open_files),
            stack: self.stack.or(other.stack),
            cpu_set: self.cpu_set.or_else(|| other.cpu_set.clone()),
            cpu_bandwidth: self.cpu_bandwidth.or(other.cpu_bandwidth),
            io_bandwidth: self.io_bandwidth.or(other.io_bandwidth),
            network: self.network.or(other.network),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every limit set, to values that differ.
    fn full() -> Limits {
        Limits::new()
            .cpu_time(Duration::from_secs(1))
            .wall_time(Duration::from_secs(2))
            .memory(3)
            .swap(4)
            .processes(5)
            .output(6)
            .file_size(7)
            .disk_bytes(8)
            .disk_inodes(9)
            .open_files(10)
            .stack(11)
            .cpu_set([12])
            .cpu_bandwidth(13)
            .io_bandwidth(14)
            .network(Network::Loopback)
    }

    #[test]
    fn every_setter_sets_the_limit_that_its_name_says() {
        assert!(Limit::ALL.iter().all(|limit| Limits::new().value(*limit).is_none()));
        assert!(Limit::ALL.iter().all(|limit| full().value(*limit).is_some()));
        let fields = format!("{:?}", full());
        for limit in Limit::ALL {
            assert!(fields.contains(&format!("{limit}: Some(")), "{limit} is the name of a field");
        }
    }

    #[test]
    fn what_is_asked_for_wins_over_what_is_there_anyway() {
        assert_eq!(Limits::new().or(&full()), full());
        assert_eq!(full().or(&Limits::new()), full());
        assert_eq!(Limits::new().memory(1).or(&full()).memory, Some(1));
    }
}
