//! fast_pool, of rbatis.

use std::sync::Arc;

use fast_pool::{Manager, Pool};

use super::Resource;
use crate::subject::{TaskPool, cycles};

pub(crate) struct Plain;

#[derive(Debug)]
pub(crate) struct Failed;

impl From<&str> for Failed {
    fn from(_: &str) -> Self {
        Failed
    }
}

impl Manager for Plain {
    type Connection = Resource;
    type Error = Failed;

    async fn connect(&self) -> Result<Resource, Failed> {
        Ok(1)
    }

    async fn check(&self, _: &mut Resource) -> Result<(), Failed> {
        Ok(())
    }
}

#[derive(Clone)]
pub(crate) struct FastPool(Arc<Pool<Plain>>);

impl TaskPool for FastPool {
    const NAME: &'static str = "fast_pool";

    async fn build(size: usize) -> Self {
        let pool = Pool::new(Plain);
        pool.set_max_open(size as u64);
        pool.set_max_idle_conns(size as u64);
        FastPool(Arc::new(pool))
    }

    cycles!(|pool| pool.0.get().await.expect("the pool gives"));
}
