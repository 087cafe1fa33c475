//! Networks that the launcher makes ahead.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use poolyard_exec::Network;
use poolyard_linux_ns::{Mode, SandboxSpec};

use crate::support::{backend, descendants, eventually, sandbox, sandbox_of, skip};

fn network_of(pid: i32) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/ns/net")).unwrap()
}

/// The networks that a process has open.
fn open_networks(pid: i32) -> Vec<PathBuf> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let targets = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("net:")).collect()
}

#[tokio::test]
async fn a_network_that_was_made_ahead_is_given_to_one_sandbox_alone() {
    const TEST: &str = "networks made ahead";
    let Some(ns) = backend(TEST) else { return };
    if ns.mode() != Mode::Root {
        return skip(TEST, "root", "only root makes networks ahead");
    }
    let host = network_of(std::process::id() as i32);
    let first = sandbox(&ns).await;
    let mut ahead = None;
    eventually("a network made ahead", || {
        ahead = open_networks(ns.launcher_pid()).into_iter().find(|network| *network != host);
        ahead.is_some()
    })
    .await;
    let second = sandbox(&ns).await;
    assert_eq!(Some(network_of(second.pid())), ahead);
    let third = sandbox(&ns).await;
    let shared = sandbox_of(&ns, &SandboxSpec::builder().network(Network::Shared).build()).await;
    assert_eq!(network_of(shared.pid()), host);
    let networks = [&first, &second, &third].map(|sandbox| network_of(sandbox.pid()));
    assert_eq!(networks.iter().chain([&host]).collect::<BTreeSet<_>>().len(), 4, "each has its own");
    for sandbox in [&first, &second, &third, &shared] {
        for pid in descendants(sandbox.pid()).into_iter().chain([sandbox.pid()]) {
            assert_eq!(open_networks(pid), Vec::<PathBuf>::new(), "{pid} could get out");
        }
    }
}
