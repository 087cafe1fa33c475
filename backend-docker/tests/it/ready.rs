//! When containers are ready, and what is said when they are not.

use std::time::Duration;

use poolyard_core::AcquireError;
use poolyard_docker::{Check, ContainerSpec, Error, ErrorKind, MIB, Port, Pull, Stage, Wait};
use poolyard_exec::{Command, Exec};

use crate::engine::{IMAGE, docker, only_docker, pool_of, sandbox, scene};

/// A service that runs a shell script.
pub(crate) fn service(script: &str) -> ContainerSpec {
    ContainerSpec::service(IMAGE).cmd(["/bin/sh", "-c", script])
}

/// Acquires and gives the creation's error.
async fn failure(spec: ContainerSpec) -> Option<Error> {
    let scene = scene()?;
    let pool = pool_of(&scene.manager(), 1);
    match pool.acquire(&spec).await {
        Err(AcquireError::Create(error)) => Some(error),
        Err(other) => panic!("not what was expected: {other:?}"),
        Ok(_) => panic!("this container must not become ready"),
    }
}

async fn becomes_ready(spec: ContainerSpec) {
    let Some(scene) = scene() else { return };
    let manager = scene.manager();
    let pool = pool_of(&manager, 1);
    let container = pool.acquire(&spec).await.unwrap();
    assert!(!container.is_dead());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_output_is_waited_for() {
    let wait = Wait::Log { text: "ready".into(), times: 2 };
    becomes_ready(service("echo ready; sleep 0.2; echo now ready >&2; sleep 1000").wait(wait)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_counts_when_somebody_listens_inside() {
    let Some(scene) = scene() else { return };
    let manager = scene.manager();
    let pool = pool_of(&manager, 1);
    let script = "sleep 0.3; echo hello > /box/f; exec nc -ll -p 7000 -e cat /box/f";
    let spec = service(script).publish(Port::tcp(7000)).wait(Wait::Port(7000));
    let container = pool.acquire(&spec).await.unwrap();
    let address = container.addr(7000).unwrap();
    assert!(address.ip().is_loopback());
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut text = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut text).await.unwrap();
    assert_eq!(text, "hello\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_must_be_answered_as_wanted() {
    let script =
        "mkdir -p /box/www; (sleep 0.3; echo ok > /box/www/health) & exec httpd -f -p 8080 -h /box/www";
    let wait = Wait::http(8080, "/health");
    becomes_ready(service(script).publish(Port::tcp(8080)).wait(wait)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_commands_checks_and_combinations_are_waited_for() {
    let own = Check::new("own", |container| {
        Box::pin(async move { container.read_file("/box/b", 10).await.map(drop) })
    });
    let wait = Wait::All(vec![
        Wait::File("/box/a".into()),
        Wait::exec(["test", "-e", "/box/b"]),
        Wait::Custom(own),
        Wait::Any(vec![Wait::Port(1), Wait::log("b is there")]),
    ]);
    becomes_ready(
        service("sleep 0.1; touch /box/a; sleep 0.1; touch /box/b; echo b is there; sleep 1000").wait(wait),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_must_end_first_may_end() {
    let Some(scene) = scene() else { return };
    let manager = scene.manager();
    let pool = pool_of(&manager, 1);
    let container = pool.acquire(&service("echo x > /box/x; exit 0").wait(Wait::Exit(0))).await.unwrap();
    let outcome = container.exec(&Command::new("/bin/cat").arg("/box/x")).await.unwrap();
    assert_eq!(outcome.stdout.text(), "x\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_waiting_fails_at_once_with_code_and_last_lines() {
    let spec = service("echo starting; echo it is broken >&2; exit 7").wait(Wait::log("never"));
    let Some(error) = failure(spec.start_timeout(Duration::from_secs(3600))).await else { return };
    let crash = error.crash().unwrap_or_else(|| panic!("{error}"));
    assert_eq!((crash.exit_code, crash.oom), (Some(7), false));
    let mut lines = crash.last_lines.clone();
    lines.sort();
    assert_eq!(lines, ["it is broken", "starting"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_for_want_of_memory_says_so() {
    let spec = service("exec dd if=/dev/zero of=/dev/null bs=256M count=9").memory(32 * MIB);
    let Some(error) = failure(spec.wait(Wait::log("never"))).await else { return };
    let crash = error.crash().unwrap_or_else(|| panic!("{error}"));
    assert_eq!((crash.exit_code, crash.oom), (Some(137), true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_is_never_ready_says_what_it_waited_for() {
    let spec = service("echo still here; sleep 1000").wait(Wait::Port(1));
    let Some(error) = failure(spec.start_timeout(Duration::from_millis(500))).await else { return };
    assert_eq!((error.stage(), error.kind()), (Stage::Ready, &ErrorKind::NotReady));
    assert!(error.to_string().contains("still here"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_image_is_named() {
    let spec = ContainerSpec::sandbox("poolyard-no-such-image:1").pull(Pull::Never);
    let Some(error) = failure(spec).await else { return };
    assert_eq!(error.kind(), &ErrorKind::ImageMissing);
    assert!(error.to_string().contains("poolyard-no-such-image"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_cannot_be_started_is_named() {
    let Some(error) = failure(ContainerSpec::service(IMAGE).cmd(["/no/such/program"])).await else { return };
    assert_eq!(error.kind(), &ErrorKind::Spawn(2));
    assert!(error.to_string().contains("/no/such/program"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_specification_that_cannot_work_is_refused_before_anything_is_made() {
    // A port without a network; no room beside the agent, a command's guardian and the next one's.
    for spec in [sandbox().publish(Port::tcp(80)), sandbox().pids(3)] {
        let Some(error) = failure(spec).await else { return };
        assert_eq!((error.stage(), error.kind()), (Stage::Spec, &ErrorKind::BadSpec));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_passed_over_in_a_range_and_told_where_it_is_fixed() {
    let Some(scene) = scene() else { return };
    let manager = scene.manager();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let Some(error) = failure(service("sleep 1000").publish(Port::tcp(80).on(port))).await else { return };
    assert_eq!(error.kind(), &ErrorKind::PortTaken);
    let range = port.min(65500)..=port.min(65500) + 20;
    let pool = pool_of(&manager, 2);
    let spec = service("sleep 1000").publish(Port::tcp(80).in_range(range.clone()));
    let (one, two) = tokio::join!(pool.acquire(&spec), pool.acquire(&spec));
    let ports = [one.unwrap().addr(80).unwrap().port(), two.unwrap().addr(80).unwrap().port()];
    assert!(ports.iter().all(|p| range.contains(p) && *p != port), "{ports:?}");
    assert_ne!(ports[0], ports[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_knows_its_port_before_it_starts() {
    let Some(scene) = scene() else { return };
    let manager = scene.manager();
    let pool = pool_of(&manager, 1);
    let spec = ContainerSpec::service(IMAGE)
        .cmd(["/bin/sh", "-c", "echo advertised={port:9092} $ALSO; sleep 1000"])
        .env("ALSO", "also={port:9092}")
        .publish(Port::tcp(9092))
        .wait(Wait::log("advertised"));
    let container = pool.acquire(&spec).await.unwrap();
    let port = container.addr(9092).unwrap().port();
    assert_eq!(container.last_lines(1), [format!("advertised={port} also={port}")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_without_an_agent_becomes_ready_and_runs_commands_through_the_engine() {
    let Some(scene) = scene() else { return };
    let manager = scene.manager();
    let pool = pool_of(&manager, 1);
    let wait = Wait::All(vec![Wait::log("up"), Wait::exec(["test", "-e", "/box/up"])]);
    let spec = service("touch /box/up; echo up; sleep 1000").without_agent().wait(wait);
    let container = pool.acquire(&spec).await.unwrap();
    let output = container.engine_exec(&["/bin/sh", "-c", "cat; echo err >&2; exit 5"], b"in").await.unwrap();
    assert_eq!((output.code, &output.stdout[..], &output.stderr[..]), (5, &b"in"[..], &b"err\n"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_without_an_agent_is_told_all_the_same() {
    let spec = service("echo oh no; exit 9").without_agent().wait(Wait::log("never"));
    let Some(error) = failure(spec).await else { return };
    let crash = error.crash().unwrap_or_else(|| panic!("{error}"));
    assert_eq!((crash.exit_code, &crash.last_lines[..]), (Some(9), &["oh no".to_owned()][..]));
}

/// An image of ours with a health check.
fn image_with_health(host: &str) -> &'static str {
    let name = "poolyard-test-health:1";
    let container = docker(host, &["create", IMAGE]);
    let check = "HEALTHCHECK --interval=200ms --timeout=5s --retries=100 CMD test -e /tmp/well";
    docker(host, &["commit", "--change", check, &container, name]);
    docker(host, &["rm", &container]);
    name
}

#[tokio::test(flavor = "multi_thread")]
async fn the_images_own_health_check_is_waited_for() {
    let Some(scene) = scene() else { return };
    let (manager, host) = (scene.manager(), scene.host());
    if only_docker("Podman's health checks need timers of systemd").is_none() {
        return;
    }
    let spec = ContainerSpec::service(image_with_health(host)).wait(Wait::Health);
    let pool = pool_of(&manager, 1);
    let well = spec.clone().cmd(["/bin/sh", "-c", "sleep 0.3; touch /tmp/well; sleep 1000"]);
    let container = pool.acquire(&well).await.unwrap();
    assert!(container.read_file("/tmp/well", 0).await.is_ok(), "not before it was well");
    drop(container);
    let ill = spec.cmd(["/bin/sh", "-c", "sleep 1000"]).start_timeout(Duration::from_secs(2));
    let error = failure(ill).await.unwrap();
    assert_eq!(error.kind(), &ErrorKind::NotReady, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_is_passed_on_and_an_unknown_one_is_named() {
    let Some(scene) = scene() else { return };
    let manager = scene.manager();
    let pool = pool_of(&manager, 1);
    drop(pool.acquire(&sandbox().runtime("runc")).await.unwrap());
    if only_docker("Podman reads no runtime from its compatible API").is_none() {
        return;
    }
    let error = failure(sandbox().runtime("no-such-runtime")).await.unwrap();
    assert!(error.to_string().contains("no-such-runtime"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_another_platform_is_refused_before_it_is_made() {
    let Some(scene) = scene() else { return };
    let (manager, host) = (scene.manager(), scene.host());
    let other = "linux/s390x";
    let archive = std::env::temp_dir().join(format!("poolyard-platform-{}.tar", std::process::id()));
    crate::service::archive_for(host, other, &archive);
    let spec = ContainerSpec::sandbox("poolyard-test-other:1").pull(Pull::Load(archive.clone()));
    let error = pool_of(&manager, 1).acquire(&spec).await.map(drop).unwrap_err();
    std::fs::remove_file(archive).unwrap();
    let AcquireError::Create(error) = error else { panic!("{error:?}") };
    assert_eq!((error.stage(), error.kind()), (Stage::Agent, &ErrorKind::Unsupported), "{error}");
    assert!(error.to_string().contains("without_agent"), "{error}");
    docker(host, &["rmi", "-f", "poolyard-test-other:1"]);
}
