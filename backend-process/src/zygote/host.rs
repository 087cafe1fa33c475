//! The host's side of its zygote.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use super::socket::{self, Socket};
use super::wire::{MAX_ORDER, Order, WORD, Word};
use crate::attrs::Attrs;
use crate::error::{Error, ErrorKind, Stage};
use crate::exit::Exit;
use crate::sys::setup::Failed;
use crate::sys::spawn::{self, Image};
use crate::sys::wait;

/// How many milliseconds a zygote may take to end.
const END_GRACE: u16 = 2000;

/// A running zygote.
pub(crate) struct Link {
    socket: Socket,
    pidfd: OwnedFd,
}

/// Where anybody may order something of the zygote.
pub(crate) struct Orders(OwnedFd);

impl Orders {
    /// Orders at once. False if the zygote does not take it now; then nothing has been sent.
    pub(crate) fn send(&self, token: u64, entry: bool, image: &Image, fds: &[OwnedFd]) -> bool {
        let bytes = Order::encode(token, entry, image);
        bytes.len() <= MAX_ORDER && socket::send(self.0.as_fd(), &bytes, fds).is_ok()
    }
}

/// What the zygote has said.
pub(crate) enum News {
    Born { token: u64, pid: i32, pidfd: OwnedFd },
    Failed { token: u64, failed: Failed },
    NoEntry { token: u64 },
    Ended { token: u64, exit: Exit },
}

impl Link {
    /// Executes this very program again, which diverts into the zygote where it calls
    /// [`init`](crate::init).
    pub(crate) fn start() -> Result<Self, Error> {
        if !super::is_available() {
            return Err(Error::new(Stage::Zygote, ErrorKind::NoEntry));
        }
        let (socket, theirs) = Socket::pair().map_err(|e| Error::system(Stage::Zygote, e))?;
        let null = File::open("/dev/null").map_err(|e| Error::system(Stage::Zygote, e))?;
        let stderr = io::stderr();
        let fds = [null.as_fd(), stderr.as_fd(), stderr.as_fd(), theirs.as_fd()];
        let born = spawn::spawn(&own_image()?, &fds).map_err(Error::errno)?;
        Ok(Self { socket, pidfd: born.pidfd })
    }

    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// A way to it for others, if there is a descriptor left for that.
    pub(crate) fn orders(&self) -> Option<Orders> {
        self.socket.as_fd().try_clone_to_owned().ok().map(Orders)
    }

    pub(crate) fn wants_to_send(&self) -> bool {
        self.socket.wants_to_send()
    }

    pub(crate) fn send(&mut self) -> io::Result<()> {
        self.socket.send()
    }

    pub(crate) fn order(
        &mut self,
        token: u64,
        entry: bool,
        image: &Image,
        fds: Vec<OwnedFd>,
    ) -> Result<(), Error> {
        let bytes = Order::encode(token, entry, image);
        if bytes.len() > MAX_ORDER {
            return Err(Error::new(Stage::Zygote, ErrorKind::TooLarge));
        }
        self.socket.push(bytes, fds).map_err(|e| Error::system(Stage::Zygote, e))
    }

    /// The next news, `None` if there are none yet, an error when the zygote is gone.
    pub(crate) fn receive(&mut self) -> io::Result<Option<News>> {
        let mut buffer = [0; WORD];
        let Some((bytes, mut fds)) = self.socket.receive(&mut buffer)? else { return Ok(None) };
        let word = Word::parse(bytes).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Some(match word {
            Word::Born { token, pid } => {
                News::Born { token, pid, pidfd: fds.pop().ok_or(io::ErrorKind::InvalidData)? }
            }
            Word::Failed { token, failed } => News::Failed { token, failed },
            Word::NoEntry { token } => News::NoEntry { token },
            Word::Ended { token, exit } => News::Ended { token, exit },
        }))
    }

    /// Lets it end, with all that it has started, and reaps it. One that does not is killed, and its
    /// workers die with it.
    pub(crate) fn end(self) {
        drop(self.socket);
        if !wait::ended_within(&self.pidfd, END_GRACE) {
            wait::kill(&self.pidfd);
        }
        wait::reap(&self.pidfd);
    }
}

fn own_image() -> Result<Image, Error> {
    let zero_byte = |_| Error::new(Stage::Zygote, ErrorKind::ZeroByte);
    let name = std::env::args_os().next().unwrap_or_default();
    let mut envp = Vec::new();
    for (name, value) in std::env::vars_os() {
        let variable = [name.into_vec(), b"=".to_vec(), value.into_vec()].concat();
        envp.push(CString::new(variable).map_err(zero_byte)?);
    }
    envp.push(CString::new(format!("{}=3", super::TOKEN)).map_err(zero_byte)?);
    Ok(Image {
        path: c"/proc/self/exe".into(),
        argv: vec![CString::new(name.into_vec()).map_err(zero_byte)?],
        envp,
        cwd: None,
        attrs: Attrs { outlives_parent: true, ..Attrs::new() },
    })
}
