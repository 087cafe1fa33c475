//! What the models of loom and shuttle share: a manager whose resources notice it when they reach the
//! wrong user. Its books are of std: they are no points at which a checker switches threads.
#![allow(dead_code, reason = "each model uses a part")]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use poolyard_core::{Builder, Context, Lease, Manager, Pool};

#[derive(Clone, Default)]
pub(crate) struct Maker(Arc<Books>);

#[derive(Debug, Default)]
struct Books {
    made: AtomicUsize,
    live: AtomicUsize,
}

#[derive(Debug)]
pub(crate) struct Thing {
    pub(crate) key: u32,
    pub(crate) serial: usize,
    in_use: AtomicBool,
    books: Arc<Books>,
}

impl Maker {
    pub(crate) fn thing(&self, key: u32) -> Thing {
        let serial = self.0.made.fetch_add(1, SeqCst) + 1;
        self.0.live.fetch_add(1, SeqCst);
        Thing { key, serial, in_use: AtomicBool::new(false), books: Arc::clone(&self.0) }
    }

    pub(crate) fn made(&self) -> usize {
        self.0.made.load(SeqCst)
    }

    pub(crate) fn live(&self) -> usize {
        self.0.live.load(SeqCst)
    }

    /// A pool in which time plays no part.
    pub(crate) fn pool(&self, max_total: usize) -> Builder<Maker> {
        Pool::builder(self.clone())
            .max_total(max_total)
            .wait_timeout(None)
            .idle_timeout(None)
            .max_lifetime(None)
            .check_after(None)
            .check_interval(None)
            .check_every_recycles(None)
    }

    /// A pool of `max_total` with one idle resource for each of `keys`.
    pub(crate) fn pool_with(&self, max_total: usize, keys: &[u32]) -> Pool<Maker> {
        let pool = self.pool(max_total).build().expect("the configuration makes sense");
        for &key in keys {
            assert!(pool.insert(&key, self.thing(key)).is_ok(), "there is room");
        }
        pool
    }
}

impl Manager for Maker {
    type Key = u32;
    type Resource = Thing;
    type Error = Infallible;

    async fn create(&self, key: &u32, _: &Context) -> Result<Thing, Infallible> {
        Ok(self.thing(*key))
    }
}

impl Drop for Thing {
    fn drop(&mut self) {
        assert!(!self.in_use.load(SeqCst) || std::thread::panicking(), "destroyed under its user");
        self.books.live.fetch_sub(1, SeqCst);
    }
}

/// Uses a lease as a user would, who asked for `key`; `pause` lets other threads come in between.
pub(crate) fn using(lease: &Lease<Maker>, key: u32, max_total: usize, pause: impl FnOnce()) {
    assert_eq!((*Lease::key(lease), lease.key), (key, key), "a lease of another key than was asked for");
    assert!(lease.books.live.load(SeqCst) <= max_total, "more resources than there may be");
    assert!(!lease.in_use.swap(true, SeqCst), "two users of one resource");
    pause();
    assert!(lease.in_use.swap(false, SeqCst), "two users of one resource");
}
