//! [`Lease`]: one user's time in a sandbox, seen from the host. It lives as long as its init.
//!
//! Several tasks may wait for different messages of the one init: each for its command's exit or its
//! file. Whoever is polled reads for all of them; whoever leaves wakes the others, so that one of them
//! takes over.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use nix::sys::signal::Signal;
use parking_lot::Mutex;
use poolyard_guest::frame::{Header, Writer};

use crate::alarm::Alarm;
use crate::cgroup::{Reading, Slot};
use crate::channel::{self, Channel, Message};
use crate::error::{Error, Stage};
use crate::protocol::{Kind, way_in};
use crate::streams::{OutputEnd, OutputPipe, output_pipe};

/// The index of the command that finds everything prepared.
pub(crate) const FIRST: u32 = 0;

#[derive(Debug)]
pub(crate) struct Lease {
    init: Channel,
    init_pidfd: OwnedFd,
    slot: Option<Arc<Slot>>,
    /// Whether its first runner was born in the slot.
    pub(crate) was_born: bool,
    /// Runners that its slot had no room for. The slot counts them among the forks that it refused.
    refused_births: AtomicU64,
    /// What was prepared for the first command, until it takes it.
    armed: Mutex<Option<Armed>>,
    /// For the times of that command.
    pub(crate) alarm: Alarm,
    /// What that command has used, to be closed with the lease.
    spent: Mutex<Option<Spent>>,
    mail: Mutex<Mail>,
    next_index: AtomicU32,
    /// Commands that run, and what they agreed on.
    pub(crate) running: Mutex<crate::run::Running>,
    /// Whether anything was done in it. An untouched lease needs no recycle.
    touched: AtomicBool,
    /// Whether something went wrong that makes the sandbox useless.
    broken: AtomicBool,
}

/// Everything that can be made ready before a command is known, off its caller's path.
#[derive(Debug)]
pub(crate) struct Armed {
    /// The runner's socket. Not registered with a runtime: its end, when the program starts, would wake it
    /// for nothing.
    pub(crate) runner: OwnedFd,
    /// For standard output and standard error.
    pub(crate) pipes: [OutputPipe; 2],
    /// What the slot has counted so far, its peak set back.
    pub(crate) before: Option<Reading>,
}

/// What the first command used of that: the runner's socket, our ends of its pipes, its own ends. To close it all
/// takes several microseconds, which its caller need not wait for.
pub(crate) type Spent = (OwnedFd, [Option<OutputEnd>; 2], Vec<(u32, OwnedFd)>);

impl Armed {
    pub(crate) fn prepare(runner: Channel, slot: Option<&Slot>) -> io::Result<Self> {
        if let Some(slot) = slot {
            slot.reset_peak();
        }
        let pipes = [output_pipe()?, output_pipe()?];
        Ok(Self { runner: runner.into_socket(), pipes, before: slot.map(Slot::read) })
    }
}

/// How a command's main process ended, as the init tells it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exit {
    pub(crate) status: i32,
    /// The kernel's `struct rusage`.
    pub(crate) usage: [u64; 18],
}

/// Messages that were read and not yet fetched.
#[derive(Debug, Default)]
struct Mail {
    exits: Vec<(u32, Exit)>,
    answers: Vec<(u32, Message)>,
    waiting: Vec<(u32, Waker)>,
    closed: bool,
}

impl Lease {
    pub(crate) fn new(
        init: Channel,
        init_pidfd: OwnedFd,
        armed: Armed,
        alarm: Alarm,
        slot: Option<Arc<Slot>>,
        was_born: bool,
    ) -> Self {
        Self {
            init,
            init_pidfd,
            slot,
            was_born,
            refused_births: AtomicU64::new(0),
            armed: Mutex::new(Some(armed)),
            alarm,
            spent: Mutex::default(),
            mail: Mutex::default(),
            next_index: AtomicU32::new(FIRST + 1),
            running: Mutex::default(),
            touched: AtomicBool::new(false),
            broken: AtomicBool::new(false),
        }
    }

    pub(crate) fn slot(&self) -> Option<&Slot> {
        self.slot.as_deref()
    }

    /// What the slot has counted, without what only our runners caused.
    pub(crate) fn reading(&self) -> Reading {
        let mut reading = self.slot().map(Slot::read).unwrap_or_default();
        let own = self.refused_births.load(Ordering::Relaxed);
        reading.forks_refused = reading.forks_refused.saturating_sub(own);
        reading
    }

    pub(crate) fn touch(&self) {
        self.touched.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_touched(&self) -> bool {
        self.touched.load(Ordering::Relaxed)
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Lets who was killed end: who waits for a disk at a bounded rate ends only when it has answered. Nothing, once
    /// the lease has ended: another one may have the slot.
    pub(crate) fn unbind_disks(&self, for_ever: bool) {
        let Some(slot) = self.slot().filter(|slot| slot.bounds_disks()) else { return };
        let mut running = self.running.lock();
        if !running.over {
            slot.unbind_disks();
        }
        running.over |= for_ever;
    }

    /// Bounds disks again for those who run still.
    pub(crate) fn bind_disks(&self) {
        let Some(slot) = self.slot().filter(|slot| slot.bounds_disks()) else { return };
        let running = self.running.lock();
        let bound = running.over || slot.limit(&running.limits).is_ok();
        drop(running);
        if !bound {
            self.end();
        }
    }

    /// Ends the lease at once: the kernel kills every process in it. It cannot be used any more.
    pub(crate) fn end(&self) {
        self.broken.store(true, Ordering::Relaxed);
        // Fails only if it is dead already.
        let _ = rustix::process::pidfd_send_signal(&self.init_pidfd, rustix::process::Signal::KILL);
        self.unbind_disks(true);
    }

    /// Whether its init and the armed runner are there.
    pub(crate) fn is_alive(&self) -> bool {
        let closed = |armed: &Armed| {
            let word = channel::receive(armed.runner.as_raw_fd());
            !matches!(word, Err(e) if e.kind() == io::ErrorKind::WouldBlock)
        };
        let armed = self.armed.lock();
        !self.is_broken() && !is_readable(&self.init_pidfd) && !armed.as_ref().is_some_and(closed)
    }

    /// What was prepared for the first command; `None` for all others.
    pub(crate) fn take_armed(&self) -> Option<Armed> {
        self.armed.lock().take()
    }

    /// Keeps what the first command has used until the lease ends.
    pub(crate) fn keep(&self, spent: Spent) {
        *self.spent.lock() = Some(spent);
    }

    /// A new runner, for a command that is not the first: its index and its socket.
    pub(crate) async fn spawn_runner(&self) -> Result<(u32, OwnedFd), Error> {
        let index = self.next_index.fetch_add(1, Ordering::Relaxed);
        let (ours, theirs) = Channel::pair().map_err(|e| Error::system(Stage::CloneRunner, e))?;
        let entries = self.slot().map(Slot::entries).unwrap_or_default();
        let fds: Vec<BorrowedFd<'_>> =
            std::iter::once(theirs.as_fd()).chain(entries.iter().map(File::as_fd)).collect();
        self.tell(Kind::Spawn, index, &[index], &fds)?;
        drop(fds);
        drop(theirs);
        match ours.receive().await {
            Ok(Some(message)) if message.kind == Kind::Armed => {
                if message.body().u32() == Ok(way_in::ENTERED_FULL) {
                    self.refused_births.fetch_add(1, Ordering::Relaxed);
                }
                Ok((index, ours.into_socket()))
            }
            Ok(Some(message)) if message.kind == Kind::Failed => Err(message.failure()),
            _ => Err(self.take_failure(index).unwrap_or_else(|| Error::gone("the sandbox's init is gone"))),
        }
    }

    /// What the init said about request `seq`, if it said anything.
    fn take_failure(&self, seq: u32) -> Option<Error> {
        let mut mail = self.mail.lock();
        while let Ok(Some(message)) = self.init.try_receive() {
            mail.sort(message);
        }
        take(&mut mail.answers, seq).map(|message| message.failure())
    }

    /// Signals a command and its process group.
    pub(crate) fn signal(&self, index: u32, signal: Signal) -> Result<(), Error> {
        self.signal_number(index, signal as i32)
    }

    pub(crate) fn signal_number(&self, index: u32, signal: i32) -> Result<(), Error> {
        self.tell(Kind::Signal, 0, &[index, signal as u32], &[])
    }

    fn tell(&self, kind: Kind, seq: u32, numbers: &[u32], fds: &[BorrowedFd<'_>]) -> Result<(), Error> {
        let mut buffer = [0; 64];
        let mut writer = Writer::new(&mut buffer, Header { kind: kind as u16, flags: 0, seq });
        for &number in numbers {
            writer.u32(number);
        }
        let frame = writer.finish().map_err(|_| Error::gone("a message is too long"))?;
        self.init.send(frame, fds).map_err(|_| Error::gone("the sandbox's init is gone"))
    }

    /// Waits for the exit of command `index`. `Err` says that the init died first.
    pub(crate) fn poll_exit(&self, cx: &mut Context<'_>, index: u32) -> Poll<Result<Exit, Error>> {
        self.poll_mail(cx, index, |mail| take(&mut mail.exits, index))
    }

    /// Asks the init to open a file, and waits for it.
    pub(crate) async fn open(
        &self,
        area: u8,
        how: u8,
        mode: u32,
        path: &std::ffi::CStr,
    ) -> Result<OwnedFd, Error> {
        self.touch();
        // Apart from the indices of commands, which wait in the same place.
        let seq = self.next_index.fetch_add(1, Ordering::Relaxed);
        let mut buffer = vec![0; 4096 + 128];
        let mut writer = Writer::new(&mut buffer, Header { kind: Kind::Open as u16, flags: 0, seq });
        let frame = writer.u8(area).u8(how).u32(mode).cstr(path).finish();
        let frame = frame.map_err(|_| Error::system(Stage::Files, io::ErrorKind::InvalidFilename.into()))?;
        self.init.send(frame, &[]).map_err(|_| Error::gone("the sandbox's init is gone"))?;
        let waiter = Waiting { lease: self, id: seq };
        let find = |mail: &mut Mail| take(&mut mail.answers, seq);
        let answer = std::future::poll_fn(|cx| self.poll_mail(cx, waiter.id, find)).await?;
        match answer.kind {
            Kind::Opened => answer.fds.into_iter().next().ok_or_else(|| Error::gone("it sent no file")),
            _ => Err(answer.failure()),
        }
    }

    fn poll_mail<T>(
        &self,
        cx: &mut Context<'_>,
        id: u32,
        find: impl Fn(&mut Mail) -> Option<T>,
    ) -> Poll<Result<T, Error>> {
        let mut mail = self.mail.lock();
        loop {
            if let Some(found) = find(&mut mail) {
                mail.leave(id);
                return Poll::Ready(Ok(found));
            }
            if mail.closed {
                return Poll::Ready(Err(Error::gone("the sandbox's init is gone")));
            }
            match self.init.poll_receive(cx) {
                Poll::Ready(Ok(Some(message))) => mail.sort(message),
                Poll::Ready(_) => mail.closed = true,
                Poll::Pending => {
                    mail.wait(id, cx.waker());
                    return Poll::Pending;
                }
            }
        }
    }

    /// A task does not wait any more.
    pub(crate) fn leave(&self, id: u32) {
        self.mail.lock().leave(id);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.end();
    }
}

/// Leaves when the future that waits is dropped.
struct Waiting<'a> {
    lease: &'a Lease,
    id: u32,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.lease.leave(self.id);
    }
}

impl Mail {
    fn sort(&mut self, message: Message) {
        match message.kind {
            Kind::Exited => {
                if let Some(exit) = Exit::parse(&message) {
                    self.exits.push((message.seq, exit));
                }
            }
            _ => self.answers.push((message.seq, message)),
        }
        // It may be for someone who is not reading.
        self.waiting.drain(..).for_each(|(_, waker)| waker.wake());
    }

    fn wait(&mut self, id: u32, waker: &Waker) {
        match self.waiting.iter_mut().find(|(waiting, _)| *waiting == id) {
            Some((_, old)) => old.clone_from(waker),
            None => self.waiting.push((id, waker.clone())),
        }
    }

    /// The one who leaves may have been the one who reads.
    fn leave(&mut self, id: u32) {
        self.waiting.retain(|(waiting, _)| *waiting != id);
        self.waiting.drain(..).for_each(|(_, waker)| waker.wake());
    }
}

fn take<T>(list: &mut Vec<(u32, T)>, id: u32) -> Option<T> {
    let at = list.iter().position(|(other, _)| *other == id)?;
    Some(list.swap_remove(at).1)
}

impl Exit {
    pub(crate) fn parse(message: &Message) -> Option<Self> {
        let mut body = message.body();
        body.u32().ok()?;
        let status = body.i32().ok()?;
        let mut usage = [0; 18];
        for number in &mut usage {
            *number = body.u64().ok()?;
        }
        Some(Self { status, usage })
    }
}

/// Whether a pidfd says that its process has ended.
pub(crate) fn is_readable(pidfd: &OwnedFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut list = [PollFd::new(pidfd, PollFlags::IN)];
    poll(&mut list, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
}
