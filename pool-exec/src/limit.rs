//! [`Limit`]: the name of one limit, and [`LimitValue`]: what it is set to.

use std::fmt;
use std::time::Duration;

/// The name of one limit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Limit {
    /// Processor time of all processes of the command together.
    CpuTime,
    /// Time since the program was started.
    WallTime,
    /// Memory of all processes of the command together.
    Memory,
    /// Swap, on top of memory.
    Swap,
    /// Processes and threads at the same time.
    Processes,
    /// Bytes written to standard output, and as many to standard error.
    Output,
    /// Size of any one file that is written.
    FileSize,
    /// Bytes in the writable file systems.
    DiskBytes,
    /// Files, directories and links in the writable file systems.
    DiskInodes,
    /// Open file descriptors per process.
    OpenFiles,
    /// Stack of a process's first thread.
    Stack,
    /// The processors that may be used.
    CpuSet,
    /// Share of processor time per time.
    CpuBandwidth,
    /// Bytes read from disks per second, and as many written to them.
    IoBandwidth,
    /// How much of a network can be reached.
    Network,
}

impl Limit {
    /// Every limit, in the order of declaration.
    pub const ALL: [Limit; 15] = [
        Limit::CpuTime,
        Limit::WallTime,
        Limit::Memory,
        Limit::Swap,
        Limit::Processes,
        Limit::Output,
        Limit::FileSize,
        Limit::DiskBytes,
        Limit::DiskInodes,
        Limit::OpenFiles,
        Limit::Stack,
        Limit::CpuSet,
        Limit::CpuBandwidth,
        Limit::IoBandwidth,
        Limit::Network,
    ];

    /// The name of the limit's field in [`Limits`](crate::Limits), as errors print it.
    pub const fn name(self) -> &'static str {
        match self {
            Limit::CpuTime => "cpu_time",
            Limit::WallTime => "wall_time",
            Limit::Memory => "memory",
            Limit::Swap => "swap",
            Limit::Processes => "processes",
            Limit::Output => "output",
            Limit::FileSize => "file_size",
            Limit::DiskBytes => "disk_bytes",
            Limit::DiskInodes => "disk_inodes",
            Limit::OpenFiles => "open_files",
            Limit::Stack => "stack",
            Limit::CpuSet => "cpu_set",
            Limit::CpuBandwidth => "cpu_bandwidth",
            Limit::IoBandwidth => "io_bandwidth",
            Limit::Network => "network",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What one limit is set to, for code that treats all limits alike.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum LimitValue {
    /// A span of time.
    Time(Duration),
    /// A number of bytes.
    Bytes(u64),
    /// A number of things.
    Count(u64),
    /// Thousandths of one processor.
    Millicpus(u32),
    /// A set of processors.
    Cpus(CpuSet),
    /// A reach of the network.
    Network(Network),
}

impl LimitValue {
    /// Whether `wanted` is as strict as this value or stricter. Values of different kinds never are.
    pub fn allows(&self, wanted: &LimitValue) -> bool {
        use LimitValue::*;
        match (self, wanted) {
            (Time(ceiling), Time(wanted)) => wanted <= ceiling,
            (Bytes(ceiling), Bytes(wanted)) | (Count(ceiling), Count(wanted)) => wanted <= ceiling,
            (Millicpus(ceiling), Millicpus(wanted)) => wanted <= ceiling,
            (Cpus(ceiling), Cpus(wanted)) => wanted.is_subset(ceiling),
            (Network(ceiling), Network(wanted)) => wanted <= ceiling,
            _ => false,
        }
    }

    /// Whether nothing at all could run under this value.
    pub(crate) fn is_nothing(&self) -> bool {
        match self {
            LimitValue::Time(time) => time.is_zero(),
            LimitValue::Bytes(n) | LimitValue::Count(n) => *n == 0,
            LimitValue::Millicpus(n) => *n == 0,
            LimitValue::Cpus(cpus) => cpus.is_empty(),
            LimitValue::Network(_) => false,
        }
    }
}

impl fmt::Display for LimitValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LimitValue::Time(time) => write!(f, "{time:?}"),
            LimitValue::Bytes(bytes) => write!(f, "{bytes} bytes"),
            LimitValue::Count(count) => write!(f, "{count}"),
            LimitValue::Millicpus(millicpus) => write!(f, "{millicpus} millicpus"),
            LimitValue::Cpus(cpus) => write!(f, "{cpus}"),
            LimitValue::Network(network) => write!(f, "{network}"),
        }
    }
}

/// How much of a network the programs inside reach. Ordered from least to most.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Network {
    /// None: no interface is up.
    #[default]
    Off,
    /// A loopback interface of their own.
    Loopback,
    /// The network that the executor itself uses. Isolates nothing; only by explicit choice.
    Shared,
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Network::Off => "off",
            Network::Loopback => "loopback",
            Network::Shared => "shared",
        })
    }
}

/// A set of processors, by their numbers.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct CpuSet {
    /// Sorted, without repetitions, so that equal sets are equal values.
    cpus: Vec<u32>,
}

impl CpuSet {
    /// Whether the set has no processor.
    pub fn is_empty(&self) -> bool {
        self.cpus.is_empty()
    }

    /// Whether `other` has every processor of this set.
    pub fn is_subset(&self, other: &CpuSet) -> bool {
        self.cpus.iter().all(|cpu| other.cpus.binary_search(cpu).is_ok())
    }

    /// The processors, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.cpus.iter().copied()
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Self {
        let mut cpus: Vec<u32> = cpus.into_iter().collect();
        cpus.sort_unstable();
        cpus.dedup();
        Self { cpus }
    }
}

/// The kernel's list format, one number per processor: `0,1,5`.
impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, cpu) in self.cpus.iter().enumerate() {
            write!(f, "{}{cpu}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_listed_once_and_in_order() {
        for (index, limit) in Limit::ALL.into_iter().enumerate() {
            assert_eq!(limit as usize, index, "{limit}");
        }
    }

    #[test]
    fn a_ceiling_allows_what_is_as_strict_and_refuses_what_is_looser() {
        let second = LimitValue::Time(Duration::from_secs(1));
        assert!(second.allows(&second));
        assert!(second.allows(&LimitValue::Time(Duration::from_millis(999))));
        assert!(!second.allows(&LimitValue::Time(Duration::from_millis(1001))));
        assert!(!LimitValue::Network(Network::Off).allows(&LimitValue::Network(Network::Loopback)));
        assert!(LimitValue::Network(Network::Shared).allows(&LimitValue::Network(Network::Off)));
        assert!(!LimitValue::Bytes(5).allows(&LimitValue::Count(1)), "units are not mixed");
    }

    #[test]
    fn a_cpu_set_is_sorted_unique_and_prints_as_the_kernel_reads_it() {
        let set: CpuSet = [3, 0, 3, 1].into_iter().collect();
        assert_eq!(set.to_string(), "0,1,3");
        assert_eq!(set, [0, 1, 3].into_iter().collect());
        assert!([1].into_iter().collect::<CpuSet>().is_subset(&set));
        assert!(![2].into_iter().collect::<CpuSet>().is_subset(&set));
    }
}
