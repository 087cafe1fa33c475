//! A writable root: in each lease a layer of its own over the root and over every base directory. The layers lie in
//! the lease's file system, so its limits bound them, and they are gone with it.
//!
//! ```text
//! /tmp      the lease's file system, before the change of roots
//!   up/N    the layer over base directory N, or over the root
//!   work/N  what the overlay needs beside it
//!   new/    where the root is put together
//! ```

use core::ffi::CStr;

use poolyard_rt::sys;

use crate::decode::Plan;
use crate::failure::{At, Result};
use crate::protocol::{Part, Stage};
use crate::rootfs;
use crate::text::{Decimal, Text};

const BIND_ALL: usize = 4096 | (1 << 14);
const NOSUID_NODEV: usize = 2 | 4;

/// Puts the new root together, but for what every lease has of its own.
pub fn mount(plan: &Plan<'_>) -> Result<()> {
    for dir in [c"/tmp/up", c"/tmp/workdir", c"/tmp/new"] {
        sys::mkdirat(sys::AT_FDCWD, dir, 0o755).at(Stage::RootLayer)?;
    }
    let image = rootfs::image(plan)?;
    let below: &[u8] = if image.is_some() { b".:box" } else { b"." };
    mount_layer(plan, b"root", below, c"/", c"/tmp/new").at(Stage::RootLayer)?;
    plan.each_part(|index, kind, target, _| match kind {
        Part::Tree => mount_over_base(plan, index, target.to_bytes()).at_index(Stage::RootLayer, index),
        _ => Ok(()),
    })?;
    for (from, to) in [(c"/dev", c"/tmp/new/dev"), (c"/proc", c"/tmp/new/proc")] {
        sys::mount(from, to, c"", BIND_ALL, c"").at(Stage::RootLayer)?;
    }
    Ok(())
}

/// Makes the new root this process's, and forgets the old one.
pub fn enter() -> Result<()> {
    rootfs::enter(c"/tmp/new").at(Stage::RootLayer)
}

fn mount_over_base(plan: &Plan<'_>, index: usize, target: &[u8]) -> sys::Result<()> {
    let base = Text::<256>::of(&[b"/", target])?;
    let place = Text::<256>::of(&[b"/tmp/new/", target])?;
    mount_layer(plan, Decimal::of(index as u64).as_bytes(), b".", base.as_cstr(), place.as_cstr())
}

/// Mounts a layer over `below`, a list of directories as seen from `base`. (As paths from the root they might
/// hold the list's own separators.)
fn mount_layer(plan: &Plan<'_>, name: &[u8], below: &[u8], base: &CStr, place: &CStr) -> sys::Result<()> {
    let (up, work) = (Text::<32>::of(&[b"/tmp/up/", name])?, Text::<32>::of(&[b"/tmp/workdir/", name])?);
    make_top(plan, up.as_cstr(), base)?;
    sys::mkdirat(sys::AT_FDCWD, work.as_cstr(), 0o700)?;
    let options = Text::<128>::of(&[
        b"lowerdir=",
        below,
        b",upperdir=",
        up.as_bytes(),
        b",workdir=",
        work.as_bytes(),
        b",userxattr",
    ])?;
    sys::chdir(base)?;
    sys::mount(c"overlay", place, c"overlay", NOSUID_NODEV, options.as_cstr())
}

/// The top of a layer, which hides that of the base with its owner and mode. It is the command's, unless the base
/// is closed to commands.
fn make_top(plan: &Plan<'_>, up: &CStr, base: &CStr) -> sys::Result<()> {
    const FOR_ALL: u32 = 0o005;
    let mode = sys::mode_of(base)? & 0o777;
    sys::mkdirat(sys::AT_FDCWD, up, mode)?;
    if mode & FOR_ALL == FOR_ALL {
        sys::fchownat(sys::AT_FDCWD, up, plan.uid, plan.gid)?;
    }
    Ok(())
}
