//! [`PreforkServer`]: workers that share a listener.

mod idle;
mod listen;
mod member;
mod pass;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use poolyard_worker::{Activity, Arena, SCORE_SLOT};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::error::{Error, Stage};
use crate::exit::Death;
use crate::memory::Scale;
use crate::spec::WorkerSpec;
use crate::supervisor::Supervisor;
use crate::sys::fds;
use listen::Listen;
pub use listen::systemd_sockets;
use member::Member;

/// How connections come to workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Accept {
    /// All workers accept from one listener, and the kernel wakes the one that has waited longest: fair, and
    /// what waits in the listener's queue is lost with no worker. The default.
    Inherit,
    /// Every worker has a listener of its own on the same address, and the kernel spreads connections by
    /// their hash. What waits in a worker's queue is lost with it. For TCP.
    ReusePort,
    /// The master sees that there are connections and tells the least busy worker to accept them.
    Notify,
    /// The master accepts and hands each connection to the least busy worker. One that a worker has not taken
    /// when it dies goes to another.
    Pass,
    /// The master accepts and lends a connection to the least busy worker for one request at a time, whenever
    /// there is something to read on it. Between two requests it belongs to no worker: connections that
    /// are kept open cost none, and outlive the workers that have served them. For workers that use
    /// [`serve_requests`](crate::worker::Server::serve_requests); others keep a connection to its end.
    PerRequest,
}

impl Accept {
    /// Whether connections come to workers through the master.
    fn is_by_master(self) -> bool {
        matches!(self, Accept::Pass | Accept::PerRequest)
    }
}

/// How a prefork server works.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerConfig {
    /// How many workers there are at least; with none, the first one is started when somebody connects.
    /// Default: one per processor.
    pub min_workers: usize,
    /// How many there may be while all are busy. Default: as many as at least.
    pub max_workers: usize,
    /// How connections come to workers. Default: [`Accept::Inherit`].
    pub accept: Accept,
    /// How many workers may be without a replacement at a time when they are worn or rolled. Default: 1.
    pub max_unavailable: usize,
    /// How long a new worker may take to be ready. Default: 30 s.
    pub boot_timeout: Duration,
    /// How long a worker that is to end may take for the connection that it serves. Default: 30 s.
    pub drain_timeout: Duration,
    /// How long more workers than needed are kept. Default: 5 s.
    pub calm: Duration,
    /// How many connections the master holds for busy workers with [`Accept::Pass`], beyond which they
    /// wait in the kernel. Default: 1024.
    pub max_held: usize,
    /// How long a connection may wait for its next request with [`Accept::PerRequest`]. Default: 60 s.
    pub keep_alive: Duration,
    /// How many connections may wait for their next request with [`Accept::PerRequest`], beyond which the one
    /// that has waited longest is closed. Default: 4096.
    pub max_idle: usize,
}

impl Default for ServerConfig {
    fn default() -> Self {
        let workers = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            min_workers: workers,
            max_workers: workers,
            accept: Accept::Inherit,
            max_unavailable: 1,
            boot_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(30),
            calm: Duration::from_secs(5),
            max_held: 1024,
            keep_alive: Duration::from_secs(60),
            max_idle: 4096,
        }
    }
}

impl ServerConfig {
    /// So many workers, always.
    pub fn workers(workers: usize) -> Self {
        let workers = workers.max(1);
        Self { min_workers: workers, max_workers: workers, ..Self::default() }
    }

    /// No worker while nobody connects, and up to so many while all are busy. Not with
    /// [`Accept::ReusePort`], whose listeners are the workers' own.
    pub fn on_demand(workers: usize) -> Self {
        let workers = workers.max(1);
        Self { min_workers: 0, max_workers: workers, ..Self::default() }
    }

    /// How connections come to workers.
    pub fn accept(mut self, accept: Accept) -> Self {
        self.accept = accept;
        self
    }

    /// Up to so many workers while all are busy.
    pub fn up_to(mut self, workers: usize) -> Self {
        self.max_workers = workers.max(self.min_workers);
        self
    }
}

/// A listener and the workers that serve it: programs, or entries of this one, that use
/// [`worker::Server`](crate::worker::Server).
///
/// Workers that die are replaced, with a growing pause if they die at once; those that are worn (the spec's
/// `max_calls`, `max_age`, `soft_memory`) or rolled are replaced first and then asked to end after the
/// connection that they serve. Dropping the server kills all workers.
pub struct PreforkServer {
    inner: Arc<Inner>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    conductor: Mutex<Option<JoinHandle<()>>>,
}

struct Inner {
    supervisor: Supervisor,
    config: ServerConfig,
    listen: Listen,
    page: OwnedFd,
    scores: Arc<Arena>,
    /// What workers are, and which generation that is.
    spec: Mutex<(WorkerSpec, u64)>,
    /// Told when `spec` or the number of workers that are wanted has changed.
    changed: Notify,
    replaced: Notify,
    replacements: Semaphore,
    places: Mutex<Places>,
    /// True once no more connections are wanted.
    stopping: watch::Sender<bool>,
    pass: pass::Pass,
    idle: idle::Idle,
}

struct Places {
    /// The worker of each slot.
    members: Vec<Option<Arc<Member>>>,
    /// Those that have left their slots and not ended yet: serial number and generation.
    leaving: Vec<(u64, u64)>,
    /// Which parts of the scoreboard are in use.
    scores: Vec<bool>,
    deaths: Vec<Death>,
    /// How many slots are to be filled.
    wanted: usize,
}

/// What one worker does.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorkerStatus {
    /// Its process id.
    pub pid: i32,
    /// Which version it is; counted up by [`PreforkServer::roll`].
    pub generation: u64,
    /// Whether it waits or works.
    pub activity: Activity,
    /// How many connections it has finished; requests with [`Accept::PerRequest`].
    pub connections: u64,
}

/// How often the scoreboard is looked at.
const TICK: Duration = Duration::from_millis(50);

impl PreforkServer {
    /// Listens on a TCP address and starts workers. To be called within a runtime.
    ///
    /// # Errors
    ///
    /// If the address cannot be listened on or the supervising thread cannot be started. Workers that cannot
    /// be started are tried again; see [`ready`](PreforkServer::ready).
    pub fn tcp(address: SocketAddr, spec: WorkerSpec, config: ServerConfig) -> Result<Self, Error> {
        let listen = Listen::tcp(address, &config).map_err(|e| Error::system(Stage::Listen, e))?;
        Self::start(listen, spec, config)
    }

    /// As [`tcp`](PreforkServer::tcp), on a unix socket. A file that is already there is an error.
    ///
    /// # Errors
    ///
    /// As [`tcp`](PreforkServer::tcp).
    pub fn unix(path: impl AsRef<Path>, spec: WorkerSpec, config: ServerConfig) -> Result<Self, Error> {
        let listen = Listen::unix(path.as_ref(), &config).map_err(|e| Error::system(Stage::Listen, e))?;
        Self::start(listen, spec, config)
    }

    /// As [`tcp`](PreforkServer::tcp), on a socket that already listens, such as systemd hands over
    /// ([`systemd_sockets`](crate::systemd_sockets)).
    ///
    /// # Errors
    ///
    /// As [`tcp`](PreforkServer::tcp).
    pub fn listener(socket: OwnedFd, spec: WorkerSpec, config: ServerConfig) -> Result<Self, Error> {
        let listen = Listen::given(socket, &config).map_err(|e| Error::system(Stage::Listen, e))?;
        Self::start(listen, spec, config)
    }

    fn start(listen: Listen, spec: WorkerSpec, config: ServerConfig) -> Result<Self, Error> {
        if config.min_workers == 0 && config.accept == Accept::ReusePort {
            let why = "workers with a listener each cannot be started by a connection; use another `Accept`";
            return Err(Error::system(Stage::Listen, io::Error::other(why)));
        }
        // A worker and its replacement are there at the same time.
        let slots = config.max_workers.max(1) * 2 + 2;
        let (page, scores) = scoreboard(slots).map_err(|e| Error::system(Stage::Listen, e))?;
        let places = Places {
            members: vec![None; config.max_workers],
            leaving: Vec::new(),
            scores: vec![false; slots],
            deaths: Vec::new(),
            wanted: config.min_workers,
        };
        let inner = Arc::new(Inner {
            supervisor: Supervisor::start()?,
            replacements: Semaphore::new(config.max_unavailable.max(1)),
            listen,
            page,
            scores,
            spec: Mutex::new((spec, 1)),
            changed: Notify::new(),
            replaced: Notify::new(),
            places: Mutex::new(places),
            stopping: watch::Sender::new(false),
            pass: pass::Pass::default(),
            idle: idle::Idle::default(),
            config,
        });
        let mut tasks: Vec<_> =
            (0..inner.config.max_workers).map(|slot| tokio::spawn(keep(inner.clone(), slot))).collect();
        tasks.push(tokio::spawn(watch_load(inner.clone())));
        let conductor = Mutex::new(Some(tokio::spawn(pass::conduct(inner.clone()))));
        Ok(Self { inner, tasks: Mutex::new(tasks), conductor })
    }

    /// The TCP address that it listens on.
    pub fn address(&self) -> Option<SocketAddr> {
        self.inner.listen.address()
    }

    /// Waits until as many workers are ready as there are to be at least.
    pub async fn ready(&self) {
        self.when(|places| places.members.iter().flatten().count() >= self.inner.config.min_workers).await;
    }

    async fn when(&self, holds: impl Fn(&Places) -> bool) {
        loop {
            let mut replaced = pin!(self.inner.replaced.notified());
            replaced.as_mut().enable();
            if holds(&self.inner.places.lock()) {
                return;
            }
            replaced.await;
        }
    }

    /// Replaces all workers by workers of `spec`, each only after its successor is ready. Returns when all are
    /// replaced and no older one is left, which takes up to [`drain_timeout`](ServerConfig::drain_timeout);
    /// if new ones do not come up, the old ones go on working and this does not return. Dropping the future
    /// does not stop the replacement.
    pub async fn roll(&self, spec: WorkerSpec) {
        let generation = {
            let mut current = self.inner.spec.lock();
            *current = (spec, current.1 + 1);
            current.1
        };
        self.inner.changed.notify_waiters();
        self.when(|places| {
            let wanted = &places.members[..places.wanted];
            wanted.iter().all(|member| member.as_ref().is_some_and(|m| m.generation >= generation))
                && places.leaving.iter().all(|(_, leaving)| *leaving >= generation)
        })
        .await;
    }

    /// What all workers do, without disturbing them.
    pub fn scoreboard(&self) -> Vec<WorkerStatus> {
        let places = self.inner.places.lock();
        let status = |member: &Arc<Member>| WorkerStatus {
            pid: member.child.life.pid,
            generation: member.generation,
            activity: member.score.activity(),
            connections: member.score.calls(),
        };
        places.members.iter().flatten().map(status).collect()
    }

    /// How the workers ended that have ended so far, the last 1000.
    pub fn deaths(&self) -> Vec<Death> {
        self.inner.places.lock().deaths.clone()
    }

    /// Has every worker end after the connection that it serves, and waits for that. What is still in the
    /// listener's queue then is refused; what the master has accepted is served. Connections that wait for
    /// their next request are closed.
    pub async fn stop(&self) {
        let conductor = self.conductor.lock().take();
        if let Some(conductor) = conductor {
            conductor.abort();
            let _ = conductor.await;
        }
        let handed_over = pass::all_handed_over(&self.inner);
        let _ = tokio::time::timeout(self.inner.config.drain_timeout, handed_over).await;
        self.inner.stopping.send_replace(true);
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            let _ = task.await;
        }
    }
}

impl Drop for PreforkServer {
    fn drop(&mut self) {
        self.conductor.lock().iter().chain(self.tasks.lock().iter()).for_each(JoinHandle::abort);
        // Whoever still holds a member is one of the tasks, which end now. Dropped after the lock is released,
        // since a member gives its place on the scoreboard back.
        let members = std::mem::take(&mut self.inner.places.lock().members);
        drop(members);
    }
}

fn scoreboard(slots: usize) -> io::Result<(OwnedFd, Arc<Arena>)> {
    let page = fds::memory("poolyard-scoreboard", (slots * SCORE_SLOT).next_multiple_of(4096))?;
    let scores = Arc::new(Arena::map(page.try_clone()?)?);
    Ok((page, scores))
}

/// A worker that dies younger than this is followed by a pause.
const YOUNG: Duration = Duration::from_secs(1);
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(5));

/// Keeps one slot filled, as long as it is wanted.
async fn keep(inner: Arc<Inner>, slot: usize) {
    let mut stopping = inner.stopping.subscribe();
    let mut old: Option<Arc<Member>> = None;
    let mut pause = PAUSE.0;
    // Dropped with this task, which kills those that are still there.
    let mut drains = JoinSet::new();
    while !*stopping.borrow() {
        // One that waits for its replacement may die meanwhile.
        let dead = old.take_if(|old| old.child.life.death().is_some());
        if let Some((member, death)) = dead.and_then(|old| old.child.life.death().map(|death| (old, death))) {
            inner.buried(slot, &member, death);
        }
        if !inner.is_wanted(slot) {
            old = None;
            inner.retire(slot, &mut drains);
            inner.wait_until_wanted(slot, &stopping).await;
            continue;
        }
        let turn = if old.is_some() { inner.replacements.acquire().await.ok() } else { None };
        let (spec, generation) = inner.spec.lock().clone();
        let member = match Member::start(&inner, &spec, generation).await {
            Ok(member) => member,
            Err(error) => {
                tracing::warn!(%error, "poolyard: a worker of the server did not start");
                wait_or_stop(pause, &mut stopping).await;
                pause = (pause * 2).min(PAUSE.1);
                continue;
            }
        };
        old = None;
        inner.install(slot, member.clone(), &mut drains);
        drop(turn);
        let mut limits = Limits::new(&spec, member.serial);
        match inner.outcome(slot, &member, &mut limits, &mut stopping).await {
            Outcome::Died(death) => {
                inner.buried(slot, &member, death);
                if member.born.elapsed() < YOUNG {
                    wait_or_stop(pause, &mut stopping).await;
                    pause = (pause * 2).min(PAUSE.1);
                } else {
                    pause = PAUSE.0;
                }
            }
            Outcome::Replace => old = Some(member),
        }
        while drains.try_join_next().is_some() {}
    }
    inner.retire(slot, &mut drains);
    while drains.join_next().await.is_some() {}
}

async fn wait_or_stop(pause: Duration, stopping: &mut watch::Receiver<bool>) {
    let _ = tokio::time::timeout(pause, stopping.wait_for(|stop| *stop)).await;
}

enum Outcome {
    Died(Death),
    Replace,
}

/// When a worker is worn, its own part of the spread taken off.
struct Limits {
    connections: Option<u64>,
    age: Option<Duration>,
    memory: Option<Scale>,
}

impl Limits {
    fn new(spec: &WorkerSpec, serial: u64) -> Self {
        let part = crate::worker_process::spread(spec.spread, serial);
        Self {
            connections: spec.max_calls.map(|calls| calls - (calls as f64 * part) as u64),
            age: spec.max_age.map(|age| age.mul_f64(1.0 - part)),
            memory: spec.scale(spec.soft_memory),
        }
    }

    fn reached(&mut self, member: &Member) -> bool {
        self.connections.is_some_and(|max| member.score.calls() >= max)
            || self.age.is_some_and(|max| member.born.elapsed() >= max)
            || self.memory.as_mut().is_some_and(|scale| scale.exceeded(member.child.life.pid))
    }
}

impl Inner {
    fn is_wanted(&self, slot: usize) -> bool {
        slot < self.places.lock().wanted
    }

    async fn wait_until_wanted(&self, slot: usize, stopping: &watch::Receiver<bool>) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.is_wanted(slot) || *stopping.borrow() {
                return;
            }
            let _ = tokio::time::timeout(TICK, changed).await;
        }
    }

    fn install(self: &Arc<Self>, slot: usize, member: Arc<Member>, drains: &mut JoinSet<()>) {
        self.let_go(slot, Some(member), drains);
        self.replaced.notify_waiters();
        pass::pump(self);
    }

    fn retire(self: &Arc<Self>, slot: usize, drains: &mut JoinSet<()>) {
        self.let_go(slot, None, drains);
    }

    /// Puts a worker or none into a slot, and lets the one before end.
    fn let_go(self: &Arc<Self>, slot: usize, next: Option<Arc<Member>>, drains: &mut JoinSet<()>) {
        let before = {
            let mut places = self.places.lock();
            let before = std::mem::replace(&mut places.members[slot], next);
            places.leaving.extend(before.iter().map(|member| (member.serial, member.generation)));
            before
        };
        if let Some(member) = before {
            drains.spawn(self.clone().see_off(member));
        }
    }

    async fn see_off(self: Arc<Self>, member: Arc<Member>) {
        let serial = member.serial;
        member.drain(self.config.drain_timeout).await;
        self.places.lock().leaving.retain(|(leaving, _)| *leaving != serial);
        self.replaced.notify_waiters();
    }

    fn buried(self: &Arc<Self>, slot: usize, member: &Arc<Member>, death: Death) {
        tracing::warn!(pid = member.child.life.pid, %death, "poolyard: a worker of the server ended");
        {
            let mut places = self.places.lock();
            if places.deaths.len() >= 1000 {
                places.deaths.remove(0);
            }
            places.deaths.push(death);
            let place = places.members.get_mut(slot);
            if let Some(place) = place.filter(|place| place.as_ref().is_some_and(|m| Arc::ptr_eq(m, member)))
            {
                *place = None;
            }
        }
        self.replaced.notify_waiters();
        pass::requeue(self, member);
    }

    /// Waits until a worker has ended or is to be replaced.
    async fn outcome(
        &self,
        slot: usize,
        member: &Member,
        limits: &mut Limits,
        stopping: &mut watch::Receiver<bool>,
    ) -> Outcome {
        let mut died = pin!(member.child.life.died());
        loop {
            let rolled = self.spec.lock().1 > member.generation;
            if rolled || *stopping.borrow() || !self.is_wanted(slot) || limits.reached(member) {
                return Outcome::Replace;
            }
            let mut news = pin!(self.changed.notified());
            let mut stop = pin!(stopping.changed());
            let tick = tokio::time::timeout(
                TICK,
                std::future::poll_fn(|cx| {
                    use std::task::Poll;
                    if let Poll::Ready(death) = died.as_mut().poll(cx) {
                        return Poll::Ready(Some(death));
                    }
                    let woken = news.as_mut().poll(cx).is_ready() || stop.as_mut().poll(cx).is_ready();
                    if woken { Poll::Ready(None) } else { Poll::Pending }
                }),
            );
            if let Ok(Some(death)) = tick.await {
                return Outcome::Died(death);
            }
        }
    }
}

/// More workers while all are busy, fewer when half of them have been idle for a while.
async fn watch_load(inner: Arc<Inner>) {
    let (min, max) = (inner.config.min_workers, inner.config.max_workers);
    let mut stopping = inner.stopping.subscribe();
    let mut busy_at = Instant::now();
    while min < max && !*stopping.borrow() {
        if inner.places.lock().wanted == 0 {
            let somebody = pass::wanted(&inner);
            // Looks up now and then to see whether this is over.
            if !matches!(tokio::time::timeout(TICK, somebody).await, Ok(Ok(()))) {
                continue;
            }
            busy_at = Instant::now();
            inner.want(1);
        }
        wait_or_stop(TICK, &mut stopping).await;
        let (wanted, there, idle) = inner.count();
        if idle * 2 < there.max(1) {
            busy_at = Instant::now();
        }
        if idle == 0 && there >= wanted && wanted < max {
            inner.want(wanted + 1);
        } else if wanted > min && busy_at.elapsed() >= inner.config.calm {
            inner.want(wanted - 1);
            busy_at = Instant::now();
        }
    }
}

impl Inner {
    /// How many workers are wanted, are there, and are idle.
    fn count(&self) -> (usize, usize, usize) {
        let places = self.places.lock();
        let members = places.members.iter().flatten();
        let idle = members.clone().filter(|member| member.score.activity() == Activity::Idle).count();
        (places.wanted, members.count(), idle)
    }

    fn want(&self, workers: usize) {
        self.places.lock().wanted = workers;
        self.changed.notify_waiters();
    }
}
