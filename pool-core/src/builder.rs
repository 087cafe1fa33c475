//! [`Builder`]: from options to a pool.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::adaptive::Adaptive;
use crate::config::{ConfigError, Fairness, PoolConfig, ReuseOrder};
use crate::context::GoneSink;
use crate::hash::RandomState;
use crate::ledger::Ledger;
use crate::manager::Manager;
use crate::observer::Observer;
use crate::patience::Patience;
use crate::policy::{KeyPolicy, Policies};
use crate::pool::Pool;
use crate::pressure::{PressureSource, Source};
use crate::rt::Placement;
use crate::shared::{Inner, Shared, Sink};
use crate::sync::Mutex;
use crate::time::Clock;

/// Collects a pool's options. Made by [`Pool::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct Builder<M: Manager, O: Observer = (), S = RandomState> {
    pub(crate) manager: M,
    observer: O,
    hasher: S,
    pub(crate) config: PoolConfig,
    placement: Placement,
    policies: Policies<M>,
    source: Source,
    /// Resources are checked before every hand-out, whatever the configuration says.
    pub(crate) check_always: bool,
}

impl<M: Manager> Builder<M> {
    pub(crate) fn new(manager: M) -> Self {
        Builder {
            manager,
            observer: (),
            hasher: RandomState::default(),
            config: PoolConfig::default(),
            placement: Placement::default(),
            policies: Policies::NONE,
            source: Source::default(),
            check_always: false,
        }
    }
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $type:ty;)*) => {
        $($(#[$doc])*
        pub fn $name(mut self, $name: $type) -> Self {
            self.config.$name = $name;
            self
        })*
    };
}

macro_rules! optional_setters {
    ($($(#[$doc:meta])* $name:ident: $type:ty;)*) => {
        $($(#[$doc])*
        pub fn $name(mut self, $name: impl Into<Option<$type>>) -> Self {
            self.config.$name = $name.into();
            self
        })*
    };
}

impl<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> Builder<M, O, S> {
    /// All options at once; setters called afterwards change single ones.
    pub fn config(mut self, config: PoolConfig) -> Self {
        self.config = config;
        self
    }

    /// What events, errors and thread names call the pool. Default: `"pool"`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.config.name = name.into();
        self
    }

    setters! {
        /// How many resources there may be, in whatever state. Default: 32.
        max_total: usize;
        /// What all resources together may cost, in the unit of [`Manager::cost`]. Default: 2^40.
        max_cost: u64;
        /// How many idle resources are kept for each known key. Default: 0.
        min_idle_per_key: usize;
        /// How many idle resources are kept for each generic key. Default: 1.
        generic_stock: usize;
        /// How many callers may wait. Default: 10 000.
        max_waiters: usize;
        /// How many creations may run at once. Default: 8.
        max_creating: usize;
        /// How many creations of one key may run at once. Default: 4.
        max_creating_per_key: usize;
        /// How many recycles and checks may run at once. Default: 8.
        max_recycling: usize;
        /// How many destroys may run at once. Default: 8.
        max_destroying: usize;
        /// How many resources there may be above the limits while others are destroyed or replaced.
        /// Default: 0.
        max_surge: usize;
        /// How many resources whose destroy hung are given up. Default: 8.
        max_abandoned: usize;
        /// How often a return may pass an older waiter of another key. Default: 64.
        max_overtakes: u64;
        /// Whether a caller that comes along may pass a waiter. Default: [`Fairness::Fifo`].
        fairness: Fairness;
        /// How long no creation of a key is tried whose creations keep failing, the first time; it
        /// doubles with each failed probe. Default: 1 s.
        breaker_pause: Duration;
        /// How long no creation of a key is tried, at most. Default: 30 s.
        breaker_max_pause: Duration;
        /// In which order idle resources are used. Default: [`ReuseOrder::Lifo`].
        order: ReuseOrder;
        /// How often the source of pressure is asked, if there is one. Default: 1 s.
        pressure_interval: Duration;
        /// How long one creation may take, all attempts together. Default: 30 s.
        create_timeout: Duration;
        /// How long one recycle may take. Default: 10 s.
        recycle_timeout: Duration;
        /// How long one health check may take. Default: 5 s.
        health_check_timeout: Duration;
        /// How long one destroy may take. Default: 10 s.
        destroy_timeout: Duration;
        /// By which share a lifetime may be shorter, from 0 to 1. Default: 0.1.
        lifetime_jitter: f64;
        /// How many leases a resource may serve. Default: 2^32.
        max_uses: u64;
    }

    optional_setters! {
        /// How many resources one key may have. Default: as `max_total`.
        max_per_key: usize;
        /// How many resources may be idle. Default: as `max_total`.
        max_idle: usize;
        /// How many resources of one key may be idle. Default: as `max_per_key`.
        max_idle_per_key: usize;
        /// After how many failed creations of a key in a row none is tried for a while; `None`: never.
        /// Default: 10.
        breaker_after: u64;
        /// How long an acquire may take altogether; `None`: for ever. Default: 30 s.
        wait_timeout: Duration;
        /// How long a resource may be idle; `None`: for ever. Default: 10 min.
        idle_timeout: Duration;
        /// After how long an idle resource is put to sleep, if its manager does that. Default: `None`,
        /// never.
        hibernate_after: Duration;
        /// How old a resource may become; `None`: as old as it likes. Default: 1 h.
        max_lifetime: Duration;
        /// How long before its end a resource of a minimum idle is replaced; zero: not at all,
        /// `None`: as `create_timeout`, at most a tenth of `max_lifetime`.
        replace_ahead: Duration;
        /// Resources not known to be healthy for this long are checked before hand-out; zero: always,
        /// `None`: never. Default: 30 s.
        check_after: Duration;
        /// Resources are checked at return after every so many recycles; `None`: never. Default: 100.
        check_every_recycles: u64;
        /// Idle resources not known to be healthy for this long are checked; `None`: never.
        /// Default: 1 min.
        check_interval: Duration;
        /// A lease held for longer is reported once, with the place in the program where it was acquired:
        /// as an event of `tracing`, to the observer and in the counters. Looking for them costs nothing
        /// on the path of a lease. `None`: never. Default: never.
        leak_after: Duration;
        /// How long a waiter counts on a recycle or check under way; `None`: the observed p95.
        hedge_after: Duration;
        /// Adaptive sizing; `None`: off. Default: off.
        adaptive: Adaptive;
    }

    /// The driver runs on this runtime. Default: the runtime of the first caller that needs it, or
    /// a thread of its own where there is none.
    pub fn runtime(mut self, handle: Handle) -> Self {
        self.placement = Placement::Runtime(handle);
        self
    }

    /// The driver runs on a thread and a small runtime of its own: for global pools that outlive
    /// the runtimes of their users. Resources that a manager makes register their I/O there.
    pub fn own_thread(mut self) -> Self {
        self.placement = Placement::OwnThread;
        self
    }

    /// Options by key; what a [`KeyPolicy`] does not set is as this builder says.
    ///
    /// `policy` is asked when a key comes to be known, that is at its first use, and after it had
    /// neither resources nor waiters nor a minimum idle; never on the path of a ready resource, and
    /// never under the pool's lock. Callers that come at once with a new key may each ask.
    ///
    /// ```
    /// use poolyard_core::{KeyPolicy, Pool, from_fn};
    ///
    /// let pool = Pool::builder(from_fn(|_: &&'static str| async { Ok::<_, std::io::Error>(0) }))
    ///     .max_per_key(8)
    ///     .policy(|tenant| match *tenant {
    ///         "free" => KeyPolicy::new().max_per_key(1),
    ///         _ => KeyPolicy::new(),
    ///     })
    ///     .build();
    /// # pool.unwrap();
    /// ```
    pub fn policy(mut self, policy: impl Fn(&M::Key) -> KeyPolicy + Send + Sync + 'static) -> Self {
        self.policies = Policies::new(policy);
        self
    }

    /// Asks `source` every `pressure_interval` whether something is short that resources hold, such as
    /// memory: [`HostMemory`](crate::HostMemory), or a closure. While it is, idle resources go and no
    /// creation starts; see [`PressureSource`]. The driver asks, so a pool that was never used does not.
    pub fn pressure(mut self, source: impl PressureSource) -> Self {
        self.source = Source::new(source);
        self
    }

    /// Shows `observer` what happens.
    pub fn observer<P: Observer>(self, observer: P) -> Builder<M, P, S> {
        let Builder { manager, hasher, config, placement, policies, source, check_always, .. } = self;
        Builder { manager, observer, hasher, config, placement, policies, source, check_always }
    }

    /// Hashes keys with `hasher`.
    pub fn hasher<T: BuildHasher + Send + Sync + 'static>(self, hasher: T) -> Builder<M, O, T> {
        let Builder { manager, observer, config, placement, policies, source, check_always, .. } = self;
        Builder { manager, observer, hasher, config, placement, policies, source, check_always }
    }

    /// Makes the pool. It is empty, starts nothing and needs no runtime until it is used.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] that names the options that contradict each other.
    pub fn build(self) -> Result<Pool<M, O, S>, ConfigError> {
        self.config.validate()?;
        crate::fork::watch();
        let rules = Shared::<M, O, S>::rules(&self.config, self.check_always);
        let shared = Arc::new_cyclic(|weak| {
            let sink: Arc<dyn GoneSink> = Arc::new(Sink(weak.clone()));
            Shared {
                manager: self.manager,
                observer: self.observer,
                hasher: self.hasher,
                clock: Clock::new(),
                placement: self.placement,
                policies: self.policies,
                source: self.source,
                check_always: self.check_always,
                forks: crate::fork::generation(),
                patience: Patience::new(),
                handles: AtomicUsize::new(1),
                sink,
                state: Mutex::new(Inner::new(Ledger::new(rules), self.config)),
            }
        });
        Ok(Pool { shared })
    }
}
