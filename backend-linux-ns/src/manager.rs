//! [`LinuxNs`]: makes, cleans and ends sandboxes. It is the pool's manager.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use poolyard_core::{Context, Manager, Meta, Reason, Reuse};
use poolyard_exec::{Command, Exec, Verdict};
use tokio::time::timeout;

use crate::cgroup::{Slot, Slots, Version};
use crate::disks;
use crate::error::{Error, ErrorKind, Stage};
use crate::launcher::Launcher;
use crate::mode::Mode;
use crate::run::slot_limits;
use crate::sandbox::Sandbox;
use crate::spec::{Canary, Inner, ReusePolicy, SandboxSpec};

/// Makes sandboxes of Linux namespaces. Its key is a [`SandboxSpec`], its resource a [`Sandbox`].
///
/// One `LinuxNs` has one small helper process, the launcher, which ends with it. This process is never
/// forked, whatever its size and however many threads it has.
///
/// Whoever drops the last of it and its sandboxes waits until their processes and cgroups are gone: a few milliseconds,
/// a second at most. What is left after that, or by a killed process, is removed by the next process that starts.
#[derive(Debug)]
pub struct LinuxNs {
    shared: Arc<Shared>,
}

/// What all sandboxes of one [`LinuxNs`] share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) launcher: Arc<Launcher>,
    pub(crate) mode: Mode,
    /// Slots, or why there are none.
    slots: Result<Arc<Slots>, String>,
}

impl LinuxNs {
    /// Starts the launcher, in the strongest mode that this process can use, and finds a place for cgroups.
    /// Takes a millisecond or two, on cgroups of version 2 up to twenty milliseconds, and blocks meanwhile.
    ///
    /// Cgroups that cannot be had are no error here: the limits that need them are refused by name where
    /// they are asked for. [`probe`](LinuxNs::probe) says what is there and what to do about the rest.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] where this build carries no launcher, or the system forbids it.
    pub fn new() -> Result<Self, Error> {
        Self::with_mode(Mode::best())
    }

    /// Like [`new`](Self::new), in exactly this mode.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new); and [`ErrorKind::Unsupported`] if the mode cannot be used here, with the
    /// reason and what to do.
    pub fn with_mode(mode: Mode) -> Result<Self, Error> {
        if let Some(reason) = mode.missing() {
            return Err(Error::new(Stage::MapIds, ErrorKind::Unsupported, reason));
        }
        let slots = Slots::new(mode == Mode::Root);
        let launcher = Launcher::start(slots.as_ref().ok().map(Arc::clone))?;
        Ok(Self { shared: Arc::new(Shared { launcher, mode, slots }) })
    }

    /// The mode that sandboxes are made in.
    pub fn mode(&self) -> Mode {
        self.shared.mode
    }

    /// The launcher's process id.
    pub fn launcher_pid(&self) -> i32 {
        self.shared.launcher.pid()
    }

    /// The version of Landlock that the kernel has, or why it has none.
    pub(crate) fn landlock(&self) -> &Result<u32, String> {
        self.shared.launcher.landlock()
    }

    /// Why there are no cgroups, if there are none.
    pub fn missing_cgroups(&self) -> Option<&str> {
        self.shared.slots.as_ref().err().map(String::as_str)
    }

    /// Makes one sandbox outside any pool.
    ///
    /// # Errors
    ///
    /// The step that failed, and what to do.
    ///
    /// # Cancel safety
    ///
    /// A dropped future leaves nothing behind.
    pub async fn sandbox(&self, spec: &SandboxSpec) -> Result<Sandbox, Error> {
        Sandbox::create(Arc::clone(&self.shared), spec.clone()).await
    }
}

impl Shared {
    /// The name of the next slot.
    pub(crate) fn next_slot(&self) -> String {
        self.slots.as_ref().map(|slots| slots.next()).unwrap_or_default()
    }

    /// The cgroup that runners of such a sandbox are born in, if they can be, when its slot has that name.
    pub(crate) fn births(&self, spec: &Inner, name: &str) -> Option<PathBuf> {
        self.slots.as_ref().ok()?.births(name, &spec.extra_controllers())
    }

    /// A slot for a sandbox whose root is `owner`; none where there are no cgroups and the specification needs none.
    pub(crate) fn slot(&self, spec: &Inner, name: &str, owner: u32) -> Result<Option<Arc<Slot>>, Error> {
        let limits = &spec.limits;
        let needed = limits.memory.is_some()
            || limits.swap.is_some()
            || limits.processes.is_some()
            || limits.cpu_time.is_some()
            || limits.cpu_bandwidth.is_some()
            || limits.cpu_set.is_some()
            || limits.io_bandwidth.is_some();
        match &self.slots {
            Ok(slots) => {
                let extra = spec.extra_controllers();
                let missing = extra.iter().find(|controller| !slots.place().has(controller));
                if let Some(missing) = missing {
                    let detail = format!("the controller `{missing}` is not there; mount or delegate it");
                    return Err(Error::new(Stage::Cgroup, ErrorKind::Unsupported, detail));
                }
                let disks = match limits.io_bandwidth.map(|_| self.disks(spec)) {
                    Some(disks) => {
                        disks.map_err(|reason| Error::new(Stage::Cgroup, ErrorKind::Unsupported, reason))?
                    }
                    None => Vec::new(),
                };
                let slot =
                    slots.make(name, &extra, &disks, owner).map_err(|e| Error::system(Stage::Cgroup, e))?;
                match slot.limit(&slot_limits(limits)) {
                    Ok(()) => Ok(Some(slot)),
                    // Found out here, and not by the first command.
                    Err(e) => {
                        slots.retire(slot);
                        Err(Error::system(Stage::Cgroup, e))
                    }
                }
            }
            Err(reason) if needed => Err(Error::new(Stage::Cgroup, ErrorKind::Unsupported, reason.clone())),
            Err(_) => Ok(None),
        }
    }

    pub(crate) fn retire(&self, slot: Arc<Slot>) {
        if let Ok(slots) = &self.slots {
            slots.retire(slot);
        }
    }

    pub(crate) fn cgroup_version(&self) -> Option<Version> {
        self.slots.as_ref().ok().map(|slots| slots.version())
    }

    /// The disks whose use a sandbox's slot can bound, or why it cannot.
    pub(crate) fn disks(&self, spec: &Inner) -> Result<Vec<String>, String> {
        match self.slots.as_ref().map(|slots| slots.place().missing_rates()) {
            Ok(None) => disks::of(spec),
            Ok(Some(missing)) => Err(missing.to_owned()),
            Err(reason) => Err(reason.clone()),
        }
    }

    pub(crate) fn no_cgroups(&self) -> &str {
        self.slots.as_ref().err().map_or("", String::as_str)
    }
}

impl Manager for LinuxNs {
    type Key = SandboxSpec;
    type Resource = Sandbox;
    type Error = Error;

    async fn create(&self, spec: &SandboxSpec, _: &Context) -> Result<Sandbox, Error> {
        let sandbox = self.sandbox(spec).await?;
        tracing::debug!(keeper = sandbox.pid(), "sandbox made");
        Ok(sandbox)
    }

    /// Ends the lease and arms the next one; its answer is the proof that the sandbox works.
    async fn recycle(&self, _: &SandboxSpec, sandbox: &mut Sandbox, _: &Context) -> Result<(), Error> {
        sandbox.renew().await
    }

    async fn health_check(
        &self,
        spec: &SandboxSpec,
        sandbox: &mut Sandbox,
        _: &Context,
    ) -> Result<(), Error> {
        if !sandbox.is_alive() {
            return Err(Error::gone("one of its processes has died"));
        }
        let Some(canary) = &spec.inner().canary else { return Ok(()) };
        sing(sandbox, canary).await?;
        sandbox.renew().await
    }

    async fn destroy(&self, _: &SandboxSpec, sandbox: &mut Sandbox, reason: Reason, _: &Context) {
        let destroyed = sandbox.destroy().await;
        tracing::debug!(keeper = sandbox.pid(), %reason, ok = destroyed.is_ok(), "sandbox destroyed");
    }

    fn reuse(&self, spec: &SandboxSpec, sandbox: &mut Sandbox, meta: &Meta) -> Reuse {
        if sandbox.is_broken() || is_used_up(spec.inner().reuse, meta.uses, sandbox.age()) {
            return Reuse::Broken;
        }
        if sandbox.is_touched() { Reuse::Recycle } else { Reuse::Now }
    }

    fn describe(&self, sandbox: &Sandbox) -> Cow<'static, str> {
        format!("keeper {}", sandbox.pid()).into()
    }
}

fn is_used_up(policy: ReusePolicy, uses: u64, age: Duration) -> bool {
    match policy {
        ReusePolicy::Pristine => true,
        ReusePolicy::Reuse { max_uses, max_age } => {
            max_uses.is_some_and(|max| uses >= max) || max_age.is_some_and(|max| age >= max)
        }
    }
}

/// Runs the canary. Anything but 0 in time is a failure.
async fn sing(sandbox: &Sandbox, canary: &Canary) -> Result<(), Error> {
    let mut words = canary.argv.iter();
    let command = words.by_ref().take(1).fold(None, |_, program| Some(Command::new(program)));
    let command = command.unwrap_or_else(|| Command::new("")).args(words);
    let silent = |what: String| Error::new(Stage::Run, ErrorKind::Gone, what);
    match timeout(canary.deadline, sandbox.exec(&command)).await {
        Ok(Ok(outcome)) if outcome.verdict == Verdict::Exited { code: 0 } => Ok(()),
        Ok(Ok(outcome)) => Err(silent(format!("the canary ended with {:?}", outcome.verdict))),
        Ok(Err(error)) => Err(silent(format!("the canary could not run: {error}"))),
        Err(_) => Err(silent(format!("the canary did not end within {:?}", canary.deadline))),
    }
}
