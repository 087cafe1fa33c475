//! [`PoolConfig`]: every option of a pool, its default and the reason for it.

use std::fmt;
use std::time::Duration;

use crate::adaptive::Adaptive;
use crate::meta::SLOTS;

/// For a limit that shall not limit.
pub const UNLIMITED: usize = usize::MAX;

/// In which order idle resources of one key are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
pub enum ReuseOrder {
    /// The last one returned first: it is warm, and those that are not needed grow old and leave.
    #[default]
    Lifo,
    /// The first one returned first: all are used evenly, and none leaves by idleness.
    Fifo,
}

/// Who gets a resource that comes back while callers wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
pub enum Fairness {
    /// The oldest waiter, whatever comes along until it is awake.
    #[default]
    Fifo,
    /// The oldest waiter, unless a caller comes along before it is awake: that one takes it, and the
    /// waiter keeps its place. A task that returns a resource and asks for the next goes on without a
    /// switch of tasks, so more gets done where leases are shorter than a task takes to wake. The cost:
    /// callers of one key are no longer served in the order of arrival, and a waiter can be passed by
    /// `max_overtakes` younger ones, which shows in the longest waits.
    Throughput,
}

/// Every option of a pool.
///
/// No default waits for ever. [`Builder`](crate::Builder) has a setter of the same name for each
/// field; [`Pool::resize`](crate::Pool::resize) changes them while the pool runs.
///
/// | option | default | why |
/// |---|---|---|
/// | `name` | `"pool"` | what events and thread names carry |
/// | `max_total` | 32 | enough for two busy cores; what is pooled is expensive |
/// | `max_cost` | 2^40 | a tebibyte if the unit is bytes: a stop for sums that run away |
/// | `max_per_key` | as `max_total` | one key may use the whole pool |
/// | `max_idle` | as `max_total` | what was made stays until it is old or in the way |
/// | `max_idle_per_key` | as `max_per_key` | likewise |
/// | `min_idle_per_key` | 0 | nothing is made that nobody asked for |
/// | `max_waiters` | 10 000 | a longer queue would not be served in time anyway |
/// | `max_creating` | 8 | a stampede of creations slows each of them |
/// | `max_creating_per_key` | 4 | one key cannot take all of them |
/// | `max_recycling` | 8 | as many at once as a small machine carries |
/// | `max_destroying` | 8 | likewise |
/// | `max_surge` | 0 | the limits are strict |
/// | `max_abandoned` | 8 | a manager whose destroys hang must not fill the machine |
/// | `max_overtakes` | 64 | a cheap return may pass an older waiter of another key this often |
/// | `fairness` | FIFO | who comes first is served first |
/// | `breaker_after` | 10 | that many failures in a row are no coincidence |
/// | `breaker_pause` | 1 s | soon enough for what merely restarts |
/// | `breaker_max_pause` | 30 s | what works again is in use again within an acquire's patience |
/// | `leak_after` | never | how long a lease may be is for its user to say |
/// | `pressure_interval` | 1 s | shorter than most creations, and a look takes microseconds |
/// | `order` | LIFO | the warmest first |
/// | `wait_timeout` | 30 s | the patience of an interactive caller |
/// | `create_timeout` | 30 s | a container with a pulled image starts well within it |
/// | `recycle_timeout` | 10 s | resets take milliseconds; ten seconds is a hang |
/// | `health_check_timeout` | 5 s | a ping over a slow link fits |
/// | `destroy_timeout` | 10 s | what engines grant a process to end |
/// | `idle_timeout` | 10 min | beyond the gaps of ordinary traffic |
/// | `hibernate_after` | never | what sleeps is slower to hand out, and what it depends on may matter: opt in |
/// | `generic_stock` | 1 | the next new key is served fast; for managers with generic keys |
/// | `max_lifetime` | 1 h | bounds leaks in what is pooled |
/// | `lifetime_jitter` | 0.1 | resources made together do not end together |
/// | `replace_ahead` | as `create_timeout`, at most a tenth of `max_lifetime` | a creation that ends well ends before the old resource |
/// | `max_uses` | 2^32 | an hour's worth of leases of a microsecond each |
/// | `check_after` | 30 s | a younger one was in use a moment ago |
/// | `check_every_recycles` | 100 | a slow leak is found, at a hundredth of the cost |
/// | `check_interval` | 1 min | a dead idle resource is found before it is needed |
/// | `hedge_after` | the observed p95 of recycling | later than nineteen of twenty; 50 ms before there are eight observations |
/// | `adaptive` | off | it makes what nobody asked for, and costs each acquire a little |
///
/// With the feature `serde` it comes from TOML, YAML and the like: times as `"30s"` or `"10m"`, what
/// shall not limit as `"unlimited"` or `"never"`; what is left out has its default, and an unknown
/// field is an error that names it.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct PoolConfig {
    /// What events, errors and thread names call the pool.
    pub name: String,
    /// How many resources there may be, in whatever state. At most 2^24.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_words::limit"))]
    pub max_total: usize,
    /// What all resources together may cost, in the unit of [`Manager::cost`](crate::Manager::cost).
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_words::number"))]
    pub max_cost: u64,
    /// How many resources one key may have. `None`: as `max_total`.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_words::optional_limit"))]
    pub max_per_key: Option<usize>,
    /// How many resources may be idle. `None`: as `max_total`.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_words::optional_limit"))]
    pub max_idle: Option<usize>,
    /// How many resources of one key may be idle. `None`: as `max_per_key`.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_words::optional_limit"))]
    pub max_idle_per_key: Option<usize>,
    /// How many resources of each known key are kept idle, as far as limits and waiters allow. A
    /// key is known from its first use until the pool is closed if this is not zero.
    pub min_idle_per_key: usize,
    /// How many callers may wait.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_words::limit"))]
    pub max_waiters: usize,
    /// How many creations may run at once.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_words::limit"))]
    pub max_creating: usize,
    /// How many creations of one key may run at once.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_words::limit"))]
    pub max_creating_per_key: usize,
    /// How many recycles and health checks may run at once.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_words::limit"))]
    pub max_recycling: usize,
    /// How many destroys may run at once.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_words::limit"))]
    pub max_destroying: usize,
    /// How many resources there may be above `max_total` and `max_per_key` while others are being
    /// destroyed or replaced. `max_cost` has no surge.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_words::limit"))]
    pub max_surge: usize,
    /// How many resources whose destroy hung are given up and no longer counted.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_words::limit"))]
    pub max_abandoned: usize,
    /// How many resources may pass an older waiter of another key before room is made for it; in
    /// throughput mode also how many callers of its own key.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_words::number"))]
    pub max_overtakes: u64,
    /// Whether a caller that comes along may pass a waiter of its own key.
    pub fairness: Fairness,
    /// After so many failed creations of one key in a row, none is tried for `breaker_pause`, then a
    /// single one, and so on for twice as long each time. Meanwhile callers whom no resource of the
    /// key can serve get [`AcquireError::CircuitOpen`](crate::AcquireError::CircuitOpen) at once.
    /// `None`: never. At most 4 096 failing keys are remembered, for `breaker_max_pause` each.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_words::optional_count"))]
    pub breaker_after: Option<u64>,
    /// How long no creation of a key is tried, the first time.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_words::span"))]
    pub breaker_pause: Duration,
    /// How long no creation of a key is tried, at most. Failures further apart than this are not
    /// "in a row".
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_words::span"))]
    pub breaker_max_pause: Duration,
    /// A lease held for longer is reported, once. `None`: never.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_words::optional_span"))]
    pub leak_after: Option<Duration>,
    /// How often the [source of pressure](crate::Builder::pressure) is asked, if there is one.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_words::span"))]
    pub pressure_interval: Duration,
    /// In which order idle resources are used.
    pub order: ReuseOrder,
    /// How long an acquire may take altogether. `None`: for ever.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_words::optional_span"))]
    pub wait_timeout: Option<Duration>,
    /// How long one creation may take, all attempts and pauses together.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_words::span"))]
    pub create_timeout: Duration,
    /// How long one recycle, hibernation or wake may take.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_words::span"))]
    pub recycle_timeout: Duration,
    /// How long one health check may take.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_words::span"))]
    pub health_check_timeout: Duration,
    /// How long one destroy may take.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_words::span"))]
    pub destroy_timeout: Duration,
    /// How long a resource may be idle. `None`: for ever.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_words::optional_span"))]
    pub idle_timeout: Option<Duration>,
    /// After how long an idle resource is put to sleep, if its manager implements
    /// [`hibernate`](crate::Manager::hibernate) and it is part neither of the minimum idle nor of what
    /// [adaptive sizing](crate::Adaptive) keeps. It is woken when somebody wants it and none is awake,
    /// and ends after `idle_timeout` all the same. `None`: never.
    ///
    /// Read first what sleep means for the manager's resources: what is paused does not notice that its
    /// owner has died, say.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_words::optional_span"))]
    pub hibernate_after: Option<Duration>,
    /// How many resources of each generic key are kept idle, if the manager names
    /// [such keys](crate::Manager::generic_key): a minimum idle, counted against all limits, that is
    /// refilled when no waiter needs the room and evicted last.
    pub generic_stock: usize,
    /// How old a resource may become. `None`: as old as it likes.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_words::optional_span"))]
    pub max_lifetime: Option<Duration>,
    /// By which share, from 0 to 1, a resource's lifetime may be shorter than `max_lifetime`;
    /// rolled once for each resource.
    pub lifetime_jitter: f64,
    /// How long before the end of its lifetime a resource is replaced that is part of a minimum
    /// idle, so that the key does not fall below it because of age. The old one serves on until the
    /// new one is there. One on its last use by `max_uses` is replaced while it is leased. Where the
    /// pool is full, `max_surge` says how many are replaced at a time; with no surge, or no room
    /// within `max_cost`, the old one ends first. At most half of a life is cut off so. Zero: nothing is
    /// replaced ahead. `None`: as `create_timeout`, at most a tenth of `max_lifetime`.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_words::auto_span"))]
    pub replace_ahead: Option<Duration>,
    /// How many leases a resource may serve.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_words::number"))]
    pub max_uses: u64,
    /// A resource not known to be healthy for this long is checked before it is handed out.
    /// `Some(Duration::ZERO)`: before every hand-out. `None`: never.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_words::optional_span"))]
    pub check_after: Option<Duration>,
    /// A resource is checked at return after every so many recycles. `None`: never.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_words::optional_count"))]
    pub check_every_recycles: Option<u64>,
    /// An idle resource not known to be healthy for this long is checked. `None`: never.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_words::optional_span"))]
    pub check_interval: Option<Duration>,
    /// How long a waiter counts on a resource that is being recycled or checked before a creation
    /// is started for it. `None`: the observed p95 of recycling.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_words::optional_span"))]
    pub hedge_after: Option<Duration>,
    /// Keeps as many resources of each key as serve most callers at once, judged by the callers of
    /// late. `None`: resources come and go by the other options alone.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub adaptive: Option<Adaptive>,
}

impl Default for PoolConfig {
    fn default() -> Self {
        const MINUTE: u64 = 60;
        PoolConfig {
            name: String::from("pool"),
            max_total: 32,
            max_cost: 1 << 40,
            max_per_key: None,
            max_idle: None,
            max_idle_per_key: None,
            min_idle_per_key: 0,
            max_waiters: 10_000,
            max_creating: 8,
            max_creating_per_key: 4,
            max_recycling: 8,
            max_destroying: 8,
            max_surge: 0,
            max_abandoned: 8,
            max_overtakes: 64,
            fairness: Fairness::Fifo,
            breaker_after: Some(10),
            breaker_pause: Duration::from_secs(1),
            breaker_max_pause: Duration::from_secs(30),
            leak_after: None,
            pressure_interval: Duration::from_secs(1),
            order: ReuseOrder::Lifo,
            wait_timeout: Some(Duration::from_secs(30)),
            create_timeout: Duration::from_secs(30),
            recycle_timeout: Duration::from_secs(10),
            health_check_timeout: Duration::from_secs(5),
            destroy_timeout: Duration::from_secs(10),
            idle_timeout: Some(Duration::from_secs(10 * MINUTE)),
            hibernate_after: None,
            generic_stock: 1,
            max_lifetime: Some(Duration::from_secs(60 * MINUTE)),
            lifetime_jitter: 0.1,
            replace_ahead: None,
            max_uses: 1 << 32,
            check_after: Some(Duration::from_secs(30)),
            check_every_recycles: Some(100),
            check_interval: Some(Duration::from_secs(MINUTE)),
            hedge_after: None,
            adaptive: None,
        }
    }
}

impl PoolConfig {
    /// Refuses what cannot work, naming the fields and their values.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] for the first contradiction found.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_limits()?;
        self.validate_minimum_idle()?;
        self.adaptive.as_ref().map_or(Ok(()), Adaptive::validate)?;
        self.validate_times()
    }

    fn validate_limits(&self) -> Result<(), ConfigError> {
        let positive = [
            ("max_total", self.max_total),
            ("max_per_key", self.max_per_key.unwrap_or(1)),
            ("max_creating", self.max_creating),
            ("max_creating_per_key", self.max_creating_per_key),
            ("max_recycling", self.max_recycling),
            ("max_destroying", self.max_destroying),
        ];
        for (field, value) in positive {
            if value == 0 {
                return refuse(format!("{field} is 0, so nobody could ever be served; give at least 1"));
            }
        }
        if self.max_cost == 0 {
            return refuse("max_cost is 0, so nobody could ever be served; give at least 1".into());
        }
        if self.max_uses == 0 {
            return refuse("max_uses is 0, so a resource could not be used once; give at least 1".into());
        }
        if self.check_every_recycles == Some(0) {
            return refuse("check_every_recycles is 0; give at least 1, or None for never".into());
        }
        if self.breaker_after == Some(0) {
            return refuse("breaker_after is 0; give at least 1, or None for never".into());
        }
        if self.max_total != UNLIMITED && self.max_total.saturating_add(self.max_surge) > SLOTS as usize {
            return refuse(format!(
                "max_total {} and max_surge {} are together above {SLOTS}; give less, or UNLIMITED",
                self.max_total, self.max_surge
            ));
        }
        above("max_per_key", self.max_per_key, "max_total", self.max_total)?;
        above("max_idle", self.max_idle, "max_total", self.max_total)?;
        above("max_idle_per_key", self.max_idle_per_key, "max_idle", self.idle_limit())?;
        above("max_idle_per_key", self.max_idle_per_key, "max_per_key", self.per_key_limit())
    }

    fn validate_minimum_idle(&self) -> Result<(), ConfigError> {
        let minimum = Some(self.min_idle_per_key);
        above("min_idle_per_key", minimum, "max_idle_per_key", self.idle_per_key_limit())?;
        above("min_idle_per_key", minimum, "max_idle", self.idle_limit())?;
        above("min_idle_per_key", minimum, "max_total", self.max_total)
    }

    fn validate_times(&self) -> Result<(), ConfigError> {
        let times = [
            ("wait_timeout", self.wait_timeout),
            ("create_timeout", Some(self.create_timeout)),
            ("recycle_timeout", Some(self.recycle_timeout)),
            ("health_check_timeout", Some(self.health_check_timeout)),
            ("destroy_timeout", Some(self.destroy_timeout)),
            ("idle_timeout", self.idle_timeout),
            ("hibernate_after", self.hibernate_after),
            ("max_lifetime", self.max_lifetime),
            ("check_interval", self.check_interval),
            ("breaker_pause", Some(self.breaker_pause)),
            ("leak_after", self.leak_after),
            ("pressure_interval", Some(self.pressure_interval)),
        ];
        for (field, value) in times {
            if value == Some(Duration::ZERO) {
                return refuse(format!("{field} is 0, so it would pass before anything could happen"));
            }
        }
        if !(0.0..=1.0).contains(&self.lifetime_jitter) {
            return refuse(format!("lifetime_jitter {} is not between 0 and 1", self.lifetime_jitter));
        }
        later("idle_timeout", self.idle_timeout, "max_lifetime", self.max_lifetime)?;
        let (pause, longest) = (Some(self.breaker_pause), Some(self.breaker_max_pause));
        later("breaker_pause", pause, "breaker_max_pause", longest)?;
        later("replace_ahead", self.replace_ahead, "max_lifetime", self.max_lifetime)?;
        later("hedge_after", self.hedge_after, "recycle_timeout", Some(self.recycle_timeout))
    }

    pub(crate) fn per_key_limit(&self) -> usize {
        self.max_per_key.unwrap_or(self.max_total)
    }

    pub(crate) fn idle_limit(&self) -> usize {
        self.max_idle.unwrap_or(self.max_total)
    }

    pub(crate) fn idle_per_key_limit(&self) -> usize {
        self.max_idle_per_key.unwrap_or(self.per_key_limit().min(self.idle_limit()))
    }
}

pub(crate) fn refuse(message: String) -> Result<(), ConfigError> {
    Err(ConfigError::new(message))
}

/// Refuses a smaller limit that is above the larger one it can never reach.
pub(crate) fn above(small: &str, value: Option<usize>, large: &str, limit: usize) -> Result<(), ConfigError> {
    match value {
        Some(value) if value > limit && value != UNLIMITED => refuse(format!(
            "{small} {value} is above {large} {limit}, so it could never be reached; raise {large} or lower {small}"
        )),
        _ => Ok(()),
    }
}

/// Refuses a span that cannot pass because another one ends first.
pub(crate) fn later(
    first: &str,
    span: Option<Duration>,
    second: &str,
    end: Option<Duration>,
) -> Result<(), ConfigError> {
    match (span, end) {
        (Some(span), Some(end)) if span > end => refuse(format!(
            "{first} {span:?} is longer than {second} {end:?}, so it could never pass; raise {second} or lower {first}"
        )),
        _ => Ok(()),
    }
}

/// A configuration that cannot work. The message names the fields and their values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    message: String,
}

impl ConfigError {
    pub(crate) fn new(message: String) -> Self {
        ConfigError { message }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut PoolConfig), words: &[&str]) {
        let mut config = PoolConfig::default();
        change(&mut config);
        let message = config.validate().expect_err("must be refused").to_string();
        for word in words {
            assert!(message.contains(word), "{message:?} does not name {word:?}");
        }
    }

    #[test]
    fn an_impossible_configuration_is_refused_naming_fields_and_values() {
        refused(|c| c.max_total = 0, &["max_total", "0"]);
        refused(|c| c.max_per_key = Some(0), &["max_per_key", "0"]);
        refused(|c| c.max_cost = 0, &["max_cost", "0"]);
        refused(|c| c.max_uses = 0, &["max_uses", "0"]);
        refused(|c| c.max_creating = 0, &["max_creating", "0"]);
        refused(|c| c.max_creating_per_key = 0, &["max_creating_per_key", "0"]);
        refused(|c| c.max_recycling = 0, &["max_recycling", "0"]);
        refused(|c| c.max_destroying = 0, &["max_destroying", "0"]);
        refused(|c| c.check_every_recycles = Some(0), &["check_every_recycles"]);
        refused(|c| c.leak_after = Some(Duration::ZERO), &["leak_after is 0"]);
        refused(|c| c.pressure_interval = Duration::ZERO, &["pressure_interval is 0"]);
        refused(|c| c.breaker_after = Some(0), &["breaker_after is 0"]);
        refused(|c| c.breaker_pause = Duration::ZERO, &["breaker_pause is 0"]);
        refused(
            |c| c.breaker_pause = Duration::from_secs(31),
            &["breaker_pause 31s", "breaker_max_pause 30s"],
        );
        refused(|c| c.max_total = 1 << 25, &["max_total", "33554432"]);
        refused(|c| c.max_per_key = Some(33), &["max_per_key 33", "max_total 32"]);
        refused(|c| c.max_idle = Some(33), &["max_idle 33", "max_total 32"]);
        refused(|c| c.min_idle_per_key = 33, &["min_idle_per_key 33", "32"]);
        refused(
            |c| (c.max_idle_per_key, c.max_per_key) = (Some(5), Some(4)),
            &["max_idle_per_key 5", "max_per_key 4"],
        );
        refused(
            |c| (c.min_idle_per_key, c.max_idle_per_key) = (3, Some(2)),
            &["min_idle_per_key 3", "max_idle_per_key 2"],
        );
        let adaptive = Adaptive::default();
        refused(|c| c.adaptive = Some(Adaptive { share: 1.0, ..adaptive }), &["adaptive.share", "1"]);
        refused(|c| c.adaptive = Some(Adaptive { share: f64::NAN, ..adaptive }), &["adaptive.share"]);
        let interval = Duration::ZERO;
        refused(|c| c.adaptive = Some(Adaptive { interval, ..adaptive }), &["adaptive.interval", "0"]);
        let max_window = Duration::from_millis(999);
        refused(
            |c| c.adaptive = Some(Adaptive { max_window, ..adaptive }),
            &["adaptive.interval 1s", "adaptive.max_window 999ms"],
        );
        refused(|c| c.create_timeout = Duration::ZERO, &["create_timeout", "0"]);
        refused(|c| c.wait_timeout = Some(Duration::ZERO), &["wait_timeout", "0"]);
        refused(|c| c.lifetime_jitter = 1.5, &["lifetime_jitter", "1.5"]);
        refused(|c| c.lifetime_jitter = f64::NAN, &["lifetime_jitter"]);
        refused(
            |c| c.max_lifetime = Some(Duration::from_secs(60)),
            &["idle_timeout 600s", "max_lifetime 60s"],
        );
        refused(
            |c| c.hedge_after = Some(Duration::from_secs(11)),
            &["hedge_after 11s", "recycle_timeout 10s"],
        );
    }

    #[test]
    fn unlimited_is_allowed_for_every_limit() {
        let config = PoolConfig {
            max_total: UNLIMITED,
            max_cost: u64::MAX,
            max_per_key: Some(UNLIMITED),
            max_idle: Some(UNLIMITED),
            max_idle_per_key: Some(UNLIMITED),
            max_waiters: UNLIMITED,
            max_creating: UNLIMITED,
            max_creating_per_key: UNLIMITED,
            max_recycling: UNLIMITED,
            max_destroying: UNLIMITED,
            max_surge: UNLIMITED,
            max_abandoned: UNLIMITED,
            max_uses: u64::MAX,
            wait_timeout: None,
            idle_timeout: None,
            max_lifetime: None,
            check_after: None,
            check_every_recycles: None,
            check_interval: None,
            breaker_after: None,
            ..PoolConfig::default()
        };
        assert_eq!(config.validate(), Ok(()));
    }

    /// The table above, pinned: a default changes here, there and in the changelog, or not at all.
    #[test]
    fn the_defaults_are_those_of_the_table() {
        let table = include_str!("config.rs");
        let row = |option: &str, default: &str| {
            assert!(table.contains(&format!("/// | `{option}` | {default} |")), "{option} is not {default}");
        };
        let c = PoolConfig::default();
        assert_eq!(c.validate(), Ok(()));
        row("name", &format!("`{:?}`", c.name));
        row("max_total", &c.max_total.to_string());
        row("max_cost", &format!("2^{}", c.max_cost.ilog2()));
        assert_eq!((c.max_per_key, c.max_idle, c.max_idle_per_key), (None, None, None));
        row("max_per_key", "as `max_total`");
        row("max_idle", "as `max_total`");
        row("max_idle_per_key", "as `max_per_key`");
        row("min_idle_per_key", &c.min_idle_per_key.to_string());
        assert_eq!(c.max_waiters, 10_000);
        row("max_waiters", "10 000");
        row("max_creating", &c.max_creating.to_string());
        row("max_creating_per_key", &c.max_creating_per_key.to_string());
        row("max_recycling", &c.max_recycling.to_string());
        row("max_destroying", &c.max_destroying.to_string());
        row("max_surge", &c.max_surge.to_string());
        row("max_abandoned", &c.max_abandoned.to_string());
        row("max_overtakes", &c.max_overtakes.to_string());
        row("breaker_after", &c.breaker_after.unwrap().to_string());
        assert_eq!(c.order, ReuseOrder::Lifo);
        row("order", "LIFO");
        assert_eq!(c.fairness, Fairness::Fifo);
        row("fairness", "FIFO");
        let seconds = |d: Duration| format!("{} s", d.as_secs());
        row("wait_timeout", &seconds(c.wait_timeout.unwrap()));
        assert_eq!(c.leak_after, None);
        row("leak_after", "never");
        row("pressure_interval", &seconds(c.pressure_interval));
        row("breaker_pause", &seconds(c.breaker_pause));
        row("breaker_max_pause", &seconds(c.breaker_max_pause));
        row("create_timeout", &seconds(c.create_timeout));
        row("recycle_timeout", &seconds(c.recycle_timeout));
        row("health_check_timeout", &seconds(c.health_check_timeout));
        row("destroy_timeout", &seconds(c.destroy_timeout));
        row("idle_timeout", &format!("{} min", c.idle_timeout.unwrap().as_secs() / 60));
        assert_eq!(c.hibernate_after, None);
        row("hibernate_after", "never");
        row("generic_stock", &c.generic_stock.to_string());
        row("max_lifetime", &format!("{} h", c.max_lifetime.unwrap().as_secs() / 3600));
        row("lifetime_jitter", &c.lifetime_jitter.to_string());
        assert_eq!(c.replace_ahead, None);
        row("replace_ahead", "as `create_timeout`, at most a tenth of `max_lifetime`");
        row("max_uses", &format!("2^{}", c.max_uses.ilog2()));
        row("check_after", &seconds(c.check_after.unwrap()));
        row("check_every_recycles", &c.check_every_recycles.unwrap().to_string());
        row("check_interval", &format!("{} min", c.check_interval.unwrap().as_secs() / 60));
        assert_eq!((c.hedge_after, c.adaptive), (None, None));
        row("hedge_after", "the observed p95 of recycling");
        row("adaptive", "off");
    }
}
