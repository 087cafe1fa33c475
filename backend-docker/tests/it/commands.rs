//! Commands in a pooled container.

use std::time::Duration;

use poolyard_exec::{Command, Exec, Limit, Limits, Verdict};

use crate::engine::{host, manager, pool_of, sandbox};

#[tokio::test(flavor = "multi_thread")]
async fn a_command_runs_and_its_output_and_code_come_back() {
    let Some(manager) = manager() else { return };
    let pool = pool_of(&manager, 2);
    let container = pool.acquire(&sandbox()).await.unwrap();
    let command = Command::shell("cat; echo err >&2; exit 3").stdin_bytes("in").env("PATH", "/bin");
    let outcome = container.exec(&command).await.unwrap();
    assert_eq!(outcome.verdict, Verdict::Exited { code: 3 });
    assert_eq!((outcome.stdout.text(), outcome.stderr.text()), ("in".into(), "err\n".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_over_its_time_ends_with_its_whole_tree() {
    let Some(manager) = manager() else { return };
    let pool = pool_of(&manager, 2);
    let container = pool.acquire(&sandbox()).await.unwrap();
    let limits = Limits::new().wall_time(Duration::from_millis(300));
    let script = "setsid sh -c 'sleep 1000 & sleep 1000' & (sleep 1000 &) ; sleep 1000";
    let command = Command::shell(script).env("PATH", "/bin").limits(limits);
    let outcome = container.exec(&command).await.unwrap();
    assert_eq!(outcome.verdict, Verdict::Exceeded(Limit::WallTime));
    let left = container.exec(&Command::shell("ps | grep -c '[s]leep'").env("PATH", "/bin")).await.unwrap();
    assert_eq!(left.stdout.text(), "0\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_come_from_the_containers_own_groups() {
    let Some(manager) = manager() else { return };
    let pool = pool_of(&manager, 1);
    let container = pool.acquire(&sandbox()).await.unwrap();
    let before = container.stats().await.unwrap();
    let running = container.spawn(&Command::shell("sleep 1000 & sleep 1000 & wait").inherit_env()).await;
    until_stats(&container, |stats| stats.processes >= before.processes.map(|n| n + 3)).await;
    drop(running);
    let busy = "head -c 20000000 /dev/zero > /box/x; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done";
    assert!(container.exec(&Command::shell(busy).inherit_env()).await.unwrap().success());
    let after = container.stats().await.unwrap();
    assert!(after.cpu > before.cpu, "{before:?} {after:?}");
    assert!(after.memory.unwrap() >= before.memory.unwrap() + 19_000_000, "{before:?} {after:?}");
    assert!(after.memory_peak.is_none_or(|peak| peak >= 19_000_000), "{after:?}");
}

async fn until_stats(
    container: &poolyard_docker::Container,
    wanted: impl Fn(&poolyard_docker::Stats) -> bool,
) {
    for _ in 0..600 {
        if wanted(&container.stats().await.unwrap()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not within 30 s: {:?}", container.stats().await);
}

/// Everything that goes to the engine goes through a socket of the network.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_is_reached_over_tcp() {
    let Some(host) = host() else { return };
    let engine = host.strip_prefix("unix://").unwrap().to_owned();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let relay = tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let engine = engine.clone();
            tokio::spawn(async move {
                let mut server = tokio::net::UnixStream::connect(engine).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    let manager = poolyard_docker::DockerManager::builder().host(address).build().unwrap();
    let pool = pool_of(&manager, 1);
    let container = pool.acquire(&sandbox()).await.unwrap();
    assert!(container.exec(&Command::new("/bin/true")).await.unwrap().success());
    assert_eq!(container.engine_exec(&["/bin/true"], b"").await.unwrap().code, 0);
    drop(container);
    assert!(pool.close(Duration::from_secs(30)).await.is_clean());
    relay.abort();
}
