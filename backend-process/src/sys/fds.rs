//! Pipes, and sockets in their place.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use tokio::io::unix::AsyncFd;

/// Both ends of a pipe, neither inherited by anyone.
pub(crate) struct Pipe {
    pub(crate) read: OwnedFd,
    pub(crate) write: OwnedFd,
}

impl Pipe {
    pub(crate) fn new() -> io::Result<Self> {
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        Ok(Self { read, write })
    }

    /// Two connected sockets instead, of which each could do both.
    pub(crate) fn of_sockets() -> io::Result<Self> {
        let (read, write) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?;
        Ok(Self { read, write })
    }

    /// Asks for a larger buffer. An unprivileged user may be refused; the pipe then stays as it is.
    pub(crate) fn grow(&self, bytes: usize) {
        let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
        let _ = fcntl(&self.write, FcntlArg::F_SETPIPE_SZ(bytes));
    }
}

/// Makes reads and writes return instead of waiting.
pub(crate) fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
    fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// A memory file of `bytes` that cannot change its size.
pub(crate) fn memory(name: &str, bytes: usize) -> io::Result<OwnedFd> {
    use nix::fcntl::SealFlag;
    use nix::sys::memfd::{MFdFlags, memfd_create};
    let file = memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    nix::unistd::ftruncate(&file, i64::try_from(bytes).map_err(io::Error::other)?)?;
    let seals = SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file)
}

/// Registers a descriptor with the runtime's reactor.
#[allow(deprecated, reason = "its successor is not in the oldest tokio that is supported")]
pub(crate) fn watch<T: AsRawFd + AsFd>(fd: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::new(fd)
}
