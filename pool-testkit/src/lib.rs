//! TBD

pub mod exec;
