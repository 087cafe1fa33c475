//! Hostile programs: 35 ways out, tried in every mode that works here.
//!
//! The programs are real ones, in `programs/`. Each prints what its attempts came to; whether that is an
//! escape is judged here, and effects are looked at from outside. Every attack has a positive control: a
//! configuration in which it succeeds, so that "stopped" means something.
//!
//! `cargo test -p poolyard-linux-ns --test hostile -- --ignored --nocapture table` points the same corpus at
//! bubblewrap and at a plain `unshare`, and prints a table.

#![allow(missing_docs)]
#![cfg(target_os = "linux")]

mod corpus;
mod delegation;
mod modes;
mod observer;
mod outside;
mod place;
mod programs;
mod table;
mod vectors;
