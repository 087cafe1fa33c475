//! The host's side of the launcher: one small process per [`LinuxNs`](crate::LinuxNs), which clones the
//! keepers.
//!
//! A thread of its own starts it and waits for its end. The launcher asks the kernel to be killed when
//! that thread dies, so not even a stopped launcher outlives this process. Between two looks the thread
//! sweeps what killed processes left behind.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, socketpair};
use parking_lot::Mutex;
use poolyard_guest::frame;
use poolyard_guest::spawn::{Guest, Image, spawn};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::Interest;

use crate::cgroup::Slots;
use crate::channel;
use crate::error::{Error, ErrorKind, Stage};
use crate::landlock;
use crate::protocol::Kind;
use crate::reactor::register;

static IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/helper"));
const BUILD_ID: &str = env!("POOLYARD_GUEST_HELPER_ID");
/// Why this build carries no image, if so.
const MISSING: &str = env!("POOLYARD_GUEST_HELPER_MISSING");
const NAME: &CStr = c"poolyard-launch";
/// How often the leftovers of killed processes are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// How soon a cgroup is tried again whose last processes are ending.
const TIDY_AGAIN: Duration = Duration::from_millis(5);
/// How long the thread stays for that after the launcher's end, and how soon it tries again then.
const LAST_TIDYING: Duration = Duration::from_secs(10);
const LAST_TIDY_AGAIN: Duration = Duration::from_millis(1);
/// How long whoever drops it waits for the thread.
const PATIENCE: Duration = Duration::from_secs(1);

/// A running launcher. It ends when this is dropped, and its keepers with it. That is waited for, since a program
/// may end at once and take along the thread that removes the cgroups.
#[derive(Debug)]
pub(crate) struct Launcher {
    socket: OwnedFd,
    pid: i32,
    pidfd: OwnedFd,
    /// The version of Landlock, or why there is none.
    landlock: Result<u32, String>,
    /// Closed when the thread has ended.
    thread: Mutex<mpsc::Receiver<()>>,
}

impl Drop for Launcher {
    fn drop(&mut self) {
        // The closed socket would do, unless somebody has stopped it. Fails only if it is dead already.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL);
        let _ = self.thread.get_mut().recv_timeout(PATIENCE);
    }
}

impl Launcher {
    /// Starts the launcher, and the thread that keeps `slots` tidy.
    pub(crate) fn start(slots: Option<Arc<Slots>>) -> Result<Arc<Self>, Error> {
        if IMAGE.is_empty() {
            let detail = format!("the embedded program is missing: {MISSING}");
            return Err(Error::new(Stage::StartLauncher, ErrorKind::Unsupported, detail));
        }
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .map_err(|e| Error::system(Stage::StartLauncher, e.into()))?;
        let (report, started) = mpsc::sync_channel(1);
        let (here, thread) = mpsc::sync_channel(0);
        thread::Builder::new()
            .name("poolyard-launch".into())
            .spawn(move || {
                attend(begin(theirs, slots.as_deref(), &report), slots.as_deref());
                drop((slots, here));
            })
            .map_err(|e| Error::system(Stage::StartLauncher, e))?;
        let (pid, pidfd) = started
            .recv()
            .map_err(|_| Error::gone("the launcher's thread ended"))?
            .map_err(|e| Error::system(Stage::StartLauncher, e))?;
        let mut launcher = Self { socket: ours, pid, pidfd, landlock: Ok(0), thread: Mutex::new(thread) };
        let landlock = expect_hello(&launcher.socket)?;
        launcher.landlock = u32::try_from(landlock).map_err(|_| landlock::missing(-landlock));
        Ok(Arc::new(launcher))
    }

    /// Asks for a keeper, once there is room for one more request. Everything that happens is said on the
    /// other end of `keeper`.
    pub(crate) async fn create(&self, frame: &[u8], keeper: &OwnedFd) -> Result<(), Error> {
        loop {
            match channel::send(self.socket.as_raw_fd(), frame, &[keeper.as_fd()]) {
                Ok(()) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.room().await?,
                Err(e) if is_gone(&e) => return Err(Error::gone("the launcher is gone; make a new LinuxNs")),
                Err(e) => return Err(Error::system(Stage::CloneKeeper, e)),
            }
        }
    }

    /// Waits until the launcher has read some of what was asked of it.
    async fn room(&self) -> Result<(), Error> {
        let failed = |e| Error::system(Stage::CloneKeeper, e);
        // A descriptor of its own for each that waits: epoll takes every one only once.
        let socket =
            self.socket.try_clone().and_then(|fd| register(fd, Interest::WRITABLE)).map_err(failed)?;
        socket.writable().await.map(drop).map_err(failed)
    }

    /// The version of Landlock that the kernel has, or why it has none and what to do.
    pub(crate) fn landlock(&self) -> &Result<u32, String> {
        &self.landlock
    }

    /// The launcher's process id.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// Starts the process and reports its id and pidfd, or why not.
fn begin(
    theirs: OwnedFd,
    slots: Option<&Slots>,
    report: &mpsc::SyncSender<io::Result<(i32, OwnedFd)>>,
) -> Option<Guest> {
    let started = Image::new(IMAGE).and_then(|image| spawn(&image, NAME, &[theirs.as_fd()]));
    drop(theirs);
    if let (Some(slots), Ok(guest)) = (slots, &started) {
        slots.adopt(guest.pid);
    }
    let (answer, guest) = match started {
        Ok(guest) => (guest.pidfd.try_clone().map(|pidfd| (guest.pid, pidfd)), Some(guest)),
        Err(e) => (Err(e), None),
    };
    // Nobody listens if the caller panicked; the process then ends with its socket.
    let _ = report.send(answer);
    guest
}

/// Waits for the launcher's end, and tidies up meanwhile and after it.
fn attend(guest: Option<Guest>, slots: Option<&Slots>) {
    let Some(guest) = guest else { return };
    let mut tidying = false;
    while !has_ended(&guest, slots, if tidying { TIDY_AGAIN } else { SWEEP_EVERY }) {
        if let Some(slots) = slots {
            if !tidying {
                slots.sweep();
            }
            tidying = slots.tidy();
        }
    }
    let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(guest.pid), None);
    // The keepers end with the launcher, and the processes in their namespaces with them.
    let gives_up = Instant::now() + LAST_TIDYING;
    while slots.is_some_and(Slots::close) && Instant::now() < gives_up {
        thread::sleep(LAST_TIDY_AGAIN);
    }
}

/// Waits until the launcher ends, something is retired, or `timeout` has passed; says whether it has ended.
fn has_ended(guest: &Guest, slots: Option<&Slots>, timeout: Duration) -> bool {
    let timeout = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() };
    let mut list = vec![PollFd::new(&guest.pidfd, PollFlags::IN)];
    let bell = slots.map(Slots::bell);
    list.extend(bell.as_ref().map(|bell| PollFd::new(bell, PollFlags::IN)));
    poll(&mut list, Some(&timeout)).is_ok() && list[0].revents().contains(PollFlags::IN)
}

/// Waits for the launcher's first message, which tells what the kernel says to a question for Landlock.
fn expect_hello(socket: &OwnedFd) -> Result<i32, Error> {
    let mut datagram = [0; 128];
    let len = recv(socket.as_raw_fd(), &mut datagram, MsgFlags::empty())
        .map_err(|e| Error::system(Stage::StartLauncher, e.into()))?;
    let hello = frame::parse(&datagram[..len]).ok().filter(|(header, _)| header.kind == Kind::Hello as u16);
    match hello.and_then(|(_, mut body)| Some((body.bytes().ok()?, body.i32().ok()?))) {
        Some((id, landlock)) if id == BUILD_ID.as_bytes() => Ok(landlock),
        _ => Err(Error::new(Stage::StartLauncher, ErrorKind::Gone, "it is not the program of this build")),
    }
}
