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
//! # Map
//!
//! | file | idea |
//! |---|---|
//! | `manager` | the pool's manager: create, recycle, check, destroy |
//! | `spec`, `profile` | what a container is made of: the key |
//! | `make` | from a specification to a ready container, leaving nothing behind on the way |
//! | `container`, `exec`, `stats` | the resource: addresses, files, commands, usage |
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
mod wait;

pub use container::{Container, EngineOutput};
pub use error::{Crash, Error, ErrorKind, Stage};
pub use manager::{DockerBuilder, DockerManager, Numbers};
pub use reap::Reaped;
pub use reset::Reset;
pub use spec::{ContainerSpec, MIB, Mount, Network, Port, Pull, Tmpfs};
pub use stats::Stats;
pub use wait::{Check, Wait};

extern crate alloc;
