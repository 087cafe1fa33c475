//! Containers of a pool.

use std::time::Instant;

use poolyard_benches::row::{FLOOR, OURS};
use poolyard_core::{Lease, Pool};
use poolyard_docker::{ContainerSpec, DockerManager, Reset};
use poolyard_exec::{Command, Exec};

use crate::AnyError;
use crate::samples::Samples;

const CYCLES: usize = 20;

/// A pool with one container for each strategy.
pub(crate) struct Warm<'a> {
    pool: &'a Pool<DockerManager>,
    wiped: ContainerSpec,
    recreated: ContainerSpec,
    restarted: ContainerSpec,
}

impl<'a> Warm<'a> {
    pub(crate) async fn prepare(pool: &'a Pool<DockerManager>) -> Result<Self, AnyError> {
        let wiped = crate::spec();
        let recreated = wiped.clone().reset(Reset::Recreate);
        let restarted = wiped.clone().reset(Reset::Restart);
        for spec in [&wiped, &recreated, &restarted] {
            drop(pool.acquire(spec).await?);
        }
        Ok(Warm { pool, wiped, recreated, restarted })
    }

    pub(crate) async fn round(&self, samples: &mut Samples) -> Result<(), AnyError> {
        for _ in 0..CYCLES {
            self.cycle(samples).await?;
            let floor = Instant::now();
            crate::cold::run("/bin/busybox", &["true"]).await?;
            samples.add("exec/agent", FLOOR, floor);
        }
        self.reset(&self.recreated, "reset/recreate", samples).await?;
        self.reset(&self.restarted, "reset/restart", samples).await?;
        let lease = self.pool.acquire(&self.wiped).await?;
        let begin = Instant::now();
        assert_eq!(lease.engine_exec(&["/bin/true"], b"").await?.code, 0);
        samples.add("exec/engine", OURS, begin);
        Ok(())
    }

    async fn cycle(&self, samples: &mut Samples) -> Result<(), AnyError> {
        let command = Command::new("/bin/true");
        let begin = Instant::now();
        let lease = self.pool.acquire(&self.wiped).await?;
        assert!(lease.exec(&command).await?.success());
        samples.add("warm_acquire_exec", OURS, begin);
        let exec = Instant::now();
        assert!(lease.exec(&command).await?.success());
        samples.add("exec/agent", OURS, exec);
        self.give_back(lease, "reset/agent", samples).await
    }

    async fn reset(
        &self,
        spec: &ContainerSpec,
        bench: &'static str,
        samples: &mut Samples,
    ) -> Result<(), AnyError> {
        self.give_back(self.pool.acquire(spec).await?, bench, samples).await
    }

    /// Leaves twelve files behind, and measures until the container is clean again.
    async fn give_back(
        &self,
        lease: Lease<DockerManager>,
        bench: &'static str,
        samples: &mut Samples,
    ) -> Result<(), AnyError> {
        let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo x > /box/$i; done";
        assert!(lease.exec(&Command::shell(script).env("PATH", "/bin")).await?.success());
        let begin = Instant::now();
        Lease::release(lease).await.map_err(|reason| reason.to_string())?;
        samples.add(bench, OURS, begin);
        Ok(())
    }
}
