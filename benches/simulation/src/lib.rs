//! The pool's ledger in virtual time: what fixed and adaptive sizing make of traces of arrivals.
//!
//! - `random`, `traffic`: synthetic traces, each from a seed; `recorded`: traces of live pools
//! - `sizing`: ways to size a pool, and the best of each; `experiment`: one trace under all of them
//! - `chart`: the pictures

pub mod experiment;
pub mod random;
pub mod sizing;
pub mod traffic;
