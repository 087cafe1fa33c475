//! Tests against a real engine. Without one each is skipped with the reason; `POOLYARD_REQUIRE=docker`
//! makes that a failure.

#![allow(missing_docs)]

mod census;
mod commands;
mod engine;
mod engine_exec;
mod failures;
mod life;
mod proxy;
mod ready;
mod reset;
mod service;
mod sleep;
mod spec;
