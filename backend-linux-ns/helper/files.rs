//! Files of a lease, opened for the host. The kernel refuses every link on the way, so that a
//! command cannot lead the host astray, not even by a race.

use core::ffi::CStr;

use poolyard_rt::sys::{self, Errno, Result};

use crate::text::Text;

const CLOEXEC: u32 = 0o2_000_000;
/// Not to hang on a pipe that a command left there; the host refuses what is no regular file.
const READ: u32 = CLOEXEC | 0o4_000 | 0o400;
const WRITE_CREATE_TRUNCATE: u32 = CLOEXEC | 0o4_000 | 0o400 | 0o1_101;

pub fn read(area: i32, path: &CStr) -> Result<i32> {
    sys::open_beneath(area, path, READ, 0)
}

pub fn write(area: i32, path: &CStr, mode: u32) -> Result<i32> {
    let file = create(area, path, mode)?;
    // One that was there has its old mode. Not left to the host, which may be nobody to its owner.
    sys::fchmod(file, mode).inspect_err(|_| sys::close(file)).map(|()| file)
}

fn create(area: i32, path: &CStr, mode: u32) -> Result<i32> {
    let open = || sys::open_beneath(area, path, WRITE_CREATE_TRUNCATE, mode);
    match open() {
        Err(Errno::NOENT) => make_parents(area, path)?,
        // One that may not be written, runs, or is a link: it is replaced instead.
        Err(Errno::ACCES | Errno::TXTBSY | Errno::LOOP) => remove(area, path.to_bytes())?,
        other => return other,
    }
    open()
}

fn remove(area: i32, path: &[u8]) -> Result<()> {
    in_parent(area, path, sys::unlinkat)
}

/// Makes the directory and its missing parents, and opens it.
pub fn make_directory(area: i32, path: &CStr, mode: u32) -> Result<i32> {
    make_parents(area, path)?;
    make_one(area, path.to_bytes(), mode)?;
    sys::open_beneath(area, path, sys::DIRECTORY_PATH, 0)
}

fn make_parents(area: i32, path: &CStr) -> Result<()> {
    let bytes = path.to_bytes();
    for (at, _) in bytes.iter().enumerate().filter(|&(at, &byte)| byte == b'/' && at > 0) {
        make_one(area, &bytes[..at], 0o755)?;
    }
    Ok(())
}

/// One that is there already is no error.
fn make_one(area: i32, path: &[u8], mode: u32) -> Result<()> {
    match in_parent(area, path, |parent, name| sys::mkdirat(parent, name, mode)) {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

/// Does something to a name in its directory, which is opened without following links.
fn in_parent(area: i32, path: &[u8], act: impl FnOnce(i32, &CStr) -> Result<()>) -> Result<()> {
    let (parent, name) = match path.iter().rposition(|&byte| byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&b"."[..], path),
    };
    let (parent, name) = (Text::<4096>::of(&[parent])?, Text::<256>::of(&[name])?);
    let parent = sys::open_beneath(area, parent.as_cstr(), sys::DIRECTORY_PATH, 0)?;
    let acted = act(parent, name.as_cstr());
    sys::close(parent);
    acted
}

/// The host's side of a new terminal.
pub fn terminal() -> Result<i32> {
    const READ_WRITE_NOCTTY: u32 = CLOEXEC | 0o402;
    sys::openat(sys::AT_FDCWD, c"/dev/pts/ptmx", READ_WRITE_NOCTTY, 0)
}
