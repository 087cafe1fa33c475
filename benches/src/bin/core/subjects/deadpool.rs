//! deadpool, managed.

use std::convert::Infallible;

use deadpool::managed::{Manager, Metrics, Pool, RecycleResult};

use super::Resource;
use crate::subject::{TaskPool, cycles};

pub(crate) struct Plain;

impl Manager for Plain {
    type Type = Resource;
    type Error = Infallible;

    async fn create(&self) -> Result<Resource, Infallible> {
        Ok(1)
    }

    async fn recycle(&self, _: &mut Resource, _: &Metrics) -> RecycleResult<Infallible> {
        Ok(())
    }
}

#[derive(Clone)]
pub(crate) struct Deadpool(Pool<Plain>);

impl TaskPool for Deadpool {
    const NAME: &'static str = "deadpool";

    async fn build(size: usize) -> Self {
        Deadpool(Pool::builder(Plain).max_size(size).build().expect("the options agree"))
    }

    cycles!(|pool| pool.0.get().await.expect("the pool gives"));
}
