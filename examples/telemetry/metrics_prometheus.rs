//! Shows a pool's numbers in Prometheus: counters and histograms as they happen, gauges when asked.
//!
//! `cargo run --release -p poolyard-examples-telemetry --example metrics_prometheus [ADDRESS]`, then
//! `curl http://127.0.0.1:9464/metrics`. A dashboard and alerts: `docs/grafana`, `docs/prometheus`.

use poolyard_examples::load;
use poolyard_examples_telemetry::prometheus;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9464".into());
    let handle = prometheus::install()?;
    let pool = prometheus::pool()?;
    tokio::spawn(load::run(pool.clone()));
    let listener = TcpListener::bind(address).await?;
    println!("numbers at http://{}/metrics", listener.local_addr()?);
    match prometheus::serve(listener, handle, pool).await? {}
}
