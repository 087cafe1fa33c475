//! The judge of the examples gives the same grades on every kind of sandbox.
#![cfg(target_os = "linux")]

use std::process::{Command, Stdio};
use std::time::Duration;

use poolyard::docker::{ContainerSpec, DockerManager};
use poolyard::exec::Exec;
use poolyard::linux_ns::{LinuxNs, SandboxSpec};
use poolyard::{Manager, Pool};
use poolyard_examples::judging::{SUBMISSIONS, judge, profile};
use poolyard_testkit::availability::{Availability, require};

async fn grades_are_as_expected<M>(manager: M, key: M::Key)
where
    M: Manager,
    M::Resource: Exec,
{
    let pool = Pool::builder(manager).max_total(2).build().unwrap();
    for (name, script, expected) in SUBMISSIONS {
        assert_eq!(judge(&pool, &key, script).await.unwrap(), expected, "{name}");
    }
    assert!(pool.close(Duration::from_secs(30)).await.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_judge_grades_in_sandboxes_of_linux_namespaces() {
    let ns = LinuxNs::new();
    let why = match &ns {
        Ok(ns) => ns.missing_cgroups().map(str::to_owned),
        Err(error) => Some(error.to_string()),
    };
    let availability = why.map_or(Availability::Ready, Availability::Missing);
    if require("linux-ns", &availability) {
        grades_are_as_expected(ns.unwrap(), SandboxSpec::from(profile(None))).await;
    }
}

/// With the engine of `DOCKER_HOST` and the image of `POOLYARD_TEST_IMAGE`, or one of its own.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_judge_grades_in_containers() {
    let engine = engine();
    let availability = engine.as_ref().err().cloned().map_or(Availability::Ready, Availability::Missing);
    if !require("docker", &availability) {
        return;
    }
    let manager = DockerManager::builder().host(engine.unwrap()).build().unwrap();
    let image = std::env::var("POOLYARD_TEST_IMAGE").unwrap_or("poolyard-test:1".into());
    grades_are_as_expected(manager, ContainerSpec::try_from(&profile(Some(image))).unwrap()).await;
}

/// The address of an engine, started here if there is none; it ends with this process.
fn engine() -> Result<String, String> {
    if let Ok(host) = std::env::var("DOCKER_HOST") {
        return Ok(host);
    }
    if !rustix::process::geteuid().is_root() {
        return Err("DOCKER_HOST is not set, and only root can start an engine".into());
    }
    if Command::new("dockerd").arg("--version").output().is_err() {
        return Err("there is no dockerd; on Debian or Ubuntu: apt-get install docker.io".into());
    }
    let dir = std::env::temp_dir().join(format!("poolyard-judge-{}", std::process::id()));
    let mut up = Command::new("bash");
    up.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../backend-docker/tests/engine.sh")).arg("up").arg(&dir);
    // Not a pipe: the daemon would hold it open.
    up.env("OWNER", std::process::id().to_string()).stdout(Stdio::null());
    match up.status() {
        Ok(status) if status.success() => Ok(format!("unix://{}/docker.sock", dir.display())),
        other => Err(format!("the engine was not started: {other:?}")),
    }
}
