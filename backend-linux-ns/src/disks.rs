//! The disks that the base of a sandbox lies on: what a bound on their use is about.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use crate::plan::SYSTEM;
use crate::spec::{Base, Inner};

const NO_DISK: &str = "it lies on no disk whose use the kernel can bound, but on an overlay, on several disks or on \
                       a network; use a base on one disk";
/// The kernel's numbers of tmpfs and ramfs.
const IN_MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6];

/// Their numbers, `major:minor`; or why the use of one cannot be bounded, and what to do.
pub(crate) fn of(spec: &Inner) -> Result<Vec<String>, String> {
    static HOST_SYSTEM: LazyLock<Result<BTreeSet<String>, String>> = LazyLock::new(host_system);
    let mut disks = match &spec.base {
        Base::HostSystem => HOST_SYSTEM.clone()?,
        Base::Directory(path) => below([path])?,
    };
    disks.append(&mut below(spec.trees.iter().map(|(_, path)| path))?);
    Ok(disks.into_iter().collect())
}

fn host_system() -> Result<BTreeSet<String>, String> {
    let paths = SYSTEM.iter().chain(&["etc"]).map(|name| Path::new("/").join(name));
    below(paths.filter(|path| path.exists()).collect::<Vec<_>>().iter())
}

fn below<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Result<BTreeSet<String>, String> {
    let named = |path: &PathBuf| disk_of(path).map_err(|why| format!("{}: {why}", path.display()));
    paths.into_iter().map(named).filter_map(Result::transpose).collect()
}

/// None for what lies in memory.
fn disk_of(path: &Path) -> Result<Option<String>, String> {
    let kind = rustix::fs::statfs(path).map_err(|e| e.to_string())?.f_type;
    if IN_MEMORY.contains(&(kind as i64)) {
        return Ok(None);
    }
    let device = fs::metadata(path).map_err(|e| e.to_string())?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    if major == 0 {
        return Err(NO_DISK.into());
    }
    let number = format!("{major}:{minor}");
    Ok(Some(disk_around(&number).unwrap_or(number)))
}

/// The whole disk, if the number is that of a partition: the kernel bounds no parts.
fn disk_around(number: &str) -> Option<String> {
    let device = fs::canonicalize(format!("/sys/dev/block/{number}")).ok()?;
    if !device.join("partition").exists() {
        return None;
    }
    Some(fs::read_to_string(device.parent()?.join("dev")).ok()?.trim().to_owned())
}
