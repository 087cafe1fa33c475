//! Pooled containers against containers made on demand:
//! `cargo run --profile bench -p poolyard-benches --bin docker`.
//!
//! Uses the engine that `DOCKER_HOST` names, or as root a private one that ends with the program. The
//! subjects take turns, round by round; see `README.md` for how to read it.

mod cold;
mod engine;
mod image;
mod memory;
mod samples;
mod suite;
mod throughput;
mod warm;

use std::time::Duration;

use bollard::Docker;
use poolyard_benches::row::{OURS, Row};
use poolyard_benches::{conditions, is_quick, report};
use poolyard_core::Pool;
use poolyard_docker::{ContainerSpec, DockerManager};

use samples::Samples;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

const PROFILE: &str = "not pinned; a tokio runtime of 2 workers; every subject makes the same container: \
    busybox, loopback only, read-only root, /tmp and /box in memory, no capabilities, 256 processes; \
    bollard keeps its client";

fn main() -> Result<(), AnyError> {
    match std::env::var_os("DOCKER_HOST") {
        Some(_) => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?
            .block_on(measure()),
        None => engine::with_private_engine(),
    }
}

async fn measure() -> Result<(), AnyError> {
    let docker = Docker::connect_with_defaults()?;
    let version = docker.version().await?.version.unwrap_or_default();
    let mut rows = vec![conditions::row(&format!("engine {version}; {PROFILE}"))];
    let mut samples = Samples::default();
    latencies(&docker, &mut samples).await?;
    rows.extend(samples.rows());
    rows.extend(throughput::rows(&docker).await?);
    rows.extend(memory::rows(&docker).await?);
    rows.extend(suite::rows(&docker).await?);
    report::publish("docker", &rows)?;
    verdicts(&rows);
    Ok(())
}

async fn latencies(docker: &Docker, samples: &mut Samples) -> Result<(), AnyError> {
    let pool = pool(6)?;
    let warm = warm::Warm::prepare(&pool).await?;
    for _ in 0..if is_quick() { 4 } else { 21 } {
        cold::round(docker, &pool, samples).await?;
        warm.round(samples).await?;
    }
    drop(warm);
    pool.close(Duration::from_secs(30)).await;
    Ok(())
}

/// The container that every subject makes.
fn spec() -> ContainerSpec {
    ContainerSpec::sandbox(image::PLAIN).network(poolyard_docker::Network::Loopback)
}

fn pool(max_total: usize) -> Result<Pool<DockerManager>, AnyError> {
    let limit = Duration::from_secs(60);
    let builder = Pool::builder(DockerManager::local()?).max_total(max_total);
    Ok(builder.create_timeout(limit).wait_timeout(limit).build()?)
}

/// The ratios that the project promises.
fn verdicts(rows: &[Row]) {
    let p50 = |bench: &str, subject: &str| {
        rows.iter().find(|row| row.bench == bench && row.subject == subject)?.p50
    };
    let say = |what: &str, slow: Option<f64>, fast: Option<f64>| {
        if let (Some(slow), Some(fast)) = (slow, fast) {
            println!("{what}: {:.0} times", slow / fast);
        }
    };
    println!();
    let warm = p50("warm_acquire_exec", OURS);
    say("warm acquire and one command, faster than cold", p50("cold_acquire_exec", "bollard"), warm);
    say(
        "a command by the agent, faster than docker exec",
        p50("exec/engine", "docker_cli"),
        p50("exec/agent", OURS),
    );
    say(
        "a command by the agent, faster than the engine's API",
        p50("exec/engine", "bollard"),
        p50("exec/agent", OURS),
    );
    say("reset by the agent, faster than recreate", p50("reset/recreate", OURS), p50("reset/agent", OURS));
}
