//! What is survived, each with a real engine that really fails.

use std::time::Duration;

use poolyard_core::{AcquireError, Lease, Pool};
use poolyard_docker::{DockerManager, ErrorKind};
use poolyard_exec::{Command, Exec};

use crate::engine::{
    ContainerPool, Private, end, exists, host, manager, only_docker, pool_of, sandbox, until,
};

async fn works(container: &Lease<DockerManager>) -> bool {
    container.exec(&Command::new("/bin/true")).await.is_ok_and(|outcome| outcome.success())
}

fn live(pool: &ContainerPool) -> usize {
    pool.snapshot().counts.live()
}

/// An idle container in a pool, and its id.
async fn idle(pool: &ContainerPool) -> String {
    let lease = pool.acquire(&sandbox()).await.unwrap();
    let id = lease.id().to_owned();
    Lease::release(lease).await.unwrap();
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_killed_or_removed_from_outside_leaves_the_pool_before_anyone_gets_it() {
    let (Some(manager), Some(host)) = (manager(), host()) else { return };
    let pool = pool_of(&manager, 1);
    for action in [&["kill"][..], &["rm", "-f"], &["stop", "-t", "0"]] {
        let id = idle(&pool).await;
        end(host, action, &id);
        until("the dead container has left the pool", || live(&pool) == 0).await;
        let next = pool.acquire(&sandbox()).await.unwrap();
        assert_ne!(next.id(), id);
        assert!(works(&next).await);
        Lease::discard(next);
        until("and the next one too", || live(&pool) == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_user_of_a_container_that_dies_is_told() {
    let (Some(manager), Some(host)) = (manager(), host()) else { return };
    let pool = pool_of(&manager, 1);
    let lease = pool.acquire(&sandbox()).await.unwrap();
    let command = Command::shell("sleep 1000").env("PATH", "/bin");
    let running = lease.exec(&command);
    let kill = async { end(host, &["kill"], lease.id()) };
    let (outcome, ()) = tokio::join!(running, kill);
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), poolyard_exec::ErrorKind::ResourceGone);
    Lease::gone(&lease).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_engine_does_not_disturb_commands_and_a_new_one_is_used_when_it_is_there() {
    let Some(engine) = Private::start("killed", &[]) else { return };
    let manager = engine.manager();
    let pool = pool_of(&manager, 2);
    let lease = pool.acquire(&sandbox()).await.unwrap();
    engine.script("kill");
    assert!(works(&lease).await, "the agent answers without an engine");
    let error = pool.acquire(&sandbox()).await.unwrap_err();
    assert!(matches!(&error, AcquireError::Create(e) if *e.kind() == ErrorKind::Unreachable), "{error:?}");
    drop(lease);
    engine.script("up");
    until("a container is made again", || engine_answers(&engine)).await;
    let again = pool.acquire(&sandbox()).await.unwrap();
    assert!(works(&again).await);
}

fn engine_answers(engine: &Private) -> bool {
    std::process::Command::new("docker")
        .args(["-H", &engine.host(), "ps"])
        .output()
        .is_ok_and(|o| o.status.success())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_engine_takes_its_containers_along_and_the_pool_starts_afresh() {
    if only_docker("containers of Podman do not end with its service").is_none() {
        return;
    }
    let Some(engine) = Private::start("stopped", &[]) else { return };
    let pool = pool_of(&engine.manager(), 2);
    let id = idle(&pool).await;
    engine.script("stop");
    until("the container left the pool", || live(&pool) == 0).await;
    engine.script("up");
    let next = pool.acquire(&sandbox()).await.unwrap();
    assert_ne!(next.id(), id);
    assert!(works(&next).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_live_restore_containers_serve_without_their_engine_and_their_end_is_noticed() {
    let Some(engine) = Private::start("restored", &[("DOCKERD_ARGS", "--live-restore")]) else { return };
    let pool = pool_of(&engine.manager(), 1);
    let id = idle(&pool).await;
    engine.script("stop");
    let lease = pool.acquire(&sandbox()).await.unwrap();
    assert_eq!(lease.id(), id, "nothing has happened to it");
    assert!(works(&lease).await);
    Lease::release(lease).await.unwrap();
    engine.script("up");
    // Docker 20.10 removes containers at its restart that are to be removed at their end, even if
    // they live; other engines keep them.
    if exists(&engine.host(), &id) {
        end(&engine.host(), &["rm", "-f"], &id);
    }
    until("its end is noticed, however it came", || live(&pool) == 0).await;
    assert!(works(&pool.acquire(&sandbox()).await.unwrap()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_engine_holds_up_nobody_who_has_a_container() {
    let Some(engine) = Private::start("frozen", &[]) else { return };
    let limit = Duration::from_secs(2);
    let pool = Pool::builder(engine.manager()).max_total(2).create_timeout(limit).wait_timeout(limit * 10);
    let pool = pool.build().unwrap();
    let lease = pool.acquire(&sandbox()).await.unwrap();
    signal(engine.pid(), libc::SIGSTOP);
    assert!(works(&lease).await);
    let error = pool.acquire(&sandbox()).await.map(drop).unwrap_err();
    signal(engine.pid(), libc::SIGCONT);
    assert!(!matches!(error, AcquireError::Closed), "{error:?}");
    assert!(works(&pool.acquire(&sandbox()).await.unwrap()).await);
}

fn signal(pid: i32, signal: i32) {
    // SAFETY: no memory is involved; the process is one that we started.
    #[allow(unsafe_code)]
    let sent = unsafe { libc::kill(pid, signal) };
    assert_eq!(sent, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_named_and_what_runs_goes_on() {
    let Some(engine) = Private::start("full", &[("DATA_SIZE", "48m")]) else { return };
    let pool = pool_of(&engine.manager(), 2);
    let lease = pool.acquire(&sandbox()).await.unwrap();
    let filler = engine.dir.join("data/filler");
    let full = std::fs::write(&filler, vec![0; 64 << 20]);
    assert!(full.is_err(), "the disk is full");
    let error = pool.acquire(&sandbox()).await.map(drop).unwrap_err();
    assert!(matches!(&error, AcquireError::Create(e) if *e.kind() == ErrorKind::Capacity), "{error:?}");
    assert!(works(&lease).await);
    std::fs::remove_file(&filler).unwrap();
    assert!(works(&pool.acquire(&sandbox()).await.unwrap()).await);
}
