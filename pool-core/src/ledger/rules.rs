//! [`Rules`]: the configuration, resolved into the ledger's terms.

use std::time::Duration;

use super::sizing::Sizing;
use crate::config::{Fairness, PoolConfig, ReuseOrder};
use crate::meta::SLOTS;
use crate::policy::{KeyConfig, KeyPolicy};
use crate::time::Span;

/// What the ledger must know of a [`PoolConfig`].
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) max_total: u32,
    pub(crate) max_cost: u64,
    pub(crate) max_idle: u32,
    pub(crate) max_waiters: u32,
    pub(crate) max_creating: u32,
    pub(crate) max_creating_per_key: u32,
    pub(crate) max_recycling: u32,
    pub(crate) max_destroying: u32,
    pub(crate) max_surge: u32,
    pub(crate) max_abandoned: u32,
    pub(crate) max_overtakes: u64,
    pub(crate) breaker_after: Option<u64>,
    pub(crate) breaker_pause: Duration,
    pub(crate) breaker_max_pause: Duration,
    pub(crate) lifo: bool,
    /// Promises may be taken by who comes along.
    pub(crate) throughput: bool,
    /// After how long an idle resource is put to sleep.
    pub(crate) hibernate_after: Span,
    /// How many resources of each generic key are kept idle.
    pub(crate) generic_stock: u32,
    pub(crate) check_after: Span,
    pub(crate) check_every_recycles: Option<u64>,
    pub(crate) sizing: Option<Sizing>,
    /// The manager has a health check.
    checks: bool,
    /// For keys without a policy of their own.
    pub(crate) key: KeyRules,
}

/// What the ledger must know of the options of one key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyRules {
    pub(crate) max_per_key: u32,
    pub(crate) max_idle: u32,
    pub(crate) min_idle: u32,
    pub(crate) max_uses: u64,
    /// How long before its end a resource of a minimum idle is replaced; `None`: it is not.
    pub(crate) replace_ahead: Option<Span>,
    pub(crate) idle_timeout: Span,
    pub(crate) check_interval: Span,
}

impl KeyRules {
    fn new(config: &KeyConfig, checks: bool) -> KeyRules {
        KeyRules {
            max_per_key: number(config.max_per_key),
            max_idle: number(config.max_idle_per_key),
            min_idle: number(config.min_idle_per_key),
            max_uses: config.max_uses,
            replace_ahead: config.replace_ahead.map(|lead| Span::new(Some(lead))),
            idle_timeout: Span::new(config.idle_timeout),
            check_interval: Span::new(config.check_interval.filter(|_| checks)),
        }
    }
}

impl Rules {
    /// `checks` is false where the manager has no health check.
    pub(crate) fn new(config: &PoolConfig, checks: bool) -> Rules {
        Rules {
            max_total: number(config.max_total),
            max_cost: config.max_cost,
            max_idle: number(config.idle_limit()),
            max_waiters: number(config.max_waiters),
            max_creating: number(config.max_creating),
            max_creating_per_key: number(config.max_creating_per_key),
            max_recycling: number(config.max_recycling),
            max_destroying: number(config.max_destroying),
            max_surge: number(config.max_surge),
            max_abandoned: number(config.max_abandoned),
            max_overtakes: config.max_overtakes,
            breaker_after: config.breaker_after,
            breaker_pause: config.breaker_pause,
            breaker_max_pause: config.breaker_max_pause,
            lifo: config.order == ReuseOrder::Lifo,
            throughput: config.fairness == Fairness::Throughput,
            hibernate_after: Span::new(config.hibernate_after),
            generic_stock: number(config.generic_stock),
            check_after: Span::new(config.check_after.filter(|_| checks)),
            check_every_recycles: config.check_every_recycles.filter(|_| checks),
            sizing: config.adaptive.as_ref().map(Sizing::new),
            checks,
            key: KeyRules::new(&KeyPolicy::default().resolve(config), checks),
        }
    }

    /// For a key with options of its own.
    pub(crate) fn for_key(&self, config: &KeyConfig) -> KeyRules {
        KeyRules::new(config, self.checks)
    }

    /// The same, for a manager whose resources do not sleep.
    pub(crate) fn always_awake(self) -> Rules {
        Rules { hibernate_after: Span::NEVER, ..self }
    }

    /// The same, with a check before every hand-out.
    pub(crate) fn checking_always(self) -> Rules {
        Rules { check_after: Span::ZERO, ..self }
    }
}

/// Unlimited means as many as ids can name.
fn number(limit: usize) -> u32 {
    u32::try_from(limit).unwrap_or(u32::MAX).min(SLOTS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limit_is_above_what_ids_can_name() {
        let limits = [0, 7, SLOTS as usize - 1, SLOTS as usize, crate::config::UNLIMITED].map(number);
        assert_eq!(limits, [0, 7, SLOTS - 1, SLOTS - 1, SLOTS - 1]);
    }
}
