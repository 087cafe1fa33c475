//! What a specification says, seen from inside.

use std::time::Duration;

use poolyard_core::{AcquireError, Context, GoneSink, Lease, Manager, ResourceId};
use poolyard_docker::{
    ContainerSpec, DockerManager, ErrorKind, MIB, Mount, Network, Port, Stage, Tmpfs, Wait,
};
use poolyard_exec::{Command, Exec};

use crate::engine::{docker, pool_of, sandbox, scene, until};
use crate::proxy::{Proxy, Weather};
use crate::ready::service;

async fn shell(container: &Lease<DockerManager>, script: &str) -> String {
    let outcome = container.exec(&Command::shell(script).inherit_env()).await.unwrap();
    assert!(outcome.success(), "{script}: {outcome:?}");
    outcome.stdout.text().into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_as_its_specification_says() {
    let Some(scene) = scene() else { return };
    let pool = pool_of(&scene.manager(), 1);
    let directory = std::env::temp_dir().join(format!("poolyard-bound-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("file"), "of the host\n").unwrap();
    let spec = sandbox()
        .hostname("inside")
        .env("MARK", "a b")
        .work_dir("/scratch")
        .user("user:extra")
        .ulimit("nofile", 321)
        // Podman raises what it is not told, which not every root may.
        .ulimit("nproc", 16384)
        .shm(3 * MIB)
        .cpus(0.5)
        .tmpfs(Tmpfs::new("/scratch", 2 * MIB))
        .mount(Mount::bind(directory.to_string_lossy(), "/host"));
    let container = pool.acquire(&spec).await.unwrap();
    let seen = async |script: &str| shell(&container, script).await;
    assert_eq!(
        seen("hostname; echo $MARK; pwd; id -u; id -g; ulimit -n").await,
        "inside\na b\n/scratch\n1000\n1001\n321\n"
    );
    assert_eq!(seen("df -k /dev/shm /scratch | awk 'NR > 1 { print $2 }'").await, "3072\n2048\n");
    assert_eq!(
        seen("cat /host/file; touch /host/new 2>/dev/null || echo refused").await,
        "of the host\nrefused\n"
    );
    assert_eq!(seen("touch /etc/new 2>/dev/null || echo refused").await, "refused\n");
    let powers = seen("grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status | awk '{ print $2 }'").await;
    assert_eq!(powers, "0000000000000000\n0000000000000000\n1\n");
    let share =
        seen("cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null || true").await;
    assert!(share.starts_with("50000"), "half a processor: {share}");
    drop(container);
    std::fs::remove_dir_all(directory).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_can_join_the_network_of_another() {
    let Some(scene) = scene() else { return };
    let pool = pool_of(&scene.manager(), 2);
    let server =
        service("exec nc -ll -p 7000 -e echo hello").network(Network::Loopback).wait(Wait::Port(7000));
    let server = pool.acquire(&server).await.unwrap();
    let member = sandbox().network(Network::Container(server.id().into()));
    let member = pool.acquire(&member).await.unwrap();
    assert_eq!(shell(&member, "nc 127.0.0.1 7000").await, "hello\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_is_on_another_address_only_by_name() {
    let Some(scene) = scene() else { return };
    let pool = pool_of(&scene.manager(), 2);
    let other = "127.0.0.2".parse().unwrap();
    let ports =
        service("sleep 1000").publish(Port::tcp(80)).publish(Port::udp(81)).publish(Port::tcp(82).at(other));
    let container = pool.acquire(&ports).await.unwrap();
    let addresses = [container.addr(80), container.udp_addr(81), container.addr(82)].map(Option::unwrap);
    assert_eq!(addresses.map(|a| a.ip().to_string()), ["127.0.0.1", "127.0.0.1", "127.0.0.2"]);
    assert!(addresses.iter().all(|a| a.port() != 0), "{addresses:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_containers_are_made_at_once_than_the_engine_has_processors_for() {
    let Some(scene) = scene() else { return };
    let host = scene.host();
    let bound = 2 * docker(host, &["info", "-f", "{{.NCPU}}"]).parse::<usize>().unwrap();
    let proxy = Proxy::start(host, "crowd");
    let pool = pool_of(&proxy.manager(), bound + 2);
    let spec = sandbox().label("test", "crowd");
    proxy.set(Weather { hold: Some("/start"), ..Weather::default() });
    let all: Vec<_> = (0..bound + 2)
        .map(|_| {
            let (pool, spec) = (pool.clone(), spec.clone());
            tokio::spawn(async move { pool.acquire(&spec).await.map(|lease| lease.id().to_owned()) })
        })
        .collect();
    until("as many as may be are being made", || proxy.requests("/start") == bound).await;
    for _ in 0..20 {
        let made = docker(host, &["ps", "-aq", "--filter", "label=test=crowd"]).lines().count();
        assert!(made <= bound, "{made} at once");
    }
    assert_eq!(proxy.requests("/containers/create"), bound);
    proxy.set(Weather::default());
    for one in all {
        one.await.unwrap().unwrap();
    }
    // Some may be under way for whom a returned one came first, and the proxy ends here.
    assert!(pool.close(Duration::from_secs(30)).await.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_health_command_is_noticed() {
    struct Deaf;
    impl GoneSink for Deaf {
        fn gone(&self, _: ResourceId, _: std::borrow::Cow<'static, str>) {}
    }
    let Some(scene) = scene() else { return };
    let manager = scene.manager();
    let sink: std::sync::Arc<dyn GoneSink> = std::sync::Arc::new(Deaf);
    let limit = Duration::from_secs(30);
    let cx = Context::standalone(ResourceId::standalone(1), limit, std::sync::Arc::downgrade(&sink));
    for spec in [sandbox(), service("sleep 1000").without_agent().network(Network::Loopback)] {
        let spec: ContainerSpec = spec.health(["test", "!", "-e", "/tmp/ill"]);
        let mut container = manager.create(&spec, &cx).await.unwrap();
        manager.health_check(&spec, &mut container, &cx).await.unwrap();
        let command = Command::shell("echo > /tmp/ill").inherit_env();
        assert!(container.exec(&command).await.unwrap().success());
        let error = manager.health_check(&spec, &mut container, &cx).await.unwrap_err();
        assert_eq!((error.stage(), error.kind()), (Stage::Ready, &ErrorKind::NotReady), "{error}");
        manager.destroy(&spec, &mut container, poolyard_core::Reason::Closed, &cx).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_is_asked_for_changes_after_every_second_reset() {
    let Some(scene) = scene() else { return };
    let proxy = Proxy::start(scene.host(), "diff");
    let manager = proxy.manager();
    let pool = pool_of(&manager, 1);
    let spec = sandbox().diff_every(2);
    for _ in 0..4 {
        Lease::release(pool.acquire(&spec).await.unwrap()).await.unwrap();
    }
    assert_eq!((manager.numbers().created, manager.numbers().resets_clean), (1, 4));
    assert_eq!(proxy.requests("/changes"), 1 + 2, "once when it was new");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_that_could_not_clean_is_refused() {
    let Some(scene) = scene() else { return };
    let pool = pool_of(&scene.manager(), 1);
    let spec = sandbox().read_only(false).reset(poolyard_docker::Reset::Restart);
    let error = pool.acquire(&spec).await.map(drop).unwrap_err();
    assert!(matches!(&error, AcquireError::Create(e) if *e.kind() == ErrorKind::BadSpec), "{error:?}");
}
