//! A terminal of one program: made in the container's own file system of terminals, like the engine's.

use crate::sys::{self, Errno, Fd, nr};

const TIOCSCTTY: usize = 0x540e;
const TIOCSWINSZ: usize = 0x5414;
const TIOCGPTPEER: usize = 0x5441;
const TIOCSPTLCK: usize = 0x4004_5431;
const O_RDWR: usize = 2;
const O_NOCTTY: usize = 0o400;

/// Typed at the beginning of a line, it is the end of the input.
pub const END_OF_FILE: u8 = 4;

/// Rows and columns, in the upper and the lower half.
#[derive(Clone, Copy)]
pub struct Size(pub u32);

/// Our end, and the program's, which its user owns.
pub fn open(owner: u32, size: Size) -> Result<(Fd, Fd), Errno> {
    let ours = sys::open(b"/dev/ptmx", O_RDWR | O_NOCTTY, 0)?;
    let unlocked = 0i32;
    ioctl(ours.0, TIOCSPTLCK, &raw const unlocked as usize)?;
    resize(ours.0, size)?;
    let theirs = Fd(ioctl(ours.0, TIOCGPTPEER, O_RDWR | O_NOCTTY | sys::O_CLOEXEC)? as i32);
    // SAFETY: no memory is involved; the group stays.
    unsafe { sys::sys(nr::FCHOWN, &[theirs.0 as usize, owner as usize, usize::MAX]) }?;
    Ok((ours, theirs))
}

pub fn resize(terminal: i32, size: Size) -> Result<(), Errno> {
    let size = [(size.0 >> 16) as u16, size.0 as u16, 0, 0];
    ioctl(terminal, TIOCSWINSZ, size.as_ptr() as usize).map(drop)
}

/// Makes standard input the controlling terminal of this session, of which we must be the leader.
pub fn adopt() -> Result<(), Errno> {
    ioctl(0, TIOCSCTTY, 0).map(drop)
}

fn ioctl(fd: i32, request: usize, argument: usize) -> Result<usize, Errno> {
    // SAFETY: every caller gives a number, or a pointer to what the request reads.
    unsafe { sys::sys(nr::IOCTL, &[fd as usize, request, argument]) }
}
