//! How many commands a second, each in a container that nobody used before it was clean.

use std::time::{Duration, Instant};

use bollard::Docker;
use poolyard_benches::is_quick;
use poolyard_benches::row::{OURS, Row};
use poolyard_exec::{Command, Exec};

use crate::{AnyError, cold};

const TASKS: [usize; 4] = [1, 2, 4, 8];

pub(crate) async fn rows(docker: &Docker) -> Result<Vec<Row>, AnyError> {
    let mut rows = Vec::new();
    for tasks in TASKS {
        let bench = format!("throughput/{tasks}_tasks");
        let runs = if is_quick() { 1 } else { 5 };
        let (mut warm, mut fresh) = (Vec::new(), Vec::new());
        for _ in 0..runs {
            warm.push(ours(tasks).await?);
            fresh.push(bollard(docker, tasks).await?);
        }
        let note = "acquire, one command, reset; as many containers as tasks";
        rows.push(Row::new(&bench, OURS, "commands/s", &warm, note));
        rows.push(Row::new(&bench, "bollard", "commands/s", &fresh, "create, start, one command, remove"));
    }
    Ok(rows)
}

async fn ours(tasks: usize) -> Result<f64, AnyError> {
    let pool = crate::pool(tasks)?;
    let spec = crate::spec();
    let warm = (0..tasks).map(|_| pool.acquire(&spec));
    // All of them exist before the clock starts.
    let leases: Vec<_> = join(warm).await.into_iter().collect::<Result<_, _>>()?;
    drop(leases);
    let rounds = if is_quick() { 100 } else { 400 };
    let begin = Instant::now();
    let work = (0..tasks).map(|_| {
        let (pool, spec) = (pool.clone(), spec.clone());
        tokio::spawn(async move {
            for _ in 0..rounds {
                let lease = pool.acquire(&spec).await.expect("the pool serves");
                assert!(lease.exec(&Command::new("/bin/true")).await.expect("it runs").success());
            }
        })
    });
    for task in work.collect::<Vec<_>>() {
        task.await?;
    }
    let rate = (tasks * rounds) as f64 / begin.elapsed().as_secs_f64();
    pool.close(Duration::from_secs(60)).await;
    Ok(rate)
}

async fn bollard(docker: &Docker, tasks: usize) -> Result<f64, AnyError> {
    let rounds = if is_quick() { 2 } else { 4 };
    let begin = Instant::now();
    let work = (0..tasks).map(|_| {
        let docker = docker.clone();
        tokio::spawn(async move {
            for _ in 0..rounds {
                let id = cold::create(&docker).await?;
                cold::start(&docker, &id).await?;
                cold::exec(&docker, &id).await?;
                cold::remove(&docker, &id).await?;
            }
            Ok::<(), AnyError>(())
        })
    });
    for task in work.collect::<Vec<_>>() {
        task.await??;
    }
    Ok((tasks * rounds) as f64 / begin.elapsed().as_secs_f64())
}

/// All of some futures, at once.
async fn join<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (future, slot) in futures.iter_mut().zip(&mut done) {
            if slot.is_none()
                && let std::task::Poll::Ready(output) = future.as_mut().poll(cx)
            {
                *slot = Some(output);
            }
        }
        if done.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}
