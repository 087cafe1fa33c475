//! The promises of the pool, one test each, named after the promise.
//!
//! One room per topic. Where time matters it is paused, and gates stand where a sleep would; real
//! threads and real runtimes serve where the promise is about those. The recorded history of many
//! threads is judged in the test-kit, whose checker it also tests.

mod common;

mod adapters;
mod adaptive;
mod admin;
mod blocking;
mod breaker;
mod by_hand;
mod cancel;
mod checks;
mod close;
mod create;
mod deadline;
mod erased;
mod errors;
mod events;
mod expiry;
mod fairness;
mod fork;
mod gone;
mod hibernate;
mod leaks;
mod limits;
mod lru;
mod observer;
mod panic;
mod policy;
mod pressure;
mod recycle;
mod replace;
mod runtimes;
mod snapshot;
mod specialise;
mod warm;
