//! bb8.

use std::convert::Infallible;

use bb8::{ManageConnection, Pool};

use super::Resource;
use crate::subject::{TaskPool, cycles};

#[derive(Debug)]
pub(crate) struct Plain;

impl ManageConnection for Plain {
    type Connection = Resource;
    type Error = Infallible;

    async fn connect(&self) -> Result<Resource, Infallible> {
        Ok(1)
    }

    async fn is_valid(&self, _: &mut Resource) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, _: &mut Resource) -> bool {
        false
    }
}

#[derive(Clone)]
pub(crate) struct Bb8(Pool<Plain>);

impl TaskPool for Bb8 {
    const NAME: &'static str = "bb8";

    async fn build(size: usize) -> Self {
        let pool = Pool::builder().max_size(u32::try_from(size).expect("a size of pools")).build(Plain).await;
        Bb8(pool.expect("nothing fails"))
    }

    cycles!(|pool| pool.0.get().await.expect("the pool gives"));
}
