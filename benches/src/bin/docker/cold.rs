//! Containers made when they are wanted.

use std::time::Instant;

use bollard::Docker;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::{ContainerCreateBody, ExecConfig, HostConfig};
use bollard::query_parameters::{
    CreateContainerOptions, RemoveContainerOptionsBuilder, StartContainerOptions,
};
use poolyard_benches::row::OURS;
use poolyard_core::{Lease, Pool};
use poolyard_docker::{DockerManager, Reset};
use poolyard_exec::{Command, Exec};
use testcontainers::core::ExecCommand;
use testcontainers::runners::AsyncRunner;
use testcontainers::{GenericImage, ImageExt};
use tokio_stream::StreamExt;

use crate::samples::Samples;
use crate::{AnyError, image};

/// One container of each subject.
pub(crate) async fn round(
    docker: &Docker,
    pool: &Pool<DockerManager>,
    samples: &mut Samples,
) -> Result<(), AnyError> {
    bollard(docker, samples).await?;
    testcontainers(samples).await?;
    cli(samples).await?;
    ours(pool, samples).await
}

async fn bollard(docker: &Docker, samples: &mut Samples) -> Result<(), AnyError> {
    let begin = Instant::now();
    let id = create(docker).await?;
    samples.add("create", "bollard", begin);
    let started = Instant::now();
    start(docker, &id).await?;
    samples.add("start", "bollard", started);
    exec(docker, &id).await?;
    samples.add("cold_acquire_exec", "bollard", begin);
    let again = Instant::now();
    exec(docker, &id).await?;
    samples.add("exec/engine", "bollard", again);
    let by_cli = Instant::now();
    run("docker", &["exec", &id, "/bin/true"]).await?;
    samples.add("exec/engine", "docker_cli", by_cli);
    remove(docker, &id).await
}

async fn testcontainers(samples: &mut Samples) -> Result<(), AnyError> {
    let begin = Instant::now();
    let request = GenericImage::new("poolyard-test", "1").with_entrypoint("/bin/sleep").with_cmd(["1000"]);
    let request = request.with_network("none").with_host_config_modifier(|config| {
        let ours = host_config();
        config.readonly_rootfs = ours.readonly_rootfs;
        config.cap_drop = ours.cap_drop;
        config.security_opt = ours.security_opt;
        config.pids_limit = ours.pids_limit;
        config.tmpfs = ours.tmpfs;
    });
    let container = request.start().await?;
    let mut result = container.exec(ExecCommand::new(["/bin/true"])).await?;
    result.stdout_to_vec().await?;
    assert_eq!(result.exit_code().await?, Some(0));
    samples.add("cold_acquire_exec", "testcontainers", begin);
    container.rm().await?;
    Ok(())
}

async fn cli(samples: &mut Samples) -> Result<(), AnyError> {
    let begin = Instant::now();
    let options = "run --rm --network none --read-only --cap-drop ALL --security-opt no-new-privileges \
        --pids-limit 256 --tmpfs /tmp --tmpfs /box";
    let words: Vec<&str> = options.split_whitespace().chain([image::PLAIN, "/bin/true"]).collect();
    run("docker", &words).await?;
    samples.add("cold_acquire_exec", "docker_cli", begin);
    Ok(())
}

/// An acquire that finds nothing, with the agent put in.
async fn ours(pool: &Pool<DockerManager>, samples: &mut Samples) -> Result<(), AnyError> {
    let spec = crate::spec().reset(Reset::Never);
    let begin = Instant::now();
    let lease = pool.acquire(&spec).await?;
    assert!(lease.exec(&Command::new("/bin/true")).await?.success());
    samples.add("cold_acquire_exec", OURS, begin);
    // Not measured, but over before the next subject starts.
    let _ = Lease::release(lease).await;
    Ok(())
}

pub(crate) async fn run(program: &str, arguments: &[&str]) -> Result<(), AnyError> {
    let status = tokio::process::Command::new(program).args(arguments).status().await?;
    if status.success() { Ok(()) } else { Err(format!("{program} {arguments:?}: {status}").into()) }
}

pub(crate) async fn create(docker: &Docker) -> Result<String, AnyError> {
    Ok(docker.create_container(None::<CreateContainerOptions>, body()).await?.id)
}

pub(crate) async fn start(docker: &Docker, id: &str) -> Result<(), AnyError> {
    Ok(docker.start_container(id, None::<StartContainerOptions>).await?)
}

pub(crate) async fn remove(docker: &Docker, id: &str) -> Result<(), AnyError> {
    let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    Ok(docker.remove_container(id, Some(options)).await?)
}

pub(crate) async fn exec(docker: &Docker, id: &str) -> Result<(), AnyError> {
    let config = ExecConfig {
        cmd: Some(vec!["/bin/true".into()]),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..ExecConfig::default()
    };
    let exec = docker.create_exec(id, config).await?.id;
    let started = docker.start_exec(&exec, None::<StartExecOptions>).await?;
    if let StartExecResults::Attached { mut output, .. } = started {
        while output.next().await.transpose()?.is_some() {}
    }
    assert_eq!(docker.inspect_exec(&exec).await?.exit_code, Some(0));
    Ok(())
}

fn body() -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(image::PLAIN.into()),
        entrypoint: Some(vec!["/bin/sleep".into(), "1000".into()]),
        host_config: Some(host_config()),
        ..ContainerCreateBody::default()
    }
}

/// What `ContainerSpec::sandbox` asks for, in the engine's words.
fn host_config() -> HostConfig {
    let tmpfs = [("/tmp", "64m"), ("/box", "256m")];
    let tmpfs = tmpfs.map(|(path, size)| (path.to_owned(), format!("rw,nosuid,nodev,mode=1777,size={size}")));
    HostConfig {
        network_mode: Some("none".into()),
        readonly_rootfs: Some(true),
        cap_drop: Some(vec!["ALL".into()]),
        security_opt: Some(vec!["no-new-privileges".into()]),
        pids_limit: Some(256),
        tmpfs: Some(tmpfs.into_iter().collect()),
        ..HostConfig::default()
    }
}
