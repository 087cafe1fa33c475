//! The zygote's loop: take orders, start processes, bury the dead.

#![allow(unsafe_code, reason = "the control socket comes as a number; the environment has one thread")]

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

use super::socket::Socket;
use super::spare::Spare;
use super::wire::{MAX_ORDER, Order, Word};
use super::{Zygote, process};
use crate::exit::Exit;
use crate::supervisor::tree;
use crate::sys::setup::{self, MAX_FDS};
use crate::sys::spawn::{self, Born};
use crate::sys::touch;

struct Server {
    zygote: Zygote,
    control: Socket,
    signals: SignalFd,
    changed_signals: Vec<i32>,
    /// Which order each living worker came from.
    workers: HashMap<i32, u64>,
    spare: Option<Spare>,
    /// Workers that are forked are wanted here, and there is no spare one.
    wants_spare: bool,
}

/// How much quiet there is before a spare worker is forked, so that it is not in the way of one that is starting.
const QUIET: Duration = Duration::from_micros(300);

/// Never returns.
pub(super) fn serve(mut zygote: Zygote, control: RawFd) -> ! {
    // SAFETY: no other thread exists, so nobody reads the environment now.
    unsafe { std::env::remove_var(super::TOKEN) };
    let load = std::mem::take(&mut zygote.preload);
    let result = take_over(control).and_then(|(control, signals)| {
        load.into_iter().for_each(|load| load());
        assert_single_threaded()?;
        let changed_signals = setup::changed_signals();
        let (workers, spare, wants_spare) = Default::default();
        Server { zygote, control, signals, changed_signals, workers, spare, wants_spare }.run()
    });
    if let Err(error) = result {
        eprintln!("poolyard zygote: {error}");
    }
    kill_everything();
    std::process::exit(0)
}

/// Moves the control socket out of the way of workers' descriptors, and keeps those numbers taken, so
/// that nothing that is preloaded gets one.
fn take_over(control: RawFd) -> io::Result<(Socket, SignalFd)> {
    // SAFETY: the host opened it for us at this number.
    let control = unsafe { OwnedFd::from_raw_fd(control) };
    let control_high = fcntl(&control, FcntlArg::F_DUPFD_CLOEXEC(MAX_FDS as RawFd))?;
    // SAFETY: the kernel has just opened it for us.
    let control_high = unsafe { OwnedFd::from_raw_fd(control_high) };
    drop(control);
    let null = File::open("/dev/null")?;
    while null.as_fd().try_clone_to_owned()?.into_raw_fd() < MAX_FDS as RawFd - 1 {}
    std::mem::forget(null);
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None)?;
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    let signals = SignalFd::with_flags(&children, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    nix::sys::prctl::set_child_subreaper(true)?;
    nix::sys::prctl::set_name(c"poolyard-zygote")?;
    Ok((Socket::new(control_high), signals))
}

/// A fork copies one thread; if there are others, what they hold stays locked for ever.
fn assert_single_threaded() -> io::Result<()> {
    match std::fs::read_dir("/proc/self/task")?.count() {
        1 => Ok(()),
        count => Err(io::Error::other(format!(
            "{count} threads in the zygote; `init` must be the first line of `main`, and preloading must \
             not leave a thread behind"
        ))),
    }
}

impl Server {
    /// Ends with an error when something is wrong, and without one when the host is gone.
    fn run(mut self) -> io::Result<()> {
        let mut buffer = vec![0; MAX_ORDER];
        loop {
            if self.wait()? {
                self.fork_spare();
            }
            while let Ok(Some(_)) = self.signals.read_signal() {}
            self.bury()?;
            loop {
                match self.control.receive(&mut buffer) {
                    Ok(Some((bytes, fds))) => {
                        let order = Order::decode(bytes).ok_or(io::ErrorKind::InvalidData)?;
                        self.start(&order, bytes, &fds)?;
                    }
                    Ok(None) => break,
                    Err(_) => return Ok(()),
                }
            }
            self.control.send()?;
        }
    }

    /// Whether nothing happens and there is time for a spare worker.
    fn wait(&self) -> io::Result<bool> {
        let mut interest = PollFlags::POLLIN;
        interest.set(PollFlags::POLLOUT, self.control.wants_to_send());
        let mut fds = [
            PollFd::new(self.control.as_fd(), interest),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
        ];
        // What is not sent yet has descriptors, which a spare worker would keep.
        let has_time = self.wants_spare && !self.control.wants_to_send();
        match ppoll(&mut fds, has_time.then(|| QUIET.into()), None) {
            Ok(count) => Ok(count == 0),
            Err(Errno::EINTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn fork_spare(&mut self) {
        let private = &[self.control.as_fd(), self.signals.as_fd()];
        let own = process::Own { private, changed_signals: &self.changed_signals };
        // Where there is no room for one, the next worker is forked when it is ordered.
        self.spare = Spare::fork(&self.zygote.entries, &own).ok();
        self.wants_spare = false;
        // The fork has made its pages common to both.
        touch::data();
    }

    fn start(&mut self, order: &Order, bytes: &[u8], fds: &[OwnedFd]) -> io::Result<()> {
        let token = order.token;
        let started = if order.entry {
            let Some(entry) = process::entry(&self.zygote.entries, order) else {
                return self.control.push(Word::NoEntry { token }.to_bytes().into(), Vec::new());
            };
            self.wants_spare = true;
            if let Some(born) = self.spare.take().and_then(|spare| spare.employ(bytes, fds)) {
                Ok(born)
            } else {
                let private = &[self.control.as_fd(), self.signals.as_fd()];
                let own = process::Own { private, changed_signals: &self.changed_signals };
                process::fork(entry, &order.image, fds, &own)
            }
        } else {
            let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            spawn::spawn(&order.image, &fds)
        };
        match started {
            Ok(Born { pid, pidfd }) => {
                self.workers.insert(pid, token);
                self.control.push(Word::Born { token, pid }.to_bytes().into(), vec![pidfd])
            }
            Err(failed) => self.control.push(Word::Failed { token, failed }.to_bytes().into(), Vec::new()),
        }
    }

    /// Reaps all that have ended. A worker's process group ends with it, and its orphans, which come to
    /// this process, too.
    fn bury(&mut self) -> io::Result<()> {
        let mut died = false;
        while let Some(pid) = next_dead() {
            died = true;
            self.spare = self.spare.take().filter(|spare| spare.pid() != pid);
            let token = self.workers.remove(&pid);
            if token.is_some() {
                tree::kill_group(pid);
            }
            let exit = reap(pid);
            if let Some(token) = token {
                self.control.push(Word::Ended { token, exit }.to_bytes().into(), Vec::new())?;
            }
        }
        if died {
            self.sweep();
        }
        Ok(())
    }

    /// Kills children that are no workers and no spare one. A living worker adopts its own orphans, so these
    /// belonged to dead ones.
    fn sweep(&self) {
        let me = std::process::id() as i32;
        let is_ours = |pid: &i32| {
            self.workers.contains_key(pid) || self.spare.as_ref().is_some_and(|spare| spare.pid() == *pid)
        };
        let strangers = tree::children(me).into_iter().filter(|pid| !is_ours(pid));
        for pid in strangers {
            let _ = nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// A child that has ended, left unreaped so that its number stays its own.
fn next_dead() -> Option<i32> {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    waitid(Id::All, flags).ok()?.pid().map(Pid::as_raw)
}

fn reap(pid: i32) -> Exit {
    match waitpid(Pid::from_raw(pid), None) {
        Ok(WaitStatus::Exited(_, code)) => Exit::Code(code),
        Ok(WaitStatus::Signaled(_, signal, _)) => Exit::Signal(signal as i32),
        _ => Exit::Unknown,
    }
}

/// Kills children until there are none: killed ones leave their own children here.
fn kill_everything() {
    let me = std::process::id() as i32;
    loop {
        for pid in tree::children(me) {
            let _ = nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        if waitpid(None, None) == Err(Errno::ECHILD) {
            return;
        }
    }
}
