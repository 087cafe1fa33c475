//! The promises of the pool, one test each, named after the promise.

mod adapters;
mod life;
