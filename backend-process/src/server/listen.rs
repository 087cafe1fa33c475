//! [`Listen`]: what is listened on.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::sys::socket::sockopt::{ReuseAddr, ReusePort};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, SockaddrIn6, bind, listen, setsockopt, socket,
};

use super::{Accept, ServerConfig};
use crate::sys::fds;

/// How many connections the kernel holds.
const BACKLOG: i32 = 4096;

pub(super) struct Listen {
    socket: OwnedFd,
    address: Option<SocketAddr>,
    each: bool,
}

impl Listen {
    pub(super) fn tcp(address: SocketAddr, config: &ServerConfig) -> io::Result<Self> {
        let each = config.accept == Accept::ReusePort;
        let socket = tcp_socket(address, each)?;
        if !each {
            // With a listener per worker this socket only holds the address: connections would be spread to it,
            // too, and nobody would accept them.
            listen(&socket, Backlog::new(BACKLOG)?)?;
        }
        let listener = TcpListener::from(socket);
        let address = Some(listener.local_addr()?);
        Self { socket: listener.into(), address, each }.prepared(config)
    }

    pub(super) fn unix(path: &Path, config: &ServerConfig) -> io::Result<Self> {
        if config.accept == Accept::ReusePort {
            return Err(io::Error::other("only TCP has SO_REUSEPORT; use Accept::Inherit"));
        }
        let socket = UnixListener::bind(path)?.into();
        Self { socket, address: None, each: false }.prepared(config)
    }

    pub(super) fn given(socket: OwnedFd, config: &ServerConfig) -> io::Result<Self> {
        if config.accept == Accept::ReusePort {
            return Err(io::Error::other("a socket that is given is one; use Accept::Inherit"));
        }
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().ok();
        Self { socket: listener.into(), address, each: false }.prepared(config)
    }

    /// A blocking listener wakes its waiters in turn. The flag belongs to the socket, whoever has it open, so
    /// it is set once and for the mode.
    fn prepared(self, config: &ServerConfig) -> io::Result<Self> {
        if config.accept == Accept::Notify || config.accept.is_by_master() {
            fds::set_nonblocking(&self.socket)?;
        } else {
            let listener = TcpListener::from(self.socket.try_clone()?);
            listener.set_nonblocking(false)?;
        }
        Ok(self)
    }

    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// A listener for one worker.
    pub(super) fn for_worker(&self) -> io::Result<OwnedFd> {
        match self.address {
            Some(address) if self.each => {
                let socket = tcp_socket(address, true)?;
                listen(&socket, Backlog::new(BACKLOG)?)?;
                Ok(socket)
            }
            _ => self.socket.try_clone(),
        }
    }
}

fn tcp_socket(address: SocketAddr, each: bool) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, ReuseAddr, &true)?;
    if each {
        setsockopt(&socket, ReusePort, &true)?;
    }
    match address {
        SocketAddr::V4(address) => bind(socket.as_raw_fd(), &SockaddrIn::from(address))?,
        SocketAddr::V6(address) => bind(socket.as_raw_fd(), &SockaddrIn6::from(address))?,
    }
    Ok(socket)
}

/// The listening sockets that systemd has opened for this process, in the order of its unit file; empty if
/// it was not started that way.
///
/// # Safety
///
/// To be called once, before anything else could own the descriptors from 3 on.
#[allow(unsafe_code, reason = "descriptors that come as numbers")]
pub unsafe fn systemd_sockets() -> Vec<OwnedFd> {
    use std::os::fd::FromRawFd;
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<i32>().ok());
    let for_us = number("LISTEN_PID").is_some_and(|pid| pid as u32 == std::process::id());
    let count = number("LISTEN_FDS").filter(|_| for_us).unwrap_or(0);
    let take = |fd| {
        // SAFETY: systemd has opened it for this process, and the caller promises that nobody else owns it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        // It comes inheritable, and no worker shall get it by accident.
        let _ = nix::fcntl::fcntl(&socket, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC));
        socket
    };
    (3..3 + count).map(take).collect()
}
