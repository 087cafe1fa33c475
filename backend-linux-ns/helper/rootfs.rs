//! The mount skeleton: everything of a sandbox's root that no command can write to.
//!
//! Base directories are shown through read-only overlays, one per sandbox: an overlay has inodes
//! of its own, so locks and watches on a shared file do not reach from one sandbox to another, as
//! they would through a bind mount.

use core::ffi::CStr;

use poolyard_rt::sys::{self, Errno};

use crate::decode::Plan;
use crate::failure::{At, Failure, Result};
use crate::launcher::Trees;
use crate::protocol::{Part, Stage};
use crate::text::{Decimal, Text};

const BIND: usize = 4096;
const RECURSIVE_PRIVATE: usize = 16384 | (1 << 18);
const CREATE_WRITE_CLOEXEC: u32 = 0o101 | 0o2_000_000;
const READ_CLOEXEC: u32 = 0o2_000_000;

const READ_ONLY: u64 =
    sys::MOUNT_ATTR_RDONLY | sys::MOUNT_ATTR_NOSUID | sys::MOUNT_ATTR_NODEV | sys::MOUNT_ATTR_NOATIME;
/// Devices work on a read-only mount, but nobody can change their times or modes.
const DEVICES: u64 =
    sys::MOUNT_ATTR_RDONLY | sys::MOUNT_ATTR_NOSUID | sys::MOUNT_ATTR_NOEXEC | sys::MOUNT_ATTR_NOATIME;

/// Name, place in the host's /dev, number.
const NODES: [(&CStr, &CStr, u64); 5] = [
    (c"null", c"/dev/null", 0x103),
    (c"zero", c"/dev/zero", 0x105),
    (c"full", c"/dev/full", 0x107),
    (c"random", c"/dev/random", 0x108),
    (c"urandom", c"/dev/urandom", 0x109),
];
const DEV_LINKS: [(&CStr, &CStr); 5] = [
    (c"pts/ptmx", c"ptmx"),
    (c"/proc/self/fd", c"fd"),
    (c"/proc/self/fd/0", c"stdin"),
    (c"/proc/self/fd/1", c"stdout"),
    (c"/proc/self/fd/2", c"stderr"),
];

/// Directories that every root has, whatever its base.
const PLACES: [&CStr; 4] = [c"proc", c"dev", c"tmp", c"box"];

/// A detached /dev with device nodes of its own, so that not even their locks are shared. Only root
/// outside can make one; others show the host's nodes.
pub fn private_devices() -> sys::Result<i32> {
    let tree = sys::new_mount(c"tmpfs", &[(c"mode", c"0755"), (c"size", c"64k"), (c"nr_inodes", c"32")], 0)?;
    let filled = (|| {
        for (name, _, number) in NODES {
            const CHARACTER_DEVICE: u32 = 0o020_000;
            sys::mknodat(tree, name, CHARACTER_DEVICE | 0o666, number)?;
        }
        fill_dev(tree)
    })();
    filled.map(|()| tree).inspect_err(|_| sys::close(tree))
}

/// What a /dev holds besides the nodes.
fn fill_dev(dir: i32) -> sys::Result<()> {
    for (text, name) in DEV_LINKS {
        sys::symlinkat(text, dir, name)?;
    }
    sys::mkdirat(dir, c"shm", 0o755)?;
    sys::mkdirat(dir, c"pts", 0o755)
}

/// Builds the root and makes it this process's.
pub fn build(plan: &Plan<'_>, trees: &Trees, devices: i32) -> Result<()> {
    sys::mount(c"", c"/", c"", RECURSIVE_PRIVATE, c"").at(Stage::PrivateMounts)?;
    let trees = open_bases(plan, trees)?;
    scratch().at(Stage::Scratch)?;
    populate(plan)?;
    attach_bases(plan, &trees)?;
    mount_root(plan)?;
    mount_bases(plan)?;
    mount_dev(devices).at(Stage::MountDev)?;
    mount_proc().at(Stage::MountProc)?;
    enter(c"root").at(Stage::PivotRoot)
}

/// Copies the mounts of base directories before the scratch file system covers anything.
fn open_bases(plan: &Plan<'_>, opened: &Trees) -> Result<Trees> {
    let mut trees = *opened;
    plan.each_part(|index, kind, _, source| {
        if matches!(kind, Part::Tree | Part::Root) && trees[index] < 0 {
            trees[index] = sys::open_tree(sys::AT_FDCWD, path(source)?).at_index(Stage::OpenBase, index)?;
        }
        Ok(())
    })?;
    Ok(trees)
}

/// A place to build in; it goes away with the old root.
///
/// ```text
/// skel/    becomes the root, or its uppermost layer
/// lower/N  the copied mount of part N
/// empty/   the second layer that a read-only overlay needs
/// root/    where the root is mounted
/// ```
fn scratch() -> sys::Result<()> {
    let options = [(c"mode", c"0755"), (c"size", c"16m"), (c"nr_inodes", c"4096")];
    let tree = sys::new_mount(c"tmpfs", &options, 0)?;
    // Kept open over the mount: copies of host files are read through paths of the old root.
    sys::move_mount(tree, sys::AT_FDCWD, SCRATCH)?;
    sys::close(tree);
    sys::chdir(SCRATCH)?;
    for name in [c"skel", c"lower", c"empty", c"root"] {
        sys::mkdirat(sys::AT_FDCWD, name, 0o755)?;
    }
    Ok(())
}

const SCRATCH: &CStr = c"/tmp";

fn populate(plan: &Plan<'_>) -> Result<()> {
    let skel = sys::openat(sys::AT_FDCWD, c"skel", sys::DIRECTORY_PATH, 0).at(Stage::Populate)?;
    for place in PLACES {
        sys::mkdirat(skel, place, 0o755).at(Stage::Populate)?;
    }
    plan.each_part(|index, kind, target, what| {
        let made = match kind {
            Part::Dir | Part::Tree => sys::mkdirat(skel, target, 0o755),
            Part::Link => sys::symlinkat(path(what)?, skel, target),
            Part::Text => write_file(skel, target, what),
            Part::Copy => copy_file(path(what)?, skel, target),
            Part::Root => Ok(()),
        };
        made.at_index(Stage::Populate, index)?;
        if plan.writable_root && matches!(kind, Part::Dir | Part::Text | Part::Copy) {
            sys::fchownat(skel, target, plan.uid, plan.gid).at_index(Stage::Populate, index)?;
        }
        Ok(())
    })?;
    sys::close(skel);
    Ok(())
}

fn write_file(dir: i32, name: &CStr, text: &[u8]) -> sys::Result<()> {
    let fd = sys::openat(dir, name, CREATE_WRITE_CLOEXEC, 0o644)?;
    let written = sys::write(fd, text);
    sys::close(fd);
    written.map(drop)
}

fn copy_file(from: &CStr, dir: i32, name: &CStr) -> sys::Result<()> {
    let source = sys::openat(sys::AT_FDCWD, from, READ_CLOEXEC, 0)?;
    let target = sys::openat(dir, name, CREATE_WRITE_CLOEXEC, 0o644)?;
    let mut buffer = [0; 4096];
    let copied = loop {
        match sys::read(source, &mut buffer) {
            Ok(0) => break Ok(()),
            Ok(n) => match sys::write(target, &buffer[..n]) {
                Ok(_) => {}
                Err(errno) => break Err(errno),
            },
            Err(errno) => break Err(errno),
        }
    };
    sys::close(source);
    sys::close(target);
    copied
}

fn attach_bases(plan: &Plan<'_>, trees: &Trees) -> Result<()> {
    plan.each_part(|index, kind, _, _| {
        if matches!(kind, Part::Tree | Part::Root) {
            let place = lower(index).at(Stage::OpenBase)?;
            let attached = sys::mkdirat(sys::AT_FDCWD, place.as_cstr(), 0o755)
                .and_then(|()| sys::move_mount(trees[index], sys::AT_FDCWD, place.as_cstr()));
            sys::close(trees[index]);
            attached.at_index(Stage::OpenBase, index)?;
        }
        Ok(())
    })
}

fn lower(index: usize) -> sys::Result<Text<16>> {
    Text::of(&[b"lower/", Decimal::of(index as u64).as_bytes()])
}

/// The number of the part that is the root itself, if there is one.
pub fn image(plan: &Plan<'_>) -> Result<Option<usize>> {
    let mut image = None;
    plan.each_part(|index, kind, _, _| {
        if kind == Part::Root {
            image = Some(index);
        }
        Ok(())
    })?;
    Ok(image)
}

/// With an image the skeleton is a layer over it, without one it is the root. If each lease layers the root
/// itself, the image waits where a lease's own directory will cover it.
fn mount_root(plan: &Plan<'_>) -> Result<()> {
    let image = image(plan)?;
    match image {
        Some(index) if !plan.writable_root => {
            let place = lower(index).at(Stage::MountRoot)?;
            let layers =
                Text::<64>::of(&[b"lowerdir=skel:", place.as_bytes()]).at_index(Stage::MountRoot, index)?;
            mount_overlay(c"root", &layers).at_index(Stage::MountRoot, index)
        }
        _ => {
            bind_read_only(c"skel", c"root").at(Stage::MountRoot)?;
            let Some(index) = image else { return Ok(()) };
            let place = lower(index).at(Stage::MountRoot)?;
            bind_read_only(place.as_cstr(), c"root/box").at_index(Stage::MountRoot, index)
        }
    }
}

fn bind_read_only(from: &CStr, to: &CStr) -> sys::Result<()> {
    sys::mount(from, to, c"", BIND, c"")?;
    // The access-time mode of a host's mount is locked in a user namespace, and matters nowhere that is read-only.
    sys::add_mount_attributes(sys::AT_FDCWD, to, READ_ONLY & !sys::MOUNT_ATTR_NOATIME)
}

fn mount_overlay(target: &CStr, layers: &Text<64>) -> sys::Result<()> {
    sys::mount(c"overlay", target, c"overlay", 0, layers.as_cstr())?;
    sys::add_mount_attributes(sys::AT_FDCWD, target, READ_ONLY)
}

fn mount_bases(plan: &Plan<'_>) -> Result<()> {
    plan.each_part(|index, kind, target, _| {
        if kind != Part::Tree {
            return Ok(());
        }
        let place = lower(index).at(Stage::MountBase)?;
        let layers = Text::<64>::of(&[b"lowerdir=", place.as_bytes(), b":empty"]).at(Stage::MountBase)?;
        let target = Text::<256>::of(&[b"root/", target.to_bytes()]).at_index(Stage::MountBase, index)?;
        // A layer of the lease's own keeps inodes apart just as well, and the kernel stacks only two.
        let mounted = match plan.writable_root {
            true => bind_read_only(place.as_cstr(), target.as_cstr()),
            false => mount_overlay(target.as_cstr(), &layers),
        };
        mounted.at_index(Stage::MountBase, index)
    })
}

fn mount_dev(private: i32) -> sys::Result<()> {
    if private >= 0 {
        sys::move_mount(private, sys::AT_FDCWD, c"root/dev")?;
        sys::close(private);
        return sys::add_mount_attributes(sys::AT_FDCWD, c"root/dev", DEVICES);
    }
    let options = [(c"mode", c"0755"), (c"size", c"64k"), (c"nr_inodes", c"32")];
    let tree = sys::new_mount(c"tmpfs", &options, 0)?;
    fill_dev(tree)?;
    sys::move_mount(tree, sys::AT_FDCWD, c"root/dev")?;
    for (name, source, _) in NODES {
        sys::close(sys::openat(tree, name, CREATE_WRITE_CLOEXEC, 0o644)?);
        let target = Text::<32>::of(&[b"root/dev/", name.to_bytes()])?;
        sys::mount(source, target.as_cstr(), c"", BIND, c"")?;
        // As in `bind_read_only`.
        let attributes = DEVICES & !sys::MOUNT_ATTR_NOATIME;
        sys::add_mount_attributes(sys::AT_FDCWD, target.as_cstr(), attributes)?;
    }
    sys::close(tree);
    sys::add_mount_attributes(sys::AT_FDCWD, c"root/dev", DEVICES)
}

/// The keeper's own /proc. Each lease covers it with one of its pid namespace; the kernel allows
/// that only where a fully visible one already is.
fn mount_proc() -> sys::Result<()> {
    let attributes = sys::MOUNT_ATTR_NOSUID | sys::MOUNT_ATTR_NODEV | sys::MOUNT_ATTR_NOEXEC;
    let tree = sys::new_mount(c"proc", &[], attributes)?;
    sys::move_mount(tree, sys::AT_FDCWD, c"root/proc")?;
    sys::close(tree);
    Ok(())
}

/// Makes the root at `place` this process's, and forgets the old one.
pub fn enter(place: &CStr) -> sys::Result<()> {
    sys::chdir(place)?;
    sys::pivot_root(c".", c".")?;
    // The old root lies on top of the new one at the same place.
    sys::umount(c".")?;
    sys::chdir(c"/")
}

fn path(bytes: &[u8]) -> Result<&CStr> {
    CStr::from_bytes_with_nul(bytes).map_err(|_| Failure::new(Stage::Protocol, Errno::BADMSG))
}
