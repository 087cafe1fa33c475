//! What the examples of telemetry and their tests share.

pub mod otel;
pub mod prometheus;
