//! [`Container`]: the pooled resource.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use poolyard_exec::{Command, Exec, Support};
use tokio::sync::watch;

use crate::agent::Link;
use crate::engine::events::Lifeline;
use crate::engine::types::ImageConfig;
use crate::engine::{Engine, Stdio};
use crate::error::{Error, ErrorKind, Stage};
use crate::logs::Logs;
use crate::reset::Baseline;
use crate::run_dir::RunDir;
use crate::shop::Shop;
use crate::spec::ContainerSpec;
use crate::stats::{self, Stats};

/// A running container.
///
/// Run commands in it with [`Exec`], reach its ports with [`addr`](Container::addr). Dropping it
/// removes it.
pub struct Container {
    pub(crate) shop: Arc<Shop>,
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) spec: ContainerSpec,
    pub(crate) image: ImageConfig,
    pub(crate) ports: Vec<(u16, &'static str, SocketAddr)>,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) main: Main,
    pub(crate) lifeline: Arc<Lifeline>,
    pub(crate) logs: Arc<Logs>,
    pub(crate) support: Support,
    pub(crate) baseline: Baseline,
    pub(crate) resets: AtomicU64,
    pub(crate) poisoned: AtomicBool,
    pub(crate) service_exit: watch::Receiver<Option<i32>>,
    /// Whether its end is already under way.
    pub(crate) removed: bool,
}

/// Process 1 of a container.
pub(crate) enum Main {
    Agent {
        link: Link,
        /// Kept for the socket of a restart, and removed with the container.
        dir: RunDir,
    },
    /// The image's own; it sees the end of its input when we go.
    Own { _stdio: Arc<tokio::sync::Mutex<Option<Stdio>>> },
}

/// What a program that the engine ran left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineOutput {
    /// Its exit code. Docker says 126 for a program that could not be started, as that program
    /// itself might.
    pub code: i64,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
}

impl Container {
    /// The engine's id of it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its name when it was made; the engine may show another, since the name carries its lease.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it was made of.
    pub fn spec(&self) -> &ContainerSpec {
        &self.spec
    }

    /// Where a published TCP port of the container is reached from the host.
    pub fn addr(&self, port: u16) -> Option<SocketAddr> {
        self.published(port, "tcp")
    }

    /// Where a published UDP port of the container is reached from the host.
    pub fn udp_addr(&self, port: u16) -> Option<SocketAddr> {
        self.published(port, "udp")
    }

    fn published(&self, port: u16, protocol: &str) -> Option<SocketAddr> {
        self.ports.iter().find(|p| p.0 == port && p.1 == protocol).map(|p| p.2)
    }

    /// Its own address in its network, if it has one.
    pub fn ip(&self) -> Option<IpAddr> {
        self.ip
    }

    /// The last lines that its service wrote, oldest first.
    pub fn last_lines(&self, count: usize) -> Vec<String> {
        self.logs.last(count)
    }

    /// Sees to it that nobody gets this container after its present user. A
    /// [hook](crate::Reset::Hook) may call it as well.
    pub fn poison(&self) {
        self.poisoned.store(true, Ordering::Relaxed);
    }

    /// Whether it is known to have ended.
    pub fn is_dead(&self) -> bool {
        self.lifeline.now().ended.is_some() || self.link().is_some_and(Link::is_closed)
    }

    /// What it uses at the moment, from its own control groups: 0.1 ms, where the engine's
    /// statistics take a second.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] without an agent; [`ErrorKind::Missing`] if it has died.
    pub async fn stats(&self) -> Result<Stats, Error> {
        stats::read(self.agent_link(Stage::Stats)?).await
    }

    /// Reads a whole file of at most `max` bytes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::File`] with the error number; a file that is longer is `EFBIG`.
    pub async fn read_file(&self, path: &str, max: u64) -> Result<Vec<u8>, Error> {
        let content = self.agent_link(Stage::Files)?.read_file(path.as_bytes(), max).await?;
        match content.truncated {
            false => Ok(content.bytes),
            true => {
                let message = format!("{path} is longer than {max} bytes");
                Err(Error::new(Stage::Files, ErrorKind::File(libc::EFBIG), message))
            }
        }
    }

    /// Writes a whole file with these permission bits, owned by the specification's user. Missing
    /// directories above it are made.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::File`] with the error number.
    pub async fn write_file(&self, path: &str, bytes: &[u8], mode: u32) -> Result<(), Error> {
        let link = self.agent_link(Stage::Files)?;
        link.write_file(path.as_bytes(), bytes, mode, self.user()).await
    }

    /// Runs a program through the engine: for containers without an agent. Slow (tens of
    /// milliseconds), and a dropped future leaves the program running.
    ///
    /// # Errors
    ///
    /// What the engine says; [`ErrorKind::Conflict`] if the container is paused or has ended.
    pub async fn engine_exec(&self, argv: &[&str], stdin: &[u8]) -> Result<EngineOutput, Error> {
        let engine = self.engine();
        let config = serde_json::json!({
            "AttachStdin": !stdin.is_empty(), "AttachStdout": true, "AttachStderr": true,
            "Cmd": argv, "User": self.user(), "WorkingDir": self.spec.work_dir,
        });
        let exec = engine.exec_create(&self.id, &config).await?;
        let mut stdio = engine.exec_start(&exec, false).await?;
        let broken = |e: std::io::Error| {
            Error::new(Stage::Exec, ErrorKind::Unreachable, "the engine broke the stream off").with_source(e)
        };
        if !stdin.is_empty() {
            stdio.write_and_end(stdin).await.map_err(broken)?;
        }
        let mut output = EngineOutput::default();
        while let Some((stream, piece)) = stdio.reader.next().await.map_err(broken)? {
            let to = if stream == 2 { &mut output.stderr } else { &mut output.stdout };
            to.extend_from_slice(&piece);
        }
        Ok(EngineOutput { code: engine.exec_end(&exec).await?, ..output })
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.shop.engine
    }

    pub(crate) fn lifeline(&self) -> &Lifeline {
        &self.lifeline
    }

    pub(crate) fn logs(&self) -> &Logs {
        &self.logs
    }

    pub(crate) fn link(&self) -> Option<&Link> {
        match &self.main {
            Main::Agent { link, .. } => Some(link),
            Main::Own { .. } => None,
        }
    }

    pub(crate) fn agent_link(&self, stage: Stage) -> Result<&Link, Error> {
        let message = "this needs the resident agent; make the container with it";
        self.link().ok_or_else(|| Error::new(stage, ErrorKind::Unsupported, message))
    }

    /// Who programs run as.
    pub(crate) fn user(&self) -> &str {
        self.spec.user.as_deref().unwrap_or(&self.image.user)
    }

    /// Whether a command ends with 0.
    pub(crate) async fn succeeds(&self, argv: &[String]) -> Result<bool, Error> {
        if self.link().is_none() {
            let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
            return Ok(self.engine_exec(&argv, b"").await?.code == 0);
        }
        let Some((program, arguments)) = argv.split_first() else { return Ok(true) };
        let command = Command::new(program).args(arguments).inherit_env();
        match self.exec(&command).await {
            Ok(outcome) => Ok(outcome.success()),
            Err(e) if e.leaves_usable() => Ok(false),
            Err(e) => {
                let message = "the container cannot run commands any more";
                Err(Error::new(Stage::Exec, ErrorKind::Missing, message).with_source(e))
            }
        }
    }

    /// The exit code of its program, once it has ended.
    pub(crate) async fn service_exit(&self) -> Option<i32> {
        let mut exit = self.service_exit.clone();
        let code = exit.wait_for(Option::is_some).await.ok()?;
        *code
    }

    /// How it died, as an error.
    pub(crate) async fn crashed(&self, stage: Stage) -> Error {
        let crash = self.lifeline.crash().await;
        Error::crashed(stage, crate::error::Crash { last_lines: self.logs.last(50), ..crash })
    }

    /// Ends it at once, as far as that needs no waiting. The engine removes what is left.
    pub(crate) fn end(&mut self) {
        self.lifeline.retire();
        self.shop.watch.forget(&self.id);
        if let Some(link) = self.link() {
            link.quit();
        }
    }

    /// After a restart: the new agent's connection.
    pub(crate) fn set_link(&mut self, new: Link) {
        if let Main::Agent { link, .. } = &mut self.main {
            *link = new;
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if self.removed {
            return;
        }
        self.end();
        self.shop.remove_later(std::mem::take(&mut self.id));
    }
}

impl std::fmt::Debug for Container {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Container")
            .field("name", &self.name)
            .field("image", &self.spec.image)
            .field("ports", &self.ports)
            .finish_non_exhaustive()
    }
}
