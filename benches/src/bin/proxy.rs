//! A reverse proxy whose upstream connections are kept by poolyard, by pingora-pool, and by nobody.
//!
//! The same proxy, upstreams and clients; only where connections come from differs. See `README.md` for how to
//! read it.

use std::collections::hash_map::DefaultHasher;
use std::error::Error;
use std::hash::{Hash, Hasher};
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use pingora_pool::{ConnectionMeta, ConnectionPool};
use poolyard_benches::row::Row;
use poolyard_benches::{conditions, report};
use poolyard_examples::proxy::connection::{Connection, pool};
use poolyard_examples::proxy::load::{Measured, Site, measure};
use poolyard_examples::proxy::source::{Fresh, Pooled, Source};
use poolyard_examples::proxy::upstream::Upstream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;

const CLIENTS: usize = 16;
const ROUNDS: usize = 5;
/// More than the clients need, so that nobody waits.
const CONNECTIONS: usize = 64;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let requests = if poolyard_benches::is_quick() { 200 } else { 2_000 };
    let profile = format!(
        "{CLIENTS} clients, {requests} requests each one after the other, {ROUNDS} rounds in turn; 2 upstreams by TCP, \
         2 names by TLS; clients, proxy and upstreams in one process over loopback"
    );
    let mut rows = vec![conditions::row(&profile)];
    let site = Site::start().await?;
    let tls = || site.authority.client();
    let (mut poolyard, mut nobody, mut pingora) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        nobody.push(measure("nobody", Fresh::new(tls()), &site, CLIENTS, requests).await?);
        let ours = pool(&site.routes, tls(), CONNECTIONS).build()?;
        poolyard.push(measure("poolyard", Pooled(ours), &site, CLIENTS, requests).await?);
        pingora.push(measure("pingora-pool", Pingora::new(tls()), &site, CLIENTS, requests).await?);
    }
    for figure in FIGURES {
        rows.extend([&poolyard, &nobody, &pingora].map(|rounds| figure.row(rounds)));
    }
    report::publish("proxy", &rows)?;
    Ok(())
}

/// One thing that is told of a round.
struct Figure {
    bench: &'static str,
    unit: &'static str,
    of: fn(&Measured) -> f64,
}

const FIGURES: [Figure; 4] = [
    Figure { bench: "answer/median", unit: "us", of: |round| round.p50.as_secs_f64() * 1e6 },
    Figure { bench: "answer/99_of_100", unit: "us", of: |round| round.p99.as_secs_f64() * 1e6 },
    Figure { bench: "not_reused", unit: "%", of: |round| (1.0 - round.reuse) * 100.0 },
    Figure { bench: "connections", unit: "connections", of: |round| round.connections as f64 },
];

impl Figure {
    fn row(&self, rounds: &[Measured]) -> Row {
        let runs: Vec<f64> = rounds.iter().map(self.of).collect();
        Row::new(self.bench, &rounds[0].name, self.unit, &runs, "")
    }
}

/// pingora-pool keeps what it is given; connecting is the program's business.
struct Pingora {
    kept: Arc<ConnectionPool<Connection>>,
    tls: TlsConnector,
    made: AtomicI32,
}

impl Pingora {
    fn new(tls: Arc<ClientConfig>) -> Pingora {
        let kept = Arc::new(ConnectionPool::new(CONNECTIONS));
        Pingora { kept, tls: TlsConnector::from(tls), made: AtomicI32::new(0) }
    }
}

impl Source for Pingora {
    type Held = Held;

    async fn take(&self, upstream: &Upstream) -> io::Result<(Held, bool)> {
        let mut hasher = DefaultHasher::new();
        upstream.hash(&mut hasher);
        let key = hasher.finish();
        let found = self.kept.get(&key);
        let used = found.is_some();
        let connection = match found {
            Some(connection) => connection,
            None => Connection::open(upstream, &self.tls).await?,
        };
        let meta = ConnectionMeta::new(key, self.made.fetch_add(1, Ordering::Relaxed));
        Ok((Held { connection: Some(connection), meta, kept: Arc::clone(&self.kept) }, used))
    }
}

/// A connection that goes back when it is dropped, and is watched there.
struct Held {
    connection: Option<Connection>,
    meta: ConnectionMeta,
    kept: Arc<ConnectionPool<Connection>>,
}

impl Deref for Held {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect("held until it is dropped")
    }
}

impl DerefMut for Held {
    fn deref_mut(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("held until it is dropped")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take().filter(Connection::is_clean) {
            self.kept.put(&self.meta, connection);
        }
    }
}
