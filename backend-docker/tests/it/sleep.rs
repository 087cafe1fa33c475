//! Containers that are paused while nobody wants them.

use std::time::Duration;

use poolyard_core::{Lease, Pool};
use poolyard_docker::{Check, Container, ContainerSpec, DockerManager, Reset, Wait};
use poolyard_exec::{Command, Exec};

use crate::engine::{ContainerPool, docker, exists, pool_of, sandbox, scene, until};
use crate::life::start_victim;
use crate::ready::service;

/// A pool whose containers are paused as soon as they are idle.
pub(crate) fn sleepy_pool(manager: &DockerManager, max: usize) -> ContainerPool {
    let pool = Pool::builder(manager.clone()).max_total(max).hibernate_after(Duration::from_millis(50));
    let limit = Duration::from_secs(60);
    pool.wait_timeout(limit).create_timeout(limit).build().unwrap()
}

fn state(host: &str, id: &str) -> String {
    docker(host, &["inspect", "-f", "{{.State.Status}}", id])
}

/// Gives a container back, and waits until it sleeps.
async fn put_to_sleep(pool: &ContainerPool, host: &str, lease: Lease<DockerManager>) -> String {
    let id = lease.id().to_owned();
    Lease::release(lease).await.unwrap();
    until("it is paused", || state(host, &id) == "paused").await;
    until("the pool knows", || pool.snapshot().counts.hibernated == 1).await;
    id
}

/// A service that is never at rest.
fn busy() -> ContainerSpec {
    let keep = Check::new("keep", |_| Box::pin(async { Ok(()) }));
    service("echo up; while :; do :; done").wait(Wait::log("up")).reset(Reset::Hook(keep))
}

/// Processor time of process 1 and what it started, in ticks, as the host counts it.
fn ticks(host: &str, id: &str) -> u64 {
    let table = docker(host, &["inspect", "-f", "{{.State.Pid}}", id]);
    let first: u32 = table.parse().unwrap();
    let mut all = vec![first];
    let mut at = 0;
    while at < all.len() {
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", all[at])).unwrap();
        all.extend(children.split_whitespace().map(|pid| pid.parse::<u32>().unwrap()));
        at += 1;
    }
    let of_one = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    all.iter().map(of_one).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_container_uses_no_processor_and_is_awake_before_it_is_handed_out() {
    let Some(scene) = scene() else { return };
    let (manager, host) = (scene.manager(), scene.host());
    let pool = sleepy_pool(&manager, 1);
    let lease = pool.acquire(&busy()).await.unwrap();
    let id = lease.id().to_owned();
    let awake = ticks(host, &id);
    until("it is busy while it is awake", || ticks(host, &id) > awake + 10).await;
    put_to_sleep(&pool, host, lease).await;
    let asleep = ticks(host, &id);
    // As many looks as would have been enough for it to be seen busy many times over.
    let other = pool_of(&manager, 1).acquire(&sandbox()).await.unwrap();
    for _ in 0..20 {
        assert!(other.exec(&Command::new("/bin/true")).await.unwrap().success());
        assert_eq!(ticks(host, &id), asleep);
    }
    let lease = pool.acquire(&busy()).await.unwrap();
    assert_eq!((lease.id(), state(host, &id).as_str()), (id.as_str(), "running"));
    assert!(lease.exec(&Command::new("/bin/true")).await.unwrap().success());
    until("it is busy again", || ticks(host, &id) > asleep + 10).await;
    assert_eq!(manager.numbers().created, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_container_sleeps_unless_it_was_asked_for() {
    let Some(scene) = scene() else { return };
    let (manager, host) = (scene.manager(), scene.host());
    let (awake, sleepy) = (pool_of(&manager, 1), sleepy_pool(&manager, 1));
    let stays = awake.acquire(&sandbox()).await.unwrap();
    let id = stays.id().to_owned();
    Lease::release(stays).await.unwrap();
    put_to_sleep(&sleepy, host, sleepy.acquire(&sandbox()).await.unwrap()).await;
    assert_eq!(state(host, &id), "running", "though it has been idle for longer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sleeping_container_is_removed_with_its_pool() {
    let Some(scene) = scene() else { return };
    let (manager, host) = (scene.manager(), scene.host());
    let pool = sleepy_pool(&manager, 1);
    let id = put_to_sleep(&pool, host, pool.acquire(&sandbox()).await.unwrap()).await;
    assert!(pool.close(Duration::from_secs(30)).await.is_clean());
    assert!(!exists(host, &id));
    // And without anybody closing it.
    let pool = sleepy_pool(&manager, 1);
    put_to_sleep(&pool, host, pool.acquire(&sandbox()).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sleeping_container_that_is_removed_from_outside_is_nobodys() {
    let Some(scene) = scene() else { return };
    let (manager, host) = (scene.manager(), scene.host());
    let pool = sleepy_pool(&manager, 1);
    let id = put_to_sleep(&pool, host, pool.acquire(&sandbox()).await.unwrap()).await;
    crate::engine::end(host, &["rm", "-f"], &id);
    until("it has left the pool", || pool.snapshot().counts.live() == 0).await;
    let next = pool.acquire(&sandbox()).await.unwrap();
    assert_ne!(next.id(), id);
    assert!(works(&next).await);
}

async fn works(container: &Container) -> bool {
    container.exec(&Command::new("/bin/true")).await.is_ok_and(|outcome| outcome.success())
}

/// The agent of a paused container cannot end it. The next manager does.
#[tokio::test(flavor = "multi_thread")]
async fn what_slept_when_its_process_was_killed_is_gone_after_the_next_start() {
    let Some(scene) = scene() else { return };
    let (manager, host) = (scene.manager(), scene.host());
    let (mut child, ids) = start_victim("asleep");
    until("its containers are paused", || ids.iter().all(|id| state(host, id) == "paused")).await;
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(ids.iter().all(|id| exists(host, id)), "nobody is there to end them");
    let pool = pool_of(&manager, 1);
    // The first container of a manager is its start.
    let lease = pool.acquire(&sandbox()).await.unwrap();
    until("they are gone", || ids.iter().all(|id| !exists(host, id))).await;
    assert!(works(&lease).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_leaves_the_sleeping_containers_of_the_living() {
    let Some(scene) = scene() else { return };
    let (manager, host) = (scene.manager(), scene.host());
    let (mut child, ids) = start_victim("asleep");
    until("its containers are paused", || ids.iter().all(|id| state(host, id) == "paused")).await;
    manager.reap().await.unwrap();
    assert!(ids.iter().all(|id| state(host, id) == "paused"));
    child.kill().unwrap();
    child.wait().unwrap();
    let reaped = manager.reap().await.unwrap();
    assert!(ids.iter().all(|id| reaped.containers.contains(id)), "{reaped:?}");
}
