//! [`Watch`]: what the driver looks at from time to time because nothing tells it: a source of
//! pressure, and leases that are held for long.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use crate::call::contained;
use crate::config::PoolConfig;
use crate::ledger::Overdue;
use crate::manager::Manager;
use crate::observer::Observer;
use crate::pressure::Pressed;
use crate::shared::Shared;
use crate::time::Time;

/// When the next looks are due.
pub(crate) struct Watch {
    pressure: Time,
    leases: Time,
}

impl Watch {
    /// A source of pressure is looked at at once.
    pub(crate) fn new(has_source: bool) -> Self {
        Watch { pressure: if has_source { Time::ZERO } else { Time::NEVER }, leases: Time::NEVER }
    }

    pub(crate) fn next(&self) -> Time {
        self.pressure.min(self.leases)
    }

    /// The options may have changed: looks are due after the new times at the latest.
    pub(crate) fn plan(&mut self, config: &PoolConfig, now: Time) {
        if self.pressure != Time::NEVER {
            self.pressure = self.pressure.min(now.plus(config.pressure_interval));
        }
        self.leases = match config.leak_after {
            Some(long) => self.leases.min(now.plus(long)),
            None => Time::NEVER,
        };
    }

    /// Looks at what is due.
    pub(crate) fn look<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static>(
        &mut self,
        shared: &Arc<Shared<M, O, S>>,
        now: Time,
    ) {
        if self.pressure <= now {
            self.pressure = now.plus(shared.look_at_pressure(now));
        }
        if self.leases <= now {
            self.leases = shared.look_at_leases(now);
        }
    }
}

impl<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> Shared<M, O, S> {
    /// Returns when to look again.
    fn look_at_pressure(self: &Arc<Self>, now: Time) -> Duration {
        let pressed = self.source.look();
        let cause: Option<Arc<str>> = pressed.as_ref().map(|pressed| Arc::from(&*pressed.cause));
        let (before, interval) = self.event(|inner| {
            let before = inner.pressure.clone();
            let since = before.as_ref().map_or(now, |(_, since)| *since);
            match pressed {
                Some(Pressed { shed, .. }) => inner.ledger.press(shed, now),
                None if before.is_some() => inner.ledger.relieve(now),
                None => {}
            }
            inner.pressure = cause.clone().map(|cause| (cause, since));
            (before, inner.config.pressure_interval)
        });
        match (before, cause) {
            (None, Some(cause)) => {
                tracing::warn!(%cause, "poolyard: under pressure; idle resources go and no creation starts");
                _ = contained(|| self.observer.pressure(Some(&cause)));
            }
            (Some((_, since)), None) => {
                tracing::info!(lasted = ?now.since(since), "poolyard: the pressure is over");
                _ = contained(|| self.observer.pressure(None));
            }
            _ => {}
        }
        interval
    }

    /// Returns when to look again.
    fn look_at_leases(&self, now: Time) -> Time {
        let (found, next) = {
            let mut inner = self.state.lock();
            let Some(long) = inner.config.leak_after else { return Time::NEVER };
            inner.ledger.overdue(long, now)
        };
        for Overdue { id, held, at } in found {
            tracing::warn!(%id, ?held, %at, "poolyard: a lease is held for long");
            _ = contained(|| self.observer.leaked(id, held, at));
        }
        next
    }
}
