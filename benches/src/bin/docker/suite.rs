//! `test_suite`: the same tests of a real service, a container for each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::models::{ContainerCreateBody, HostConfig, PortBinding};
use poolyard_benches::is_quick;
use poolyard_benches::row::{OURS, Row};
use poolyard_core::Pool;
use poolyard_docker::{Check, ContainerSpec, DockerManager, Port, Reset, Wait};
use testcontainers::core::{IntoContainerPort, WaitFor};
use testcontainers::runners::AsyncRunner;
use testcontainers::{GenericImage, ImageExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::{AnyError, cold, image};

const PORT: u16 = 6379;
const READY: &str = "Ready to accept connections";
const COMMAND: &str = "/bin/redis-server --save  --dir /data --bind 0.0.0.0 --protected-mode no";

pub(crate) async fn rows(docker: &Docker) -> Result<Vec<Row>, AnyError> {
    if !image::redis().await? {
        let why = "redis-server is not installed; it is Debian's package of that name";
        return Ok(vec![Row::missing("test_suite", OURS, why)]);
    }
    let mut rows = Vec::new();
    for parallel in [1, 6] {
        rows.extend(with(docker, parallel).await?);
    }
    Ok(rows)
}

async fn with(docker: &Docker, parallel: usize) -> Result<Vec<Row>, AnyError> {
    let (fresh, pooled) =
        (format!("test_suite/fresh/{parallel}_parallel"), format!("test_suite/pooled/{parallel}_parallel"));
    let (mut by_testcontainers, mut by_bollard, mut ours) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..if is_quick() { 1 } else { 3 } {
        by_testcontainers.push(suite(parallel, |_| Box::pin(testcontainers())).await?);
        let docker = docker.clone();
        by_bollard.push(suite(parallel, move |n| Box::pin(bollard(docker.clone(), n))).await?);
        let pool = crate::pool(parallel)?;
        let tests = pool.clone();
        ours.push(suite(parallel, move |_| Box::pin(pooled_test(tests.clone()))).await?);
        pool.close(Duration::from_secs(60)).await;
    }
    let note = format!("{} tests of Redis, until the last container is gone or given back", tests());
    Ok(vec![
        Row::new(&fresh, "testcontainers", "ms", &by_testcontainers, &*note),
        Row::new(&fresh, "bollard", "ms", &by_bollard, &*note),
        Row::new(&pooled, OURS, "ms", &ours, format!("{note}; with the making of the pool")),
    ])
}

fn tests() -> usize {
    if is_quick() { 12 } else { 48 }
}

type Test = std::pin::Pin<Box<dyn Future<Output = Result<(), AnyError>> + Send>>;

/// Runs all tests, so many at once, and says how long it took in milliseconds.
async fn suite(parallel: usize, test: impl Fn(usize) -> Test) -> Result<f64, AnyError> {
    let places = Arc::new(Semaphore::new(parallel));
    let begin = Instant::now();
    let mut running = Vec::new();
    for n in 0..tests() {
        let place = places.clone().acquire_owned().await?;
        let test = test(n);
        running.push(tokio::spawn(async move {
            let _place = place;
            test.await
        }));
    }
    for test in running {
        test.await??;
    }
    Ok(begin.elapsed().as_secs_f64() * 1e3)
}

/// What each test does with its service.
async fn body(port: u16) -> Result<(), AnyError> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let mut commands = String::from("DBSIZE\r\n");
    (0..100).for_each(|n| commands += &format!("SET key:{n} {n}\r\n"));
    stream.write_all((commands + "DBSIZE\r\nQUIT\r\n").as_bytes()).await?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await?;
    match reply.starts_with(":0\r\n") && reply.ends_with(":100\r\n+OK\r\n") {
        true => Ok(()),
        false => Err(format!("not ready, or not clean: {reply:?}").into()),
    }
}

async fn testcontainers() -> Result<(), AnyError> {
    let (name, tag) = image::REDIS.split_once(':').expect("it has a tag");
    let service = GenericImage::new(name, tag).with_exposed_port(PORT.tcp());
    let service = service.with_wait_for(WaitFor::message_on_stdout(READY));
    let container = service.with_cmd(words()).start().await?;
    body(container.get_host_port_ipv4(PORT).await?).await?;
    container.rm().await?;
    Ok(())
}

async fn bollard(docker: Docker, _: usize) -> Result<(), AnyError> {
    let binding = PortBinding { host_ip: Some("127.0.0.1".into()), host_port: Some(String::new()) };
    let name = format!("{PORT}/tcp");
    let config = ContainerCreateBody {
        image: Some(image::REDIS.into()),
        cmd: Some(words()),
        exposed_ports: Some(vec![name.clone()]),
        host_config: Some(HostConfig {
            port_bindings: Some([(name.clone(), Some(vec![binding]))].into()),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    let options = None::<bollard::query_parameters::CreateContainerOptions>;
    let id = docker.create_container(options, config).await?.id;
    cold::start(&docker, &id).await?;
    let port = published(&docker, &id, &name).await?;
    // As most do it by hand: until an answer comes.
    while body(port).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    cold::remove(&docker, &id).await
}

async fn published(docker: &Docker, id: &str, name: &str) -> Result<u16, AnyError> {
    let options = None::<bollard::query_parameters::InspectContainerOptions>;
    let settings = docker.inspect_container(id, options).await?.network_settings;
    let mut ports = settings.and_then(|s| s.ports).unwrap_or_default();
    let bindings = ports.remove(name).flatten().unwrap_or_default();
    let port = bindings.into_iter().find_map(|b| b.host_port).ok_or("no port was published")?;
    Ok(port.parse()?)
}

async fn pooled_test(pool: Pool<DockerManager>) -> Result<(), AnyError> {
    let container = pool.acquire(&spec()).await?;
    body(container.addr(PORT).ok_or("no port was published")?.port()).await
}

fn spec() -> ContainerSpec {
    let flush = Check::new("flush", |container| {
        Box::pin(async move {
            if flushed(container.addr(PORT)).await.is_err() {
                container.poison();
            }
            Ok(())
        })
    });
    ContainerSpec::service(image::REDIS)
        .cmd(words())
        .publish(Port::tcp(PORT))
        .wait(Wait::log(READY))
        .reset(Reset::Hook(flush))
}

async fn flushed(address: Option<std::net::SocketAddr>) -> Result<(), AnyError> {
    let mut stream = TcpStream::connect(address.ok_or("no port was published")?).await?;
    stream.write_all(b"FLUSHALL\r\nQUIT\r\n").await?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await?;
    if reply.starts_with("+OK") { Ok(()) } else { Err(reply.into()) }
}

fn words() -> Vec<String> {
    COMMAND.split(' ').map(String::from).collect()
}
