//! What the benchmark programs share: rows and their file, the table, the chart, and how to measure on
//! a machine that is never quiet.

pub mod chart;
pub mod conditions;
pub mod heap;
pub mod noise;
pub mod report;
pub mod row;
pub mod stats;
pub mod table;

/// Whether to finish in under a minute: good for ratios, not for figures.
pub fn is_quick() -> bool {
    std::env::var_os("BENCH_QUICK").is_some_and(|value| value != "0")
}
