//! What the processes of a sandbox hold of the outside.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use poolyard_exec::Network;
use poolyard_linux_ns::{Mode, SandboxSpec};

use crate::support::{backend, backend_with_cgroups, descendants, eventually, sandbox, sandbox_of, skip};

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
async fn no_way_leads_from_the_cgroup_that_a_sandbox_holds_to_the_files_of_the_host() {
    let Some(ns) = backend_with_cgroups("an open cgroup") else { return };
    let sandbox = sandbox(&ns).await;
    let mut held = 0;
    for pid in descendants(sandbox.pid()).into_iter().chain([sandbox.pid()]) {
        for file in fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten().map(|file| file.path()) {
            if file.join("cgroup.procs").exists() {
                held += 1;
                let (here, above) = (fs::metadata(&file).unwrap(), fs::metadata(file.join("..")).unwrap());
                assert_eq!((here.dev(), here.ino()), (above.dev(), above.ino()), "{pid}: {}", file.display());
            }
        }
    }
    let is_version_2 = PathBuf::from("/sys/fs/cgroup/cgroup.controllers").exists();
    assert_eq!(held > 0, is_version_2, "{held}");
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
