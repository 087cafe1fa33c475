//! [`Plan`]: a configuration, and what its users do.

use std::fmt;
use std::time::Duration;

use poolyard_core::PoolConfig;

use crate::script::{Method, Then};

/// What happens next. Numbers choose among what there is, so that every list of operations makes
/// sense and stays so when it shrinks; what has nobody to do it is left out.
#[derive(Clone, Debug)]
pub enum Op<K> {
    /// Somebody asks for a resource of this key, and waits if there is none.
    Acquire(K),
    /// Somebody takes a resource of this key if one is ready.
    TryAcquire(K),
    /// The caller with this number goes away.
    Cancel(usize),
    /// The user with this number uses its resource, in the way of the second number.
    Use(usize, u32),
    /// The user with this number gives its resource back.
    Release(usize),
    /// The user with this number gives its resource back as broken.
    Discard(usize),
    /// The user with this number keeps its resource for ever.
    Detach(usize),
    /// The resource with this number is reported gone, wherever it is.
    Gone(usize),
    /// So many idle ones of this key are asked for.
    Warm(K, usize),
    /// The idle resource with this number is not retained.
    Retain(usize),
    /// So many idle resources are shed.
    Shed(usize),
    /// All resources of this key are out of date.
    Invalidate(K),
    /// All resources are out of date.
    InvalidateAll,
    /// There may be so many resources from now on.
    Resize(usize),
    /// The pool gives nothing out.
    Suspend,
    /// The pool gives resources out again.
    Resume,
    /// The pool is closed.
    Close,
    /// The next call of this method ends like this, before it reaches the manager.
    Fault(Method, Then),
    /// The pool does what there is to do, but nobody it has woken looks yet.
    Work,
    /// The pool does what there is to do, and those it has woken look.
    Settle,
    /// So much time passes, and then the pool settles.
    Pass(Duration),
}

/// A pool's configuration, and what happens to it.
#[derive(Clone)]
pub struct Plan<K> {
    /// The configuration.
    pub config: PoolConfig,
    /// What happens.
    pub ops: Vec<Op<K>>,
}

impl<K: fmt::Debug> fmt::Debug for Plan<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan").field("config", &differences(&self.config)).field("ops", &self.ops).finish()
    }
}

/// The options that are not as shipped.
pub(super) fn differences(config: &PoolConfig) -> String {
    let (ours, shipped) = (format!("{config:?}"), format!("{:?}", PoolConfig::default()));
    let shipped = fields(&shipped);
    let changed: Vec<&str> = fields(&ours).into_iter().filter(|field| !shipped.contains(field)).collect();
    changed.join(", ")
}

/// The fields of a value's debug text.
fn fields(text: &str) -> Vec<&str> {
    let inside = text.split_once('{').map_or(text, |(_, rest)| rest);
    let inside = inside.strip_suffix('}').unwrap_or(inside);
    let mut depth = 0;
    let commas = inside.split(|c| {
        depth += i32::from(matches!(c, '(' | '{')) - i32::from(matches!(c, ')' | '}'));
        c == ',' && depth == 0
    });
    commas.map(str::trim).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_from_the_defaults_is_told() {
        let config = PoolConfig { max_total: 2, max_idle: Some(1), ..PoolConfig::default() };
        assert_eq!(differences(&config), "max_total: 2, max_idle: Some(1)");
        assert_eq!(differences(&PoolConfig::default()), "");
    }
}
