//! The backend against a real kernel.

#![allow(missing_docs)]
#![cfg(target_os = "linux")]

mod commands;
