//! The default hasher of keys: fast, and seeded at random so that nobody can aim at collisions.

use std::hash::{BuildHasher, Hasher};

/// Makes the hashers of a pool's keys; each pool has a seed of its own.
#[derive(Clone, Debug, Default)]
pub struct RandomState(foldhash::fast::RandomState);

/// Hashes one key.
#[derive(Clone)]
pub struct KeyHasher(foldhash::fast::FoldHasher<'static>);

impl BuildHasher for RandomState {
    type Hasher = KeyHasher;

    #[inline]
    fn build_hasher(&self) -> KeyHasher {
        KeyHasher(self.0.build_hasher())
    }
}

macro_rules! forward {
    ($($method:ident: $type:ty),*) => {
        $(#[inline]
        fn $method(&mut self, value: $type) {
            self.0.$method(value);
        })*
    };
}

impl Hasher for KeyHasher {
    forward!(write: &[u8], write_u8: u8, write_u16: u16, write_u32: u32, write_u64: u64, write_u128: u128, write_usize: usize);

    #[inline]
    fn finish(&self) -> u64 {
        self.0.finish()
    }
}
