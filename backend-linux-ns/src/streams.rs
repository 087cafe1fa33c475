//! What a command reads and writes: pipes, bytes in memory, a terminal.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::pipe2;
use poolyard_exec::TtySize;
use rustix::pty::OpenptFlags;
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use crate::reactor::register;
use crate::run::Run;

/// Our end of what a command writes to, known to the runtime.
pub(crate) type OutputEnd = AsyncFd<OwnedFd>;

/// Our end of an output pipe, and the command's.
pub(crate) type OutputPipe = (OutputEnd, OwnedFd);

/// A pipe: the end that is read here does not block, the other one does.
pub(crate) fn output_pipe() -> io::Result<OutputPipe> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    set_nonblocking(&read)?;
    Ok((output_end(read)?, write))
}

/// Makes what is read here known to the runtime.
pub(crate) fn output_end(fd: OwnedFd) -> io::Result<OutputEnd> {
    register(fd, Interest::READABLE)
}

/// A pipe: the end that is written here does not block, the other one does.
pub(crate) fn input_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    set_nonblocking(&write)?;
    Ok((write, read))
}

fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Bytes to read, in memory: they need nobody to write them while the program runs. Sealed, so that it
/// cannot change what a caller may want to use again.
pub(crate) fn input_bytes(bytes: &[u8]) -> io::Result<OwnedFd> {
    let file = memfd_create("stdin", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let mut file = File::from(file);
    file.write_all(bytes)?;
    let seals =
        SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    io::Seek::rewind(&mut file)?;
    Ok(file.into())
}

/// The command's end of the terminal whose other end is `ours`, a new one of the lease.
pub(crate) fn terminal_peer(ours: &OwnedFd, size: TtySize) -> io::Result<OwnedFd> {
    rustix::pty::unlockpt(ours)?;
    resize(ours, size)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let theirs = rustix::pty::ioctl_tiocgptpeer(ours, flags)?;
    set_nonblocking(ours)?;
    Ok(theirs)
}

/// Types `bytes` and the end of the input into a terminal.
pub(crate) fn type_in(terminal: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    rustix::io::write(terminal, bytes)?;
    rustix::io::write(terminal, &[END_OF_FILE])?;
    Ok(())
}

/// A terminal has no end of file but a character for it.
const END_OF_FILE: u8 = 4;

pub(crate) fn resize(terminal: &OwnedFd, size: TtySize) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(terminal, size)?)
}

/// An output stream of a running command. Reading ends with the command at the latest, and at the output
/// limit, beyond which the first byte ends the command.
pub(crate) struct Stream {
    end: OutputEnd,
    tap: Tap,
    run: Arc<Run>,
    /// 0 is standard output, 1 standard error.
    number: usize,
    /// How much is still read when the command has ended: who was left running may write for ever.
    rest: usize,
}

/// What a pipe holds that a command has made as large as it may.
pub(crate) const FULLEST_PIPE: usize = 1 << 20;

/// How much may still come out of a stream.
struct Tap {
    left: u64,
    closed: bool,
}

impl Tap {
    /// Reads what is there into `space`: how many bytes may be given out, and whether there were more. No
    /// bytes are the end.
    fn read(&mut self, end: &OutputEnd, space: &mut [u8]) -> io::Result<(usize, bool)> {
        if self.closed {
            return Ok((0, false));
        }
        let read = match rustix::io::read(end.get_ref(), &mut *space) {
            // A terminal whose other side is closed.
            Err(rustix::io::Errno::IO) => 0,
            other => other?,
        };
        let given = (read as u64).min(self.left);
        let over = given < read as u64;
        self.left -= given;
        self.closed = read == 0 || over;
        Ok((given as usize, over))
    }
}

impl Stream {
    pub(crate) fn new(end: OutputEnd, run: Arc<Run>, number: usize) -> Self {
        let left = run.limits().output.unwrap_or(u64::MAX);
        Self { end, tap: Tap { left, closed: false }, run, number, rest: FULLEST_PIPE }
    }

    /// Reads what is left when the command has ended: how many bytes, and whether there were more than the
    /// limit allows.
    pub(crate) fn read_rest(&mut self, space: &mut [u8]) -> io::Result<(usize, bool)> {
        self.tap.read(&self.end, space)
    }

    pub(crate) fn into_end(self) -> OutputEnd {
        self.end
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { end, tap, run, number, rest } = &mut *self;
        loop {
            // Looked at before the read: what was written before the end is read then.
            let ended = run.has_ended();
            let mut waited = None;
            if ended && *rest == 0 {
                return Poll::Ready(Ok(()));
            }
            if !ended && !tap.closed {
                run.wake_at_end(cx.waker());
                waited = Some(ready!(end.poll_read_ready(cx))?);
            }
            match tap.read(end, buffer.initialize_unfilled()) {
                Ok((given, over)) => {
                    buffer.advance(given);
                    *rest = rest.saturating_sub(if ended { given } else { 0 });
                    if over {
                        run.cut(*number);
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => match waited {
                    Some(mut ready) => ready.clear_ready(),
                    // Someone who was left running may hold the other end for ever.
                    None => return Poll::Ready(Ok(())),
                },
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }
}

/// Our end of a command's standard input.
pub(crate) struct Input {
    /// Gone once it is shut down.
    fd: Option<AsyncFd<OwnedFd>>,
    terminal: bool,
}

impl Input {
    pub(crate) fn new(fd: OwnedFd, terminal: bool) -> io::Result<Self> {
        Ok(Self { fd: Some(register(fd, Interest::WRITABLE)?), terminal })
    }
}

impl AsyncWrite for Input {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Some(fd) = &self.fd else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
        loop {
            match rustix::io::write(fd.get_ref(), bytes) {
                Err(rustix::io::Errno::AGAIN) => {}
                other => return Poll::Ready(other.map_err(broken)),
            }
            ready!(fd.poll_write_ready(cx))?.clear_ready();
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.terminal && self.fd.is_some() {
            ready!(self.as_mut().poll_write(cx, &[END_OF_FILE]))?;
        }
        self.fd = None;
        Poll::Ready(Ok(()))
    }
}

/// A terminal that is gone says so in its own way.
fn broken(errno: rustix::io::Errno) -> io::Error {
    match errno {
        rustix::io::Errno::IO => io::ErrorKind::BrokenPipe.into(),
        other => other.into(),
    }
}
