//! The disks that the base of a sandbox lies on: what limits of their use are about.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::LazyLock;

use crate::plan::SYSTEM;
use crate::spec::{Base, Inner};

/// Their numbers, `major:minor`; or why the use of one cannot be limited, and what to do.
pub(crate) fn of(spec: &Inner) -> Result<Vec<String>, String> {
    static HOST_SYSTEM: LazyLock<Result<String, String>> = LazyLock::new(host_system);
    let base = match &spec.base {
        Base::HostSystem => HOST_SYSTEM.clone(),
        Base::Directory(path) => disk_of(path),
    };
    let trees = spec.trees.iter().map(|(_, path)| disk_of(path));
    let disks: BTreeSet<String> = trees.chain([base]).collect::<Result<_, _>>()?;
    Ok(disks.into_iter().collect())
}

/// That of /usr; the other directories of the system are links into it, or beside it.
fn host_system() -> Result<String, String> {
    let mut paths = SYSTEM.iter().map(|name| Path::new("/").join(name));
    let directory = paths.find(|path| fs::symlink_metadata(path).is_ok_and(|m| m.is_dir()));
    disk_of(&directory.unwrap_or_else(|| "/".into()))
}

fn disk_of(path: &Path) -> Result<String, String> {
    let about = fs::metadata(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let (major, minor) = (rustix::fs::major(about.dev()), rustix::fs::minor(about.dev()));
    if major == 0 {
        return Err(format!(
            "{} lies on no disk that the kernel limits (but an overlay, memory or a network); use a base on a disk",
            path.display()
        ));
    }
    let number = format!("{major}:{minor}");
    Ok(disk_around(&number).unwrap_or(number))
}

/// The whole disk, if the number is that of a partition: the kernel limits no parts.
fn disk_around(number: &str) -> Option<String> {
    let device = fs::canonicalize(format!("/sys/dev/block/{number}")).ok()?;
    if !device.join("partition").exists() {
        return None;
    }
    Some(fs::read_to_string(device.parent()?.join("dev")).ok()?.trim().to_owned())
}
