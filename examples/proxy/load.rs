//! What is measured: clients that ask through a proxy, one request after the other.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::front::Front;
use super::message::Message;
use super::origin::{Authority, Origin};
use super::source::Source;
use super::upstream::Route;

/// What clients saw of one proxy.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Where the proxy got its connections from.
    pub name: String,
    /// The median time to an answer.
    pub p50: Duration,
    /// The time that 99 of 100 answers do not exceed.
    pub p99: Duration,
    /// The share of exchanges over connections that had served before.
    pub reuse: f64,
    /// How many connections the upstreams have accepted.
    pub connections: u64,
}

/// The heading of a table of [`Measured`].
pub const HEADING: &str = "connections by      p50          p99          reused   connections";

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = |span: Duration| format!("{:.0} us", span.as_secs_f64() * 1e6);
        let reuse = format!("{:.2} %", self.reuse * 100.0);
        let (p50, p99) = (micros(self.p50), micros(self.p99));
        write!(f, "{:<20}{p50:<13}{p99:<13}{reuse:<9}{}", self.name, self.connections)
    }
}

/// Four upstreams: two over TCP, one over TLS by two names.
pub struct Site {
    /// The upstreams.
    pub origins: Vec<Origin>,
    /// How they are reached.
    pub routes: Vec<Route>,
    /// Whom to trust.
    pub authority: Authority,
}

impl Site {
    /// Starts them.
    pub async fn start() -> Result<Site, Box<dyn std::error::Error + Send + Sync>> {
        let authority = Authority::new(&["shop.test", "blog.test"])?;
        let origins = vec![
            Origin::start(None).await?,
            Origin::start(None).await?,
            Origin::start(Some(&authority)).await?,
        ];
        let route = |prefix: &str, origin: usize, name: Option<&str>, seconds: u64| Route {
            prefix: prefix.to_owned(),
            upstream: origins[origin].upstream(name),
            idle_timeout: Duration::from_secs(seconds),
        };
        let routes = vec![
            route("/api", 0, None, 60),
            route("/static", 1, None, 30),
            route("/shop", 2, Some("shop.test"), 60),
            route("/blog", 2, Some("blog.test"), 10),
        ];
        Ok(Site { origins, routes, authority })
    }

    fn accepted(&self) -> u64 {
        self.origins.iter().map(Origin::accepted).sum()
    }
}

/// Lets `clients` ask `requests` times each through a proxy over `source`, all upstreams in turn.
pub async fn measure<S: Source>(
    name: &str,
    source: S,
    site: &Site,
    clients: usize,
    requests: usize,
) -> io::Result<Measured> {
    let before = site.accepted();
    let front = Front::new(source, site.routes.clone());
    let address = Arc::clone(&front).serve().await?;
    let mut asking = JoinSet::new();
    for client in 0..clients {
        let paths: Vec<String> =
            site.routes.iter().map(|route| format!("{}/{client}", route.prefix)).collect();
        asking.spawn(ask(address, paths, client, requests));
    }
    let mut times = Vec::with_capacity(clients * requests);
    for asked in asking.join_all().await {
        times.extend(asked?);
    }
    times.sort_unstable();
    let quantile = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    Ok(Measured {
        name: name.to_owned(),
        p50: quantile(0.5),
        p99: quantile(0.99),
        reuse: front.tally.reuse_rate(),
        connections: site.accepted() - before,
    })
}

async fn ask(
    proxy: SocketAddr,
    paths: Vec<String>,
    offset: usize,
    requests: usize,
) -> io::Result<Vec<Duration>> {
    let mut connection = TcpStream::connect(proxy).await?;
    connection.set_nodelay(true)?;
    let mut times = Vec::with_capacity(requests);
    for number in 0..requests {
        let path = &paths[(number + offset) % paths.len()];
        let start = Instant::now();
        connection.write_all(format!("GET {path} HTTP/1.1\r\nHost: proxy\r\n\r\n").as_bytes()).await?;
        let answer = Message::read(&mut connection).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        times.push(start.elapsed());
        if !answer.body().ends_with(format!("for {path}\n").as_bytes()) {
            return Err(io::Error::other(format!(
                "a wrong answer: {:?}",
                String::from_utf8_lossy(answer.body())
            )));
        }
    }
    Ok(times)
}
