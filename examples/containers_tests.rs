//! Shows a pool of service containers for a crate's tests: one for each test, made once, reset between.
//!
//! Needs a Docker or Podman engine: `cargo test --example containers_tests` or `cargo run --example
//! containers_tests`. Without an engine it says so and does nothing.
//!
//! For Redpanda the specification is
//! `ContainerSpec::service("redpandadata/redpanda:v24.3.7")` with
//! `.cmd(["redpanda", "start", "--smp", "1", "--memory", "256M", "--kafka-addr", "0.0.0.0:9092",
//! "--advertise-kafka-addr", "127.0.0.1:{port:9092}"])`, `.publish(Port::tcp(9092))`,
//! `.wait(Wait::All(vec![Wait::log("Successfully started"), Wait::Port(9092)]))`: a broker must
//! advertise its port on the host, which `{port:9092}` stands for.

use std::sync::LazyLock;
use std::time::Duration;

use poolyard::Pool;
use poolyard_docker::{Check, Container, ContainerSpec, DockerManager, Port, Reset, Wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One pool for all tests. It has a thread of its own, because each test has another runtime, and
/// its containers end with the process although statics are never dropped.
static POOL: LazyLock<Option<Pool<DockerManager>>> = LazyLock::new(|| {
    let manager = DockerManager::local().ok()?;
    let limit = Duration::from_secs(30);
    let builder = Pool::builder(manager).max_total(4).own_thread();
    builder.create_timeout(limit).wait_timeout(limit).destroy_timeout(limit).build().ok()
});

async fn redis(container: &Container, command: &str) -> std::io::Result<String> {
    let address = container.addr(6379).expect("the specification publishes it");
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).await?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await?;
    Ok(reply)
}

fn spec() -> ContainerSpec {
    let flush = Check::new("flush", |container| {
        Box::pin(async move {
            if redis(container, "FLUSHALL").await.is_err() {
                container.poison();
            }
            Ok(())
        })
    });
    ContainerSpec::service("redis:7-alpine")
        .publish(Port::tcp(6379))
        .wait(Wait::All(vec![Wait::log("Ready to accept connections"), Wait::Port(6379)]))
        .reset(Reset::Hook(flush))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Some(pool) = &*POOL else {
        println!("there is no engine here");
        return Ok(());
    };
    for test in 1..=3 {
        let container = pool.acquire(&spec()).await?;
        let size = redis(&container, "DBSIZE").await?;
        redis(&container, &format!("SET test {test}")).await?;
        println!(
            "test {test} at {:?} found {}",
            container.addr(6379),
            size.lines().next().unwrap_or_default()
        );
    }
    Ok(())
}
