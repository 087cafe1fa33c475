//! The resident agent: process 1 of a pooled container.
//!
//! The library mounts this program into any image, waits at a socket beside it, and gets one
//! connection. Everything happens over it, in the words of [`wire`]. The connection is also the
//! dead-man switch: when it ends, for whatever reason, the agent ends, and the kernel ends
//! everything else in the container with it.
//!
//! One thread, one epoll; no C library, so that it runs in an image that has none.

#![no_std]
#![no_main]

extern crate alloc;

mod agent;
mod connection;
mod counters;
mod files;
mod heap;
mod process;
mod runner;
mod survey;
mod sys;
mod terminal;
mod user;
mod wipe;
mod wire;

use alloc::vec::Vec;

const SOCKET: &[u8] = b"/.pool/socket";
const PR_SET_DUMPABLE: usize = 4;

poolyard_rt::entry!(run);

fn run() -> ! {
    // Nobody in the container may read our memory or our descriptors.
    let _ = sys::prctl(PR_SET_DUMPABLE, 0);
    sys::block_signals(!0);
    let Ok(socket) = sys::connect_unix(SOCKET) else { sys::exit(71) };
    match agent::Agent::new(socket, environment()) {
        Ok(mut agent) => sys::exit(agent.serve()),
        Err(_) => sys::exit(72),
    }
}

/// What the engine started us with: the image's and the specification's environment.
fn environment() -> Vec<Vec<u8>> {
    let text = sys::slurp(b"/proc/self/environ", 1 << 20).unwrap_or_default();
    text.split(|b| *b == 0).filter(|e| !e.is_empty()).map(<[u8]>::to_vec).collect()
}
