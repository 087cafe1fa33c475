//! Sandboxes of Linux namespaces for poolyard: a clean one in a fraction of a millisecond, with limits
//! and a verdict.
//!
//! ```no_run
//! use poolyard_exec::{Command, Exec, Limits};
//! use poolyard_linux_ns::{LinuxNs, SandboxSpec};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let ns = LinuxNs::new()?;
//! let spec = SandboxSpec::builder().limits(Limits::new().memory(64 << 20).processes(16)).build();
//! let sandbox = ns.sandbox(&spec).await?;
//! let outcome = sandbox.exec(&Command::new("echo").arg("hello")).await?;
//! assert_eq!(outcome.stdout.text(), "hello\n");
//! # Ok(())
//! # }
//! ```
//!
//! # How
//!
//! What is slow to make is made once per sandbox and pooled: the user and network namespaces, the mount
//! skeleton, the cgroup with its open files, the filter. What is cheap is made anew for every lease: pid,
//! mount, ipc, uts, cgroup and time namespaces, /tmp, /box, /dev/shm, terminals, /proc. That is faster than
//! resetting, and it is provably clean: nothing of a lease can outlive its namespaces.
//!
//! ```text
//! host process        any number of threads, never forked
//!  └ launcher         one per LinuxNs; clones keepers
//!     └ keeper        one per sandbox; pid 1 of the outer pid namespace
//!        └ init       one per lease; pid 1 of the inner one; mounts, reaps, reports
//!           └ runner  waits, stripped of everything, and becomes the command by execve
//! ```
//!
//! As root, and for [`Network::Off`](poolyard_exec::Network::Off), the launcher makes the next sandbox's network while
//! nothing is asked of it, which the kernel takes longest for. It takes 180 KiB while it waits.
//!
//! The four are one small program without a C library, embedded here and run from a sealed memory file.
//! Its messages are described in `helper/protocol.rs`. No hook in `main` is needed.
//!
//! # Security
//!
//! A command is hostile code. It must not affect the host or other sandboxes, learn from or leave
//! anything to another lease, make the pool useless, or falsify its verdict. Holes of the kernel itself
//! are made fewer by the filters (no nested user namespaces, io_uring, bpf, keyrings), but not closed; for
//! that, use virtual machines. Thirty-five ways out are tried by the tests in every [`Mode`], each with a
//! control in which it succeeds; `tests/hostile/` has the programs.
//!
//! [`Landlock`] adds a wall behind the mounts where one is asked for: it can close what a root shows, TCP ports, and
//! the abstract sockets of a shared network.
//!
//! What stays open: caches of the processor can be timed; a few counters in /proc are the whole machine's. In the unprivileged modes the nodes in /dev are the host's, so that locks on them are a
//! channel; [`LinuxNs::probe`] says so. Without cgroups (an ordinary user to whom none is delegated) memory,
//! processes and processor time cannot be bounded, and asking for it is an error.
//!
//! # Cgroups
//!
//! Version 1, version 2 and hybrid systems. A sandbox has one cgroup for its whole life, and what is in it is killed
//! by its pid namespace.
//!
//! Who writes to `cgroup.procs` waits for an RCU grace period of the kernel, 8 ms and more, unless somebody did the same
//! within the last milliseconds; and whoever else makes, enters or removes a cgroup waits, too. So on version 2 a runner
//! is born in its cgroup (`CLONE_INTO_CGROUP`), and on version 1 it enters by `tasks`, which moves one thread and takes no such lock.
//! To be born there its init must come from a cgroup beside it (`keepers`, which the launcher enters when it starts), and
//! may write to `cgroup.procs` of both the slot and the directory above. In the mode `root` the first belongs to the root
//! of the sandbox, who is nobody outside, and the second can be written to by all; that lets nobody into a cgroup which
//! is not his. Keeper and init hold a copy of the slot alone, from which no way leads up; commands hold none. Where
//! birth is refused ([`LinuxNs::probe`] says so), and for cgroups with a set of processors, which kernels before 6.3
//! forget at birth, runners write to `cgroup.procs`.
//!
//! On version 2 launcher, keepers and inits are thus beside the slots, as root at the top of the hierarchy: limits of the
//! application's own cgroup bound neither them nor the commands. To bound everything together, give the application
//! a delegated cgroup (`Delegate=` of systemd) and bound that. On version 1 they stay in the application's own cgroup.
//!
//! `cgroup.kill` is never used: some kernels (6.12 and 6.18 among them) kill for ever whoever is born into a cgroup
//! that was killed once, or from one. The tests find out which kind the running kernel is.
//!
//! # Disks
//!
//! [`Limits::io_bandwidth`](poolyard_exec::Limits::io_bandwidth) bounds what the commands of a sandbox read in a second
//! from each disk that its base and trees lie on: as files, as mapped memory and as programs that start, through the
//! kernel's cache and past it. What somebody has read before is in memory and is not read again. What a sandbox writes
//! stays in memory, and no disk is written to. An overlay, a network and a file system of several disks are nothing whose
//! use the kernel can bound; with a base there the limit is refused, with the reason.
//!
//! Others feel it, too: a page that is being read is locked until it is there, so whoever wants the same page of the same
//! file waits as long as the sandbox, the host included (31 s were measured behind a file of 4 MiB at 128 KiB/s). Hostile
//! commands can make the most of that until their lease ends. Give sandboxes whose rate is low a base of their own.
//!
//! The kernel lets nobody die who reads past its cache (one read of 2 MiB at 128 KiB/s outlived SIGKILL by 15 s). So the
//! bound is lifted for what is killed because of a limit, a cancellation or the lease's end, and set again for the next
//! command.

// The guest's runtime has the same frames under this name.
#[cfg(all(test, target_os = "linux"))]
extern crate poolyard_guest as poolyard_rt;

#[cfg(target_os = "linux")]
mod alarm;
#[cfg(target_os = "linux")]
mod cgroup;
#[cfg(target_os = "linux")]
mod channel;
#[cfg(all(test, target_os = "linux"))]
#[path = "../helper/decode.rs"]
#[allow(dead_code, missing_docs, unreachable_pub, reason = "only fuzzed here; the guest uses it")]
mod decode;
#[cfg(target_os = "linux")]
mod disks;
#[cfg(target_os = "linux")]
mod error;
#[cfg(target_os = "linux")]
mod exec;
#[cfg(target_os = "linux")]
mod files;
#[cfg(all(test, target_os = "linux"))]
mod fuzz;
#[cfg(target_os = "linux")]
mod landlock;
#[cfg(target_os = "linux")]
mod launcher;
#[cfg(target_os = "linux")]
mod lease;
#[cfg(target_os = "linux")]
mod manager;
#[cfg(target_os = "linux")]
mod mode;
#[cfg(target_os = "linux")]
mod plan;
#[cfg(target_os = "linux")]
mod probe;
#[cfg(target_os = "linux")]
#[path = "../helper/protocol.rs"]
#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "the guest uses the other half, and its docs are in tables"
)]
mod protocol;
#[cfg(target_os = "linux")]
mod reactor;
#[cfg(target_os = "linux")]
mod request;
#[cfg(target_os = "linux")]
mod run;
#[cfg(target_os = "linux")]
mod sandbox;
#[cfg(target_os = "linux")]
mod seccomp;
#[cfg(target_os = "linux")]
mod spec;
#[cfg(target_os = "linux")]
mod streams;

#[cfg(target_os = "linux")]
pub use error::{Error, ErrorKind, Stage};
#[cfg(target_os = "linux")]
pub use landlock::Landlock;
#[cfg(target_os = "linux")]
pub use manager::LinuxNs;
#[cfg(target_os = "linux")]
pub use mode::Mode;
#[cfg(target_os = "linux")]
pub use probe::{Finding, Probe};
#[cfg(target_os = "linux")]
pub use sandbox::Sandbox;
#[cfg(target_os = "linux")]
pub use seccomp::Filter;
#[cfg(target_os = "linux")]
pub use spec::{Background, Base, Canary, ProcView, ReusePolicy, SandboxSpec, SandboxSpecBuilder};
