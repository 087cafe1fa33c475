//! Measures pooled containers beside what one would do without a pool, in one run, interleaved.
//!
//! `DOCKER_HOST=... cargo run --release -p poolyard-docker --example bench`; needs an engine with the
//! image `poolyard-test:1` (see `tests/engine.sh`). `BENCH_QUICK=1` takes a third of the rounds. Prints
//! rows of JSON, then a table.

#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::exec::StartExecResults;
use bollard::models::{ContainerCreateBody, ExecConfig, HostConfig};
use bollard::query_parameters::{CreateContainerOptions, RemoveContainerOptionsBuilder};
use poolyard_core::{Lease, Pool};
use poolyard_docker::{ContainerSpec, DockerManager, Network, Reset};
use poolyard_exec::{Command, Exec};
use tokio_stream::StreamExt;

const IMAGE: &str = "poolyard-test:1";

type AnyError = Box<dyn std::error::Error>;

#[derive(Default)]
struct Rows(BTreeMap<(&'static str, &'static str), Vec<Duration>>);

impl Rows {
    fn add(&mut self, bench: &'static str, subject: &'static str, since: Instant) {
        self.0.entry((bench, subject)).or_default().push(since.elapsed());
    }

    fn quantile(&self, bench: &'static str, subject: &'static str, q: f64) -> f64 {
        let mut all = self.0[&(bench, subject)].clone();
        all.sort();
        all[((all.len() - 1) as f64 * q).round() as usize].as_secs_f64() * 1e6
    }

    fn print(&self) {
        for ((bench, subject), samples) in &self.0 {
            let [p50, p99] = [0.5, 0.99].map(|q| self.quantile(bench, subject, q));
            let n = samples.len();
            println!(
                r#"{{"bench": "{bench}", "subject": "{subject}", "unit": "us", "p50": {p50:.1}, "p99": {p99:.1}, "n": {n}, "note": ""}}"#
            );
        }
        println!(
            r#"{{"bench": "cold_acquire_exec", "subject": "testcontainers", "unit": "us", "p50": null, "p99": null, "n": 0, "note": "missing: not a dependency of this program"}}"#
        );
        for (bench, subject) in self.0.keys() {
            let [p50, p99] = [0.5, 0.99].map(|q| self.quantile(bench, subject, q));
            println!("{bench:24} {subject:10} p50 {p50:10.1} us   p99 {p99:10.1} us");
        }
    }
}

/// The same container as `ContainerSpec::sandbox` makes, without an agent.
fn body() -> ContainerCreateBody {
    let tmpfs = ["/tmp", "/box"].map(|path| (path.to_owned(), "rw,nosuid,nodev,size=64m".to_owned()));
    ContainerCreateBody {
        image: Some(IMAGE.into()),
        entrypoint: Some(vec!["/bin/sleep".into(), "1000".into()]),
        host_config: Some(HostConfig {
            network_mode: Some("none".into()),
            readonly_rootfs: Some(true),
            cap_drop: Some(vec!["ALL".into()]),
            security_opt: Some(vec!["no-new-privileges".into()]),
            pids_limit: Some(256),
            tmpfs: Some(tmpfs.into_iter().collect()),
            auto_remove: Some(true),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

async fn engine_exec(docker: &Docker, id: &str) -> Result<(), AnyError> {
    let config = ExecConfig {
        cmd: Some(vec!["/bin/true".into()]),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..ExecConfig::default()
    };
    let exec = docker.create_exec(id, config).await?.id;
    if let StartExecResults::Attached { mut output, .. } =
        docker.start_exec(&exec, None::<bollard::exec::StartExecOptions>).await?
    {
        while output.next().await.transpose()?.is_some() {}
    }
    let code = docker.inspect_exec(&exec).await?.exit_code;
    assert_eq!(code, Some(0));
    Ok(())
}

/// Create, start, one command; the removal is not counted.
async fn cold(docker: &Docker, rows: &mut Rows) -> Result<(), AnyError> {
    let begin = Instant::now();
    let id = docker.create_container(None::<CreateContainerOptions>, body()).await?.id;
    rows.add("create", "bollard", begin);
    let started = Instant::now();
    docker.start_container(&id, None::<bollard::query_parameters::StartContainerOptions>).await?;
    rows.add("start", "bollard", started);
    engine_exec(docker, &id).await?;
    rows.add("cold_acquire_exec", "bollard", begin);
    let warm = Instant::now();
    engine_exec(docker, &id).await?;
    rows.add("exec/engine", "bollard", warm);
    let cli = Instant::now();
    let status = tokio::process::Command::new("docker").args(["exec", &id, "/bin/true"]).status().await?;
    assert!(status.success());
    rows.add("exec/engine", "docker_cli", cli);
    let options = RemoveContainerOptionsBuilder::default().force(true).build();
    docker.remove_container(&id, Some(options)).await?;
    Ok(())
}

async fn warm(pool: &Pool<DockerManager>, spec: &ContainerSpec, rows: &mut Rows) -> Result<(), AnyError> {
    let command = Command::new("/bin/true");
    for _ in 0..20 {
        let begin = Instant::now();
        let lease = pool.acquire(spec).await?;
        assert!(lease.exec(&command).await?.success());
        rows.add("warm_acquire_exec", "poolyard", begin);
        let exec = Instant::now();
        assert!(lease.exec(&command).await?.success());
        rows.add("exec/agent", "poolyard", exec);
        // Dirt, as for every strategy: twelve files and a process.
        let dirt = Command::shell("for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo x > /box/$i; done")
            .env("PATH", "/bin");
        lease.exec(&dirt).await?;
        let reset = Instant::now();
        Lease::release(lease).await.map_err(|reason| reason.to_string())?;
        rows.add("reset/agent", "poolyard", reset);
    }
    Ok(())
}

async fn reset(
    pool: &Pool<DockerManager>,
    spec: &ContainerSpec,
    name: &'static str,
    rows: &mut Rows,
) -> Result<(), AnyError> {
    let lease = pool.acquire(spec).await?;
    let begin = Instant::now();
    Lease::release(lease).await.map_err(|reason| reason.to_string())?;
    rows.add(name, "poolyard", begin);
    Ok(())
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), AnyError> {
    let rounds = if std::env::var_os("BENCH_QUICK").is_some() { 5 } else { 15 };
    let docker = Docker::connect_with_defaults()?;
    let pool = Pool::builder(DockerManager::local()?).max_total(4).build()?;
    let wiped = ContainerSpec::sandbox(IMAGE).network(Network::Loopback).diff_every(0);
    let recreated = wiped.clone().reset(Reset::Recreate);
    let restarted = wiped.clone().reset(Reset::Restart);
    let mut rows = Rows::default();
    for spec in [&wiped, &recreated, &restarted] {
        drop(pool.acquire(spec).await?); // Made before anything is measured.
    }
    for _ in 0..rounds {
        cold(&docker, &mut rows).await?;
        warm(&pool, &wiped, &mut rows).await?;
        reset(&pool, &recreated, "reset/recreate", &mut rows).await?;
        reset(&pool, &restarted, "reset/restart", &mut rows).await?;
    }
    rows.print();
    let p50 = |bench, subject| rows.quantile(bench, subject, 0.5);
    let warm = p50("warm_acquire_exec", "poolyard");
    println!(
        "warm acquire and one command: {:.0} times faster than cold",
        p50("cold_acquire_exec", "bollard") / warm
    );
    println!(
        "exec by agent: {:.0} times faster than by the engine",
        p50("exec/engine", "bollard") / p50("exec/agent", "poolyard")
    );
    println!(
        "reset by agent: {:.0} times faster than recreate",
        p50("reset/recreate", "poolyard") / p50("reset/agent", "poolyard")
    );
    pool.close(Duration::from_secs(30)).await;
    Ok(())
}
