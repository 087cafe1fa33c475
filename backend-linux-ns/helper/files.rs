//! Files of a lease, opened for the host. The kernel refuses every link on the way, so that a
//! command cannot lead the host astray, not even by a race.

use core::ffi::CStr;

use poolyard_rt::sys::{self, Errno, Result};

use crate::text::Text;

const CLOEXEC: u32 = 0o2_000_000;
const DIRECTORY_PATH: u32 = 0o12_200_000;
/// Not to hang on a pipe that a command left there; the host refuses what is no regular file.
const READ: u32 = CLOEXEC | 0o4_000 | 0o400;
const WRITE_CREATE_TRUNCATE: u32 = CLOEXEC | 0o4_000 | 0o400 | 0o1_101;

pub fn read(area: i32, path: &CStr) -> Result<i32> {
    sys::open_beneath(area, path, READ, 0)
}

pub fn write(area: i32, path: &CStr, mode: u32) -> Result<i32> {
    match sys::open_beneath(area, path, WRITE_CREATE_TRUNCATE, mode) {
        Err(Errno::NOENT) => {
            make_parents(area, path)?;
            sys::open_beneath(area, path, WRITE_CREATE_TRUNCATE, mode)
        }
        other => other,
    }
}

/// Makes the directory and its missing parents, and opens it.
pub fn make_directory(area: i32, path: &CStr, mode: u32) -> Result<i32> {
    make_parents(area, path)?;
    make_one(area, path.to_bytes(), mode)?;
    sys::open_beneath(area, path, DIRECTORY_PATH, 0)
}

fn make_parents(area: i32, path: &CStr) -> Result<()> {
    let bytes = path.to_bytes();
    for (at, _) in bytes.iter().enumerate().filter(|&(at, &byte)| byte == b'/' && at > 0) {
        make_one(area, &bytes[..at], 0o755)?;
    }
    Ok(())
}

/// Makes one directory inside its parent, which is opened without following links.
fn make_one(area: i32, path: &[u8], mode: u32) -> Result<()> {
    let (parent, name) = match path.iter().rposition(|&byte| byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&b"."[..], path),
    };
    let (parent, name) = (Text::<4096>::of(&[parent])?, Text::<256>::of(&[name])?);
    let parent = sys::open_beneath(area, parent.as_cstr(), DIRECTORY_PATH, 0)?;
    let made = sys::mkdirat(parent, name.as_cstr(), mode);
    sys::close(parent);
    match made {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

/// The host's side of a new terminal.
pub fn terminal() -> Result<i32> {
    const READ_WRITE_NOCTTY: u32 = CLOEXEC | 0o402;
    sys::openat(sys::AT_FDCWD, c"/dev/pts/ptmx", READ_WRITE_NOCTTY, 0)
}
