//! What happens to our containers, as the engine tells it: one stream per engine and owner.
//!
//! When the stream breaks it is opened again from where it broke, and what may have been missed is
//! made up for by a listing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use poolyard_core::Gone;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::http::{Body, escape};
use super::types::Event;
use super::{Engine, INSPECT};
use crate::error::{Crash, Error, Stage};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long the engine may take to tell of a restart that it has done.
const RESTART: Duration = Duration::from_secs(5);

/// What is known of a container's life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) oom: bool,
    /// It has ended; the exit code where the engine told it.
    pub(crate) ended: Option<Option<i64>>,
    /// What its health check last said.
    pub(crate) health: Option<String>,
    /// How often the engine said that it was started.
    starts: u64,
}

/// One container's life, and who must hear of its end.
pub(crate) struct Lifeline {
    state: watch::Sender<Life>,
    /// `None` before it is anybody's, and once we end it ourselves: then its end is nobody's news.
    gone: Mutex<Option<Gone>>,
    /// How often we started it. Changed under the lock of `gone`.
    starts: AtomicU64,
}

impl Lifeline {
    pub(crate) fn new() -> Arc<Lifeline> {
        let (state, gone) = (watch::Sender::new(Life::default()), Mutex::new(None));
        Arc::new(Lifeline { state, gone, starts: AtomicU64::new(1) })
    }

    /// From here on somebody wants to hear of its end; at once, if that has been already.
    pub(crate) fn tell(&self, gone: Gone) {
        let mut slot = self.gone.lock();
        match self.state.borrow().ended {
            Some(_) => gone.report("it died as soon as it was ready"),
            None => *slot = Some(gone),
        }
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Life> {
        self.state.subscribe()
    }

    /// Waits for its end.
    pub(crate) async fn death(&self) {
        let mut life = self.watch();
        // We hold the sender; the guard must not be held across anything.
        drop(life.wait_for(|l| l.ended.is_some()).await);
    }

    pub(crate) fn now(&self) -> Life {
        self.state.borrow().clone()
    }

    /// From here on its end is expected.
    pub(crate) fn retire(&self) {
        self.gone.lock().take();
    }

    /// After a restart by ourselves: it lives again, once the engine has told of its end and its start.
    /// Either would otherwise be taken for news about its new life.
    pub(crate) async fn revive(&self) {
        let wanted = self.starts.load(Ordering::Relaxed) + 1;
        let mut life = self.watch();
        let told = life.wait_for(|life| life.starts >= wanted);
        // A stream that broke off meanwhile does not tell.
        drop(tokio::time::timeout(RESTART, told).await);
        let slot = self.gone.lock();
        self.starts.store(wanted, Ordering::Relaxed);
        self.state.send_replace(Life { starts: wanted, ..Life::default() });
        drop(slot);
    }

    /// Which of its lives this is.
    pub(crate) fn generation(&self) -> u64 {
        self.starts.load(Ordering::Relaxed)
    }

    /// Its agent hung up, in this one of its lives.
    pub(crate) fn hung_up(&self, generation: u64) {
        let slot = self.gone.lock();
        if generation == self.generation() {
            self.end_with(slot, None, "its container has died");
        }
    }

    pub(crate) fn ended(&self, exit_code: Option<i64>, cause: &str) {
        self.end_with(self.gone.lock(), exit_code, cause);
    }

    fn end_with(&self, mut slot: MutexGuard<'_, Option<Gone>>, exit_code: Option<i64>, cause: &str) {
        self.state.send_modify(|life| {
            let known = life.ended.flatten();
            life.ended = Some(exit_code.or(known));
        });
        let gone = slot.take();
        drop(slot);
        if let Some(gone) = gone {
            gone.report(cause.to_owned());
        }
    }

    /// The agent says that the container's program has ended, and is about to end itself.
    pub(crate) fn service_ended(&self, code: i32, oom: bool) {
        self.state.send_modify(|life| life.oom |= oom);
        self.ended(Some(code.into()), &format!("its program exited with {code}"));
    }

    /// How it died, waiting a little for the engine to say what the agent's silence does not.
    pub(crate) async fn crash(&self) -> Crash {
        let mut life = self.watch();
        let told = life.wait_for(|l| matches!(l.ended, Some(Some(_))));
        let _ = tokio::time::timeout(Duration::from_secs(3), told).await;
        let life = self.now();
        Crash { exit_code: life.ended.flatten(), oom: life.oom, last_lines: Vec::new() }
    }

    fn apply(&self, event: &Event) {
        let attribute = |name: &str| event.actor.attributes.get(name).and_then(|v| v.parse().ok());
        match event.action.split(':').next().unwrap_or_default() {
            "start" => self.state.send_modify(|life| life.starts += 1),
            "oom" => self.state.send_modify(|life| life.oom = true),
            "die" | "died" => {
                let code = attribute("exitCode").or(attribute("containerExitCode"));
                let oom = if self.now().oom { ", out of memory" } else { "" };
                let code_text = code.map_or("unknown".into(), |c: i64| c.to_string());
                self.ended(code, &format!("its container exited with {code_text}{oom}"));
            }
            "destroy" | "remove" => self.ended(None, "its container was removed"),
            "health_status" => {
                let status = event.action.split(':').nth(1).unwrap_or_default().trim();
                let told = event.actor.attributes.get("health_status").map(String::as_str);
                let status = told.filter(|_| status.is_empty()).unwrap_or(status).to_owned();
                self.state.send_modify(|life| life.health = Some(status));
            }
            _ => {}
        }
    }
}

type Register = Mutex<HashMap<String, Arc<Lifeline>>>;

/// Follows the events of one owner's containers.
pub(crate) struct Watch {
    register: Arc<Register>,
    /// The task that follows, while there is something to follow; it may end with its runtime.
    follower: Mutex<Option<JoinHandle<()>>>,
    /// Held by whoever starts one.
    starting: tokio::sync::Mutex<()>,
}

impl Watch {
    pub(crate) fn new() -> Watch {
        Watch {
            register: Arc::default(),
            follower: Mutex::default(),
            starting: tokio::sync::Mutex::default(),
        }
    }

    /// Starts following, on the runtime of the caller, unless somebody does. Called after a container
    /// was added: once it returns nothing about that one is missed.
    pub(crate) async fn start(&self, engine: &Arc<Engine>, label: &str) -> Result<(), Error> {
        let _alone = self.starting.lock().await;
        if self.follower.lock().as_ref().is_some_and(|task| !task.is_finished()) {
            return Ok(());
        }
        let follower = Follower {
            engine: Arc::downgrade(engine),
            register: Arc::downgrade(&self.register),
            label: label.to_owned(),
            last_ns: 0,
        };
        let stream = follower.resume(engine).await?;
        *self.follower.lock() = Some(tokio::spawn(follower.run(stream)));
        Ok(())
    }

    pub(crate) fn stop(&mut self) {
        if let Some(task) = self.follower.get_mut().take() {
            task.abort();
        }
    }

    pub(crate) fn add(&self, id: &str, lifeline: &Arc<Lifeline>) {
        self.register.lock().insert(id.to_owned(), lifeline.clone());
    }

    /// The last one that is forgotten ends the following: a manager without containers holds no
    /// connection.
    pub(crate) fn forget(&self, id: &str) {
        let mut register = self.register.lock();
        register.remove(id);
        if register.is_empty()
            && let Some(task) = self.follower.lock().take()
        {
            task.abort();
        }
    }

    /// Names of all containers that are followed.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.register.lock().keys().cloned().collect()
    }
}

async fn open(engine: &Engine, label: &str, since_ns: i64) -> Result<Body, Error> {
    let filters = serde_json::json!({ "type": ["container"], "label": [label] }).to_string();
    let mut path = format!("/events?filters={}", escape(&filters));
    if since_ns > 0 {
        path += &format!("&since={}.{:09}", since_ns / 1_000_000_000, since_ns % 1_000_000_000);
    }
    engine.http.stream(Stage::Inspect, &path, INSPECT).await
}

struct Follower {
    engine: Weak<Engine>,
    register: Weak<Register>,
    label: String,
    last_ns: i64,
}

impl Follower {
    /// Until the manager is gone.
    async fn run(mut self, first: Body) {
        let mut stream = Some(first);
        let mut pause = FIRST_PAUSE;
        loop {
            if let Some(stream) = stream.take() {
                self.read(stream).await;
                tracing::warn!(label = self.label, "the engine's event stream broke off");
            }
            let Some(engine) = self.engine.upgrade() else { return };
            match self.resume(&engine).await {
                Ok(next) => {
                    stream = Some(next);
                    pause = FIRST_PAUSE;
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot follow the engine's events yet");
                    drop(engine);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    async fn resume(&self, engine: &Engine) -> Result<Body, Error> {
        let stream = open(engine, &self.label, self.last_ns).await?;
        self.reconcile(engine).await?;
        Ok(stream)
    }

    /// Ends what the engine does not list as running: its end may have been missed.
    async fn reconcile(&self, engine: &Engine) -> Result<(), Error> {
        let Some(register) = self.register.upgrade() else { return Ok(()) };
        // Before the listing, so that it cannot lack one that was made after it.
        let known: Vec<_> = register.lock().iter().map(|(id, line)| (id.clone(), line.clone())).collect();
        let listed = engine.list(&self.label).await?;
        for (id, lifeline) in known {
            let state = listed.iter().find(|l| l.id == id).map(|l| l.state.as_str());
            if !matches!(state, Some("running" | "paused" | "created" | "restarting")) {
                lifeline.ended(None, "its container ended while the engine was away");
            }
        }
        Ok(())
    }

    async fn read(&mut self, mut stream: Body) {
        let mut buffer = Vec::new();
        loop {
            let Some(piece) = stream.next().await else { return };
            buffer.extend_from_slice(&piece);
            while let Some(end) = buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = buffer.drain(..=end).collect();
                if let Ok(event) = serde_json::from_slice::<Event>(&line) {
                    self.apply(&event);
                }
            }
        }
    }

    fn apply(&mut self, event: &Event) {
        self.last_ns = self.last_ns.max(event.time_nano);
        let Some(register) = self.register.upgrade() else { return };
        let lifeline = register.lock().get(&event.actor.id).cloned();
        if let Some(lifeline) = lifeline {
            tracing::debug!(container = event.actor.id, action = event.action, "event");
            lifeline.apply(event);
        }
    }
}
