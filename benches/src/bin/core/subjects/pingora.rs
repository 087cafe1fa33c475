//! pingora-pool: keys, but no creation, limits on the idle only, and no waiting.

use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

use pingora_pool::{ConnectionMeta, ConnectionPool};
use poolyard_core::RandomState;

use crate::keyed::KeyedPool;

/// A resource that carries its number, which pingora-pool wants back with it.
struct Numbered(i32);

/// pingora-pool takes hashes for keys; they are made with the hasher that ours uses.
pub(crate) struct Pingora {
    pool: ConnectionPool<Numbered>,
    hasher: RandomState,
    made: AtomicI32,
}

impl<K: Hash + Send + Sync + 'static> KeyedPool<K> for Pingora {
    const NAME: &'static str = "pingora-pool";

    fn build(size: usize) -> Self {
        Pingora { pool: ConnectionPool::new(size), hasher: RandomState::default(), made: AtomicI32::new(0) }
    }

    async fn cycle(&self, key: &K) {
        let hash = self.hasher.hash_one(key);
        let taken = self.pool.get(&hash).unwrap_or_else(|| Numbered(self.made.fetch_add(1, Relaxed)));
        std::hint::black_box(&taken);
        self.pool.put(&ConnectionMeta::new(hash, taken.0), taken);
    }
}
