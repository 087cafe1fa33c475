//! Shows a pool in OpenTelemetry: each job is a span that holds the pool's events, each creation and
//! recycle a span of its own, and the pool's counts are gauges.
//!
//! `cargo run --release -p poolyard-examples-telemetry --example opentelemetry_export [COLLECTOR]`, by
//! default to `http://127.0.0.1:4318`, for ten seconds.

use std::time::Duration;

use poolyard::Pool;
use poolyard_examples::load::Workshops;
use poolyard_examples_telemetry::otel::{self, Traced};
use tokio::time::{Instant, sleep};
use tracing::Instrument;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let collector = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:4318".into());
    let telemetry = otel::install(&collector)?;
    let pool = Pool::builder(Traced(Workshops::default())).name("workshops").max_total(3).build()?;
    telemetry.watch(&pool);

    println!("spans and metrics go to {collector} for ten seconds");
    let end = Instant::now() + Duration::from_secs(10);
    let mut jobs = 0;
    while Instant::now() < end {
        for tenant in ["red", "green", "blue", "yellow"] {
            let span = tracing::info_span!(target: "poolyard_example", "job", tenant);
            job(&pool, tenant).instrument(span).await;
            jobs += 1;
        }
    }
    pool.close(Duration::from_secs(1)).await;
    println!("{jobs} jobs");
    // It blocks, so not on a thread of the runtime.
    Ok(tokio::task::spawn_blocking(|| telemetry.shutdown()).await??)
}

async fn job(pool: &Pool<Traced<Workshops>>, tenant: &'static str) {
    match pool.acquire(&tenant).await {
        Ok(_workshop) => sleep(Duration::from_millis(20)).await,
        Err(error) => tracing::warn!(target: "poolyard_example", %error, "no workshop"),
    }
}
