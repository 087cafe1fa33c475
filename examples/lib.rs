//! What several examples share; the examples themselves are the files beside this one.

pub mod interpreter;

/// The README's example compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
