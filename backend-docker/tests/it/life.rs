//! What is left behind: nothing, however it ends.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command as HostCommand, Stdio};
use std::time::Duration;

use poolyard_core::{Lease, Pool};
use poolyard_docker::{ContainerSpec, DockerManager, Mount, Network, Port, TestPool};
use poolyard_exec::{Command, Exec};

use crate::engine::{
    Private, VICTIM, docker, exists, manager_for_a_static, pool_of, sandbox, scene, scene_with, until,
};
use crate::ready::service;

/// Not a test by itself: what another process does until it is killed.
#[tokio::test(flavor = "multi_thread")]
async fn victim() {
    let Ok(role) = std::env::var(VICTIM) else { return };
    if role == "static" {
        return one_test_of_a_process().await;
    }
    let scene = scene().unwrap();
    let pool = match role.as_str() {
        "asleep" => crate::sleep::sleepy_pool(&scene.manager(), 4),
        _ => pool_of(&scene.manager(), 4),
    };
    let spec = match role.as_str() {
        "range" => ranged(),
        "asleep" => sandbox(),
        "volumes" => {
            sandbox().mount(Mount::anonymous("/data")).mount(Mount::volume("victims-volume", "/named"))
        }
        _ => ContainerSpec::service(crate::engine::IMAGE)
            .cmd(["sleep", "1000"])
            .network(Network::Named("victims-network".into()))
            .without_agent()
            .reset(poolyard_docker::Reset::Never),
    };
    let first = pool.acquire(&spec).await.unwrap();
    let second = pool.acquire(&spec).await.unwrap();
    say(&[first.id(), second.id()]);
    if role == "asleep" {
        drop([first, second]);
    }
    std::future::pending::<()>().await;
}

fn say(ids: &[&str]) {
    println!("VICTIM {}", ids.join(" "));
    std::io::stdout().flush().unwrap();
}

static POOL: TestPool =
    TestPool::new(|| sandbox().label("test", "static")).max_total(2).manager(|| Ok(manager_for_a_static()));

/// What a test is where each is a process: it uses the pool and returns, and nothing is closed.
async fn one_test_of_a_process() {
    let container = POOL.acquire().await.unwrap();
    assert!(container.exec(&Command::new("/bin/true")).await.unwrap().success());
    say(&[container.id()]);
}

/// Containers that want one of four ports.
fn ranged() -> ContainerSpec {
    service("sleep 1000").publish(Port::tcp(80).in_range(28700..=28703)).label("test", "range")
}

/// Starts another process that holds two containers, and gives their ids.
pub(crate) fn start_victim(role: &str) -> (Child, Vec<String>) {
    let mut command = HostCommand::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "life::victim", "--nocapture"])
        .env(VICTIM, role)
        .env("DOCKER_HOST", scene().unwrap().host());
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let line = lines.find_map(|l| Some(l.split_once("VICTIM ")?.1.to_owned())).unwrap();
    // Whoever writes to nobody fails.
    std::thread::spawn(move || lines.for_each(drop));
    (child, line.split(' ').map(str::to_owned).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_and_anonymous_volumes_of_a_killed_process_are_gone_without_anybodys_help() {
    let Some(scene) = scene() else { return };
    let host = scene.host();
    let (mut child, ids) = start_victim("volumes");
    let volumes = || docker(host, &["volume", "ls", "-q"]).lines().filter(|v| v.len() == 64).count();
    let inspected = docker(host, &["inspect", "-f", "{{range .Mounts}}{{.Name}} {{end}}", &ids[0]]);
    let anonymous = inspected.split_whitespace().find(|name| name.len() == 64).unwrap().to_owned();
    assert!(volumes() >= 2);
    child.kill().unwrap();
    child.wait().unwrap();
    until("the killed process's containers are gone", || ids.iter().all(|id| !exists(host, id))).await;
    until("their anonymous volumes too", || !docker(host, &["volume", "ls", "-q"]).contains(&anonymous))
        .await;
    // A volume with a name is for the next start to find.
    scene.manager().reap().await.unwrap();
    assert!(!docker(host, &["volume", "ls", "-q"]).contains("victims-volume"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_dead_man_switch_cannot_cover_is_swept_and_the_living_are_left_alone() {
    let Some(scene) = scene() else { return };
    let host = scene.host();
    let (mut child, ids) = start_victim("alone");
    let manager = scene.manager();
    manager.reap().await.unwrap();
    assert!(ids.iter().all(|id| exists(host, id)), "a live owner's containers are never touched");
    child.kill().unwrap();
    child.wait().unwrap();
    // What other tests' sweeps removed counts as well: all that matters is that it goes.
    manager.reap().await.unwrap();
    until("the sweep removed the containers", || ids.iter().all(|id| !exists(host, id))).await;
    until("and the network", || !docker(host, &["network", "ls"]).contains("victims-network")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_was_never_started_is_swept_once_its_owner_is_dead() {
    let Some(scene) = scene() else { return };
    let host = scene.host();
    // A process id that is nobody's, of this boot and this namespace, taken from a live label.
    let pool = pool_of(&scene.manager(), 1);
    let lease = pool.acquire(&sandbox()).await.unwrap();
    let format = "{{index .Config.Labels \"dev.poolyard.owner\"}}";
    let alive = docker(host, &["inspect", "-f", format, lease.id()]);
    let (rest, _) = alive.rsplit_once('.').unwrap();
    let (rest, start) = rest.rsplit_once('.').unwrap();
    let dead = format!("{rest}.{}.9", start.parse::<u64>().unwrap() + 1);
    let label = format!("dev.poolyard.owner={dead}");
    let orphan = docker(host, &["create", "--label", &label, crate::engine::IMAGE, "true"]);
    scene.manager().reap().await.unwrap();
    until("the orphan is gone", || !exists(host, &orphan)).await;
    assert!(exists(host, lease.id()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discarded_lease_takes_its_container_along() {
    let Some(scene) = scene() else { return };
    let host = scene.host();
    let pool = pool_of(&scene.manager(), 1);
    let lease = pool.acquire(&sandbox()).await.unwrap();
    let id = lease.id().to_owned();
    assert!(exists(host, &id));
    Lease::discard(lease);
    until("the discarded container is gone", || !exists(host, &id)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_a_pool_removes_every_container_of_it() {
    let Some(scene) = scene() else { return };
    let host = scene.host();
    let pool = pool_of(&scene.manager(), 3);
    let leases = [pool.acquire(&sandbox()).await.unwrap(), pool.acquire(&sandbox()).await.unwrap()];
    let ids: Vec<String> = leases.iter().map(|l| l.id().to_owned()).collect();
    drop(leases);
    let report = pool.close(Duration::from_secs(30)).await;
    assert_eq!(report.abandoned, 0, "{report:?}");
    assert!(ids.iter().all(|id| !exists(host, id)));
}

/// The pool of a whole crate's tests: each test has a runtime of its own, and the first one's ends
/// first.
#[test]
fn one_pool_serves_twenty_runtimes_that_end_in_any_order() {
    let Some(scene) = scene() else { return };
    let host = scene.host();
    let builder = Pool::builder(scene.manager()).max_total(3).own_thread();
    let pool = builder.wait_timeout(Duration::from_secs(60)).build().unwrap();
    let tests: Vec<_> = (0..20)
        .map(|n| {
            let pool = pool.clone();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let container = pool.acquire(&sandbox().label("test", "twenty")).await.unwrap();
                    let command =
                        Command::shell(format!("test ! -e /box/x && echo {n} > /box/x; cat /box/x"));
                    let outcome = container.exec(&command.env("PATH", "/bin")).await.unwrap();
                    assert_eq!(outcome.stdout.text(), format!("{n}\n"));
                });
            })
        })
        .collect();
    for test in tests {
        test.join().unwrap();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let report = runtime.block_on(pool.close(Duration::from_secs(30)));
    assert_eq!(report.abandoned, 0);
    assert_eq!(docker(host, &["ps", "-aq", "--filter", "label=test=twenty"]), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_for_each_test_leaves_nothing_though_its_static_pool_is_never_dropped() {
    let Some(scene) = scene() else { return };
    let host = scene.host();
    let mut tests = [start_victim("static"), start_victim("static")];
    assert_ne!(tests[0].1, tests[1].1, "each has a container of its own");
    for (child, ids) in &mut tests {
        assert!(child.wait().unwrap().success());
        until("its container is gone", || ids.iter().all(|id| !exists(host, id))).await;
    }
}

#[test]
fn a_test_pool_serves_tests_with_runtimes_of_their_own_and_cleans_up() {
    let Some(scene) = scene() else { return };
    let host = scene.host();
    let with_runtime = |test: fn() -> BoxedTest| {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test());
    };
    assert!(POOL.snapshot().is_none(), "nothing is made before it is wanted");
    let tests = std::array::from_fn::<_, 6, _>(|_| {
        std::thread::spawn(move || {
            with_runtime(|| {
                Box::pin(async {
                    let container = POOL.acquire().await.unwrap();
                    assert!(container.exec(&Command::new("/bin/true")).await.unwrap().success());
                })
            });
        })
    });
    for test in tests {
        test.join().unwrap();
    }
    assert!(POOL.snapshot().unwrap().counts.live() <= 2);
    with_runtime(|| Box::pin(async { POOL.cleanup().await.unwrap() }));
    let left = docker(host, &["ps", "-q", "--filter", "label=test=static"]);
    // Those of other processes may be there: this one's have its process id in their names.
    let names = docker(host, &["ps", "--filter", "label=test=static", "--format", "{{.Names}}"]);
    assert!(!names.contains(&format!("-{}-", std::process::id())), "{left} {names}");
}

type BoxedTest = std::pin::Pin<Box<dyn Future<Output = ()>>>;

static HOST: std::sync::OnceLock<String> = std::sync::OnceLock::new();

#[tokio::test(flavor = "multi_thread")]
async fn a_cleanup_names_every_container_that_it_could_not_remove() {
    static LOST: TestPool = TestPool::new(sandbox)
        .max_total(2)
        .manager(|| DockerManager::builder().host(HOST.get().unwrap()).build());
    let Some(engine) = Private::start("uncleaned", &[]) else { return };
    HOST.set(engine.host()).unwrap();
    let leases = [LOST.acquire().await.unwrap(), LOST.acquire().await.unwrap()];
    let ids = leases.each_ref().map(|lease| lease.id().to_owned());
    drop(leases);
    engine.script("kill");
    let error = LOST.cleanup().await.unwrap_err();
    assert_eq!(error.failures.len(), 2, "{error}");
    assert!(ids.iter().all(|id| error.failures.iter().any(|failure| failure.contains(id))), "{error}");
    engine.script("up");
    assert!(LOST.acquire().await.is_ok(), "and the next one starts afresh");
    LOST.cleanup().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_share_an_engine_and_a_range_of_ports() {
    let Some(scene) = scene() else { return };
    let host = scene.host();
    let (mut other, theirs) = start_victim("range");
    let manager = scene.manager();
    let pool = pool_of(&manager, 2);
    let spec = ranged();
    let ours = tokio::join!(pool.acquire(&spec), pool.acquire(&spec));
    let ours = [ours.0.unwrap(), ours.1.unwrap()];
    let all = docker(host, &["ps", "--filter", "label=test=range", "--format", "{{.Ports}}"]);
    let mut ports: Vec<&str> = all.lines().filter_map(|line| line.split("->").next()).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 4, "each has a port of its own: {all}");
    manager.reap().await.unwrap();
    assert!(theirs.iter().all(|id| exists(host, id)), "a sweep leaves the living alone");
    assert!(ours.iter().all(|lease| exists(host, lease.id())));
    other.kill().unwrap();
    other.wait().unwrap();
    until("only theirs are gone", || theirs.iter().all(|id| !exists(host, id))).await;
    assert!(ours.iter().all(|lease| exists(host, lease.id())));
}

/// The other side of every other test: what they would leave is found.
#[test]
fn what_a_test_leaves_behind_fails_it() {
    let Some(scene) = scene_with(Duration::from_secs(1)) else { return };
    let host = scene.host();
    let container = docker(host, &["create", "-v", "planted-volume:/planted", crate::engine::IMAGE, "true"]);
    let network = docker(host, &["network", "create", "planted-network"]);
    let left = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(scene)));
    docker(host, &["rm", &container]);
    docker(host, &["network", "rm", &network]);
    docker(host, &["volume", "rm", "planted-volume"]);
    let said = left.expect_err("nothing was found").downcast::<String>().unwrap();
    for planted in [&container, "planted-network", "planted-volume"] {
        assert!(said.contains(planted), "{planted} is not in {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_a_test_keeps_running_fails_it() {
    let Some(scene) = scene_with(Duration::from_secs(1)) else { return };
    let pool = pool_of(&scene.manager(), 1);
    let lease = pool.acquire(&sandbox()).await.unwrap();
    let left = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(scene)));
    let said = left.expect_err("nothing was found").downcast::<String>().unwrap();
    for what in [&format!("container {}", lease.id()), "process ", "directory ", "socket "] {
        assert!(said.contains(what), "no {what} in {said}");
    }
}
