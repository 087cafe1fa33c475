//! The backend against a real kernel.
//!
//! What cannot run on a machine is skipped by name; `POOLYARD_REQUIRE=linux-ns,cgroups,root` makes a skip a
//! failure.

#![allow(missing_docs)]
#![cfg(target_os = "linux")]

mod commands;
mod hosts;
mod kills;
mod landlock;
mod limits;
mod matrix;
mod outside;
#[path = "../../helper/protocol.rs"]
#[allow(dead_code, unreachable_pub, reason = "only the messages are of interest here")]
mod protocol;
mod recycle;
mod roots;
mod soak;
mod support;
