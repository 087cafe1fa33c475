//! [`Managers`]: the foreign manager of each key.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use crate::builder::Builder;
use crate::manager::Manager;
use crate::sync::Mutex;

/// One manager for all keys, or one for each.
pub(super) enum Managers<K, M> {
    One(Arc<M>),
    PerKey { make: Box<dyn Fn(&K) -> M + Send + Sync>, made: Mutex<HashMap<K, Arc<M>>> },
}

impl<K: Clone + Eq + Hash, M> Managers<K, M> {
    pub(super) fn one(manager: M) -> Self {
        Managers::One(Arc::new(manager))
    }

    pub(super) fn per_key(make: impl Fn(&K) -> M + Send + Sync + 'static) -> Self {
        Managers::PerKey { make: Box::new(make), made: Mutex::new(HashMap::new()) }
    }

    /// The manager of `key`, made at its first use. Where two threads make it at once, one is dropped:
    /// the user's function does not run under the lock.
    pub(super) fn of(&self, key: &K) -> Arc<M> {
        match self {
            Managers::One(manager) => Arc::clone(manager),
            Managers::PerKey { make, made } => {
                if let Some(manager) = made.lock().get(key) {
                    return Arc::clone(manager);
                }
                let manager = Arc::new(make(key));
                Arc::clone(made.lock().entry(key.clone()).or_insert(manager))
            }
        }
    }
}

/// A builder for a manager whose health check also cleans: it runs before every hand-out, and at no
/// other time, so that the manager sees the calls that it was written for.
pub(super) fn check_before_use<M: Manager>(manager: M) -> Builder<M> {
    let mut builder = Builder::new(manager);
    builder.check_always = true;
    builder.config.check_interval = None;
    // Cleaning and checking are one call; after one there is no need for the other.
    builder.config.check_every_recycles = None;
    // Those pools wait for a check for as long as it takes. With one in every acquire, a slow link must
    // not start a creation each time; beyond a second it is no longer the link.
    builder.config.hedge_after = Some(Duration::from_secs(1));
    builder
}
