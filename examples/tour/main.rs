//! Shows what pooling is worth on this machine: the same job with a fresh resource each time and
//! with a warm one out of a pool, for everything that works here. What does not work says why.
//!
//! `cargo run --release --example tour`: under a minute, nothing is installed or left behind.

#[cfg(target_os = "linux")]
mod compare;
#[cfg(target_os = "linux")]
mod containers;
mod interpreters;
mod measure;
mod memory;
#[cfg(target_os = "linux")]
mod sandboxes;
mod screen;
mod section;
mod table;
#[cfg(target_os = "linux")]
mod workers;

use std::process::ExitCode;

use screen::Screen;
use section::{Outcome, Section};

#[tokio::main]
async fn main() -> ExitCode {
    let screen = Screen::new();
    screen.line("poolyard: the same job, with a fresh resource each time and out of a pool");
    screen.line(&machine());

    let sections = sections(&screen).await;

    table::print(&screen, &sections);
    match sections.iter().any(|section| matches!(section.outcome, Outcome::Failed(_))) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

#[cfg(target_os = "linux")]
async fn sections(screen: &Screen) -> Vec<Section> {
    vec![
        sandboxes::show(screen).await,
        workers::show(screen).await,
        containers::show(screen).await,
        interpreters::show(screen).await,
    ]
}

/// The backends are for Linux.
#[cfg(not(target_os = "linux"))]
async fn sections(screen: &Screen) -> Vec<Section> {
    vec![interpreters::show(screen).await]
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("on this machine: {} {}, {cores} cores", std::env::consts::OS, kernel.trim())
}
