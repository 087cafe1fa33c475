//! Between two users of one container.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use poolyard_core::Lease;
use poolyard_docker::{Check, ContainerSpec, DockerManager, Network, Reset, Wait};
use poolyard_exec::{Command, Exec};

use crate::engine::{ContainerPool, IMAGE, docker, exists, only_docker, pool_of, sandbox, scene, until};
use crate::ready::service;

async fn shell(container: &Lease<DockerManager>, script: &str) -> String {
    let outcome = container.exec(&Command::shell(script).inherit_env()).await.unwrap();
    assert!(outcome.success(), "{script}: {outcome:?}");
    outcome.stdout.text().into_owned()
}

/// Uses a container with a script, gives it back, and says whether the next user gets the same one.
async fn survives(pool: &ContainerPool, spec: &ContainerSpec, script: &str) -> bool {
    let first = pool.acquire(spec).await.unwrap();
    let id = first.id().to_owned();
    shell(&first, script).await;
    let _ = Lease::release(first).await;
    pool.acquire(spec).await.unwrap().id() == id
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_user_leaves_a_container_that_is_used_again() {
    let Some(scene) = scene() else { return };
    let manager = scene.manager();
    let pool = pool_of(&manager, 1);
    let spec = sandbox().diff_every(1);
    for n in 0..4 {
        let script = format!(
            "mkdir /box/{n} /tmp/{n}; echo x > /box/{n}/x; echo x > /dev/shm/{n}; sleep 1000 & sleep 0"
        );
        assert!(survives(&pool, &spec, &script).await);
    }
    assert_eq!(manager.numbers().created, 1);
    assert_eq!(manager.numbers().resets_dirty, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_hide_from_their_command_are_gone_for_the_next_user() {
    let Some(scene) = scene() else { return };
    let manager = scene.manager();
    let pool = pool_of(&manager, 1);
    // Kills its guardian, which is of the same user, and so escapes to process 1.
    let script = "kill -9 $PPID; setsid sleep 4321 >/dev/null 2>&1 & sleep 0.1";
    let first = pool.acquire(&sandbox()).await.unwrap();
    let _ = first.exec(&Command::shell(script).inherit_env()).await;
    let _ = Lease::release(first).await;
    let second = pool.acquire(&sandbox()).await.unwrap();
    assert_eq!(shell(&second, "ps | grep -c '[s]leep 4321' || true").await, "0\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_undone_costs_the_container_its_place() {
    let Some(scene) = scene() else { return };
    let manager = scene.manager();
    let pool = pool_of(&manager, 1);
    // Positive control: the same change is found where a user can make it.
    assert!(!survives(&pool, &sandbox(), "chmod 700 /tmp").await, "the mode of a mount");
    let writable = sandbox().read_only(false);
    assert!(!survives(&pool, &writable, "echo x > /etc/passwd").await, "a file of the image");
    assert!(!survives(&pool, &writable, "rm /bin/sh").await, "a file that is missing");
    assert_eq!(manager.numbers().resets_dirty, 3);
    assert!(
        survives(&pool, &writable.clone().wipe("/var/tmp"), "echo x > /var/tmp/x").await,
        "but a wiped one"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_for_one_use_is_used_once() {
    let Some(scene) = scene() else { return };
    let manager = scene.manager();
    let pool = pool_of(&manager, 1);
    assert!(!survives(&pool, &sandbox().reset(Reset::Never), "true").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_is_there_before_the_old_container_goes() {
    let Some(scene) = scene() else { return };
    let (manager, host) = (scene.manager(), scene.host());
    let pool = pool_of(&manager, 1);
    let spec = sandbox().reset(Reset::Recreate);
    let first = pool.acquire(&spec).await.unwrap();
    let old = first.id().to_owned();
    let _ = Lease::release(first).await;
    let second = pool.acquire(&spec).await.unwrap();
    assert_ne!(second.id(), old);
    assert_eq!(manager.numbers().created, 2);
    until("the old one is gone", || !exists(host, &old)).await;
    assert!(!Lease::is_gone(&second), "the end of the old one is no news about the new one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_cleans_a_service_that_goes_on_running() {
    let Some(scene) = scene() else { return };
    let manager = scene.manager();
    let pool = pool_of(&manager, 1);
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = calls.clone();
    let hook = Check::new("clean", move |container| {
        counter.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move { container.write_file("/box/state", b"clean", 0o644).await })
    });
    let spec = service("echo up; sleep 1234").reset(Reset::Hook(hook)).wait(Wait::log("up"));
    let script = "echo dirty > /box/state; setsid sleep 999 >/dev/null 2>&1 &";
    assert!(survives(&pool, &spec, script).await);
    let second = pool.acquire(&spec).await.unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    assert_eq!(shell(&second, "cat /box/state; ps | grep -c '[s]leep 1234'").await, "clean1\n");
    assert_eq!(shell(&second, "ps | grep -c '[s]leep 999' || true").await, "0\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_hook_throws_the_container_away() {
    let Some(scene) = scene() else { return };
    let manager = scene.manager();
    let pool = pool_of(&manager, 1);
    let hook = Check::new("fail", |c| Box::pin(async move { c.read_file("/no/such", 1).await.map(drop) }));
    assert!(!survives(&pool, &sandbox().reset(Reset::Hook(hook)), "true").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_gives_fresh_memory_in_the_same_container() {
    let Some(scene) = scene() else { return };
    let manager = scene.manager();
    if only_docker("Podman at times removes the container, whose end it takes for the last").is_none() {
        return;
    }
    let pool = pool_of(&manager, 1);
    let spec = sandbox().network(Network::Loopback).reset(Reset::Restart);
    assert!(survives(&pool, &spec, "echo x > /box/x").await);
    let second = pool.acquire(&spec).await.unwrap();
    assert_eq!(shell(&second, "ls /box").await, "");
    assert!(!Lease::is_gone(&second));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_container_serves_nobody_else() {
    let Some(scene) = scene() else { return };
    let manager = scene.manager();
    let pool = pool_of(&manager, 1);
    let first = pool.acquire(&sandbox()).await.unwrap();
    let id = first.id().to_owned();
    first.poison();
    let _ = Lease::release(first).await;
    assert_ne!(pool.acquire(&sandbox()).await.unwrap().id(), id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_rights_can_use_and_dirty_and_the_next_finds_nothing() {
    let Some(scene) = scene() else { return };
    let manager = scene.manager();
    let pool = pool_of(&manager, 1);
    let spec = sandbox().user("user");
    let first = pool.acquire(&spec).await.unwrap();
    let id = first.id().to_owned();
    assert_eq!(shell(&first, "id -u; id -g; id -G").await, "1000\n1000\n1000 1001\n");
    shell(&first, "mkdir -m 000 /box/closed; touch /tmp/x; echo $HOME").await;
    let _ = Lease::release(first).await;
    let second = pool.acquire(&spec).await.unwrap();
    assert_eq!(second.id(), id);
    assert_eq!(shell(&second, "ls /box /tmp").await, "/box:\n\n/tmp:\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_container_sleeps_and_wakes_when_it_is_wanted() {
    let Some(scene) = scene() else { return };
    let (manager, host) = (scene.manager(), scene.host());
    use poolyard_core::{Context, Manager, ResourceId};
    struct Deaf;
    impl poolyard_core::GoneSink for Deaf {
        fn gone(&self, _: ResourceId, _: std::borrow::Cow<'static, str>) {}
    }
    let sink: Arc<dyn poolyard_core::GoneSink> = Arc::new(Deaf);
    let cx = Context::standalone(ResourceId::standalone(1), Duration::from_secs(30), Arc::downgrade(&sink));
    let spec = ContainerSpec::sandbox(IMAGE);
    let mut container = manager.create(&spec, &cx).await.unwrap();
    manager.hibernate(&spec, &mut container, &cx).await.unwrap();
    let state = || docker(host, &["inspect", "-f", "{{.State.Status}}", container.id()]);
    assert_eq!(state(), "paused");
    manager.wake(&spec, &mut container, &cx).await.unwrap();
    manager.health_check(&spec, &mut container, &cx).await.unwrap();
    manager.destroy(&spec, &mut container, poolyard_core::Reason::Closed, &cx).await;
}
