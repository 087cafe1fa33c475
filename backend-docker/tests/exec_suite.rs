//! The laws of every executor, put to containers with a resident agent.

#![allow(missing_docs)]

#[path = "it/engine.rs"]
mod engine;

use std::time::Duration;

use poolyard_core::{Lease, Pool};
use poolyard_docker::{ContainerSpec, DockerManager};
use poolyard_exec::{Command, Exec, ExecError, Limits, Process, Profile, Support};
use poolyard_testkit::availability::Availability;
use poolyard_testkit::exec::ExecHarness;

struct Docker;

/// A pooled container, and the pool that must outlive it.
struct Pooled {
    container: Lease<DockerManager>,
    _pool: Pool<DockerManager>,
}

impl Exec for Pooled {
    fn support(&self) -> &Support {
        self.container.support()
    }

    async fn spawn(&self, command: &Command) -> Result<Process, ExecError> {
        self.container.spawn(command).await
    }
}

impl ExecHarness for Docker {
    type Exec = Pooled;
    const NAME: &'static str = "docker";

    async fn availability() -> Availability {
        match engine::find_once() {
            Ok(_) => Availability::Ready,
            Err(reason) => Availability::Missing(reason.clone()),
        }
    }

    async fn executor(limits: Limits) -> Pooled {
        let manager = DockerManager::builder().host(engine::host().unwrap()).build().unwrap();
        let pool = Pool::builder(manager).max_total(1).wait_timeout(Duration::from_secs(60)).build().unwrap();
        let profile = Profile::new().image(engine::IMAGE).limits(limits);
        let spec = ContainerSpec::try_from(&profile).unwrap();
        let container = pool.acquire(&spec).await.unwrap();
        Pooled { container, _pool: pool }
    }
}

poolyard_testkit::exec_suite!(Docker);
