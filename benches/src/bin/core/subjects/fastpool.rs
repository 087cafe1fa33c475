//! fastpool, of FastLabs.

// Still used, though its authors point to asyncband.
#![allow(deprecated)]

use std::convert::Infallible;
use std::sync::Arc;

use fastpool::bounded::{Pool, PoolConfig};
use fastpool::{ManageObject, ObjectStatus};

use super::Resource;
use crate::subject::{TaskPool, cycles};

pub(crate) struct Plain;

impl ManageObject for Plain {
    type Object = Resource;
    type Error = Infallible;

    async fn create(&self) -> Result<Resource, Infallible> {
        Ok(1)
    }

    async fn is_recyclable(&self, _: &mut Resource, _: &ObjectStatus) -> Result<(), Infallible> {
        Ok(())
    }
}

#[derive(Clone)]
pub(crate) struct Fastpool(Arc<Pool<Plain>>);

impl TaskPool for Fastpool {
    const NAME: &'static str = "fastpool";

    async fn build(size: usize) -> Self {
        Fastpool(Pool::new(PoolConfig::new(size), Plain))
    }

    cycles!(|pool| pool.0.get().await.expect("the pool gives"));
}
