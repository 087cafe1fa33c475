//! mobc.

use std::convert::Infallible;

use mobc::{Manager, Pool};

use super::Resource;
use crate::subject::{TaskPool, cycles};

pub(crate) struct Plain;

#[mobc::async_trait]
impl Manager for Plain {
    type Connection = Resource;
    type Error = Infallible;

    async fn connect(&self) -> Result<Resource, Infallible> {
        Ok(1)
    }

    async fn check(&self, resource: Resource) -> Result<Resource, Infallible> {
        Ok(resource)
    }
}

#[derive(Clone)]
pub(crate) struct Mobc(Pool<Plain>);

impl TaskPool for Mobc {
    const NAME: &'static str = "mobc";

    async fn build(size: usize) -> Self {
        Mobc(Pool::builder().max_open(size as u64).max_idle(size as u64).build(Plain))
    }

    cycles!(|pool| pool.0.get().await.expect("the pool gives"));
}
