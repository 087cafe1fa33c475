//! Shows how to remove by hand what killed processes left on an engine: containers that were never
//! started, networks, volumes. Pools do this by themselves.

use poolyard_docker::DockerManager;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let reaped = DockerManager::local()?.reap().await?;
    for (kind, names) in
        [("container", &reaped.containers), ("network", &reaped.networks), ("volume", &reaped.volumes)]
    {
        names.iter().for_each(|name| println!("removed {kind} {name}"));
    }
    for failure in &reaped.failures {
        eprintln!("not removed: {failure}");
    }
    println!("{} removed", reaped.len());
    Ok(())
}
