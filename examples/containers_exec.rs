//! Shows commands in pooled containers: warm, limited, clean for the next user.
//!
//! Needs a Docker or Podman engine and an image with a shell:
//! `cargo run --release --example containers_exec -- debian:12-slim`

use std::time::{Duration, Instant};

use poolyard::Pool;
use poolyard_docker::{ContainerSpec, DockerManager, MIB};
use poolyard_exec::{Command, Exec, Limits};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let image = std::env::args().nth(1).unwrap_or("debian:12-slim".into());
    let pool = Pool::builder(DockerManager::local()?).max_total(4).build()?;
    let sandbox = ContainerSpec::sandbox(image).memory(256 * MIB).cpus(1.0).pids(64);
    let limits = Limits::new().wall_time(Duration::from_secs(2)).output(1 << 20);

    for user in ["ada", "brian", "grace"] {
        let begin = Instant::now();
        let container = pool.acquire(&sandbox).await?;
        let script = format!("ls /box | wc -l; echo {user} > /box/secret; echo hello {user}");
        let command = Command::shell(script).inherit_env().limits(limits.clone());
        let outcome = container.exec(&command).await?;
        println!("{:?} after {:?}: {}", outcome.verdict, begin.elapsed(), outcome.stdout.text().trim());
        // Given back here: everything that the user left is gone before the next one comes.
    }
    println!("{:?}", pool.close(Duration::from_secs(30)).await);
    Ok(())
}
