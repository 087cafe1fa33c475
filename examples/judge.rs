//! Shows a judge that runs unchanged on sandboxes of Linux namespaces and on containers:
//! `cargo run --release --example judge`, or `... -- docker debian:12-slim`.

use std::error::Error;
use std::time::{Duration, Instant};

use poolyard::docker::{ContainerSpec, DockerManager};
use poolyard::exec::Exec;
use poolyard::linux_ns::{LinuxNs, SandboxSpec};
use poolyard::{Manager, Pool};
use poolyard_examples::judging::{SUBMISSIONS, judge, profile};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    match words.next().as_deref() {
        None | Some("linux-ns") => judge_all(LinuxNs::new()?, SandboxSpec::from(profile(None))).await,
        Some("docker") => {
            let image = words.next().ok_or("name an image: judge docker debian:12-slim")?;
            judge_all(DockerManager::local()?, ContainerSpec::try_from(&profile(Some(image)))?).await
        }
        Some(other) => Err(format!("there is no backend {other:?}; take linux-ns or docker").into()),
    }
}

/// All that is said of the backend is its manager and its key.
async fn judge_all<M>(manager: M, key: M::Key) -> Result<(), Box<dyn Error>>
where
    M: Manager,
    M::Resource: Exec,
{
    let pool = Pool::builder(manager).max_total(2).build()?;
    for (name, script, expected) in SUBMISSIONS {
        let start = Instant::now();
        let grade = judge(&pool, &key, script).await?;
        println!("{name:16} {grade:?} after {:.1?}", start.elapsed());
        assert_eq!(grade, expected, "{name}");
    }
    pool.close(Duration::from_secs(20)).await;
    Ok(())
}
