//! [`Newcomer`]: what must be asked about a key that the pool may not know yet, before it takes the
//! lock, because a user's code answers.

use std::hash::BuildHasher;
use std::sync::Arc;

use crate::config::ConfigError;
use crate::error::{AcquireError, CreateFailure, InsertErrorKind};
use crate::manager::Manager;
use crate::observer::Observer;
use crate::policy::KeyPolicy;
use crate::shared::{Inner, Shared};

/// A key with everything that its group needs. Its owner drops it, outside the lock.
pub(crate) struct Newcomer<K> {
    pub(crate) hash: u64,
    pub(crate) key: Arc<K>,
    pub(crate) cost: u64,
    pub(crate) policy: Option<Arc<KeyPolicy>>,
}

/// Why nothing can be done for a key.
pub(crate) enum Unusable {
    /// The manager panicked when it was asked for the cost.
    Panicked(String),
    Policy(ConfigError),
}

impl<E> From<Unusable> for AcquireError<E> {
    fn from(unusable: Unusable) -> Self {
        match unusable {
            Unusable::Panicked(panic) => AcquireError::CreatePanicked(panic),
            Unusable::Policy(error) => AcquireError::Policy(error),
        }
    }
}

impl<E> From<&Unusable> for CreateFailure<E> {
    fn from(unusable: &Unusable) -> Self {
        match unusable {
            Unusable::Panicked(panic) => CreateFailure::Panicked(panic.clone()),
            Unusable::Policy(error) => CreateFailure::Policy(error.clone()),
        }
    }
}

impl From<Unusable> for InsertErrorKind {
    fn from(unusable: Unusable) -> Self {
        match unusable {
            Unusable::Panicked(_) => InsertErrorKind::Panicked,
            Unusable::Policy(_) => InsertErrorKind::Policy,
        }
    }
}

impl<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> Shared<M, O, S> {
    /// Asks the user's code about `key`: its hash, a clone, its cost, and its policy unless the pool
    /// knows that already.
    pub(crate) fn introduce(&self, key: &M::Key) -> Result<Newcomer<M::Key>, Unusable> {
        let hash = self.hasher.hash_one(key);
        let cost = self.cost(key).map_err(Unusable::Panicked)?;
        let policy = self.policy(hash, key).map_err(Unusable::Policy)?;
        Ok(Newcomer { hash, key: Arc::new(key.clone()), cost, policy })
    }

    fn policy(&self, hash: u64, key: &M::Key) -> Result<Option<Arc<KeyPolicy>>, ConfigError> {
        if self.policies.is_none() {
            return Ok(None);
        }
        let known = self.state.lock().known_policy(hash, key);
        match known {
            Some(policy) => Ok(Some(policy)),
            None => self.policies.ask(key).inspect_err(|error| {
                tracing::error!(%error, "poolyard: the policy of a key cannot work");
            }),
        }
    }
}

impl<M: Manager> Inner<M> {
    fn known_policy(&self, hash: u64, key: &M::Key) -> Option<Arc<KeyPolicy>> {
        let group = self.find_group(hash, key)?;
        self.shell(group).policy.clone()
    }
}
