//! `memory/idle_container`: what a container that does nothing holds.

use std::fs;

use bollard::Docker;
use poolyard_benches::row::{OURS, Row};

use crate::{AnyError, cold};

const NOTE: &str = "proportional memory of the container's processes and of the engine's shim";

pub(crate) async fn rows(docker: &Docker) -> Result<Vec<Row>, AnyError> {
    let pool = crate::pool(4)?;
    let spec = crate::spec();
    let leases = [pool.acquire(&spec).await?, pool.acquire(&spec).await?, pool.acquire(&spec).await?];
    let mut ours = Vec::new();
    for lease in &leases {
        ours.push(kib(docker, lease.id()).await?);
    }
    let mut plain = Vec::new();
    for _ in 0..leases.len() {
        let id = cold::create(docker).await?;
        cold::start(docker, &id).await?;
        plain.push(kib(docker, &id).await?);
        cold::remove(docker, &id).await?;
    }
    Ok(vec![
        Row::new("memory/idle_container", OURS, "KiB", &ours, NOTE),
        Row::new("memory/idle_container", "bollard", "KiB", &plain, NOTE),
    ])
}

async fn kib(docker: &Docker, id: &str) -> Result<f64, AnyError> {
    let options = None::<bollard::query_parameters::InspectContainerOptions>;
    let state = docker.inspect_container(id, options).await?.state.ok_or("no state")?;
    let main = state.pid.ok_or("no process")?;
    let shim = field(&format!("/proc/{main}/status"), "PPid:")?;
    Ok(field(&format!("/proc/{main}/smaps_rollup"), "Pss:")?
        + field(&format!("/proc/{shim}/smaps_rollup"), "Pss:")?)
}

fn field(file: &str, name: &str) -> Result<f64, AnyError> {
    let text = fs::read_to_string(file)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such field")?;
    Ok(line.split_whitespace().next().unwrap_or_default().parse()?)
}
