//! The pool's ledger in virtual time: what fixed and adaptive sizing make of traces of arrivals.
//!
//! - `random`, `traffic`: synthetic traces, each from a seed; `recorded`: traces of live pools
//! - `sizing`: ways to size a pool, and the best of each; `experiment`: one trace under all of them
//! - `chart`: the pictures

pub mod chart;
pub mod experiment;
pub mod random;
pub mod recorded;
pub mod sizing;
pub mod traffic;

/// Seeds of the traces by which the sizer was made.
pub const TRAINING: [u64; 3] = [1, 2, 3];

/// Seeds of the traces by which it is judged; nobody looked at them while it was made.
pub const HELD_BACK: [u64; 3] = [1001, 1002, 1003];

/// The recording of a live pool, held back, too.
pub const RECORDED: &str = include_str!("../traces/recorded.csv");
