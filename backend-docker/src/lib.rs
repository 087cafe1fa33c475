//! Containers that are warm, clean and never left behind.
//!
//! [`DockerManager`] makes containers for a pool, on Docker or on Podman's compatible socket. A
//! container is made once. A small resident agent, put into any image without rebuilding it, runs
//! commands in it a hundred times faster than the engine could, makes it clean between two users,
//! proves that it is, and ends it when this process ends, however it ends.
//!
//! ```no_run
//! use poolyard_core::Pool;
//! use poolyard_docker::{ContainerSpec, DockerManager};
//! use poolyard_exec::{Command, Exec};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = Pool::builder(DockerManager::local()?).max_total(8).build()?;
//! let python = ContainerSpec::sandbox("python:3.13-slim");
//! let container = pool.acquire(&python).await?;
//! let outcome = container.exec(&Command::new("python3").args(["-c", "print(6 * 7)"])).await?;
//! assert_eq!(outcome.stdout.text(), "42\n");
//! # Ok(())
//! # }
//! ```
//!
//! # Which container
//!
//! A [`ContainerSpec`] is the key of the pool: equal specifications share containers.
//! [`sandbox`](ContainerSpec::sandbox) runs commands of others: closed by default.
//! [`service`](ContainerSpec::service) runs its image's program, a database say; [`Wait`] says when it
//! is ready and [`Reset`] how it is cleaned. [`TestPool`] is a pool of services for the tests of a crate.
//!
//! # What ends containers
//!
//! A container with the agent ends when the connection to this process does: on close, on drop, and
//! when the process is killed. The engine then removes it with its anonymous volumes. Networks, named
//! volumes, containers [without an agent](ContainerSpec::without_agent) and those that were created and
//! never started carry a label with their owner; every manager removes those of dead owners with
//! its first container and once a minute, and [`DockerManager::reap`] at once. Owners on other
//! machines of one engine are known by a lease of five minutes in their containers' names.
//!
//! # Sleep
//!
//! With `hibernate_after` set, the pool pauses long idle containers: they use no processor, and keep
//! their memory. A paused agent does not notice the end of this process, so if that is killed, its
//! sleeping containers stay until the next manager sweeps them, as above. That is why it is off by
//! default; leave it off where no later manager can be counted on.
//!
//! # Engines
//!
//! | | |
//! |---|---|
//! | Docker | tested with 20.10 (API 1.41), and by hand with 26.1 (API 1.45); newer ones are spoken to without a version in the path, and their replies read tolerantly |
//! | Podman | tested with 4.3; health checks need systemd's timers, containers without an agent need `catatonit`; it reads no runtime; a restart at times costs the container, and another takes its place; its containers outlive its service |
//! | elsewhere, by `tcp://` | only containers without an agent: it comes by a directory of this machine. No TLS and no ssh: use a tunnel to a local socket |
//!
//! With live restore, Docker 20.10 removes running containers at its restart, because they are to be
//! removed at their end. The pool notices and makes others.
//!
//! # Limits
//!
//! Limits of processor time, swap and disk per command are refused by name.
//!
//! Descriptors of the host are not passed into a container: [`Container`] does not implement
//! [`ExecFds`](poolyard_exec::ExecFds), which the compiler says by name. The agent's socket could carry them, but
//! a descriptor knows no walls: from one of a directory a program reaches the host's files, whatever the
//! specification says of mounts, and no reset can prove what was done with it. Bytes go in by a
//! [pipe](poolyard_exec::Command::stdin_piped), files by [`file_in`](poolyard_exec::Command::file_in); for a
//! socket or a directory of the host make the container with a [`Mount::bind`] of it, which its key then shows.
//!
//! The agent is compiled for x86_64 and aarch64, the architecture of the build and the other one if rustc's
//! target for it is installed (`rustup target add aarch64-unknown-linux-gnu`). An image gets the one of its
//! architecture; for any other, containers run [without an agent](ContainerSpec::without_agent), and say so.
//!
//! # Map
//!
//! | file | idea |
//! |---|---|
//! | `manager` | the pool's manager: create, recycle, check, destroy |
//! | `spec`, `profile` | what a container is made of: the key |
//! | `make` | from a specification to a ready container, leaving nothing behind on the way |
//! | `container`, `exec`, `stats` | the resource: addresses, files, commands, usage |
//! | `engine_exec` | commands without the agent: slower, and with less to promise |
//! | `test_pool` | one pool for all tests of a crate |
//! | `wait` | when it is ready |
//! | `reset` | how it becomes clean, and the proof |
//! | `agent`, `run_dir` | the resident agent: connection, requests, streams; how it gets inside |
//! | `engine` | the engine's API: calls, events, raw streams, error classes |
//! | `owner`, `reap`, `shop` | whose containers they are, and what becomes of those of the dead |
//!
//! The agent itself is the program in `agent/`; `agent/wire.rs` is the protocol.

mod agent;
mod container;
mod engine;
mod engine_exec;
mod error;
mod exec;
mod logs;
mod make;
mod manager;
mod owner;
mod profile;
mod reap;
mod reset;
mod run_dir;
mod shop;
mod spec;
mod stats;
mod test_pool;
mod wait;

pub use container::{Container, EngineOutput};
pub use error::{Crash, Error, ErrorKind, Stage};
pub use manager::{DockerBuilder, DockerManager, Numbers};
pub use reap::Reaped;
pub use reset::Reset;
pub use spec::{ContainerSpec, MIB, Mount, Network, Port, Pull, Tmpfs};
pub use stats::Stats;
pub use test_pool::{CleanupError, TestPool};
pub use wait::{Check, Wait};

extern crate alloc;
