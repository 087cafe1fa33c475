//! Single files in and out.

use crate::sys::{self, CStr, EINVAL, Errno, Fd, nr};
use crate::user;
use crate::wire::{self, Reader};

/// Makes the file of a `PUT`, and the directories above it that are missing.
pub fn create(payload: &[u8]) -> Result<Fd, Errno> {
    let mut reader = Reader(payload);
    let (mode, owner, path) = (|| Some((reader.u32()?, reader.bytes()?, reader.bytes()?)))().ok_or(EINVAL)?;
    let owner = user::find(owner)?;
    // Always a file of its own: what is there may be a link, a pipe, or somebody's.
    match sys::unlink_at(sys::AT_FDCWD as i32, &CStr::new(path), 0) {
        Err(sys::ENOENT) => make_parents(path),
        other => other?,
    }
    let flags = sys::O_WRONLY | sys::O_CREAT | sys::O_EXCL | sys::O_NOFOLLOW;
    let file = sys::open(path, flags, mode as usize)?;
    let fd = file.0 as usize;
    // SAFETY: no memory is involved.
    unsafe {
        sys::sys(nr::FCHOWN, &[fd, owner.uid as usize, owner.gid as usize])?;
        sys::sys(nr::FCHMOD, &[fd, mode as usize])?;
    }
    Ok(file)
}

fn make_parents(path: &[u8]) {
    for (at, byte) in path.iter().enumerate().skip(1) {
        if *byte == b'/' {
            let _ = sys::mkdir(&path[..at], 0o755);
        }
    }
}

/// A file on its way out.
pub struct Outgoing {
    pub file: Fd,
    pub mode: u32,
    pub credit: u32,
}

/// Opens the file of a `GET`; never a pipe or device, which could block or never end, and never
/// what a link leads to.
pub fn open(payload: &[u8]) -> Result<Outgoing, Errno> {
    let path = Reader(payload).bytes().ok_or(EINVAL)?;
    let flags = sys::O_NONBLOCK | sys::O_NOFOLLOW;
    let file = sys::open_at(sys::AT_FDCWD, &CStr::new(path), flags, 0)?;
    let stat = sys::fstat(file.0)?;
    match stat.is_file() {
        true => Ok(Outgoing { file, mode: stat.mode & 0o7777, credit: wire::WINDOW }),
        false => Err(EINVAL),
    }
}
