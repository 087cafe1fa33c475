//! Commands in containers without the resident agent, by the same words.

use std::time::Duration;

use poolyard_core::Lease;
use poolyard_docker::{Container, ContainerSpec, DockerManager, Network, Wait};
use poolyard_exec::{Command, ErrorKind, Exec, Feature, Limit, Limits, Signal, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::commands::{change_a_size, end_of_input_is_typed, talk_to_a_shell};
use crate::engine::{exists, pool_of, scene, until};
use crate::ready::service;

fn bare() -> ContainerSpec {
    service("echo up; exec sleep 1000").without_agent().network(Network::Loopback).wait(Wait::log("up"))
}

fn shell(script: &str) -> Command {
    Command::shell(script).inherit_env()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_runs_what_the_agent_would() {
    let Some(scene) = scene() else { return };
    let pool = pool_of(&scene.manager(), 1);
    let container = pool.acquire(&bare()).await.unwrap();
    let command = shell("cat; pwd; echo $MARK; echo err >&2; exit 3");
    let outcome = container.exec(&command.stdin_bytes("in\n").env("MARK", "a b").cwd("/tmp")).await.unwrap();
    assert_eq!(outcome.verdict, Verdict::Exited { code: 3 });
    assert_eq!((outcome.stdout.text(), outcome.stderr.text()), ("in\n/tmp\na b\n".into(), "err\n".into()));
    assert!(outcome.usage.wall_time.is_some());
    let much = container.exec(&shell("head -c 3000000 /dev/zero").capture(4_000_000)).await.unwrap();
    assert_eq!((much.code(), much.stdout.bytes.len()), (Some(0), 3_000_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_without_an_agent_can_be_talked_to() {
    let Some(scene) = scene() else { return };
    let pool = pool_of(&scene.manager(), 1);
    let container = pool.acquire(&bare()).await.unwrap();
    let mut process = container.spawn(&Command::new("cat").inherit_env().stdin_piped()).await.unwrap();
    let (mut stdin, mut stdout) = (process.take_stdin().unwrap(), process.take_stdout().unwrap());
    for word in ["one", "two"] {
        stdin.write_all(word.as_bytes()).await.unwrap();
        let mut answer = [0; 3];
        stdout.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, word.as_bytes());
    }
    let refused = process.signal(Signal::TERM).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::UnsupportedFeature(Feature::Signal));
    drop(stdin);
    assert!(process.wait().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_makes_terminals_too() {
    let Some(scene) = scene() else { return };
    let pool = pool_of(&scene.manager(), 1);
    let container = pool.acquire(&bare()).await.unwrap();
    talk_to_a_shell(&container).await;
    change_a_size(&container).await;
    end_of_input_is_typed(&container).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_engine_cannot_do_is_refused_by_name() {
    let Some(scene) = scene() else { return };
    let pool = pool_of(&scene.manager(), 1);
    let container = pool.acquire(&bare()).await.unwrap();
    let refusal = async |command: Command| container.exec(&command).await.unwrap_err().kind();
    let file = shell("true").file_in("a", "b", 0o644);
    assert_eq!(refusal(Command::new("true")).await, ErrorKind::InvalidCommand { field: "env" });
    assert_eq!(refusal(file).await, ErrorKind::InvalidCommand { field: "files_in" });
    let limited = shell("true").limits(Limits::new().open_files(7));
    assert_eq!(refusal(limited).await, ErrorKind::UnsupportedLimit(Limit::OpenFiles));
    assert!(works(&container).await, "and nothing has happened");
}

async fn works(container: &Container) -> bool {
    container.exec(&shell("true")).await.is_ok_and(|outcome| outcome.success())
}

/// What a command that must end costs.
async fn takes_its_container_along(command: Command, verdict: Verdict) {
    let Some(scene) = scene() else { return };
    let pool = pool_of(&scene.manager(), 1);
    let lease = pool.acquire(&bare()).await.unwrap();
    let outcome = lease.exec(&command).await.unwrap();
    assert_eq!(outcome.verdict, verdict);
    assert!(!exists(scene.host(), lease.id()), "the tree has ended, and with it its container");
    Lease::gone(&lease).await;
    drop(lease);
    assert!(works(&pool.acquire(&bare()).await.unwrap()).await, "the next one is another");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_goes_over_its_time_takes_its_container_along() {
    let limits = Limits::new().wall_time(Duration::from_millis(300));
    let command = shell("setsid sleep 1000 & sleep 1000").limits(limits);
    takes_its_container_along(command, Verdict::Exceeded(Limit::WallTime)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_writes_too_much_takes_its_container_along() {
    let command = shell("yes").limits(Limits::new().output(100_000));
    takes_its_container_along(command, Verdict::Exceeded(Limit::Output)).await;
}

async fn is_gone(lease: &Lease<DockerManager>, host: &str) {
    until("its container has ended", || !exists(host, lease.id())).await;
    Lease::gone(lease).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_dropped_or_killed_takes_its_container_along() {
    let Some(scene) = scene() else { return };
    let (manager, host) = (scene.manager(), scene.host());
    let pool = pool_of(&manager, 1);
    let lease = pool.acquire(&bare()).await.unwrap();
    drop(lease.spawn(&shell("sleep 1000")).await.unwrap());
    is_gone(&lease, host).await;
    drop(lease);
    let lease = pool.acquire(&bare()).await.unwrap();
    let mut process = lease.spawn(&shell("sleep 1000")).await.unwrap();
    process.kill();
    assert_eq!(process.wait().await.unwrap().verdict, Verdict::Cancelled);
    is_gone(&lease, host).await;
}
