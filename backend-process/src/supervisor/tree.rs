//! Finding and killing everything that a worker has started.

use std::fs;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::sys::wait;

/// Names a worker in its environment, so that its orphans can be told.
pub(crate) const MARK: &str = "POOLYARD_WORKER";

/// How many milliseconds are waited for the end of a killed process, most of which take far less than one.
const END_OF_ONE: u16 = 20;

/// How often a tree that goes on growing is walked again.
const ROUNDS: usize = 16;

/// Kills a process with all its descendants. A worker adopts its own orphans (it is a subreaper), so
/// that a double fork or a new session does not take anything out of its tree.
///
/// False if it had ended already: its descendants are then somebody else's children.
pub(crate) fn kill(pid: i32, pidfd: &OwnedFd) -> bool {
    // A process that can be stopped has not been reaped, so that its number is still its own.
    if !wait::stop(pidfd) {
        return false;
    }
    for _ in 0..ROUNDS {
        if kill_descendants(pid) {
            break;
        }
    }
    let whole = is_living(pid);
    wait::kill(pidfd);
    whole
}

/// Kills all that `pid` has started, but not `pid` itself. False if some of them had not ended yet; what
/// those had started can then be found by another look only.
pub(crate) fn kill_descendants(pid: i32) -> bool {
    let living: Vec<_> = descendants(pid).into_iter().filter_map(open_living).collect();
    for pidfd in &living {
        wait::stop(pidfd);
    }
    living.iter().for_each(wait::kill);
    for pidfd in &living {
        wait::ended_within(pidfd, END_OF_ONE);
    }
    living.is_empty()
}

/// Kills the process group that a worker leads. To be called before the worker is reaped: until then
/// nobody else can get its number.
pub(crate) fn kill_group(pid: i32) {
    if pid > 1 {
        let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
    }
}

/// Kills every process that carries `mark` in its environment: what a dead worker has left elsewhere.
pub(crate) fn kill_marked(mark: &str) {
    let wanted = format!("{MARK}={mark}");
    for pid in processes() {
        let carries = |pid: i32| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
        };
        // Opened before the second look: the number then still means the same process.
        if carries(pid)
            && let Some(pidfd) = open(pid)
            && carries(pid)
        {
            wait::kill(&pidfd);
        }
    }
}

/// Children, their children, and so on.
fn descendants(pid: i32) -> Vec<i32> {
    let mut found = children(pid);
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        let below = children(*pid);
        found.extend(below);
        next += 1;
    }
    found
}

/// The children of all threads of a process.
pub(crate) fn children(pid: i32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists =
        threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|n| n.parse().ok()).collect::<Vec<_>>())
        .collect()
}

fn processes() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn open(pid: i32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()
}

/// A handle on a process that is not a zombie.
fn open_living(pid: i32) -> Option<OwnedFd> {
    let pidfd = open(pid)?;
    is_living(pid).then_some(pidfd)
}

fn is_living(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}
