//! The section of containers: a command in a container of an engine, if one runs here.

use std::process::Command as Program;
use std::time::Duration;

use poolyard::docker::{ContainerSpec, DockerManager, MIB};
use poolyard::exec::{Command, Exec};
use poolyard::{Lease, Pool};

use crate::compare::{Comparison, Failure, compare};
use crate::screen::Screen;
use crate::section::{Numbers, Outcome, Section};

const NAME: &str = "docker: command in a container";
const WARM: usize = 2;

/// Made of this machine's shell, so that nothing has to be pulled; removed at the end.
const IMAGE: &str = "poolyard-tour:latest";

pub(crate) async fn show(screen: &Screen) -> Section {
    let outcome = match engine().await {
        Err(why) => Outcome::Missing {
            why,
            remedy: "Start Docker or Podman, or set DOCKER_HOST. As root on Debian or Ubuntu, for an engine that \
                     is apart from everything else: `bash backend-docker/tests/engine.sh up /tmp/engine` installs \
                     and starts it and says what DOCKER_HOST is; `... down /tmp/engine` ends and removes it."
                .into(),
        },
        Ok(manager) => {
            screen.heading("docker: sh computes 6 * 7 in a container without network, with limits");
            numbers(screen, manager).await.map_or_else(Outcome::Failed, Outcome::Works)
        }
    };
    Section { name: NAME.into(), outcome }
}

async fn engine() -> Result<DockerManager, String> {
    let manager = DockerManager::local().map_err(|error| error.to_string())?;
    manager.ping().await.map_err(|error| error.to_string())?;
    Ok(manager)
}

async fn numbers(screen: &Screen, manager: DockerManager) -> Result<Numbers, Failure> {
    manager.import_image(IMAGE, shell_and_libraries()?, &["ENV PATH=/bin"]).await?;
    let pool = Pool::builder(manager.clone()).name("containers").max_total(WARM).build()?;
    let measured = measure(screen, &pool).await;
    pool.close(Duration::from_secs(20)).await;
    manager.remove_image(IMAGE).await?;
    measured
}

async fn measure(screen: &Screen, pool: &Pool<DockerManager>) -> Result<Numbers, Failure> {
    let key = ContainerSpec::sandbox(IMAGE).memory(64 * MIB).pids(32);
    let comparison = Comparison {
        key: &key,
        warm: WARM,
        labels: ["a fresh container each time", "out of a pool of two"],
        times: [10, 1000],
    };
    let [cold, pooled] = compare(screen, pool, &comparison, async |container| run(container).await).await?;
    let memory = pool.acquire(&key).await?.stats().await?.memory;
    Ok(Numbers { cold, pooled, memory })
}

async fn run(container: &Lease<DockerManager>) -> Result<(), Failure> {
    let outcome = container.exec(&Command::shell("echo $((6 * 7))")).await?;
    match outcome.stdout.text().trim() {
        "42" => Ok(()),
        other => Err(format!("6 * 7 gave {other:?}: {:?}", outcome.verdict).into()),
    }
}

/// A root file system in a tar archive: `sh`, and the libraries that `ldd` names.
fn shell_and_libraries() -> Result<Vec<u8>, Failure> {
    let libraries = Program::new("ldd").arg("/bin/sh").output()?;
    let libraries = String::from_utf8(libraries.stdout)?;
    let paths = libraries.split_whitespace().filter(|word| word.starts_with('/'));
    let tar = Program::new("tar")
        .args(["--dereference", "-C", "/", "-c", "-f", "-", "/bin/sh"])
        .args(paths)
        .output()?;
    match tar.status.success() {
        true => Ok(tar.stdout),
        false => Err(format!("tar: {}", String::from_utf8_lossy(&tar.stderr)).into()),
    }
}
