//! [`Server`]: a worker of a prefork server, which accepts connections itself or is handed them.

#![allow(unsafe_code, reason = "accept and recvmsg, without a foreign crate")]

use std::ffi::c_void;
use std::fs::File;
use std::io::{self, Read, Write};
use std::mem::ManuallyDrop;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::ptr;
use std::time::Duration;

use crate::leave;
use crate::scoreboard::Scoreboard;

/// Names the descriptor of the control socket.
pub(crate) const CONTROL: &str = "POOLYARD_CONTROL";
/// Names the descriptor of the listener, if the worker accepts itself.
pub(crate) const LISTENER: &str = "POOLYARD_LISTENER";
/// There if the master lends a connection for one request at a time.
pub(crate) const LENT: &str = "POOLYARD_LENT";

/// The messages on the control socket, one byte each.
pub mod word {
    /// Worker to master: it is ready for connections.
    pub const READY: u8 = b'R';
    /// Worker to master: it has taken the connection that it was handed.
    pub const TAKEN: u8 = b'A';
    /// Worker to master: it is done with a connection, or has accepted all there were.
    pub const DONE: u8 = b'D';
    /// Worker to master: it has answered a request, and the connection is the master's until the next one.
    pub const BACK: u8 = b'B';
    /// Master to worker, with a descriptor: this connection is yours.
    pub const CONNECTION: u8 = b'C';
    /// Master to worker: there are connections, accept them.
    pub const ACCEPT: u8 = b'N';
    /// Master to worker: no more connections come.
    pub const QUIT: u8 = b'Q';
}

const SOL_SOCKET: i32 = 1;
const SCM_RIGHTS: i32 = 1;
const MSG_DONTWAIT: i32 = 0x40;
const MSG_CMSG_CLOEXEC: i32 = 0x4000_0000;
const SOCK_CLOEXEC: i32 = 0o2_000_000;

#[repr(C)]
struct IoVec {
    base: *mut u8,
    len: usize,
}

#[repr(C)]
struct MsgHdr {
    name: *mut c_void,
    name_len: u32,
    iov: *mut IoVec,
    iov_len: usize,
    control: *mut c_void,
    control_len: usize,
    flags: i32,
}

/// Room for the header of one control message and one descriptor, aligned.
#[repr(C, align(8))]
struct Control {
    len: usize,
    level: i32,
    kind: i32,
    fd: RawFd,
    pad: i32,
}

unsafe extern "C" {
    fn accept4(fd: RawFd, address: *mut c_void, len: *mut u32, flags: i32) -> RawFd;
    fn recv(fd: RawFd, buffer: *mut c_void, len: usize, flags: i32) -> isize;
    fn recvmsg(fd: RawFd, message: *mut MsgHdr, flags: i32) -> isize;
}

/// A connection: a [`TcpStream`] or a [`UnixStream`], as the listener is.
#[derive(Debug)]
pub struct Connection(OwnedFd);

/// What becomes of a connection after a request; see [`Server::serve_requests`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It stays open for the next request.
    Keep,
    /// It is closed.
    Close,
}

impl Connection {
    /// How long a read may wait, so that a client that sends half a request does not hold the worker. Default:
    /// for ever.
    ///
    /// # Errors
    ///
    /// If the time is zero.
    pub fn set_read_timeout(&self, time: Option<Duration>) -> io::Result<()> {
        self.stream().set_read_timeout(time)
    }

    /// Of whatever family: reading and writing are the same calls.
    fn stream(&self) -> ManuallyDrop<TcpStream> {
        // SAFETY: an open socket, which is never closed through this value.
        ManuallyDrop::new(unsafe { TcpStream::from_raw_fd(self.0.as_raw_fd()) })
    }
}

impl Read for &Connection {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.stream().read(bytes)
    }
}

impl Write for &Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl From<Connection> for TcpStream {
    fn from(connection: Connection) -> Self {
        connection.0.into()
    }
}

impl From<Connection> for UnixStream {
    fn from(connection: Connection) -> Self {
        connection.0.into()
    }
}

/// This process as a worker of a prefork server.
pub struct Server {
    control: File,
    listener: Option<OwnedFd>,
    scoreboard: Option<Scoreboard>,
}

impl Server {
    /// Takes over what the master has handed to this process.
    ///
    /// # Errors
    ///
    /// If the program was not started by a prefork server.
    pub fn connect() -> io::Result<Self> {
        let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<RawFd>().ok());
        let control = number(CONTROL).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, "this is no worker of a prefork server")
        })?;
        // SAFETY: the master opened these descriptors for this purpose and told nobody else their numbers.
        let (control, listener) =
            unsafe { (File::from_raw_fd(control), number(LISTENER).map(|fd| OwnedFd::from_raw_fd(fd))) };
        Ok(Self { control, listener, scoreboard: Scoreboard::from_env()? })
    }

    /// Says that it is ready, and has `handle` serve one connection after the other, until the master
    /// wants no more or is gone.
    ///
    /// # Errors
    ///
    /// When the control socket or the listener breaks.
    pub fn serve(self, mut handle: impl FnMut(Connection)) -> io::Result<()> {
        self.run(|connection| {
            handle(connection);
            Next::Close
        })
    }

    /// As [`serve`](Server::serve), request by request: `handle` reads one from the connection, answers it and
    /// says whether the connection stays open. Between two requests the connection belongs to the master, which
    /// hands it to whichever worker is free when the next one comes (`Accept::PerRequest` of the pool); with
    /// any other way of accepting it stays with this worker.
    ///
    /// What `handle` has read beyond its request it leaves in the buffer, which is empty at first: it is
    /// called again with that, in this worker, before the connection is given back.
    ///
    /// ```no_run
    /// use std::io::{Read, Write};
    /// use poolyard_worker::{Next, Server};
    ///
    /// Server::connect()?.serve_requests(|mut connection, read| {
    ///     let mut piece = [0; 4096];
    ///     let end = loop {
    ///         match read.iter().position(|byte| *byte == b'\n') {
    ///             Some(end) => break end,
    ///             None => match connection.read(&mut piece) {
    ///                 Ok(count) if count > 0 => read.extend_from_slice(&piece[..count]),
    ///                 _ => return Next::Close,
    ///             },
    ///         }
    ///     };
    ///     let line: Vec<u8> = read.drain(..=end).collect();
    ///     if connection.write_all(&line).is_ok() { Next::Keep } else { Next::Close }
    /// })?;
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`serve`](Server::serve).
    pub fn serve_requests(self, mut handle: impl FnMut(&Connection, &mut Vec<u8>) -> Next) -> io::Result<()> {
        let lent = std::env::var_os(LENT).is_some();
        self.run(|connection| {
            let mut read = Vec::new();
            loop {
                match handle(&connection, &mut read) {
                    Next::Close => return Next::Close,
                    Next::Keep if lent && read.is_empty() => return Next::Keep,
                    Next::Keep => {}
                }
            }
        })
    }

    fn run(mut self, mut handle: impl FnMut(Connection) -> Next) -> io::Result<()> {
        let notified = std::env::var_os("POOLYARD_NOTIFIED").is_some();
        let listener = self.listener.take();
        if let Some(listener) = listener.as_ref().filter(|_| !notified) {
            leave::on_signal(listener)?;
        }
        self.say(word::READY)?;
        self.scoreboard.iter().for_each(Scoreboard::idle);
        match listener {
            Some(listener) if notified => self.accept_when_told(&listener, &mut handle),
            Some(listener) => self.accept(&listener, &mut handle),
            None => self.take(&mut handle),
        }
    }

    fn say(&mut self, word: u8) -> io::Result<()> {
        self.control.write_all(&[word])
    }

    fn serve_one(&self, connection: Connection, handle: &mut impl FnMut(Connection) -> Next) -> Next {
        self.scoreboard.iter().for_each(Scoreboard::begin);
        let next = handle(connection);
        self.scoreboard.iter().for_each(Scoreboard::end);
        next
    }

    fn accept(&self, listener: &OwnedFd, handle: &mut impl FnMut(Connection) -> Next) -> io::Result<()> {
        loop {
            match accept(listener) {
                Ok(connection) => {
                    self.serve_one(connection, handle);
                }
                Err(error) if is_passing(&error) => {}
                // The handler of the signal has taken the listener away.
                Err(error) if leave::is_due(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn accept_when_told(
        &mut self,
        listener: &OwnedFd,
        handle: &mut impl FnMut(Connection) -> Next,
    ) -> io::Result<()> {
        let mut told = [0];
        while self.control.read(&mut told)? == 1 && told[0] == word::ACCEPT {
            let mut turns = 1;
            // More words are heard before each connection: however many of those come, it ends when told to.
            let goes_on = loop {
                if !hear_more(&self.control, &mut turns)? {
                    break false;
                }
                match accept(listener) {
                    Ok(connection) => {
                        self.serve_one(connection, handle);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break true,
                    Err(error) if is_passing(&error) => {}
                    Err(error) => return Err(error),
                }
            };
            for _ in 0..turns {
                self.say(word::DONE)?;
            }
            if !goes_on {
                break;
            }
        }
        Ok(())
    }

    fn take(&mut self, handle: &mut impl FnMut(Connection) -> Next) -> io::Result<()> {
        while let Some(connection) = receive(&self.control)? {
            self.say(word::TAKEN)?;
            match self.serve_one(connection, handle) {
                Next::Keep => self.say(word::BACK)?,
                Next::Close => self.say(word::DONE)?,
            }
        }
        Ok(())
    }
}

const EINVAL: i32 = 22;

/// Errors of one connection, not of the listener.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), Interrupted | ConnectionAborted | ConnectionReset)
}

fn accept(listener: &OwnedFd) -> io::Result<Connection> {
    // SAFETY: no address is asked for; the descriptor that is returned is new.
    let fd = unsafe { accept4(listener.as_raw_fd(), ptr::null_mut(), ptr::null_mut(), SOCK_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened by the kernel for this process.
    Ok(Connection(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Takes in the words that have come, counting turns to accept. False if no more are wanted.
fn hear_more(control: &File, turns: &mut usize) -> io::Result<bool> {
    loop {
        let mut said = [0_u8];
        // SAFETY: the kernel writes at most the one byte that is given.
        let len = unsafe { recv(control.as_raw_fd(), said.as_mut_ptr().cast(), 1, MSG_DONTWAIT) };
        if len < 0 {
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::WouldBlock => return Ok(true),
                io::ErrorKind::Interrupted => continue,
                _ => return Err(error),
            }
        }
        if len == 0 || said[0] != word::ACCEPT {
            return Ok(false);
        }
        *turns += 1;
    }
}

/// The next connection; `None` when no more come.
fn receive(control: &File) -> io::Result<Option<Connection>> {
    let mut word = [0_u8];
    let mut iov = IoVec { base: word.as_mut_ptr(), len: 1 };
    let mut rights = Control { len: 0, level: 0, kind: 0, fd: -1, pad: 0 };
    let mut message = MsgHdr {
        name: ptr::null_mut(),
        name_len: 0,
        iov: &mut iov,
        iov_len: 1,
        control: ptr::from_mut(&mut rights).cast(),
        control_len: size_of::<Control>(),
        flags: 0,
    };
    let len = loop {
        // SAFETY: every pointer is to a local that lives through the call, with its true length.
        let len = unsafe { recvmsg(control.as_raw_fd(), &mut message, MSG_CMSG_CLOEXEC) };
        let error = io::Error::last_os_error();
        match len {
            0.. => break len,
            _ if error.kind() == io::ErrorKind::Interrupted => {}
            _ => return Err(error),
        }
    };
    if len == 0 || word[0] == word::QUIT {
        return Ok(None);
    }
    if rights.level != SOL_SOCKET || rights.kind != SCM_RIGHTS || rights.fd < 0 {
        return Err(io::Error::from_raw_os_error(EINVAL));
    }
    // SAFETY: just opened by the kernel for this process.
    Ok(Some(Connection(unsafe { OwnedFd::from_raw_fd(rights.fd) })))
}
