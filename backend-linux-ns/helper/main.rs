//! The embedded program: launcher, keeper, init and runner are this one image, forked.
//!
//! It has no C library, does not allocate, and says everything that goes wrong as a stage and an
//! error number. The protocol is described in `protocol.rs`.

#![no_std]
#![no_main]

mod decode;
mod failure;
mod files;
mod init;
mod keeper;
mod landlock;
mod launcher;
mod layers;
mod networks;
#[allow(dead_code)] // Each side uses its own half.
mod protocol;
mod rootfs;
mod runner;
mod text;

poolyard_rt::entry!(launcher::main);
