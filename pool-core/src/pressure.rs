//! What a pool gives up when something is short: [`Pool::shed`](crate::Pool::shed), and sources of
//! pressure for [`Builder::pressure`](crate::Builder::pressure).

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::call::contained;
use crate::snapshot::ResourceInfo;

/// How much goes: what sleeps first, then what is awake, each least recently used first. Only what is
/// idle can go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Shed {
    /// So many resources.
    Resources(usize),
    /// As many as cost so much together, in the unit of [`Manager::cost`](crate::Manager::cost).
    Cost(u64),
    /// Half of what is idle, rounded up.
    Half,
    /// All that is idle.
    All,
}

impl Shed {
    /// Whether it is enough that `count` resources go that cost `cost`, of `idle` that there were.
    pub(crate) fn is_met(self, count: usize, cost: u64, idle: u32) -> bool {
        match self {
            Shed::Resources(wanted) => count >= wanted,
            Shed::Cost(wanted) => cost >= wanted,
            Shed::Half => count >= (idle as usize).div_ceil(2),
            Shed::All => false,
        }
    }
}

/// What [`Pool::shed`](crate::Pool::shed) sent away.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ShedReport<K> {
    /// The resources as they were, in the order of [`Shed`]. They are destroyed in the background.
    pub resources: Vec<ResourceInfo<K>>,
    /// What they cost together.
    pub cost: u64,
}

/// What a [`PressureSource`] finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pressed {
    /// What idle resources go now. Asked anew at each look, so that [`Shed::Half`] ends with none.
    pub shed: Shed,
    /// What is short, for people.
    pub cause: Cow<'static, str>,
}

/// Says whether something is short that resources hold, such as memory.
///
/// As long as it says so, idle resources go, in the order of [`Shed`], and no creation starts, nor is
/// a generic resource specialised: who waits is served by what is returned or woken, or times out with
/// [`Phase::Pressure`](crate::Phase::Pressure); [`warm`](crate::Pool::warm) fails at once with
/// [`CreateFailure::Pressure`](crate::CreateFailure::Pressure). The
/// [snapshot](crate::Snapshot::pressure) has the cause.
///
/// A function or closure without arguments is a source, too.
pub trait PressureSource: Send + Sync + 'static {
    /// Looks. `None`: all is well. The pool's driver calls it every `pressure_interval`, never under
    /// the pool's lock, on a thread that must not be blocked for long. A panic counts as `None`.
    fn look(&self) -> Option<Pressed>;
}

impl<F: Fn() -> Option<Pressed> + Send + Sync + 'static> PressureSource for F {
    fn look(&self) -> Option<Pressed> {
        self()
    }
}

/// The source given to the builder, if one was.
#[derive(Clone, Default)]
pub(crate) struct Source(Option<Arc<dyn PressureSource>>);

impl Source {
    pub(crate) fn new(source: impl PressureSource) -> Self {
        Source(Some(Arc::new(source)))
    }

    pub(crate) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn look(&self) -> Option<Pressed> {
        let source = self.0.as_ref()?;
        contained(|| source.look()).unwrap_or_else(|panic| {
            tracing::error!(%panic, "poolyard: the pressure source panicked");
            None
        })
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_none() { "none" } else { "a source" })
    }
}
