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
    /// The key whose resources can be turned into those of this one.
    pub(crate) generic: Option<Box<Newcomer<K>>>,
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
    /// What is known of `key`; a key that the pool does not know is asked about: its hash, a clone, its
    /// cost, its policy, and its generic key.
    pub(crate) fn introduce(&self, key: &M::Key) -> Result<Newcomer<M::Key>, Unusable> {
        let hash = self.hasher.hash_one(key);
        if let Some(known) = self.known(hash, key) {
            return Ok(known);
        }
        let newcomer = self.ask_about(hash, key)?;
        Ok(Newcomer { generic: self.generic_of(key)?, ..newcomer })
    }

    /// The generic key of `key`, itself without one.
    fn generic_of(&self, key: &M::Key) -> Result<Option<Box<Newcomer<M::Key>>>, Unusable> {
        let named = self.ask("generic_key", |manager| manager.generic_key(key)).ok().flatten();
        let Some(generic) = named.filter(|generic| generic != key) else { return Ok(None) };
        let hash = self.hasher.hash_one(&generic);
        let newcomer = match self.known(hash, &generic) {
            Some(known) => known,
            None => self.ask_about(hash, &generic)?,
        };
        Ok(Some(Box::new(newcomer)))
    }

    fn known(&self, hash: u64, key: &M::Key) -> Option<Newcomer<M::Key>> {
        self.state.lock().known(hash, key)
    }

    fn ask_about(&self, hash: u64, key: &M::Key) -> Result<Newcomer<M::Key>, Unusable> {
        let cost = self.cost(key).map_err(Unusable::Panicked)?;
        let policy = self.policy(key).map_err(Unusable::Policy)?;
        Ok(Newcomer { hash, key: Arc::new(key.clone()), cost, policy, generic: None })
    }

    fn policy(&self, key: &M::Key) -> Result<Option<Arc<KeyPolicy>>, ConfigError> {
        if self.policies.is_none() {
            return Ok(None);
        }
        self.policies.ask(key).inspect_err(|error| {
            tracing::error!(%error, "poolyard: the policy of a key cannot work");
        })
    }
}

impl<M: Manager> Inner<M> {
    /// What the pool knows of a key that it has resources or waiters of.
    fn known(&self, hash: u64, key: &M::Key) -> Option<Newcomer<M::Key>> {
        let group = self.find_group(hash, key)?;
        let generic = self.ledger.generic_of(group).map(|generic| Box::new(self.newcomer_of(generic)));
        Some(Newcomer { generic, ..self.newcomer_of(group) })
    }

    fn newcomer_of(&self, group: u32) -> Newcomer<M::Key> {
        let shell = self.shell(group);
        let (key, policy) = (Arc::clone(&shell.key), shell.policy.clone());
        Newcomer { hash: shell.hash, key, cost: self.ledger.cost_of(group), policy, generic: None }
    }
}
