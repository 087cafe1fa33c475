//! The judge of the examples gives the same grades on every kind of sandbox.
#![cfg(target_os = "linux")]

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

/// With the engine of `DOCKER_HOST` and the image of `POOLYARD_TEST_IMAGE`, or its own.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_judge_grades_in_containers() {
    let Some(manager) = engine().await else { return };
    let image = std::env::var("POOLYARD_TEST_IMAGE").unwrap_or("poolyard-test:1".into());
    grades_are_as_expected(manager, ContainerSpec::try_from(&profile(Some(image))).unwrap()).await;
}

async fn engine() -> Option<DockerManager> {
    let manager = DockerManager::local();
    let ping = match &manager {
        Ok(manager) => manager.ping().await,
        Err(_) => Ok(()),
    };
    let why = manager.as_ref().err().or(ping.as_ref().err()).map(ToString::to_string);
    let availability = why.map_or(Availability::Ready, Availability::Missing);
    require("docker", &availability).then(|| manager.unwrap())
}
