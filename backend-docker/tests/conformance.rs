//! The laws of every manager, put to containers.

#![allow(missing_docs)]

#[path = "it/census.rs"]
mod census;
#[path = "it/engine.rs"]
mod engine;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use poolyard_docker::{Container, ContainerSpec, DockerManager};
use poolyard_exec::{Command, Exec};
use poolyard_testkit::availability::Availability;
use poolyard_testkit::census::Scope;
use poolyard_testkit::{Capabilities, Capability, Harness};

struct Docker {
    host: &'static str,
    /// A label that all containers of this world have.
    world: String,
}

static WORLDS: AtomicU64 = AtomicU64::new(0);

impl Docker {
    fn spec(&self, tenant: &str) -> ContainerSpec {
        engine::sandbox().label("world", &self.world).env("TENANT", tenant)
    }
}

async fn shell(container: &Container, script: &str) -> Option<String> {
    let outcome = container.exec(&Command::shell(script).inherit_env()).await.ok()?;
    outcome.success().then(|| outcome.stdout.text().into_owned())
}

impl Harness for Docker {
    type Manager = DockerManager;

    const CASES: u32 = 6;
    const MAX_CUTS: usize = 12;

    async fn availability() -> Availability {
        match engine::find_once() {
            Ok(_) => Availability::Ready,
            Err(reason) => Availability::Missing(reason.clone()),
        }
    }

    async fn new() -> Self {
        let n = WORLDS.fetch_add(1, Ordering::Relaxed);
        let host = engine::find_once().as_ref().unwrap();
        Docker { host, world: format!("{}-{n}", std::process::id()) }
    }

    fn manager(&self) -> DockerManager {
        DockerManager::builder().host(self.host).build().unwrap()
    }

    fn keys(&self) -> Vec<ContainerSpec> {
        vec![self.spec("one"), self.spec("two")]
    }

    async fn works(&self, key: &ContainerSpec, container: &mut Container) -> bool {
        let tenant = if *key == self.spec("one") { "one\n" } else { "two\n" };
        shell(container, "echo x > /box/x && rm /box/x && echo $TENANT").await.as_deref() == Some(tenant)
    }

    async fn dirty(&self, container: &mut Container, mark: u32) {
        let script = match mark % 5 {
            0 => format!("echo {mark} > /tmp/mark-{mark}"),
            1 => format!("mkdir -p /box/mark-{mark}/deep && ln -s / /box/mark-{mark}/deep/link"),
            2 => format!("echo {mark} > /dev/shm/mark-{mark}"),
            3 => format!("mkfifo /tmp/mark-{mark}"),
            _ => format!("echo > \"/box/a name with mark-{mark}\""),
        };
        shell(container, &script).await.expect("the mark can be left");
    }

    async fn is_dirty(&self, container: &mut Container, mark: u32) -> bool {
        let script = format!("find /tmp /box /dev/shm -name '*mark-{mark}' | grep -q . ; echo $?");
        shell(container, &script).await.as_deref() != Some("1\n")
    }

    async fn kill(&self, container: &mut Container) {
        engine::end(self.host, &["kill"], container.id());
    }

    async fn stop(&self, container: &mut Container) {
        engine::docker(self.host, &["pause", container.id()]);
    }

    async fn live(&self) -> usize {
        let filter = format!("label=world={}", self.world);
        engine::docker(self.host, &["ps", "-aq", "--filter", &filter]).lines().count()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { stop: Capability::Yes, ..Capabilities::ALL }
    }

    fn census(&self) -> Option<Scope> {
        Some(Scope::new().with("engine", engine::held))
    }

    const CALL_DEADLINE: Duration = Duration::from_secs(20);
}

poolyard_testkit::conformance!(docker, Docker);
