//! The rates at which a slot reads from disks and writes to them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::place::Version;
use super::slot::UNLIMITED;

/// The files of version 1, for reading and for writing.
pub(super) const V1: [&str; 2] = ["blkio.throttle.read_bps_device", "blkio.throttle.write_bps_device"];
/// The file of version 2.
pub(super) const V2: &str = "io.max";

/// One rate for each of some disks. A write is skipped if it changes nothing.
#[derive(Debug)]
pub(super) struct Rates {
    version: Version,
    files: Vec<File>,
    /// Their numbers, `major:minor`.
    disks: Vec<String>,
    last: AtomicU64,
}

impl Rates {
    pub(super) fn open(dir: &Path, version: Version, disks: &[String]) -> io::Result<Self> {
        let names = if version == Version::V1 { &V1[..] } else { &[V2] };
        let open = |name: &&str| File::options().write(true).open(dir.join(name));
        let files = names.iter().map(open).collect::<io::Result<_>>()?;
        Ok(Self { version, files, disks: disks.to_vec(), last: AtomicU64::new(UNLIMITED) })
    }

    /// Not from two threads at once.
    pub(super) fn set(&self, bytes_per_second: u64) -> io::Result<()> {
        if self.last.load(Ordering::Relaxed) == bytes_per_second {
            return Ok(());
        }
        for disk in &self.disks {
            let rule = rule(self.version, disk, bytes_per_second);
            for file in &self.files {
                file.write_at(rule.as_bytes(), 0)?;
            }
        }
        self.last.store(bytes_per_second, Ordering::Relaxed);
        Ok(())
    }
}

fn rule(version: Version, disk: &str, bytes: u64) -> String {
    match (version, bytes) {
        (Version::V1, UNLIMITED) => format!("{disk} 0"),
        (Version::V1, _) => format!("{disk} {bytes}"),
        (Version::V2, UNLIMITED) => format!("{disk} rbps=max wbps=max"),
        (Version::V2, _) => format!("{disk} rbps={bytes} wbps={bytes}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_has_its_own_words() {
        assert_eq!(rule(Version::V1, "254:0", 7), "254:0 7");
        assert_eq!(rule(Version::V1, "254:0", UNLIMITED), "254:0 0");
        assert_eq!(rule(Version::V2, "8:0", 7), "8:0 rbps=7 wbps=7");
        assert_eq!(rule(Version::V2, "8:0", UNLIMITED), "8:0 rbps=max wbps=max");
    }
}
