//! [`KeyPolicy`]: options of one key that differ from those of the pool.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::call::contained;
use crate::config::{ConfigError, PoolConfig, above, later, refuse};
use crate::manager::Manager;

/// Options of one key. What it does not set is as the [`Builder`](crate::Builder) says.
///
/// A number above a limit of the pool counts as that limit, because
/// [`resize`](crate::Pool::resize) may change it at any time. What contradicts itself is refused when
/// the key is first used: by [`AcquireError::Policy`](crate::AcquireError::Policy), which names the
/// options and their values.
///
/// ```
/// use std::time::Duration;
/// use poolyard_core::KeyPolicy;
///
/// let small_and_short = KeyPolicy::new().max_per_key(2).idle_timeout(Duration::from_secs(30));
/// let for_ever = KeyPolicy::new().min_idle_per_key(1).max_lifetime(None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPolicy {
    max_per_key: Option<usize>,
    max_idle_per_key: Option<usize>,
    min_idle_per_key: Option<usize>,
    max_uses: Option<u64>,
    create_timeout: Option<Duration>,
    idle_timeout: Option<Option<Duration>>,
    max_lifetime: Option<Option<Duration>>,
    check_interval: Option<Option<Duration>>,
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $type:ty;)*) => {
        $($(#[$doc])*
        #[must_use]
        pub fn $name(mut self, $name: $type) -> Self {
            self.$name = Some($name.into());
            self
        })*
    };
}

impl KeyPolicy {
    /// The pool's options, unchanged.
    pub fn new() -> Self {
        Self::default()
    }

    setters! {
        /// How many resources the key may have.
        max_per_key: usize;
        /// How many of its resources may be idle.
        max_idle_per_key: usize;
        /// How many of its resources are kept idle, as far as limits and waiters allow. If this is
        /// not zero, the key is known from its first use until the pool is closed.
        min_idle_per_key: usize;
        /// How many leases each of its resources may serve.
        max_uses: u64;
        /// How long one creation may take, all attempts together.
        create_timeout: Duration;
        /// How long its resources may be idle; `None`: for ever.
        idle_timeout: impl Into<Option<Duration>>;
        /// How old its resources may become; `None`: as old as they like.
        max_lifetime: impl Into<Option<Duration>>;
        /// Its idle resources not known to be healthy for this long are checked; `None`: never.
        check_interval: impl Into<Option<Duration>>;
    }

    /// Refuses what contradicts itself, naming the options and their values.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if self.max_per_key == Some(0) {
            refuse("max_per_key is 0, so nobody could ever be served; give at least 1".into())?;
        }
        if self.max_uses == Some(0) {
            refuse("max_uses is 0, so a resource could not be used once; give at least 1".into())?;
        }
        let times = [
            ("create_timeout", self.create_timeout),
            ("idle_timeout", self.idle_timeout.flatten()),
            ("max_lifetime", self.max_lifetime.flatten()),
            ("check_interval", self.check_interval.flatten()),
        ];
        for (field, value) in times {
            if value == Some(Duration::ZERO) {
                refuse(format!("{field} is 0, so it would pass before anything could happen"))?;
            }
        }
        later("idle_timeout", self.idle_timeout.flatten(), "max_lifetime", self.max_lifetime.flatten())?;
        if let Some(limit) = self.max_idle_per_key {
            above("min_idle_per_key", self.min_idle_per_key, "max_idle_per_key", limit)?;
        }
        let limit = self.max_per_key.unwrap_or(usize::MAX);
        above("max_idle_per_key", self.max_idle_per_key, "max_per_key", limit)?;
        above("min_idle_per_key", self.min_idle_per_key, "max_per_key", limit)
    }

    /// The key's options beside those of the pool, within the limits of the pool.
    pub(crate) fn resolve(&self, config: &PoolConfig) -> KeyConfig {
        let create_timeout = self.create_timeout.unwrap_or(config.create_timeout);
        let max_lifetime = self.max_lifetime.unwrap_or(config.max_lifetime);
        let max_per_key = self.max_per_key.unwrap_or(config.per_key_limit()).min(config.max_total);
        let max_idle_per_key = self.max_idle_per_key.or(config.max_idle_per_key).unwrap_or(usize::MAX);
        let max_idle_per_key = max_idle_per_key.min(max_per_key).min(config.idle_limit());
        KeyConfig {
            max_per_key,
            max_idle_per_key,
            min_idle_per_key: self.min_idle_per_key.unwrap_or(config.min_idle_per_key).min(max_idle_per_key),
            max_uses: self.max_uses.unwrap_or(config.max_uses),
            create_timeout,
            idle_timeout: self.idle_timeout.unwrap_or(config.idle_timeout),
            max_lifetime,
            replace_ahead: replacement_lead(config.replace_ahead, create_timeout, max_lifetime),
            check_interval: self.check_interval.unwrap_or(config.check_interval),
        }
    }
}

/// How long before its end a resource is replaced; `None`: not at all.
fn replacement_lead(
    given: Option<Duration>,
    create_timeout: Duration,
    max_lifetime: Option<Duration>,
) -> Option<Duration> {
    let tenth = max_lifetime.map_or(Duration::MAX, |lifetime| lifetime / 10);
    let lead = given.unwrap_or(create_timeout.min(tenth));
    (lead > Duration::ZERO).then_some(lead)
}

/// The options in force for one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyConfig {
    pub(crate) max_per_key: usize,
    pub(crate) max_idle_per_key: usize,
    pub(crate) min_idle_per_key: usize,
    pub(crate) max_uses: u64,
    pub(crate) create_timeout: Duration,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) max_lifetime: Option<Duration>,
    pub(crate) replace_ahead: Option<Duration>,
    pub(crate) check_interval: Option<Duration>,
}

type PolicyOf<K> = Arc<dyn Fn(&K) -> KeyPolicy + Send + Sync>;

/// The function given to [`Builder::policy`](crate::Builder::policy), if one was.
pub(crate) struct Policies<M: Manager>(Option<PolicyOf<M::Key>>);

impl<M: Manager> Policies<M> {
    pub(crate) const NONE: Self = Policies(None);

    pub(crate) fn new(policy: impl Fn(&M::Key) -> KeyPolicy + Send + Sync + 'static) -> Self {
        Policies(Some(Arc::new(policy)))
    }

    pub(crate) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Asks the user's function, which may panic. Never under the lock.
    pub(crate) fn ask(&self, key: &M::Key) -> Result<Option<Arc<KeyPolicy>>, ConfigError> {
        let Some(policy) = &self.0 else { return Ok(None) };
        let policy = contained(|| policy(key))
            .map_err(|panic| ConfigError::new(format!("the function given to policy panicked: {panic}")))?;
        policy.validate()?;
        Ok(Some(Arc::new(policy)))
    }
}

impl<M: Manager> Clone for Policies<M> {
    fn clone(&self) -> Self {
        Policies(self.0.clone())
    }
}

impl<M: Manager> fmt::Debug for Policies<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_none() { "none" } else { "a function" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(policy: KeyPolicy, words: &[&str]) {
        let message = policy.validate().expect_err("must be refused").to_string();
        for word in words {
            assert!(message.contains(word), "{message:?} does not name {word:?}");
        }
    }

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_policy_that_contradicts_itself_is_refused_naming_options_and_values() {
        let new = KeyPolicy::new;
        refused(new().max_per_key(0), &["max_per_key is 0"]);
        refused(new().max_uses(0), &["max_uses is 0"]);
        refused(new().create_timeout(Duration::ZERO), &["create_timeout is 0"]);
        refused(new().idle_timeout(Duration::ZERO), &["idle_timeout is 0"]);
        refused(new().max_lifetime(Duration::ZERO), &["max_lifetime is 0"]);
        refused(new().check_interval(Duration::ZERO), &["check_interval is 0"]);
        refused(new().idle_timeout(secs(9)).max_lifetime(secs(8)), &["idle_timeout 9s", "max_lifetime 8s"]);
        refused(new().max_idle_per_key(3).max_per_key(2), &["max_idle_per_key 3", "max_per_key 2"]);
        refused(new().min_idle_per_key(3).max_idle_per_key(2), &["min_idle_per_key 3", "max_idle_per_key 2"]);
        refused(new().min_idle_per_key(3).max_per_key(2), &["min_idle_per_key 3", "max_per_key 2"]);
    }

    #[test]
    fn what_a_policy_does_not_set_is_as_the_pool_has_it() {
        let config = PoolConfig {
            max_total: 9,
            max_per_key: Some(5),
            max_idle_per_key: Some(3),
            min_idle_per_key: 2,
            idle_timeout: None,
            ..PoolConfig::default()
        };
        let expected = KeyConfig {
            max_per_key: 5,
            max_idle_per_key: 3,
            min_idle_per_key: 2,
            max_uses: config.max_uses,
            create_timeout: config.create_timeout,
            idle_timeout: None,
            max_lifetime: config.max_lifetime,
            replace_ahead: Some(config.create_timeout),
            check_interval: config.check_interval,
        };
        assert_eq!(KeyPolicy::new().resolve(&config), expected);
        let own = KeyPolicy::new().max_per_key(8).max_lifetime(None).idle_timeout(secs(1));
        let expected =
            KeyConfig { max_per_key: 8, max_lifetime: None, idle_timeout: Some(secs(1)), ..expected };
        assert_eq!(own.resolve(&config), expected);
    }

    #[test]
    fn what_a_policy_allows_beyond_the_pool_counts_as_the_pools_limit() {
        let config = PoolConfig { max_total: 4, max_idle: Some(3), ..PoolConfig::default() };
        let resolved =
            KeyPolicy::new().max_per_key(9).max_idle_per_key(8).min_idle_per_key(7).resolve(&config);
        assert_eq!((resolved.max_per_key, resolved.max_idle_per_key, resolved.min_idle_per_key), (4, 3, 3));
    }

    #[test]
    fn a_smaller_limit_of_the_key_lowers_what_follows_it() {
        let config = PoolConfig { min_idle_per_key: 4, max_idle_per_key: Some(5), ..PoolConfig::default() };
        let resolved = KeyPolicy::new().max_per_key(2).resolve(&config);
        assert_eq!((resolved.max_idle_per_key, resolved.min_idle_per_key), (2, 2));
    }
}
