//! The promises of the pool, one test each, named after the promise.
//!
//! One room per topic. Where time matters it is paused, and gates stand where a sleep would; real
//! threads and real runtimes serve where the promise is about those.

mod common;

mod checks;
mod create;
mod expiry;
mod fairness;
mod gone;
mod limits;
mod lru;
mod recycle;
