//! What is survived, each with a real engine that really fails.

use std::time::Duration;

use poolyard_core::{AcquireError, Lease, Pool};
use poolyard_docker::{Check, ContainerSpec, DockerManager, ErrorKind, MIB, Pull, Reset, Wait};
use poolyard_exec::{Command, Exec, Limit, Verdict};

use crate::engine::{
    ContainerPool, IMAGE, Private, docker, end, exists, only_docker, pool_of, sandbox, scene, until,
};
use crate::proxy::{Proxy, Weather};
use crate::ready::service;

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
    let Some(scene) = scene() else { return };
    let (manager, host) = (scene.manager(), scene.host());
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
    let Some(scene) = scene() else { return };
    let (manager, host) = (scene.manager(), scene.host());
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
    let (pool, hasty) = (pool_of(&engine.manager(), 2), hasty_pool(&engine.manager()));
    let lease = pool.acquire(&sandbox()).await.unwrap();
    signal(engine.pid(), libc::SIGSTOP);
    assert!(works(&lease).await);
    let error = hasty.acquire(&sandbox()).await.map(drop).unwrap_err();
    signal(engine.pid(), libc::SIGCONT);
    assert!(!matches!(error, AcquireError::Closed), "{error:?}");
    assert!(works(&pool.acquire(&sandbox()).await.unwrap()).await);
}

/// For what must not succeed: it gives up soon. A busy machine may take longer than this for a container.
fn hasty_pool(manager: &DockerManager) -> ContainerPool {
    let limit = Duration::from_secs(2);
    let pool = Pool::builder(manager.clone()).max_total(1).create_timeout(limit);
    pool.wait_timeout(limit * 10).build().unwrap()
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

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_engine_takes_its_time_and_nothing_else() {
    let Some(scene) = scene() else { return };
    let host = scene.host();
    let proxy = Proxy::start(host, "slow");
    proxy.set(Weather { delay: Duration::from_millis(200), ..Weather::default() });
    let pool = pool_of(&proxy.manager(), 1);
    let id = idle(&pool).await;
    let lease = pool.acquire(&sandbox()).await.unwrap();
    assert_eq!(lease.id(), id);
    assert!(works(&lease).await);
    drop(lease);
    assert!(pool.close(Duration::from_secs(30)).await.is_clean());
    assert!(!exists(host, &id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_comes_too_late_is_nobodys_and_is_removed() {
    let Some(scene) = scene() else { return };
    let host = scene.host();
    let proxy = Proxy::start(host, "late");
    let (pool, hasty) = (pool_of(&proxy.manager(), 1), hasty_pool(&proxy.manager()));
    let spec = sandbox().label("test", "late");
    let made = || docker(host, &["ps", "-aq", "--filter", "label=test=late"]).lines().count();
    proxy.set(Weather { hold: Some("/containers/create"), ..Weather::default() });
    let error = hasty.acquire(&spec).await.map(drop).unwrap_err();
    assert!(!matches!(error, AcquireError::Closed), "{error:?}");
    until("the engine has made it all the same", || made() > 0).await;
    proxy.set(Weather::default());
    until("it is removed when the engine's answer comes", || made() == 0).await;
    assert!(works(&pool.acquire(&spec).await.unwrap()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_comes_after_the_end_of_its_runtime_is_removed_as_well() {
    let Some(scene) = scene() else { return };
    let host = scene.host();
    let proxy = Proxy::start(host, "orphan");
    let made = || docker(host, &["ps", "-aq", "--filter", "label=test=orphan"]).lines().count();
    proxy.set(Weather { hold: Some("/containers/create"), ..Weather::default() });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let manager = proxy.manager();
    runtime.spawn(async move {
        let pool = pool_of(&manager, 1);
        pool.acquire(&sandbox().label("test", "orphan")).await.map(drop)
    });
    until("the engine has made it", || made() > 0).await;
    runtime.shutdown_background();
    until("it is removed without the answer", || made() == 0).await;
}

/// A container whose end only the engine can tell, because no agent is in it.
fn without_agent() -> ContainerSpec {
    let keep = Check::new("keep", |_| Box::pin(async { Ok(()) }));
    service("echo up; exec sleep 1000").without_agent().wait(Wait::log("up")).reset(Reset::Hook(keep))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_stream_that_is_cut_alone_is_opened_again_and_tells_what_was_missed() {
    let Some(scene) = scene() else { return };
    let host = scene.host();
    let proxy = Proxy::start(host, "events");
    let pool = pool_of(&proxy.manager(), 1);
    let lease = pool.acquire(&without_agent()).await.unwrap();
    let id = lease.id().to_owned();
    Lease::release(lease).await.unwrap();
    proxy.set(Weather { cut: Some("/events"), ..Weather::default() });
    end(host, &["kill"], &id);
    until("the container is gone from the engine", || !exists(host, &id)).await;
    assert_eq!(live(&pool), 1, "nobody could know");
    proxy.set(Weather::default());
    until("its end is found out", || live(&pool) == 0).await;
    let next = pool.acquire(&without_agent()).await.unwrap();
    end(host, &["kill"], next.id());
    // And the new stream works like the old one.
    Lease::gone(&next).await;
    drop(next);
    pool.close(Duration::from_secs(30)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_out_of_memory_is_told_and_its_container_serves_on() {
    let Some(scene) = scene() else { return };
    let manager = scene.manager();
    let pool = pool_of(&manager, 1);
    let spec = sandbox().memory(48 * MIB);
    let lease = pool.acquire(&spec).await.unwrap();
    let id = lease.id().to_owned();
    let hungry = Command::new("/bin/dd").args(["if=/dev/zero", "of=/dev/null", "bs=256M", "count=9"]);
    let outcome = lease.exec(&hungry).await.unwrap();
    assert_eq!(outcome.verdict, Verdict::Exceeded(Limit::Memory));
    Lease::release(lease).await.unwrap();
    let again = pool.acquire(&spec).await.unwrap();
    assert_eq!(again.id(), id);
    assert!(works(&again).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_out_of_memory_takes_its_container_along() {
    let Some(scene) = scene() else { return };
    let (manager, host) = (scene.manager(), scene.host());
    let pool = pool_of(&manager, 1);
    let script = "echo up; until test -e /tmp/go; do sleep 0.05; done; \
                  exec dd if=/dev/zero of=/dev/null bs=256M count=9";
    let spec = service(script).memory(48 * MIB).wait(Wait::log("up"));
    let lease = pool.acquire(&spec).await.unwrap();
    let id = lease.id().to_owned();
    lease.write_file("/tmp/go", b"", 0o644).await.unwrap();
    Lease::gone(&lease).await;
    assert!(Lease::is_gone(&lease) && lease.is_dead());
    drop(lease);
    until("the engine has removed it", || !exists(host, &id)).await;
    until("the pool has none", || live(&pool) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_removed_is_named_and_what_runs_of_it_goes_on() {
    let Some(scene) = scene() else { return };
    let (manager, host) = (scene.manager(), scene.host());
    docker(host, &["tag", IMAGE, "poolyard-going:1"]);
    let pool = pool_of(&manager, 2);
    let spec = ContainerSpec::sandbox("poolyard-going:1").pull(Pull::Never);
    let lease = pool.acquire(&spec).await.unwrap();
    docker(host, &["rmi", "poolyard-going:1"]);
    let error = pool.acquire(&spec).await.map(drop).unwrap_err();
    assert!(matches!(&error, AcquireError::Create(e) if *e.kind() == ErrorKind::ImageMissing), "{error:?}");
    assert!(works(&lease).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_engine_without_live_restore_is_used_as_soon_as_it_answers() {
    if only_docker("containers of Podman do not end with its service").is_none() {
        return;
    }
    let Some(engine) = Private::start("restarted", &[]) else { return };
    let manager = engine.manager();
    let pool = pool_of(&manager, 2);
    let lease = pool.acquire(&sandbox()).await.unwrap();
    let other = idle(&pool_of(&manager, 1)).await;
    engine.script("stop");
    Lease::gone(&lease).await;
    engine.script("up");
    drop(lease);
    let next = pool.acquire(&sandbox()).await.unwrap();
    assert!(works(&next).await);
    assert!(!exists(&engine.host(), &other));
}
