//! Datagrams with file descriptors over a unix socket.

use crate::sys::{self, Errno, Result, nr};

/// The most descriptors that one datagram carries here. The kernel's own bound is 253.
pub const MAX_FDS: usize = 64;

/// The kernel's `struct msghdr`.
#[repr(C)]
struct Message {
    name: usize,
    name_len: u32,
    parts: *const Part,
    part_count: usize,
    control: *mut Control,
    control_len: usize,
    flags: i32,
}

/// The kernel's `struct iovec`.
#[repr(C)]
struct Part {
    base: *const u8,
    len: usize,
}

/// A control message of descriptors: `struct cmsghdr` and its data.
#[repr(C)]
struct Control {
    len: usize,
    level: i32,
    kind: i32,
    fds: [i32; MAX_FDS],
}

const CONTROL_HEADER: usize = 16;
const SOL_SOCKET: i32 = 1;
const SCM_RIGHTS: i32 = 1;
const MSG_CTRUNC: i32 = 8;
const MSG_TRUNC: i32 = 0x20;
const MSG_NOSIGNAL: usize = 0x4000;
const MSG_CMSG_CLOEXEC: usize = 0x4000_0000;

/// A pair of connected seqpacket sockets, closed on exec.
pub fn pair() -> Result<[i32; 2]> {
    const UNIX: usize = 1;
    const SEQPACKET_CLOEXEC: usize = 5 | 0o2_000_000;
    let mut ends = [0i32; 2];
    // SAFETY: the kernel writes two numbers into `ends`.
    unsafe { sys::call(nr::SOCKETPAIR, [UNIX, SEQPACKET_CLOEXEC, 0, ends.as_mut_ptr() as usize, 0, 0]) }?;
    Ok(ends)
}

/// Sends one datagram with copies of `fds`.
pub fn send(socket: i32, bytes: &[u8], fds: &[i32]) -> Result<()> {
    let mut control = Control {
        len: CONTROL_HEADER + 4 * fds.len(),
        level: SOL_SOCKET,
        kind: SCM_RIGHTS,
        fds: [0; MAX_FDS],
    };
    control.fds.get_mut(..fds.len()).ok_or(Errno::INVAL)?.copy_from_slice(fds);
    let part = Part { base: bytes.as_ptr(), len: bytes.len() };
    let with_fds = !fds.is_empty();
    let message = Message {
        name: 0,
        name_len: 0,
        parts: &raw const part,
        part_count: 1,
        control: if with_fds { &raw mut control } else { core::ptr::null_mut() },
        // The kernel wants the space of the data rounded up to eight bytes.
        control_len: if with_fds { (control.len + 7) & !7 } else { 0 },
        flags: 0,
    };
    let a = [socket as usize, &raw const message as usize, MSG_NOSIGNAL, 0, 0, 0];
    // SAFETY: everything the message points to lives through the call.
    sys::retry(|| unsafe { sys::call(nr::SENDMSG, a) }).map(drop)
}

/// What [`receive`] found.
pub struct Received {
    /// Bytes of the datagram; 0 says that the other end is closed.
    pub len: usize,
    fds: [i32; MAX_FDS],
    fd_count: usize,
}

impl Received {
    /// The descriptors that came along. Whoever receives them closes them.
    pub fn fds(&self) -> &[i32] {
        &self.fds[..self.fd_count]
    }
}

/// Waits for one datagram. Its descriptors are closed on exec.
///
/// # Errors
///
/// `EBADMSG` if it was longer than `into` or carried more than [`MAX_FDS`] descriptors.
pub fn receive(socket: i32, into: &mut [u8]) -> Result<Received> {
    receive_with(socket, into, MSG_CMSG_CLOEXEC)
}

/// Like [`receive`], but the descriptors survive an exec.
pub fn receive_inheritable(socket: i32, into: &mut [u8]) -> Result<Received> {
    receive_with(socket, into, 0)
}

fn receive_with(socket: i32, into: &mut [u8], flags: usize) -> Result<Received> {
    let mut control = Control { len: 0, level: 0, kind: 0, fds: [-1; MAX_FDS] };
    let part = Part { base: into.as_mut_ptr(), len: into.len() };
    let mut message = Message {
        name: 0,
        name_len: 0,
        parts: &raw const part,
        part_count: 1,
        control: &raw mut control,
        control_len: size_of::<Control>(),
        flags: 0,
    };
    let a = [socket as usize, &raw mut message as usize, flags, 0, 0, 0];
    // SAFETY: the kernel writes into `into` and `control`, at most as much as the lengths say.
    let len = sys::retry(|| unsafe { sys::call(nr::RECVMSG, a) })?;
    let rights = message.control_len >= CONTROL_HEADER && control.kind == SCM_RIGHTS;
    let fd_count = if rights { (control.len - CONTROL_HEADER) / 4 } else { 0 };
    let received = Received { len, fds: control.fds, fd_count };
    if message.flags & (MSG_TRUNC | MSG_CTRUNC) != 0 {
        received.fds().iter().for_each(|&fd| sys::close(fd));
        return Err(Errno::BADMSG);
    }
    Ok(received)
}
