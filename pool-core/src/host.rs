//! [`HostMemory`]: pressure on the memory of the machine. The only file that reads `/proc`.

use std::path::{Path, PathBuf};

use crate::pressure::{Pressed, PressureSource, Shed};

const MIB: u64 = 1 << 20;

/// Memory of the machine is short: less is available than a reserve, or tasks wait for it.
///
/// Reads `MemAvailable` of `/proc/meminfo`, and where the kernel has it `/proc/pressure/memory`; that
/// takes some tens of microseconds. Sheds [half](Shed::Half) of what is idle at each look. Where
/// neither can be read, as on systems other than Linux, it never finds pressure:
/// [`is_supported`](HostMemory::is_supported) tells. In a container it sees the machine, not the limit
/// of the container.
///
/// ```
/// use poolyard_core::{HostMemory, Pool, from_fn};
///
/// let pool = Pool::builder(from_fn(|_: &()| async { Ok::<_, std::io::Error>(0) }))
///     .pressure(HostMemory::new().reserve(2 << 30))
///     .build();
/// # pool.unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct HostMemory {
    proc: PathBuf,
    reserve: Option<u64>,
    max_stall: f64,
}

impl Default for HostMemory {
    fn default() -> Self {
        Self::new()
    }
}

impl HostMemory {
    /// With a reserve of a sixteenth of the machine's memory, and tasks that wait for memory during a
    /// tenth of the time.
    pub fn new() -> Self {
        Self::at("/proc")
    }

    fn at(proc: impl Into<PathBuf>) -> Self {
        HostMemory { proc: proc.into(), reserve: None, max_stall: 10.0 }
    }

    /// How many bytes shall stay available.
    #[must_use]
    pub fn reserve(mut self, bytes: u64) -> Self {
        self.reserve = Some(bytes);
        self
    }

    /// During how much of the last ten seconds, in percent, some task may have waited for memory.
    /// 100 or more: that does not matter.
    #[must_use]
    pub fn max_stall(mut self, percent: f64) -> Self {
        self.max_stall = percent;
        self
    }

    /// Whether the machine tells how much memory is available.
    pub fn is_supported(&self) -> bool {
        self.available().is_some()
    }

    /// Available and total memory, in bytes.
    fn available(&self) -> Option<(u64, u64)> {
        let text = read(&self.proc.join("meminfo"))?;
        Some((kib(&text, "MemAvailable:")? * 1024, kib(&text, "MemTotal:")? * 1024))
    }

    /// During how much of the last ten seconds some task waited for memory, in percent.
    fn stall(&self) -> Option<f64> {
        let text = read(&self.proc.join("pressure/memory"))?;
        let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
        some.split(' ').find_map(|field| field.strip_prefix("avg10="))?.parse().ok()
    }

    fn shortage(&self) -> Option<String> {
        if let Some((available, total)) = self.available() {
            let reserve = self.reserve.unwrap_or(total / 16);
            if available < reserve {
                let (available, reserve) = (available / MIB, reserve / MIB);
                return Some(format!("{available} MiB of memory are available, less than {reserve} MiB"));
            }
        }
        let stall = self.stall().filter(|stall| *stall > self.max_stall)?;
        Some(format!("tasks waited for memory {stall} % of the time, more than {} %", self.max_stall))
    }
}

impl PressureSource for HostMemory {
    fn look(&self) -> Option<Pressed> {
        let cause = self.shortage()?;
        Some(Pressed { shed: Shed::Half, cause: cause.into() })
    }
}

fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

fn kib(meminfo: &str, field: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `/proc` of our own, which is removed in the end.
    struct Proc(PathBuf);

    impl Proc {
        fn new(name: &str) -> Proc {
            let root = std::env::temp_dir().join(format!("poolyard-{name}-{}", std::process::id()));
            std::fs::create_dir_all(root.join("pressure")).unwrap();
            Proc(root)
        }

        fn meminfo(&self, available_mib: u64) {
            let available = available_mib * 1024;
            let text =
                format!("MemTotal:       16777216 kB\nMemFree:  1 kB\nMemAvailable:   {available} kB\n");
            std::fs::write(self.0.join("meminfo"), text).unwrap();
        }

        fn stall(&self, percent: &str) {
            let text = format!(
                "some avg10={percent} avg60=1.00 avg300=2.00 total=3\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
            );
            std::fs::write(self.0.join("pressure/memory"), text).unwrap();
        }

        fn source(&self) -> HostMemory {
            HostMemory::at(&self.0)
        }
    }

    impl Drop for Proc {
        fn drop(&mut self) {
            _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn there_is_pressure_while_less_memory_than_the_reserve_is_available() {
        let proc = Proc::new("reserve");
        proc.meminfo(500);
        let source = proc.source().reserve(501 * MIB);
        let pressed = source.look().expect("one mebibyte is missing");
        assert_eq!(pressed.shed, Shed::Half);
        assert_eq!(pressed.cause, "500 MiB of memory are available, less than 501 MiB");
        assert_eq!(source.reserve(500 * MIB).look(), None);
    }

    #[test]
    fn without_a_word_the_reserve_is_a_sixteenth_of_the_memory() {
        let proc = Proc::new("sixteenth");
        proc.meminfo(1023);
        assert!(proc.source().look().is_some());
        proc.meminfo(1024);
        assert_eq!(proc.source().look(), None);
    }

    #[test]
    fn there_is_pressure_while_tasks_wait_for_memory_too_long() {
        let proc = Proc::new("stall");
        proc.meminfo(8192);
        proc.stall("10.00");
        assert_eq!(proc.source().look(), None);
        proc.stall("10.01");
        let cause = proc.source().look().expect("it is too long").cause;
        assert!(cause.contains("10.01 %"), "{cause}");
        assert_eq!(proc.source().max_stall(100.0).look(), None);
    }

    #[test]
    fn where_nothing_can_be_read_there_is_no_pressure() {
        let source = HostMemory::at("/nowhere").reserve(u64::MAX);
        assert_eq!((source.is_supported(), source.look()), (false, None));
    }

    #[test]
    #[cfg(all(target_os = "linux", not(miri)))]
    fn a_linux_host_tells_its_available_memory() {
        assert!(HostMemory::new().is_supported());
        assert!(HostMemory::new().reserve(u64::MAX).look().is_some());
        assert_eq!(HostMemory::new().reserve(0).max_stall(100.0).look(), None);
    }
}
