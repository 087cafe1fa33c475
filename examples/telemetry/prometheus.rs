//! A pool's numbers for Prometheus: the recorder, and an endpoint of twenty lines.

use std::convert::Infallible;
use std::io;

use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use poolyard::{ConfigError, MetricsObserver, Pool};
use poolyard_examples::load::Workshops;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// The pool's name in every metric.
pub const NAME: &str = "workshops";

/// From a tenth of a millisecond, a reset, to ten seconds, the start of something heavy.
const BUCKETS: [f64; 11] = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0];

/// Installs the recorder to which the pool reports.
///
/// # Errors
///
/// A recorder is installed already.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let recorder = PrometheusBuilder::new().set_buckets(&BUCKETS)?.build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder)?;
    Ok(handle)
}

/// A pool that reports what happens in it.
///
/// # Errors
///
/// None with these options.
pub fn pool() -> Result<Pool<Workshops, MetricsObserver>, ConfigError> {
    Pool::builder(Workshops::default())
        .name(NAME)
        .max_total(12)
        .max_per_key(6)
        .observer(MetricsObserver::new(NAME))
        .build()
}

/// Answers every request on `listener` with the numbers of that moment.
///
/// # Errors
///
/// The listener fails.
pub async fn serve(
    listener: TcpListener,
    handle: PrometheusHandle,
    pool: Pool<Workshops, MetricsObserver>,
) -> io::Result<Infallible> {
    loop {
        let (stream, _) = listener.accept().await?;
        // Events report themselves; counts are reported when somebody asks.
        pool.snapshot().report(NAME);
        handle.run_upkeep();
        let text = handle.render();
        // A client that goes away misses its answer, that is all.
        tokio::spawn(async move { answer(stream, text).await });
    }
}

async fn answer(stream: TcpStream, text: String) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    while lines.next_line().await?.is_some_and(|line| !line.is_empty()) {}
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        text.len()
    );
    write.write_all(head.as_bytes()).await?;
    write.write_all(text.as_bytes()).await
}
