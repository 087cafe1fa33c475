//! [`Member`]: one worker of a server.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use parking_lot::Mutex;
use poolyard_worker::{Scoreboard, word};
use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, Ready};

use super::{Accept, Inner, pass};
use crate::error::{Error, ErrorKind, Stage};
use crate::exit::Kill;
use crate::image::image;
use crate::spec::{Source, WorkerSpec};
use crate::supervisor::{Child, Order, mark, tree};
use crate::sys::fds::{self, Pipe};
use crate::zygote::socket;

pub(super) struct Member {
    pub(super) child: Child,
    pub(super) score: Scoreboard,
    pub(super) generation: u64,
    pub(super) serial: u64,
    pub(super) born: Instant,
    control: Arc<AsyncFd<OwnedFd>>,
    /// Connections that it was handed and has not taken: if it dies, they are another's.
    pub(super) untaken: Mutex<VecDeque<OwnedFd>>,
    /// The connection that it has been lent for a request, which may come back.
    lent: Mutex<Option<OwnedFd>>,
    /// Connections, or turns to accept, that it has and is not done with.
    pub(super) open: Mutex<usize>,
    /// It was told to end: what it is handed from now on it would never take. Set and read with `untaken` locked.
    leaving: AtomicBool,
    accept: Accept,
    slot: ScoreSlot,
}

/// A part of the scoreboard, in use as long as this lives.
struct ScoreSlot {
    inner: std::sync::Weak<Inner>,
    index: usize,
}

impl Drop for ScoreSlot {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.upgrade() {
            inner.places.lock().scores[self.index] = false;
        }
    }
}

impl Member {
    /// Starts a worker and waits until it is ready.
    pub(super) async fn start(
        inner: &Arc<Inner>,
        spec: &WorkerSpec,
        generation: u64,
    ) -> Result<Arc<Self>, Error> {
        let system = |source| Error::system(Stage::Pipes, source);
        let serial = inner.supervisor.token();
        let slot = ScoreSlot::free(inner)?;
        let score = Scoreboard::new(inner.scores.clone(), slot.index).map_err(system)?;
        score.clear();
        let errors = Pipe::new().map_err(system)?;
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .map_err(|e| system(e.into()))?;
        let (given, env) = hand_over(inner, &errors, theirs, slot.index, serial).map_err(system)?;
        let order = Order {
            image: image(spec, &env)?,
            entry: matches!(spec.source, Source::Entry(_)),
            spawner: spec.spawner,
            fds: given,
            stderr: Some(errors.read),
            stderr_tail: spec.stderr_tail,
            lines: None,
            hard_memory: spec.scale(spec.hard_memory),
        };
        fds::set_nonblocking(&ours).map_err(system)?;
        let control = Arc::new(fds::watch(ours).map_err(system)?);
        let child = inner.supervisor.spawn(serial, order).await?;
        let accept = inner.config.accept;
        let (untaken, lent, open, leaving) = Default::default();
        let born = Instant::now();
        let member = Self {
            child,
            score,
            generation,
            serial,
            born,
            control,
            untaken,
            lent,
            open,
            leaving,
            accept,
            slot,
        };
        let member = Arc::new(member);
        member.until_ready(inner.config.boot_timeout).await?;
        tokio::spawn(listen_to(Arc::downgrade(inner), Arc::downgrade(&member), member.control.clone()));
        Ok(member)
    }

    async fn until_ready(&self, patience: Duration) -> Result<(), Error> {
        let failed = |kind| Err(Error::new(Stage::Ready, kind).with_stderr(self.child.life.stderr()));
        match tokio::time::timeout(patience, hear(&self.control)).await {
            Ok(Ok(word::READY)) => Ok(()),
            Ok(_) => failed(match tokio::time::timeout(patience, self.child.life.died()).await {
                Ok(death) => ErrorKind::BootFailed(death.exit),
                Err(_) => ErrorKind::Desynchronised,
            }),
            Err(_) => {
                self.child.kill(Kill::NotReady);
                failed(ErrorKind::NotReady)
            }
        }
    }

    /// Hands it a connection. Gives it back if the worker cannot take it: it is dead or leaving.
    pub(super) fn hand_over(&self, connection: OwnedFd) -> Result<(), OwnedFd> {
        let mut untaken = self.untaken.lock();
        if self.leaving.load(Ordering::Relaxed) {
            return Err(connection);
        }
        let Ok(copy) = connection.try_clone() else { return Err(connection) };
        if !self.say(word::CONNECTION, Some(copy)) {
            return Err(connection);
        }
        untaken.push_back(connection);
        *self.open.lock() += 1;
        Ok(())
    }

    /// Tells it that there are connections to accept. False if it will not: it is dead or leaving.
    pub(super) fn notify(&self) -> bool {
        let _untaken = self.untaken.lock();
        let told = !self.leaving.load(Ordering::Relaxed) && self.say(word::ACCEPT, None);
        *self.open.lock() += usize::from(told);
        told
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed) || self.child.life.death().is_some()
    }

    /// Says a word, with a descriptor. False if it cannot be said: the worker is dead, or far behind.
    fn say(&self, word: u8, fd: Option<OwnedFd>) -> bool {
        let fds: Vec<OwnedFd> = fd.into_iter().collect();
        socket::send(self.control.as_fd(), &[word], &fds).is_ok()
    }

    /// Asks it to end after what it has.
    fn leave(&self) {
        let _untaken = self.untaken.lock();
        self.leaving.store(true, Ordering::Relaxed);
        match self.accept {
            Accept::Inherit | Accept::ReusePort => self.child.signal(libc::SIGTERM),
            Accept::Notify | Accept::Pass | Accept::PerRequest => drop(self.say(word::QUIT, None)),
        }
    }

    /// Takes in what it has said and nobody has heard yet. False at the end. When it is dead, this says for
    /// certain which connections it had taken. Those that it gives back go to `returned`.
    pub(super) fn take_words(&self, returned: &mut Vec<OwnedFd>) -> bool {
        // One reader at a time: the words are an account of what is in the list.
        let mut untaken = self.untaken.lock();
        loop {
            let mut said = [0];
            match nix::unistd::read(self.control.get_ref(), &mut said) {
                Ok(0) => return false,
                Ok(_) if said[0] == word::TAKEN => self.taken(untaken.pop_front()),
                Ok(_) => returned.extend(self.done(said[0] == word::BACK)),
                Err(nix::Error::EINTR) => {}
                Err(error) => return error == nix::Error::EAGAIN,
            }
        }
    }

    /// A connection that is passed is the worker's alone now.
    fn taken(&self, connection: Option<OwnedFd>) {
        *self.lent.lock() = connection.filter(|_| self.accept == Accept::PerRequest);
    }

    /// It is dead: the client of the request that it was executing is to see that at once.
    pub(super) fn forget_lent(&self) {
        drop(self.lent.lock().take());
    }

    /// It is done with what it had taken; the connection, if that goes on.
    fn done(&self, goes_on: bool) -> Option<OwnedFd> {
        let mut open = self.open.lock();
        *open = open.saturating_sub(1);
        self.lent.lock().take().filter(|_| goes_on)
    }

    /// Lets it end after the connection that it serves, for so long; then kills it.
    pub(super) async fn drain(self: Arc<Self>, patience: Duration) {
        self.leave();
        if tokio::time::timeout(patience, self.child.life.died()).await.is_err() {
            self.child.kill(Kill::Stuck);
        }
        self.child.life.buried().await;
        // What it was handed and has not taken is another's.
        if let Some(inner) = self.slot.inner.upgrade() {
            pass::requeue(&inner, &self);
        }
    }
}

impl ScoreSlot {
    fn free(inner: &Arc<Inner>) -> Result<Self, Error> {
        let mut places = inner.places.lock();
        // Workers that take long to end hold theirs; the attempt is repeated.
        let full = || Error::system(Stage::Pipes, io::Error::other("too many workers are still ending"));
        let index = places.scores.iter().position(|used| !used).ok_or_else(full)?;
        places.scores[index] = true;
        Ok(Self { inner: Arc::downgrade(inner), index })
    }
}

type HandOver = (Vec<OwnedFd>, Vec<(&'static str, String)>);

fn hand_over(
    inner: &Inner,
    errors: &Pipe,
    control: OwnedFd,
    score: usize,
    serial: u64,
) -> io::Result<HandOver> {
    let stderr = || errors.write.try_clone();
    let mut fds =
        vec![File::open("/dev/null")?.into(), stderr()?, stderr()?, control, inner.page.try_clone()?];
    let mut env = vec![
        (tree::MARK, mark(serial)),
        ("POOLYARD_CONTROL", "3".to_owned()),
        ("POOLYARD_SCOREBOARD", "4".to_owned()),
        ("POOLYARD_SCORE_SLOT", score.to_string()),
    ];
    if !inner.config.accept.is_by_master() {
        env.push(("POOLYARD_LISTENER", fds.len().to_string()));
        fds.push(inner.listen.for_worker()?);
    }
    if inner.config.accept == Accept::Notify {
        env.push(("POOLYARD_NOTIFIED", "1".to_owned()));
    }
    if inner.config.accept == Accept::PerRequest {
        env.push(("POOLYARD_LENT", "1".to_owned()));
    }
    Ok((fds, env))
}

/// The next word of a worker.
async fn hear(control: &AsyncFd<OwnedFd>) -> io::Result<u8> {
    loop {
        let mut ready = control.ready(Interest::READABLE).await?;
        let mut word = [0];
        match nix::unistd::read(control.get_ref(), &mut word) {
            Ok(1) => return Ok(word[0]),
            Ok(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(nix::Error::EAGAIN) => ready.clear_ready_matching(Ready::READABLE),
            Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Takes a worker's words in until it ends. Holds neither the worker nor the server.
async fn listen_to(
    inner: std::sync::Weak<Inner>,
    member: std::sync::Weak<Member>,
    control: Arc<AsyncFd<OwnedFd>>,
) {
    while let Ok(mut ready) = control.readable().await {
        let (Some(inner), Some(member)) = (inner.upgrade(), member.upgrade()) else { return };
        ready.clear_ready();
        let goes_on = pass::take_words(&inner, &member);
        pass::pump(&inner);
        if !goes_on {
            return;
        }
    }
}
