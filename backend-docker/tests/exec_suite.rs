//! The laws of every executor, put to containers with a resident agent.

#![allow(missing_docs)]

#[path = "it/census.rs"]
mod census;
#[path = "it/engine.rs"]
mod engine;

use std::time::Duration;

use poolyard_core::{Lease, Pool};
use poolyard_docker::{ContainerSpec, DockerManager};
use poolyard_exec::{Command, Exec, ExecError, Limits, Process, Profile, Support};
use poolyard_testkit::availability::Availability;
use poolyard_testkit::exec::ExecHarness;

struct Docker;

/// A pooled container, the pool that must outlive it, and the scene that looks at what is left of both.
struct Pooled {
    container: Lease<DockerManager>,
    _pool: Pool<DockerManager>,
    _scene: engine::Scene,
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
        let scene = engine::scene().unwrap();
        let pool = Pool::builder(scene.manager())
            .max_total(1)
            .wait_timeout(Duration::from_secs(60))
            .build()
            .unwrap();
        let profile = Profile::new().image(engine::IMAGE).limits(limits);
        let spec = ContainerSpec::try_from(&profile).unwrap();
        let container = pool.acquire(&spec).await.unwrap();
        Pooled { container, _pool: pool, _scene: scene }
    }
}

poolyard_testkit::exec_suite!(Docker);
