//! [`Rules`]: the configuration, resolved into the ledger's terms.

use super::sizing::Sizing;
use crate::config::{PoolConfig, ReuseOrder};
use crate::meta::SLOTS;
use crate::time::Span;

/// What the ledger must know of a [`PoolConfig`].
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) max_total: u32,
    pub(crate) max_cost: u64,
    pub(crate) max_per_key: u32,
    pub(crate) max_idle: u32,
    pub(crate) max_idle_per_key: u32,
    pub(crate) min_idle_per_key: u32,
    pub(crate) max_waiters: u32,
    pub(crate) max_creating: u32,
    pub(crate) max_creating_per_key: u32,
    pub(crate) max_recycling: u32,
    pub(crate) max_destroying: u32,
    pub(crate) max_surge: u32,
    pub(crate) max_abandoned: u32,
    pub(crate) max_overtakes: u64,
    pub(crate) lifo: bool,
    pub(crate) idle_timeout: Span,
    pub(crate) max_uses: u64,
    pub(crate) check_after: Span,
    pub(crate) check_every_recycles: Option<u64>,
    pub(crate) check_interval: Span,
    pub(crate) sizing: Option<Sizing>,
}

impl Rules {
    /// `checks` is false where the manager has no health check.
    pub(crate) fn new(config: &PoolConfig, checks: bool) -> Rules {
        Rules {
            max_total: number(config.max_total),
            max_cost: config.max_cost,
            max_per_key: number(config.per_key_limit()),
            max_idle: number(config.idle_limit()),
            max_idle_per_key: number(config.idle_per_key_limit()),
            min_idle_per_key: number(config.min_idle_per_key),
            max_waiters: number(config.max_waiters),
            max_creating: number(config.max_creating),
            max_creating_per_key: number(config.max_creating_per_key),
            max_recycling: number(config.max_recycling),
            max_destroying: number(config.max_destroying),
            max_surge: number(config.max_surge),
            max_abandoned: number(config.max_abandoned),
            max_overtakes: config.max_overtakes,
            lifo: config.order == ReuseOrder::Lifo,
            idle_timeout: Span::new(config.idle_timeout),
            max_uses: config.max_uses,
            check_after: Span::new(config.check_after.filter(|_| checks)),
            check_every_recycles: config.check_every_recycles.filter(|_| checks),
            check_interval: Span::new(config.check_interval.filter(|_| checks)),
            sizing: config.adaptive.as_ref().map(Sizing::new),
        }
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
