//! Workers that behave and workers that do not, started by this very program.

#![allow(unsafe_code, reason = "diverts before the test harness's main")]

mod puppet;
mod support;

mod attributes;
mod bazel;
mod call_queue;
mod calls;
mod dispatch;
mod http;
mod in_place;
mod kill_matrix;
mod lifecycle;
mod per_request;
mod php;
mod pool;
mod protocols;
mod server;
mod spare;
mod transport;

/// The test harness owns `main`, so the divert that a program makes in its first line is made before.
#[used]
#[unsafe(link_section = ".init_array")]
static DIVERT: extern "C" fn() = {
    extern "C" fn divert() {
        let role = std::env::var(puppet::ROLE).ok();
        if let Some(name) = role.as_deref().filter(|name| !name.ends_with("_host")) {
            std::process::exit(puppet::play(name));
        }
        poolyard_process::init(|zygote| {
            zygote.preload(puppet::preload);
            zygote.entry("puppet", puppet::frames);
            zygote.entry("server", puppet::server);
            zygote.entry("panics", || panic!("this entry panics"));
            zygote.entry("fails", || Err(std::io::Error::other("this entry fails")));
        });
        if let Some(name) = role {
            std::process::exit(puppet::play(&name));
        }
    }
    divert
};
