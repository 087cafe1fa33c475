//! A pool's part, played by hand.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use poolyard_core::{Context, GoneSink, Manager, ResourceId};
use poolyard_process::{
    Deadline, Frames, ProcessManager, Protocol, Spawner, Transport, Worker, WorkerKey, WorkerSpec,
};

use crate::puppet;

/// Remembers which resources were reported gone, and why.
#[derive(Default)]
pub(crate) struct Sink(pub(crate) Mutex<Vec<(ResourceId, String)>>);

impl GoneSink for Sink {
    fn gone(&self, id: ResourceId, cause: Cow<'static, str>) {
        self.0.lock().expect("no poison").push((id, cause.into_owned()));
    }
}

pub(crate) fn context(sink: &Arc<Sink>) -> Context {
    let sink: Weak<Sink> = Arc::downgrade(sink);
    Context::standalone(ResourceId::standalone(7), Duration::from_secs(20), sink)
}

/// This program as a command worker of the given role.
pub(crate) fn role(name: &str) -> WorkerSpec {
    let exe = std::env::current_exe().expect("this program has a file");
    WorkerSpec::command(exe).env(puppet::ROLE, name)
}

/// Every way in which a puppet can be started.
pub(crate) fn ways() -> [(&'static str, WorkerSpec); 4] {
    let direct = role("frames").spawner(Spawner::Direct).env("PUPPET_WAY", "direct");
    [
        ("direct command", direct.clone()),
        ("command through the zygote", role("frames").spawner(Spawner::Zygote)),
        ("entry", WorkerSpec::entry("puppet")),
        ("direct command over sockets", direct.transport(Transport::Socket)),
    ]
}

pub(crate) struct Bench<P: Protocol = Frames> {
    pub(crate) manager: ProcessManager<P>,
    pub(crate) sink: Arc<Sink>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(Frames::default())
    }
}

impl<P: Protocol> Bench<P> {
    pub(crate) fn with(protocol: P) -> Self {
        let manager = ProcessManager::with_protocol(protocol).expect("a supervisor");
        Self { manager, sink: Arc::default() }
    }

    pub(crate) fn context(&self) -> Context {
        context(&self.sink)
    }

    pub(crate) async fn try_worker(&self, spec: WorkerSpec) -> Result<Worker<P>, poolyard_process::Error> {
        self.manager.create(&spec.key(), &self.context()).await
    }

    pub(crate) async fn worker(&self, spec: WorkerSpec) -> Worker<P> {
        match self.try_worker(spec).await {
            Ok(worker) => worker,
            Err(error) => panic!("no worker: {error}: {:?}", std::error::Error::source(&error)),
        }
    }

    pub(crate) async fn reported(&self) -> String {
        eventually("a report of the death", || {
            self.sink.0.lock().expect("no poison").first().map(|(_, cause)| cause.clone())
        })
        .await
    }
}

pub(crate) fn key(spec: &WorkerSpec) -> WorkerKey {
    spec.clone().key()
}

pub(crate) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

/// Looks until there is something to see.
pub(crate) async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{what} did not come");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub(crate) fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Whether anything is left of a process, a zombie included.
pub(crate) fn exists(pid: i32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

pub(crate) async fn gone(pid: i32) {
    eventually("the end of a process", || (!exists(pid)).then_some(())).await;
}

pub(crate) fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("text")
}

/// Skips a test by what it needs and says why, or fails where `POOLYARD_REQUIRE` names it.
pub(crate) fn skip<T>(name: &str, why: &str) -> Option<T> {
    let required = std::env::var("POOLYARD_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|wanted| wanted == name), "{name} is required: {why}");
    eprintln!("skipped: {why}");
    None
}

/// Whether a program is there; otherwise the test is skipped.
pub(crate) fn installed(name: &str, program: &str) -> bool {
    let found = std::process::Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    let found = found.is_ok_and(|output| output.status.success());
    found || skip(name, &format!("{program} is not installed")).unwrap_or(false)
}
