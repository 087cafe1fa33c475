//! [`Io`]: the descriptors through which a worker is spoken to.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;

#[derive(Debug)]
pub(crate) enum Io {
    /// `None` once the worker's input is closed.
    Pipes(Option<pipe::Sender>, pipe::Receiver),
    /// In the place of pipes.
    Sockets(Option<UnixStream>, UnixStream),
    /// Both directions in one.
    Stream(UnixStream),
}

impl Io {
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Io::Pipes(Some(sender), _) => Pin::new(sender).poll_write(cx, bytes),
            Io::Sockets(Some(stream), _) | Io::Stream(stream) => Pin::new(stream).poll_write(cx, bytes),
            Io::Pipes(None, _) | Io::Sockets(None, _) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    /// Reads into the free part of `room`; 0 at the end.
    #[allow(unsafe_code, reason = "reads into memory that is not initialised")]
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, room: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        let before = room.len();
        let mut buffer = ReadBuf::uninit(room.spare_capacity_mut());
        ready!(match self {
            Io::Pipes(_, receiver) => Pin::new(receiver).poll_read(cx, &mut buffer),
            Io::Sockets(_, stream) | Io::Stream(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
        })?;
        let read = buffer.filled().len();
        // SAFETY: the reader has filled, and so initialised, this many bytes behind the end.
        unsafe { room.set_len(before + read) };
        Poll::Ready(Ok(read))
    }

    /// Reads what is there now, whatever the reactor knows; `None` if nothing is.
    pub(crate) fn read_now(&self, room: &mut Vec<u8>) -> io::Result<Option<usize>> {
        let mut chunk = [0; 16 * 1024];
        loop {
            return match nix::unistd::read(self.reading(), &mut chunk) {
                Ok(count) => {
                    room.extend_from_slice(&chunk[..count]);
                    Ok(Some(count))
                }
                Err(nix::Error::EINTR) => continue,
                Err(nix::Error::EAGAIN) => Ok(None),
                Err(error) => Err(error.into()),
            };
        }
    }

    fn reading(&self) -> BorrowedFd<'_> {
        match self {
            Io::Pipes(_, receiver) => receiver.as_fd(),
            Io::Sockets(_, stream) | Io::Stream(stream) => stream.as_fd(),
        }
    }

    /// Lets the worker see the end of its input.
    pub(crate) fn close_input(&mut self) {
        match self {
            Io::Pipes(sender, _) => *sender = None,
            Io::Sockets(sender, _) => *sender = None,
            Io::Stream(stream) => {
                let _ = nix::sys::socket::shutdown(
                    std::os::fd::AsRawFd::as_raw_fd(stream),
                    nix::sys::socket::Shutdown::Write,
                );
            }
        }
    }
}
