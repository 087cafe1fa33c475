//! [`Sandbox`]: the pooled resource, seen from the host.

use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use poolyard_exec::{Feature, Limit, Limits, Support};
use poolyard_guest::frame::{Header, Writer};
use tokio::io::Interest;

use crate::alarm::Alarm;
use crate::cgroup::{Slot, Version};
use crate::channel::{Channel, Message};
use crate::error::{Error, ErrorKind, Stage};
use crate::lease::{Armed, Lease, is_readable};
use crate::manager::Shared;
use crate::plan;
use crate::protocol::{Kind, open, way_in};
use crate::reactor::register;
use crate::spec::{Inner, SandboxSpec};

/// The directory that commands start in.
pub(crate) const WORK_DIR: &str = "/box";

/// A sandbox: namespaces, a root, a cgroup, and a program that waits to become your command.
///
/// Run commands through [`Exec`](poolyard_exec::Exec). Several may run at the same time; they share
/// processes, files and limits. Between two leases of a pool everything but the read-only skeleton is made
/// anew.
pub struct Sandbox {
    shared: Arc<Shared>,
    spec: SandboxSpec,
    keeper: Channel,
    keeper_pid: i32,
    keeper_pidfd: OwnedFd,
    slot: Option<Arc<Slot>>,
    lease: Arc<Lease>,
    support: Support,
    made: Instant,
    /// While a lease is being exchanged, and for ever if that was interrupted.
    between_leases: bool,
}

impl Sandbox {
    /// Makes a sandbox and arms its first lease.
    pub(crate) async fn create(shared: Arc<Shared>, spec: SandboxSpec) -> Result<Self, Error> {
        let ids = shared.mode.ids()?;
        let name = shared.next_slot();
        // First, since what is wrong with a specification is said before what is wrong with the system.
        let births = shared.births(spec.inner(), &name);
        let frame = plan::encode(spec.inner(), &ids, births.as_deref(), shared.launcher.landlock())?;
        let slot = shared.slot(spec.inner(), &name, ids.uid)?;
        let making = Making { shared: &shared, slot };
        let (keeper, theirs) = Channel::pair().map_err(|e| Error::system(Stage::CloneKeeper, e))?;
        shared.launcher.create(&frame, &theirs).await?;
        drop(theirs);
        let created = expect(&keeper, Kind::Created).await.map_err(|e| name_part(e, spec.inner()))?;
        let pid = created.body().u32().map_err(|_| Error::gone("the launcher answered nonsense"))?;
        let pidfd =
            created.fds.into_iter().next().ok_or_else(|| Error::gone("the launcher sent no pidfd"))?;
        let keeper_pidfd = KillOnDrop(Some(pidfd));
        expect(&keeper, Kind::Ready).await.map_err(|e| name_part(e, spec.inner()))?;
        let lease = arm(&keeper, making.slot.clone()).await?;
        let support = support(spec.inner(), making.slot.as_deref(), &shared);
        let slot = making.done();
        Ok(Self {
            spec,
            keeper,
            keeper_pid: pid as i32,
            keeper_pidfd: keeper_pidfd.done(),
            slot,
            lease: Arc::new(lease),
            support,
            shared,
            made: Instant::now(),
            between_leases: false,
        })
    }

    /// Ends the lease and arms the next one. When this returns nothing of the old lease is left: no
    /// process, no file, no queue, no name.
    pub(crate) async fn renew(&mut self) -> Result<(), Error> {
        self.between_leases = true;
        self.lease.end();
        if let Some(slot) = &self.slot {
            // Frozen processes cannot end, and the new lease waits for their end.
            slot.thaw().map_err(|e| Error::system(Stage::Cgroup, e))?;
        }
        let lease = arm(&self.keeper, self.slot.clone()).await?;
        self.lease = Arc::new(lease);
        self.between_leases = false;
        Ok(())
    }

    /// Kills everything and waits until it is gone.
    pub(crate) async fn destroy(&mut self) -> Result<(), Error> {
        self.kill();
        let pidfd = register(self.keeper_pidfd.as_fd(), Interest::READABLE)
            .map_err(|e| Error::system(Stage::Run, e))?;
        pidfd.readable().await.map_err(|e| Error::system(Stage::Run, e))?.retain_ready();
        if let Some(slot) = self.slot.take() {
            self.shared.retire(slot);
        }
        Ok(())
    }

    fn kill(&self) {
        // Fails only if it is dead already. With pid 1 the kernel ends the whole namespace.
        let _ = rustix::process::pidfd_send_signal(&self.keeper_pidfd, rustix::process::Signal::KILL);
        if let Some(slot) = &self.slot {
            // What is frozen cannot end.
            let _ = slot.thaw();
        }
        self.lease.unbind_disks(true);
    }

    pub(crate) fn is_alive(&self) -> bool {
        !self.between_leases && !is_readable(&self.keeper_pidfd) && self.lease.is_alive()
    }

    pub(crate) fn is_touched(&self) -> bool {
        self.lease.is_touched()
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.between_leases || self.lease.is_broken()
    }

    /// Why runners wait for the kernel when they enter their cgroup, if they do.
    pub(crate) fn slow_entry(&self) -> Option<String> {
        match self.shared.cgroup_version() {
            None => Some(self.shared.no_cgroups().to_owned()),
            Some(Version::V2) if !self.lease.was_born => Some(
                "the system bears nobody into a cgroup (it filters clone3, or the owner and the mode of cgroup.procs \
                 cannot be changed), and to move takes up to 20 ms; allow both, or mount cgroup2 with `favordynmods`"
                    .into(),
            ),
            Some(_) => None,
        }
    }

    pub(crate) fn age(&self) -> Duration {
        self.made.elapsed()
    }

    pub(crate) fn lease(&self) -> &Arc<Lease> {
        &self.lease
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(crate) fn support_ref(&self) -> &Support {
        &self.support
    }

    /// What it was made from.
    pub fn spec(&self) -> &SandboxSpec {
        &self.spec
    }

    /// The process id of its keeper, as seen from here: the parent of everything in it.
    pub fn pid(&self) -> i32 {
        self.keeper_pid
    }

    /// Stops every process of the commands until [`thaw`](Self::thaw). Wall time goes on.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] without a freezer cgroup.
    pub fn freeze(&self) -> Result<(), Error> {
        self.set_frozen(true)
    }

    /// Lets the processes of the commands go on.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] without a freezer cgroup.
    pub fn thaw(&self) -> Result<(), Error> {
        self.set_frozen(false)
    }

    fn set_frozen(&self, frozen: bool) -> Result<(), Error> {
        self.lease.touch();
        match &self.slot {
            Some(slot) if slot.freezes() => slot.freeze(frozen).map_err(|e| Error::system(Stage::Cgroup, e)),
            _ => Err(Error::new(Stage::Cgroup, ErrorKind::Unsupported, "there is no freezer cgroup here")),
        }
    }

    /// Opens a file of the sandbox for reading. No link is followed, on no part of the path; the path is
    /// absolute in /box or /tmp, or relative to /box.
    ///
    /// # Errors
    ///
    /// What the kernel says; something else than a regular file is refused.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is left open.
    pub async fn open_file(&self, path: impl AsRef<[u8]>) -> Result<File, Error> {
        crate::files::open(&self.lease, open::READ, 0, path.as_ref()).await
    }

    /// Creates or truncates a file of the sandbox for writing, with missing parent directories. It has the
    /// given mode, also if it was there, and belongs to the commands. As with [`open_file`](Self::open_file),
    /// no link is followed.
    ///
    /// # Errors
    ///
    /// What the kernel says; something else than a regular file is refused.
    ///
    /// # Cancel safety
    ///
    /// Nothing is left open; the file may have been made.
    pub async fn create_file(&self, path: impl AsRef<[u8]>, mode: u32) -> Result<File, Error> {
        crate::files::open(&self.lease, open::WRITE, mode, path.as_ref()).await
    }

    /// Makes a directory and its missing parents. One that is there already is no error.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// # Cancel safety
    ///
    /// The directory may have been made.
    pub async fn create_directory(&self, path: impl AsRef<[u8]>, mode: u32) -> Result<(), Error> {
        crate::files::make_directory(&self.lease, mode, path.as_ref()).await
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.kill();
        if let Some(slot) = self.slot.take() {
            self.shared.retire(slot);
        }
    }
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sandbox").field("pid", &self.keeper_pid).field("alive", &self.is_alive()).finish()
    }
}

/// Gives the slot back if a creation fails or is dropped.
struct Making<'a> {
    shared: &'a Shared,
    slot: Option<Arc<Slot>>,
}

impl Making<'_> {
    fn done(mut self) -> Option<Arc<Slot>> {
        self.slot.take()
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.shared.retire(slot);
        }
    }
}

/// Kills a keeper whose creation fails or is dropped.
struct KillOnDrop(Option<OwnedFd>);

impl KillOnDrop {
    fn done(mut self) -> OwnedFd {
        self.0.take().expect("it is taken once")
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(pidfd) = &self.0 {
            let _ = rustix::process::pidfd_send_signal(pidfd, rustix::process::Signal::KILL);
        }
    }
}

async fn expect(channel: &Channel, kind: Kind) -> Result<Message, Error> {
    match channel.receive().await {
        Ok(Some(message)) if message.kind == kind => Ok(message),
        Ok(Some(message)) if message.kind == Kind::Failed => Err(message.failure()),
        Ok(Some(_)) => Err(Error::gone("it answered out of turn")),
        Ok(None) => Err(Error::gone("it ended without a reason; see the kernel's log")),
        Err(e) => Err(Error::system(Stage::Protocol, e)),
    }
}

/// Asks for a new lease. The new runner's word says that the whole chain works.
async fn arm(keeper: &Channel, slot: Option<Arc<Slot>>) -> Result<Lease, Error> {
    let pair = || Channel::pair().map_err(|e| Error::system(Stage::CloneInit, e));
    let ((init, init_theirs), (runner, runner_theirs)) = (pair()?, pair()?);
    let mut buffer = [0; 64];
    let mut writer = Writer::new(&mut buffer, Header { kind: Kind::Arm as u16, flags: 0, seq: 0 });
    let frame = writer.finish().map_err(|_| Error::gone("a message is too long"))?;
    let entries = slot.as_deref().map(Slot::entries).unwrap_or_default();
    let ends = [init_theirs.as_fd(), runner_theirs.as_fd()];
    let fds: Vec<BorrowedFd<'_>> = ends.into_iter().chain(entries.iter().map(File::as_fd)).collect();
    keeper.send(frame, &fds).map_err(|_| Error::gone("the sandbox's keeper is gone"))?;
    drop(fds);
    drop((init_theirs, runner_theirs));
    match expect(&runner, Kind::Armed).await {
        Ok(armed) => match (armed.body().u32(), armed.fds.into_iter().next()) {
            (Ok(way_in), Some(pidfd)) => {
                let system = |e| Error::system(Stage::CloneRunner, e);
                let armed = Armed::prepare(runner, slot.as_deref()).map_err(system)?;
                Ok(Lease::new(
                    init,
                    pidfd,
                    armed,
                    Alarm::new().map_err(system)?,
                    slot,
                    way_in == way_in::BORN,
                ))
            }
            _ => Err(Error::gone("the runner sent no pidfd")),
        },
        // Whoever broke the chain has said why on its own socket.
        Err(error) => Err(failure_in(&init).or_else(|| failure_in(keeper)).unwrap_or(error)),
    }
}

fn failure_in(channel: &Channel) -> Option<Error> {
    match channel.try_receive() {
        Ok(Some(message)) if message.kind == Kind::Failed => Some(message.failure()),
        _ => None,
    }
}

/// A failure that has to do with the base says what the base was.
fn name_part(error: Error, spec: &Inner) -> Error {
    match error.stage() {
        Stage::OpenBase | Stage::MountBase | Stage::MountRoot => {
            error.about(format_args!("base {:?}, trees {:?}", spec.base, spec.trees))
        }
        _ => error,
    }
}

/// What commands in such a sandbox can ask for.
fn support(spec: &Inner, slot: Option<&Slot>, shared: &Shared) -> Support {
    let always = [Limit::WallTime, Limit::Output, Limit::FileSize, Limit::OpenFiles, Limit::Stack];
    let by_cgroup = [Limit::Memory, Limit::Processes];
    let made_with =
        Limits::new().disk_bytes(spec.disk_bytes()).disk_inodes(spec.disk_inodes()).network(spec.network());
    let support = Support::new(WORK_DIR)
        .per_command(always)
        .per_resource([Limit::DiskBytes, Limit::DiskInodes, Limit::Network])
        .without(Feature::InheritEnv, "a sandbox has no environment of its own; set the variables")
        .with_made_with(made_with.or(&spec.limits));
    let Some(slot) = slot else {
        let reason = shared.no_cgroups();
        let others = [Limit::CpuTime, Limit::Swap, Limit::CpuBandwidth, Limit::CpuSet, Limit::IoBandwidth];
        return support.unsupported(by_cgroup.into_iter().chain(others), reason.to_owned());
    };
    let support = support.per_command(by_cgroup).per_resource([Limit::CpuBandwidth, Limit::CpuSet]);
    let support = match shared.disks(spec) {
        Ok(_) => support.per_resource([Limit::IoBandwidth]),
        Err(reason) => support.unsupported([Limit::IoBandwidth], reason),
    };
    let support = match slot.counts_cpu() {
        true => support.per_command([Limit::CpuTime]),
        false => support.unsupported([Limit::CpuTime], "no cgroup counts processor time here; mount cpuacct"),
    };
    match slot.limits_swap() {
        true => support.per_command([Limit::Swap]),
        false => {
            support.unsupported([Limit::Swap], "the kernel does not account swap; boot with swapaccount=1")
        }
    }
}
