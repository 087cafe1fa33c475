//! Shows a pool of service containers for a crate's tests: one for each test, made once, reset between.
//!
//! Needs a Docker or Podman engine: `cargo test --example containers_tests`, or `cargo run --example
//! containers_tests`, which takes the tests one after the other. Without an engine it says so and does
//! nothing. The service is the Redis of this machine, where it is installed: its image is made of it
//! and the libraries that it needs, and no registry is asked. Elsewhere it is `redis:7-alpine`.
//!
//! For Redpanda the specification is
//! `ContainerSpec::service("redpandadata/redpanda:v24.3.7")` with
//! `.cmd(["redpanda", "start", "--smp", "1", "--memory", "256M", "--kafka-addr", "0.0.0.0:9092",
//! "--advertise-kafka-addr", "127.0.0.1:{port:9092}"])`, `.publish(Port::tcp(9092))`,
//! `.wait(Wait::All(vec![Wait::log("Successfully started"), Wait::Port(9092)]))`: a broker must
//! advertise its port on the host, which `{port:9092}` stands for. Its hook deletes all topics.

use std::path::{Path, PathBuf};
use std::process::Command;

use poolyard_docker::{Check, Container, ContainerSpec, DockerManager, Port, Pull, Reset, TestPool, Wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One pool for all tests. It is made by the first one, and its containers end with the process.
static REDIS: TestPool = TestPool::new(spec).max_total(4);

fn spec() -> ContainerSpec {
    let flush = Check::new("flush", |container| {
        Box::pin(async move {
            if redis(container, "FLUSHALL").await.is_err() {
                container.poison();
            }
            Ok(())
        })
    });
    image()
        .publish(Port::tcp(6379))
        .wait(Wait::All(vec![Wait::log("Ready to accept connections"), Wait::Port(6379)]))
        .reset(Reset::Hook(flush))
}

fn image() -> ContainerSpec {
    let archive = std::env::temp_dir().join("poolyard-example-redis.tar");
    if !pack_redis(&archive) {
        return ContainerSpec::service("redis:7-alpine");
    }
    let words = "/bin/redis-server --dir /data --bind 0.0.0.0 --protected-mode no --appendonly no";
    ContainerSpec::service("poolyard-example-redis:1")
        .pull(Pull::Import(archive))
        .cmd(words.split(' '))
        .no_capabilities()
}

/// Puts this machine's Redis and its libraries into an archive; says whether it has one.
fn pack_redis(archive: &PathBuf) -> bool {
    let script = "p=$(command -v redis-server) || exit 1; r=$(mktemp -d); mkdir -p $r/bin $r/data $r/tmp; \
        cp -L $p $r/bin/redis-server; \
        for l in $(ldd $p | grep -o '/[^ ]*'); do mkdir -p $r$(dirname $l); cp -L $l $r$l; done; \
        tar -C $r -cf \"$0.$$\" . && rm -rf $r && mv \"$0.$$\" \"$0\"";
    let status = Command::new("sh").args(["-c", script]).arg(archive).status();
    status.is_ok_and(|status| status.success()) && Path::new(archive).exists()
}

async fn redis(container: &Container, command: &str) -> std::io::Result<String> {
    let address = container.addr(6379).expect("the specification publishes it");
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).await?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await?;
    Ok(reply.lines().next().unwrap_or_default().to_owned())
}

/// What each test does: it finds nothing of the others.
async fn one_test(name: &str) -> Result<(), Box<dyn std::error::Error>> {
    let container = REDIS.acquire().await?;
    let before = redis(&container, "DBSIZE").await?;
    assert_eq!(before, ":0", "somebody else's keys");
    redis(&container, &format!("SET name {name}")).await?;
    println!("{name} at {:?} found {before}", container.addr(6379).expect("it is published"));
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    if let Err(error) = DockerManager::local()?.ping().await {
        println!("there is no engine here: {error}");
        return Ok(());
    }
    for name in ["one", "two", "three"] {
        one_test(name).await?;
    }
    // At the end of a test run nobody has to call this; a tool may.
    REDIS.cleanup().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where there is no engine, the tests say so.
    async fn run(name: &str) {
        match DockerManager::local().expect("its address can be read").ping().await {
            Ok(()) => one_test(name).await.expect("the test passes"),
            Err(error) => eprintln!("skipped: {name}: {error}"),
        }
    }

    #[tokio::test]
    async fn a_first_test_has_a_container_of_its_own() {
        run("first").await;
    }

    #[tokio::test]
    async fn a_second_test_finds_nothing_of_the_first() {
        run("second").await;
    }
}
