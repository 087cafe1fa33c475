//! The loop of the supervising thread.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, LazyLock, Weak};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};

use super::{Child, Handle, Life, LineSink, Order, Pending, Reply, Request, Shared, Supervisor, tree};
use crate::error::{Error, ErrorKind, Stage};
use crate::exit::{Exit, Kill};
use crate::memory::{self, Scale};
use crate::sys::{fds, spawn, wait};
use crate::zygote::host::{Link, News};

/// What an epoll event is about: a token and one of these.
const WAKE: u64 = 0;
const ENDED: u64 = 1;
const STDERR: u64 = 2;
const ZYGOTE: u64 = 3;

fn tag(token: u64, what: u64) -> u64 {
    token << 2 | what
}

/// A process that has not been reaped.
struct Entry {
    life: Arc<Life>,
    stderr: Option<Stderr>,
    hard_memory: Option<Scale>,
    /// Our own child; otherwise the zygote's.
    own: bool,
    /// Everything that it had started was found through it and killed.
    swept: bool,
}

impl Entry {
    fn kill(&mut self) {
        let pid = self.life.pid;
        self.swept = self.life.with_pidfd(|pidfd| tree::kill(pid, pidfd)) == Some(true);
    }
}

struct Stderr {
    fd: OwnedFd,
    lines: Option<LineSink>,
    /// The beginning of a line whose end has not come yet.
    line: Vec<u8>,
}

/// The longest line that is handed out in one piece.
const MAX_LINE: usize = 16 * 1024;

pub(super) struct Thread {
    shared: Arc<Shared>,
    epoll: Epoll,
    entries: HashMap<u64, Entry>,
    pending: HashMap<u64, Pending>,
    zygote: Option<Link>,
    next_tick: Option<Instant>,
    quit: bool,
    /// For the handles that are given out.
    supervisor: Weak<Handle>,
}

impl Thread {
    pub(super) fn new(shared: Arc<Shared>, supervisor: Weak<Handle>) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&shared.wake, EpollEvent::new(EpollFlags::EPOLLIN, tag(0, WAKE)))?;
        Ok(Self {
            shared,
            epoll,
            entries: HashMap::new(),
            pending: HashMap::new(),
            zygote: None,
            next_tick: None,
            quit: false,
            supervisor,
        })
    }

    pub(super) fn run(mut self) {
        // The application's signals are for its own threads, and a signal must not hit the child while
        // it shares this memory.
        let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None);
        let mut events = [EpollEvent::empty(); 64];
        while !(self.quit && self.entries.is_empty() && self.pending.is_empty()) {
            let count = self.epoll.wait(&mut events, self.timeout()).unwrap_or(0);
            for event in &events[..count] {
                self.dispatch(event.data() >> 2, event.data() & 3);
            }
            self.tick();
        }
        if let Some(zygote) = self.zygote.take() {
            // It ends when nobody can order anything of it any more.
            self.shared.inbox.lock().zygote = None;
            zygote.end();
        }
    }

    fn timeout(&self) -> EpollTimeout {
        let Some(at) = self.next_tick else { return EpollTimeout::NONE };
        let left = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        EpollTimeout::try_from(left).unwrap_or(EpollTimeout::MAX)
    }

    fn dispatch(&mut self, token: u64, what: u64) {
        match what {
            WAKE => self.take_requests(),
            ENDED => self.ended(token),
            STDERR => self.read_stderr(token),
            _ => self.zygote_ready(),
        }
    }

    fn take_requests(&mut self) {
        let _ = self.shared.wake.read();
        let requests = std::mem::take(&mut self.shared.inbox.lock().requests);
        for request in requests {
            match request {
                Request::Spawn { token, order, reply } => self.spawn(token, *order, reply),
                Request::Ordered { token, pending } => drop(self.pending.insert(token, pending)),
                Request::Kill { token } => self.kill(token),
                Request::Quit => self.quit = true,
            }
        }
    }

    fn spawn(&mut self, token: u64, order: Order, reply: Reply) {
        if order.is_for_the_zygote() {
            return self.order_zygote(token, order, reply);
        }
        let borrowed: Vec<_> = order.fds.iter().map(std::os::fd::AsFd::as_fd).collect();
        let born = spawn::spawn(&order.image, &borrowed);
        let pending = Pending::new(order, reply);
        match born {
            Ok(born) => self.admit(token, born, pending, true),
            Err(failed) => drop(pending.reply.send(Err(Error::errno(failed)))),
        }
    }

    /// Takes a new process into care and hands its handle out.
    fn admit(&mut self, token: u64, born: spawn::Born, pending: Pending, own: bool) {
        let Pending { stderr, stderr_tail, lines, hard_memory, reply } = pending;
        let life = Arc::new(Life::new(born.pid, born.pidfd, stderr_tail));
        let stderr = stderr.map(|fd| Stderr { fd, lines, line: Vec::new() });
        if let Err(error) = self.watch(token, &life, stderr.as_ref(), own) {
            // Nothing may run that nobody watches.
            life.with_pidfd(|pidfd| {
                tree::kill(life.pid, pidfd);
                if own {
                    tree::kill_group(life.pid);
                    wait::reap(pidfd);
                }
            });
            drop(reply.send(Err(Error::system(Stage::Supervisor, error))));
            return;
        }
        if hard_memory.is_some() && self.next_tick.is_none() {
            self.next_tick = Some(Instant::now() + memory::EVERY);
        }
        let entry = Entry { life: life.clone(), stderr, hard_memory, own, swept: false };
        self.entries.insert(token, entry);
        match self.supervisor() {
            // A handle that nobody takes is dropped, which kills.
            Some(supervisor) => drop(reply.send(Ok(Child { life, token, supervisor }))),
            None => self.kill(token),
        }
    }

    fn watch(&self, token: u64, life: &Life, stderr: Option<&Stderr>, own: bool) -> io::Result<()> {
        if let Some(stderr) = stderr {
            fds::set_nonblocking(&stderr.fd)?;
            self.epoll.add(&stderr.fd, EpollEvent::new(EpollFlags::EPOLLIN, tag(token, STDERR)))?;
        }
        if own {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, tag(token, ENDED));
            life.with_pidfd(|pidfd| self.epoll.add(pidfd, event)).transpose()?;
        }
        Ok(())
    }

    fn kill(&mut self, token: u64) {
        if let Some(entry) = self.entries.get_mut(&token) {
            entry.kill();
        }
    }

    /// A child of our own has ended: what is left of its tree ends too, and it is reaped.
    fn ended(&mut self, token: u64) {
        let Some(entry) = self.entries.get(&token) else { return };
        tree::kill_group(entry.life.pid);
        if let Some(exit) = entry.life.with_pidfd(wait::reap) {
            self.finish(token, exit);
        }
    }

    fn finish(&mut self, token: u64, exit: Exit) {
        self.read_stderr(token);
        let Some(mut entry) = self.entries.remove(&token) else { return };
        if let Some(stderr) = &mut entry.stderr {
            stderr.last_line(entry.life.pid);
            let _ = self.epoll.delete(&stderr.fd);
        }
        entry.life.end(exit);
        if entry.own {
            let _ = entry.life.with_pidfd(|pidfd| self.epoll.delete(pidfd));
        }
        if entry.own && !entry.swept {
            tree::kill_marked(&mark(token));
        }
        entry.life.bury();
    }

    fn read_stderr(&mut self, token: u64) {
        let Some(entry) = self.entries.get_mut(&token) else { return };
        let Some(stderr) = &mut entry.stderr else { return };
        if !stderr.read(&entry.life) {
            stderr.last_line(entry.life.pid);
            let _ = self.epoll.delete(&stderr.fd);
            entry.stderr = None;
        }
    }

    /// Kills workers above their hard memory limit.
    fn tick(&mut self) {
        if self.next_tick.is_none_or(|at| at > Instant::now()) {
            return;
        }
        let mut limited = false;
        for entry in self.entries.values_mut() {
            let Some(scale) = &mut entry.hard_memory else { continue };
            limited = true;
            if scale.exceeded(entry.life.pid) {
                entry.life.blame(Kill::Memory);
                entry.kill();
            }
        }
        self.next_tick = limited.then(|| Instant::now() + memory::EVERY);
    }

    fn supervisor(&self) -> Option<Supervisor> {
        self.supervisor.upgrade().map(Supervisor)
    }

    fn order_zygote(&mut self, token: u64, mut order: Order, reply: Reply) {
        let fds = std::mem::take(&mut order.fds);
        let sent = self.zygote().and_then(|zygote| zygote.order(token, order.entry, &order.image, fds));
        match sent {
            Ok(()) => {
                self.pending.insert(token, Pending::new(order, reply));
                self.zygote_interest();
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    /// The zygote, started if there is none.
    fn zygote(&mut self) -> Result<&mut Link, Error> {
        if self.zygote.is_none() {
            let link = Link::start()?;
            let interest = EpollEvent::new(EpollFlags::EPOLLIN, tag(0, ZYGOTE));
            self.epoll.add(link.socket(), interest).map_err(|e| Error::system(Stage::Zygote, e.into()))?;
            self.shared.inbox.lock().zygote = link.orders();
            self.zygote = Some(link);
        }
        self.zygote.as_mut().ok_or_else(|| Error::new(Stage::Zygote, ErrorKind::GuardianLost))
    }

    fn zygote_interest(&self) {
        if let Some(zygote) = &self.zygote {
            let mut flags = EpollFlags::EPOLLIN;
            flags.set(EpollFlags::EPOLLOUT, zygote.wants_to_send());
            let _ = self.epoll.modify(zygote.socket(), &mut EpollEvent::new(flags, tag(0, ZYGOTE)));
        }
    }

    fn zygote_ready(&mut self) {
        while let Some(zygote) = &mut self.zygote {
            match zygote.receive() {
                Ok(Some(news)) => {
                    self.note_ordered();
                    self.news(news);
                }
                Ok(None) => break,
                Err(_) => self.zygote_lost(),
            }
        }
        if self.zygote.as_mut().is_some_and(|zygote| zygote.send().is_err()) {
            self.zygote_lost();
        }
        self.zygote_interest();
    }

    /// Takes in what callers have ordered of the zygote by themselves. Whatever it says is about an order that
    /// stands there by then.
    fn note_ordered(&mut self) {
        let is_ordered = |request: &mut Request| matches!(request, Request::Ordered { .. });
        for request in self.shared.inbox.lock().requests.extract_if(.., is_ordered) {
            if let Request::Ordered { token, pending } = request {
                self.pending.insert(token, pending);
            }
        }
    }

    fn news(&mut self, news: News) {
        match news {
            News::Born { token, pid, pidfd } => {
                if let Some(pending) = self.pending.remove(&token) {
                    self.admit(token, spawn::Born { pid, pidfd }, pending, false);
                }
            }
            News::Failed { token, failed } => {
                if let Some(pending) = self.pending.remove(&token) {
                    drop(pending.reply.send(Err(Error::errno(failed))));
                }
            }
            News::NoEntry { token } => {
                if let Some(pending) = self.pending.remove(&token) {
                    drop(pending.reply.send(Err(Error::new(Stage::Zygote, ErrorKind::NoEntry))));
                }
            }
            News::Ended { token, exit } => self.finish(token, exit),
        }
    }

    /// Workers die with their zygote; the next order starts another.
    fn zygote_lost(&mut self) {
        let Some(zygote) = self.zygote.take() else { return };
        self.shared.inbox.lock().zygote = None;
        self.note_ordered();
        let _ = self.epoll.delete(zygote.socket());
        zygote.end();
        for (_, pending) in self.pending.drain() {
            drop(pending.reply.send(Err(Error::new(Stage::Zygote, ErrorKind::GuardianLost))));
        }
        let lost: Vec<u64> = self.entries.iter().filter(|(_, e)| !e.own).map(|(token, _)| *token).collect();
        for token in lost {
            self.kill(token);
            self.finish(token, Exit::GuardianLost);
        }
    }
}

/// How a worker is marked in its environment: as no worker of any other host is, whatever numbers their
/// processes have.
pub(crate) fn mark(token: u64) -> String {
    static HOST: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(std::process::id()));
    format!("{:016x}.{token}", *HOST)
}

impl Stderr {
    /// Reads what is there; false at the end.
    fn read(&mut self, life: &Life) -> bool {
        let mut buffer = [0; 16 * 1024];
        // Bounded, so that a worker that never stops writing does not hold the thread.
        for _ in 0..16 {
            match nix::unistd::read(&self.fd, &mut buffer) {
                Ok(0) => return false,
                Ok(n) => {
                    life.stderr.lock().push(&buffer[..n]);
                    self.hand_out(life.pid, &buffer[..n]);
                }
                Err(nix::Error::EINTR) => {}
                Err(error) => return error == nix::Error::EAGAIN,
            }
        }
        true
    }

    fn hand_out(&mut self, pid: i32, bytes: &[u8]) {
        let Some(lines) = &self.lines else { return };
        self.line.extend_from_slice(bytes);
        while let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
            lines(pid, &self.line[..end]);
            self.line.drain(..=end);
        }
        if self.line.len() > MAX_LINE {
            lines(pid, &self.line);
            self.line.clear();
        }
    }

    fn last_line(&mut self, pid: i32) {
        if let Some(lines) = self.lines.as_ref().filter(|_| !self.line.is_empty()) {
            lines(pid, &self.line);
        }
    }
}
