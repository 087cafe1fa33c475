//! What can go wrong for a caller of the pool.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::config::ConfigError;

/// What a waiter was waiting for when its deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// For room in the pool: everything is in use.
    Capacity,
    /// For a creation that is under way, or for its turn to be started.
    Create,
    /// For a resource that is being recycled.
    Recycle,
    /// For a resource that is being checked.
    HealthCheck,
    /// For a sleeping resource to be woken.
    Wake,
    /// For a destroy that frees room.
    Destroy,
    /// For [`Pool::resume`](crate::Pool::resume).
    Suspended,
    /// For the end of [pressure](crate::PressureSource), under which no creation starts.
    Pressure,
}

impl Phase {
    /// A stable name for events and metrics, in snake case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Phase::Capacity => "capacity",
            Phase::Create => "create",
            Phase::Recycle => "recycle",
            Phase::HealthCheck => "health_check",
            Phase::Wake => "wake",
            Phase::Destroy => "destroy",
            Phase::Suspended => "suspended",
            Phase::Pressure => "pressure",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Capacity => "a resource to be returned",
            Phase::Create => "a creation",
            Phase::Recycle => "a recycle",
            Phase::HealthCheck => "a health check",
            Phase::Wake => "a sleeping resource to be woken",
            Phase::Destroy => "a destroy that frees room",
            Phase::Pressure => "the end of pressure, under which nothing is created",
            Phase::Suspended => "the suspended pool to be resumed",
        })
    }
}

/// How many resources were in which state, and how many callers waited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Being created.
    pub creating: usize,
    /// Ready.
    pub idle: usize,
    /// With users, or promised to a waiter.
    pub leased: usize,
    /// Being recycled.
    pub recycling: usize,
    /// Being checked.
    pub checking: usize,
    /// Being put to sleep.
    pub hibernating: usize,
    /// Idle, and asleep.
    pub hibernated: usize,
    /// Being woken.
    pub waking: usize,
    /// Generic ones that are being turned into resources of another key.
    pub specialising: usize,
    /// Being destroyed.
    pub destroying: usize,
    /// Given up: their destroy missed its deadline. Not counted against the limits.
    pub abandoned: usize,
    /// Callers that wait.
    pub waiters: usize,
}

impl Counts {
    /// All resources that count against the limits.
    pub fn live(&self) -> usize {
        let ready = self.creating + self.specialising + self.idle + self.leased;
        let asleep = self.hibernating + self.hibernated + self.waking;
        ready + asleep + self.recycling + self.checking + self.destroying
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} leased, {} idle, {} creating, {} recycling, {} checking, {} destroying, {} abandoned, {} waiting",
            self.leased,
            self.idle,
            self.creating,
            self.recycling,
            self.checking,
            self.destroying,
            self.abandoned,
            self.waiters
        )
    }
}

/// Why an acquire failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum AcquireError<E> {
    /// The pool is closed. Trying again cannot help.
    Closed,
    /// The deadline passed: that of the acquire, or with [`Phase::Create`] that of a creation.
    TimedOut {
        /// What it was waiting for.
        phase: Phase,
        /// The pool at that moment.
        counts: Counts,
        /// The last error of a creation for this key, if there was any: often the cause.
        last_error: Option<Arc<str>>,
    },
    /// `max_waiters` callers wait already. Trying again later can help.
    TooManyWaiters {
        /// The limit.
        max_waiters: usize,
    },
    /// The manager could not create a resource.
    Create(E),
    /// The manager panicked while it created a resource, or in [`cost`](crate::Manager::cost) before it.
    CreatePanicked(String),
    /// The resource was reported gone before its creation was complete.
    CreateGone(String),
    /// Creations for this key failed so often that none is tried before `retry_after` has passed, and
    /// no resource of it is left that might be returned. Trying again can help after that.
    CircuitOpen {
        /// When a creation is tried again.
        retry_after: Duration,
        /// The last error.
        cause: Option<Arc<str>>,
    },
    /// One resource of this key costs more than all resources together may. Trying again cannot help.
    TooCostly {
        /// What the manager says it costs.
        cost: u64,
        /// What the configuration allows.
        max_cost: u64,
    },
    /// The policy of this key contradicts itself, so that nothing is made for it. Trying again cannot
    /// help.
    Policy(ConfigError),
    /// `acquire_blocking` was called where an async runtime is at work, which it would block.
    InsideRuntime,
    /// The process was forked after the pool was made; the pool belongs to the parent.
    Forked,
}

impl<E> fmt::Display for AcquireError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AcquireError::Closed => f.write_str("the pool is closed"),
            AcquireError::TimedOut { phase, counts, last_error } => {
                write!(f, "timed out waiting for {phase} ({counts})")?;
                match last_error {
                    Some(error) => write!(f, "; the last creation failed: {error}"),
                    None => Ok(()),
                }
            }
            AcquireError::TooManyWaiters { max_waiters } => write!(
                f,
                "max_waiters {max_waiters} callers wait already; raise the limit or offer less load"
            ),
            AcquireError::Create(_) => f.write_str("the manager could not create a resource"),
            AcquireError::CreatePanicked(message) => {
                write!(f, "the manager panicked while it created a resource: {message}")
            }
            AcquireError::CreateGone(cause) => {
                write!(f, "the resource was gone before its creation was complete: {cause}")
            }
            AcquireError::CircuitOpen { retry_after, cause } => {
                write!(f, "creations for this key keep failing; none is tried for {retry_after:?}")?;
                match cause {
                    Some(cause) => write!(f, "; the last one: {cause}"),
                    None => Ok(()),
                }
            }
            AcquireError::TooCostly { cost, max_cost } => write!(
                f,
                "one resource of this key costs {cost}, more than max_cost {max_cost}; raise max_cost"
            ),
            AcquireError::Policy(_) => {
                f.write_str("the policy of this key cannot work; mend what Builder::policy returns")
            }
            AcquireError::InsideRuntime => f.write_str(
                "acquire_blocking would block an async runtime; await acquire instead, or in \
                 spawn_blocking use Handle::current().block_on(pool.acquire(..))",
            ),
            AcquireError::Forked => {
                f.write_str("the process was forked after the pool was made; make a new pool in the child")
            }
        }
    }
}

impl<E: Error + 'static> Error for AcquireError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            AcquireError::Create(error) => Some(error),
            AcquireError::Policy(error) => Some(error),
            _ => None,
        }
    }
}

/// Why [`Pool::try_acquire`](crate::Pool::try_acquire) has nothing to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TryAcquireError {
    /// No resource of this key is ready without a check, a creation or a wait.
    NoneReady,
    /// The pool is suspended.
    Suspended,
    /// The pool is closed.
    Closed,
    /// The process was forked after the pool was made; the pool belongs to the parent.
    Forked,
}

impl fmt::Display for TryAcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TryAcquireError::NoneReady => "no resource of this key is ready",
            TryAcquireError::Suspended => "the pool is suspended",
            TryAcquireError::Closed => "the pool is closed",
            TryAcquireError::Forked => {
                "the process was forked after the pool was made; make a new pool in the child"
            }
        })
    }
}

impl Error for TryAcquireError {}

/// Why a creation that nobody waited for failed: an entry of a [`WarmReport`](crate::WarmReport).
#[derive(Debug)]
#[non_exhaustive]
pub enum CreateFailure<E> {
    /// The manager's error.
    Error(E),
    /// `create_timeout` passed.
    TimedOut,
    /// The manager panicked.
    Panicked(String),
    /// The resource was reported gone before its creation was complete.
    Gone(String),
    /// There is no room within the limits.
    NoRoom,
    /// Creations for this key failed so often that none is tried for a while.
    CircuitOpen,
    /// The pool is under [pressure](crate::PressureSource), and creates nothing.
    Pressure,
    /// The policy of the key contradicts itself.
    Policy(ConfigError),
    /// The runtime ended, or the pool was closed or invalidated meanwhile.
    Interrupted,
}

impl<E: fmt::Display> fmt::Display for CreateFailure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CreateFailure::Error(error) => error.fmt(f),
            CreateFailure::TimedOut => f.write_str("create_timeout passed"),
            CreateFailure::Panicked(message) => write!(f, "the manager panicked: {message}"),
            CreateFailure::Gone(cause) => write!(f, "gone before its creation was complete: {cause}"),
            CreateFailure::NoRoom => f.write_str("no room within the limits"),
            CreateFailure::CircuitOpen => f.write_str("creations keep failing; none is tried for a while"),
            CreateFailure::Pressure => f.write_str("under pressure; nothing is created"),
            CreateFailure::Policy(error) => write!(f, "the policy of the key cannot work: {error}"),
            CreateFailure::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl<E: Error + 'static> Error for CreateFailure<E> {}

/// A resource that [`Pool::insert`](crate::Pool::insert) could not take, and why.
#[derive(Debug)]
#[non_exhaustive]
pub struct InsertError<R> {
    /// The resource, unchanged.
    pub resource: R,
    /// Why it was not taken.
    pub kind: InsertErrorKind,
}

/// Why a resource was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InsertErrorKind {
    /// The pool is closed.
    Closed,
    /// There is no room within the limits.
    NoRoom,
    /// The manager panicked when it was asked what the resource costs.
    Panicked,
    /// The policy of the key contradicts itself; a trace event says how.
    Policy,
    /// The process was forked after the pool was made.
    Forked,
}

impl<R> fmt::Display for InsertError<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            InsertErrorKind::Closed => "the pool is closed and takes no resource",
            InsertErrorKind::NoRoom => "there is no room for the resource within the pool's limits",
            InsertErrorKind::Panicked => "the manager panicked when it was asked what the resource costs",
            InsertErrorKind::Policy => "the policy of the key cannot work; mend what Builder::policy returns",
            InsertErrorKind::Forked => {
                "the process was forked after the pool was made; make a new pool in the child"
            }
        })
    }
}

impl<R: fmt::Debug> Error for InsertError<R> {}
