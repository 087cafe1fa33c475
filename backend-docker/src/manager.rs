//! [`DockerManager`]: containers for a pool.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use poolyard_core::{Context, Manager, Meta, Reason, Reuse};

use crate::container::Container;
use crate::engine::{Address, Engine};
use crate::error::{Error, ErrorKind, Stage};
use crate::make;
use crate::reap::{self, Reaped};
use crate::reset::{self, Reset};
use crate::run_dir::RunDirs;
use crate::shop::{Counts, Shop};
use crate::spec::ContainerSpec;

/// How often a creation is tried again that failed for a passing reason.
const ATTEMPTS: u32 = 3;

/// Makes, cleans, checks and removes the containers of a pool. The pool's key is a
/// [`ContainerSpec`].
///
/// Cloning gives the same manager. Nothing is asked of the engine before the first container.
#[derive(Clone)]
pub struct DockerManager {
    shop: Arc<Shop>,
}

/// How a [`DockerManager`] is made.
#[derive(Clone, Debug, Default)]
pub struct DockerBuilder {
    host: Option<String>,
    run_dir: Option<PathBuf>,
}

/// What a manager has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Numbers {
    /// Containers made.
    pub created: u64,
    /// Containers cleaned for a next user.
    pub resets_clean: u64,
    /// Containers thrown away because they could not be proven clean.
    pub resets_dirty: u64,
    /// Containers, networks and volumes of dead owners removed.
    pub reaped: u64,
}

impl DockerBuilder {
    /// The engine's address, `unix:///path` or `tcp://host:port`; by default what `DOCKER_HOST` says,
    /// or else the first of the usual sockets of Docker and Podman that exists.
    pub fn host(mut self, address: impl Into<String>) -> Self {
        self.host = Some(address.into());
        self
    }

    /// Where directories for the resident agents are made: short, on a file system whose programs
    /// may be executed, and seen by the engine under the same path. By default
    /// `/tmp/poolyard-docker-<uid>`.
    pub fn run_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.run_dir = Some(path.into());
        self
    }

    /// Makes the manager.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unreachable`] if there is no socket; [`ErrorKind::BadSpec`] if the address is none.
    pub fn build(self) -> Result<DockerManager, Error> {
        let address = match &self.host {
            Some(host) => Address::parse(host)?,
            None => Address::from_environment()?,
        };
        let run_dir = self.run_dir.unwrap_or_else(RunDirs::default_base);
        Ok(DockerManager { shop: Shop::new(Engine::new(address)?, run_dir) })
    }
}

impl DockerManager {
    /// For the engine of this machine. See [`DockerBuilder::host`].
    ///
    /// # Errors
    ///
    /// As [`DockerBuilder::build`].
    pub fn local() -> Result<Self, Error> {
        Self::builder().build()
    }

    /// For another engine, or with other settings.
    pub fn builder() -> DockerBuilder {
        DockerBuilder::default()
    }

    /// Whether the engine answers.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unreachable`] or [`ErrorKind::Timeout`].
    pub async fn ping(&self) -> Result<(), Error> {
        self.shop.engine.ping().await
    }

    /// Removes what dead owners left on the engine. A manager does this by itself, with its first
    /// container and once a minute.
    ///
    /// # Errors
    ///
    /// If the engine cannot be asked. What could not be removed is in the result.
    pub async fn reap(&self) -> Result<Reaped, Error> {
        reap::sweep(&self.shop.engine).await
    }

    /// Makes an image of a root file system in a tar archive, with changes in the words of a
    /// Dockerfile (`ENV PATH=/bin`).
    ///
    /// # Errors
    ///
    /// What the engine says.
    pub async fn import_image(&self, name: &str, tar: Vec<u8>, changes: &[&str]) -> Result<(), Error> {
        self.shop.engine.import(name, tar, changes).await
    }

    /// Removes an image's name, and the image with its last name.
    ///
    /// # Errors
    ///
    /// What the engine says: there is none of that name, or a container is made of it.
    pub async fn remove_image(&self, name: &str) -> Result<(), Error> {
        self.shop.engine.remove_image(name).await
    }

    /// What it has done so far.
    pub fn numbers(&self) -> Numbers {
        let counts = &self.shop.counts;
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        Numbers {
            created: read(&counts.created),
            resets_clean: read(&counts.resets_clean),
            resets_dirty: read(&counts.resets_dirty),
            reaped: read(&counts.reaped),
        }
    }

    /// Containers that could not be removed so far, each with the reason. They are tried again when
    /// they are dropped, and swept when this process has ended.
    pub fn not_removed(&self) -> Vec<String> {
        self.shop.failures()
    }

    async fn clean(&self, container: &mut Container, cx: &Context) -> Result<(), Error> {
        let spec = container.spec.clone();
        match &spec.reset {
            Reset::Never => Err(Error::new(Stage::Reset, ErrorKind::Unsupported, "it is for one use")),
            Reset::Recreate => self.replace(container, cx).await,
            Reset::Wipe => {
                let nth = container.resets.fetch_add(1, Ordering::Relaxed) + 1;
                reset::wipe(container, &container.baseline, nth).await
            }
            Reset::Hook(check) => {
                reset::hook(container, check).await?;
                match container.poisoned.load(Ordering::Relaxed) {
                    true => Err(Error::new(Stage::Reset, ErrorKind::Dirty, "its hook would not keep it")),
                    false => Ok(()),
                }
            }
            Reset::Restart => match restart(container, cx).await {
                // Podman at times takes this end for the last one.
                Err(_) if is_removed(container).await => self.replace(container, cx).await,
                result => result,
            },
        }
    }

    /// Makes the new container before the old one goes, so that a failure costs nothing.
    async fn replace(&self, container: &mut Container, cx: &Context) -> Result<(), Error> {
        let new = make::container(&self.shop, &container.spec.clone(), cx.gone()).await?;
        drop(std::mem::replace(container, new));
        Ok(())
    }
}

async fn is_removed(container: &Container) -> bool {
    let found = container.engine().inspect(&container.id).await;
    found.is_err_and(|error| *error.kind() == ErrorKind::Missing)
}

/// The engine's restart. The agent calls again, at a fresh socket.
async fn restart(container: &mut Container, cx: &Context) -> Result<(), Error> {
    container.lifeline.retire();
    let deadline = Instant::now() + container.spec.start_timeout;
    let listener = make::run_dir(container).map(|dir| dir.listen()).transpose().map_err(|e| {
        Error::new(Stage::Reset, ErrorKind::Capacity, "cannot listen for the agent").with_source(e)
    })?;
    container.engine().restart(&container.id).await?;
    container.lifeline.revive().await;
    if let Some(listener) = listener {
        let link = make::accept(&container.lifeline, listener).await?;
        container.set_link(link);
    }
    make::prepare(container, deadline).await?;
    container.lifeline.tell(cx.gone());
    Ok(())
}

impl Manager for DockerManager {
    type Key = ContainerSpec;
    type Resource = Container;
    type Error = Error;

    async fn create(&self, spec: &ContainerSpec, cx: &Context) -> Result<Container, Error> {
        let container = make::container(&self.shop, spec, cx.gone()).await?;
        tracing::debug!(container = container.name, image = spec.image, "container ready");
        Ok(container)
    }

    async fn recycle(&self, _: &ContainerSpec, container: &mut Container, cx: &Context) -> Result<(), Error> {
        let result = self.clean(container, cx).await;
        let counts = &self.shop.counts;
        match &result {
            Ok(()) => Counts::add(&counts.resets_clean, 1),
            Err(error) => {
                Counts::add(&counts.resets_dirty, 1);
                tracing::warn!(container = container.name, %error, "thrown away: not proven clean");
            }
        }
        result
    }

    async fn health_check(
        &self,
        spec: &ContainerSpec,
        container: &mut Container,
        _: &Context,
    ) -> Result<(), Error> {
        match container.link() {
            Some(link) => link.ping().await?,
            None => running(container).await?,
        }
        match &spec.health {
            Some(argv) if !container.succeeds(argv).await? => {
                let message = format!("its health command {argv:?} failed");
                Err(Error::new(Stage::Ready, ErrorKind::NotReady, message))
            }
            _ => Ok(()),
        }
    }

    async fn destroy(&self, _: &ContainerSpec, container: &mut Container, reason: Reason, _: &Context) {
        tracing::debug!(container = container.name, %reason, "removing container");
        container.end();
        // If it is not, the drop tries again.
        container.removed = self.shop.remove(&container.id).await;
    }

    fn reuse(&self, spec: &ContainerSpec, container: &mut Container, _: &Meta) -> Reuse {
        let wanted = spec.reset != Reset::Never && !container.poisoned.load(Ordering::Relaxed);
        if wanted && !container.is_dead() { Reuse::Recycle } else { Reuse::Broken }
    }

    fn cost(&self, spec: &ContainerSpec) -> u64 {
        spec.memory.unwrap_or(1).max(1)
    }

    fn retry(&self, error: &Error, attempt: u32) -> Option<Duration> {
        let wait = Duration::from_millis(200) * 2u32.pow(attempt.min(5));
        (error.is_transient() && attempt < ATTEMPTS).then_some(wait)
    }

    fn describe(&self, container: &Container) -> Cow<'static, str> {
        Cow::Owned(container.name.clone())
    }

    async fn hibernate(
        &self,
        _: &ContainerSpec,
        container: &mut Container,
        _: &Context,
    ) -> Result<(), Error> {
        container.engine().pause(&container.id).await
    }

    async fn wake(&self, _: &ContainerSpec, container: &mut Container, _: &Context) -> Result<(), Error> {
        container.engine().unpause(&container.id).await
    }
}

async fn running(container: &Container) -> Result<(), Error> {
    let state = container.engine().inspect(&container.id).await?.state;
    match state.running {
        true => Ok(()),
        false => Err(container.crashed(Stage::Ready).await),
    }
}

impl std::fmt::Debug for DockerManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DockerManager")
            .field("engine", &self.shop.engine.http.address)
            .field("owner", &self.shop.owner)
            .finish_non_exhaustive()
    }
}
