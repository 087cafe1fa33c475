//! The pool of asyncband, fastpool's successor.

use std::convert::Infallible;
use std::sync::Arc;

use asyncband::pool::bounded::{Pool, PoolConfig};
use asyncband::pool::{ManageObject, ObjectStatus};

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
pub(crate) struct Asyncband(Arc<Pool<Plain>>);

impl TaskPool for Asyncband {
    const NAME: &'static str = "asyncband";

    async fn build(size: usize) -> Self {
        Asyncband(Pool::new(PoolConfig::new(size), Plain))
    }

    cycles!(|pool| pool.0.get().await.expect("the pool gives"));
}
