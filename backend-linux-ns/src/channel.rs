//! [`Channel`]: the host's end of a control socket. One datagram is one message.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::task::{Context, Poll, ready};

use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg,
    socketpair,
};
use poolyard_guest::frame::{self, Reader};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::error::{Error, Stage};
use crate::protocol::Kind;
use crate::reactor::register;

/// The longest message that the other side sends.
const MAX_MESSAGE: usize = 256;
/// The most descriptors that it sends along.
const MAX_FDS: usize = 2;

/// The host's end of a control socket.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: AsyncFd<OwnedFd>,
}

/// A message of the other side.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    pub(crate) seq: u32,
    body: [u8; MAX_MESSAGE],
    body_len: usize,
    pub(crate) fds: Vec<OwnedFd>,
}

impl Message {
    pub(crate) fn body(&self) -> Reader<'_> {
        Reader::new(&self.body[..self.body_len])
    }

    /// The error that a [`Kind::Failed`] reports.
    pub(crate) fn failure(&self) -> Error {
        let mut body = self.body();
        let mut number = || body.u32().ok();
        match (number().and_then(Stage::from_number), number(), number()) {
            (Some(stage), Some(errno), Some(index)) => {
                let error = Error::system(stage, io::Error::from_raw_os_error(errno as i32));
                if index == 0 { error } else { error.about(format_args!("number {index}")) }
            }
            _ => Error::gone("it answered nonsense"),
        }
    }
}

impl Channel {
    /// A channel and the end for the other side.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Self::over(ours)?, theirs))
    }

    /// A channel over a connected socket.
    pub(crate) fn over(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self { socket: register(socket, Interest::READABLE)? })
    }

    /// The socket, of which the runtime does not hear any more.
    pub(crate) fn into_socket(self) -> OwnedFd {
        self.socket.into_inner()
    }

    /// Sends one frame with copies of `fds`. Never blocks: the other side reads one before the next is
    /// sent, so there is always room.
    pub(crate) fn send(&self, frame: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        send(self.socket.as_raw_fd(), frame, fds)
    }

    /// The next message; `None` once the other side has closed.
    pub(crate) async fn receive(&self) -> io::Result<Option<Message>> {
        std::future::poll_fn(|cx| self.poll_receive(cx)).await
    }

    pub(crate) fn poll_receive(&self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Message>>> {
        loop {
            let mut ready = ready!(self.socket.poll_read_ready(cx))?;
            match self.try_receive() {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                other => return Poll::Ready(other),
            }
        }
    }

    /// The message that is there already, if one is; otherwise `WouldBlock`.
    pub(crate) fn try_receive(&self) -> io::Result<Option<Message>> {
        receive(self.socket.as_raw_fd())
    }
}

pub(crate) fn send(socket: RawFd, frame: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let numbers: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let control = if fds.is_empty() { &rights[..0] } else { &rights[..] };
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    sendmsg::<()>(socket, &[IoSlice::new(frame)], control, flags, None)?;
    Ok(())
}

pub(crate) fn receive(socket: RawFd) -> io::Result<Option<Message>> {
    let mut datagram = [0; MAX_MESSAGE];
    let mut control = nix::cmsg_space!([RawFd; MAX_FDS]);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let (len, fds) = {
        let mut parts = [IoSliceMut::new(&mut datagram)];
        let received = recvmsg::<()>(socket, &mut parts, Some(&mut control), flags)?;
        (received.bytes, take_fds(received.cmsgs()?))
    };
    if len == 0 {
        return Ok(None);
    }
    let (header, rest) = frame::parse(&datagram[..len]).map_err(|_| io::ErrorKind::InvalidData)?;
    let kind = Kind::from_number(header.kind).ok_or(io::ErrorKind::InvalidData)?;
    let body_len = rest.rest().len();
    let mut body = [0; MAX_MESSAGE];
    body[..body_len].copy_from_slice(rest.rest());
    Ok(Some(Message { kind, seq: header.seq, body, body_len, fds }))
}

fn take_fds(messages: impl Iterator<Item = ControlMessageOwned>) -> Vec<OwnedFd> {
    messages
        .filter_map(|message| match message {
            ControlMessageOwned::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .map(own)
        .collect()
}

#[allow(unsafe_code)]
fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for the message, so nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
