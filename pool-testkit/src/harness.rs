//! [`Harness`]: what a manager's author tells the kit so that the laws can be put to the manager.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use poolyard_core::Manager;

use crate::availability::Availability;
use crate::census::Scope;

/// The key type of a harness's manager.
pub type KeyOf<H> = <<H as Harness>::Manager as Manager>::Key;

/// The resource type of a harness's manager.
pub type ResourceOf<H> = <<H as Harness>::Manager as Manager>::Resource;

/// What a manager's author tells the kit so that the laws can be put to the manager.
///
/// A harness is made anew for every law, and for every case of a random law, and owns the little
/// world in which its managers work: a temporary directory, a name prefix, a label. Several worlds
/// can exist at once, so each needs a name of its own. The harness looks at resources from
/// outside, with other means than the manager's own; a law is worth what the harness sees.
///
/// Laws run one after the other in a process, but keep other tests out of their binary: the census
/// of the operating system is that of the whole process.
pub trait Harness: Send + Sync + Sized + 'static {
    /// The manager under test.
    type Manager: Manager;

    /// How long one call on a healthy resource may take, and how long its traces may take to vanish.
    const CALL_DEADLINE: Duration = Duration::from_secs(10);

    /// How long a whole law may take. Also bounds the shrinking of a failure, by a tenth of it.
    const LAW_DEADLINE: Duration = Duration::from_secs(120);

    /// How many random cases a property is tried with.
    const CASES: u32 = 16;

    /// At how many polls a call is dropped at most; calls that are ready sooner are cut everywhere.
    const MAX_CUTS: usize = 64;

    /// Whether this machine has what the manager needs.
    fn availability() -> impl Future<Output = Availability> + Send {
        async { Availability::Ready }
    }

    /// Sets up an empty world.
    fn new() -> impl Future<Output = Self> + Send;

    /// A manager that works in this world. Laws make several, and drop them.
    fn manager(&self) -> Self::Manager;

    /// Keys to ask for: at least one, and two for the laws about keys.
    fn keys(&self) -> Vec<KeyOf<Self>>;

    /// Uses a resource as a user would, and says whether it does the job of `key`.
    fn works(&self, key: &KeyOf<Self>, resource: &mut ResourceOf<Self>) -> impl Future<Output = bool> + Send;

    /// Leaves a mark that no later user may find: a file, a variable, a process, an open port.
    /// Which one, the number says; it is any number, so take the remainder.
    fn dirty(&self, resource: &mut ResourceOf<Self>, mark: u32) -> impl Future<Output = ()> + Send;

    /// Whether a user of the resource can find the mark.
    fn is_dirty(&self, resource: &mut ResourceOf<Self>, mark: u32) -> impl Future<Output = bool> + Send;

    /// Breaks a resource from outside, so that it works no more: kills its process, cuts its line.
    fn kill(&self, resource: &mut ResourceOf<Self>) -> impl Future<Output = ()> + Send;

    /// Makes a resource's other side answer no more without ending it, as `SIGSTOP` does.
    fn stop(&self, resource: &mut ResourceOf<Self>) -> impl Future<Output = ()> + Send;

    /// How many resources this world holds, as the operating system or the engine says: processes,
    /// directories, containers with a label. Never the manager's own books.
    fn live(&self) -> impl Future<Output = usize> + Send;

    /// Which of the above this harness can do. Say why for each that it cannot.
    fn capabilities(&self) -> Capabilities {
        Capabilities::ALL
    }

    /// What must be as before when all resources are gone. `None` leaves the operating system out
    /// of it, for managers whose traces are somewhere else; [`live`](Self::live) is always asked.
    fn census(&self) -> Option<Scope> {
        Some(Scope::new())
    }
}

/// What a [`Harness`] can do to its resources. A law that needs more does not apply, and
/// says so with the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// [`Harness::dirty`] leaves marks.
    pub dirty: Capability,
    /// [`Harness::kill`] breaks a resource, and it can be noticed.
    pub kill: Capability,
    /// [`Harness::stop`] makes a resource answer no more.
    pub stop: Capability,
    /// [`Harness::works`] tells resources of different keys from each other.
    pub keys: Capability,
}

impl Capabilities {
    /// Everything.
    pub const ALL: Self =
        Self { dirty: Capability::Yes, kill: Capability::Yes, stop: Capability::Yes, keys: Capability::Yes };
}

/// Whether a harness can do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// It can.
    Yes,
    /// It cannot, for this reason.
    No(&'static str),
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Yes => f.write_str("yes"),
            Self::No(reason) => write!(f, "no: {reason}"),
        }
    }
}
