//! Ours: as shipped, and with every option on.

use std::convert::Infallible;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use poolyard_core::{Builder, Context, Manager, Meta, Observer, Pool, Reason, ResourceId, Reuse};

use super::{ALL_ON, Resource};
use crate::keyed::KeyedPool;
use crate::subject::{TaskPool, cycles};

/// Costs nothing; says at each return that the resource is good.
pub(crate) struct Plain<K>(PhantomData<fn() -> K>);

impl<K: Clone + Eq + Hash + Send + Sync + 'static> Manager for Plain<K> {
    type Key = K;
    type Resource = Resource;
    type Error = Infallible;

    async fn create(&self, _: &K, _: &Context) -> Result<Resource, Infallible> {
        Ok(1)
    }

    fn reuse(&self, _: &K, _: &mut Resource, _: &Meta) -> Reuse {
        Reuse::Now
    }
}

/// As [`Plain`], with a health check.
pub(crate) struct Checked<K>(PhantomData<fn() -> K>);

impl<K: Clone + Eq + Hash + Send + Sync + 'static> Manager for Checked<K> {
    type Key = K;
    type Resource = Resource;
    type Error = Infallible;

    async fn create(&self, _: &K, _: &Context) -> Result<Resource, Infallible> {
        Ok(1)
    }

    async fn health_check(&self, _: &K, _: &mut Resource, _: &Context) -> Result<(), Infallible> {
        Ok(())
    }

    fn reuse(&self, _: &K, _: &mut Resource, _: &Meta) -> Reuse {
        Reuse::Now
    }
}

/// Counts what it sees.
#[derive(Default)]
pub(crate) struct Eye {
    acquired: AtomicU64,
    returned: AtomicU64,
    destroyed: AtomicU64,
}

impl Observer for Eye {
    fn acquired(&self, _: ResourceId, _: bool) {
        self.acquired.fetch_add(1, Relaxed);
    }

    fn returned(&self, _: ResourceId) {
        self.returned.fetch_add(1, Relaxed);
    }

    fn destroyed(&self, _: ResourceId, _: Reason, _: Duration) {
        self.destroyed.fetch_add(1, Relaxed);
    }
}

/// The shipped defaults.
pub(crate) type DefaultPool<K> = Pool<Plain<K>>;
/// Every option on.
pub(crate) type AllOnPool<K> = Pool<Checked<K>, Eye>;

fn default_pool<K: Clone + Eq + Hash + Send + Sync + 'static>(size: usize) -> DefaultPool<K> {
    Pool::builder(Plain(PhantomData)).max_total(size).build().expect("the options agree")
}

fn all_on_pool<K: Clone + Eq + Hash + Send + Sync + 'static>(size: usize) -> AllOnPool<K> {
    all_on(Pool::builder(Checked(PhantomData)), size)
        .observer(Eye::default())
        .build()
        .expect("the options agree")
}

fn all_on<M: Manager>(builder: Builder<M>, size: usize) -> Builder<M> {
    const MINUTE: Duration = Duration::from_secs(60);
    builder
        .name("all on")
        .max_total(size)
        .max_cost(1 << 30)
        .max_per_key(size)
        .max_idle(size)
        .max_idle_per_key(size)
        .min_idle_per_key(1)
        .max_uses(1 << 40)
        .wait_timeout(MINUTE)
        .idle_timeout(10 * MINUTE)
        .max_lifetime(60 * MINUTE)
        .lifetime_jitter(0.2)
        .check_after(MINUTE / 2)
        .check_every_recycles(100)
        .check_interval(MINUTE)
        .hedge_after(Duration::from_millis(20))
}

#[derive(Clone)]
pub(crate) struct Default(DefaultPool<()>);

impl TaskPool for Default {
    const NAME: &'static str = "poolyard";

    async fn build(size: usize) -> Self {
        Default(default_pool(size))
    }

    cycles!(|pool| pool.0.acquire(&()).await.expect("the pool gives"));
}

#[derive(Clone)]
pub(crate) struct AllOn(AllOnPool<()>);

impl TaskPool for AllOn {
    const NAME: &'static str = ALL_ON;

    async fn build(size: usize) -> Self {
        AllOn(all_on_pool(size))
    }

    cycles!(|pool| pool.0.acquire(&()).await.expect("the pool gives"));
}

impl<K: Clone + Eq + Hash + Send + Sync + 'static> KeyedPool<K> for DefaultPool<K> {
    const NAME: &'static str = "poolyard";

    fn build(size: usize) -> Self {
        default_pool(size)
    }

    async fn cycle(&self, key: &K) {
        let lease = self.acquire(key).await.expect("the pool gives");
        std::hint::black_box(&*lease);
    }
}

impl<K: Clone + Eq + Hash + Send + Sync + 'static> KeyedPool<K> for AllOnPool<K> {
    const NAME: &'static str = ALL_ON;

    fn build(size: usize) -> Self {
        all_on_pool(size)
    }

    async fn cycle(&self, key: &K) {
        let lease = self.acquire(key).await.expect("the pool gives");
        std::hint::black_box(&*lease);
    }
}
