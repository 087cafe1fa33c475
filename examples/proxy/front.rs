//! The proxy itself.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::message::Message;
use super::source::Source;
use super::upstream::{Route, Upstream};

/// What a proxy has done.
#[derive(Debug, Default)]
pub struct Tally {
    /// Exchanges over a connection that had served before.
    pub reused: AtomicU64,
    /// Exchanges over a new connection.
    pub opened: AtomicU64,
    /// Exchanges that were tried again, since a kept connection had just ended.
    pub retried: AtomicU64,
}

impl Tally {
    /// The share of exchanges over connections that had served before.
    pub fn reuse_rate(&self) -> f64 {
        let (reused, opened) = (self.reused.load(Ordering::Relaxed), self.opened.load(Ordering::Relaxed));
        reused as f64 / (reused + opened).max(1) as f64
    }
}

/// Accepts clients and carries their requests upstream.
pub struct Front<S> {
    source: S,
    routes: Vec<Route>,
    /// What was done so far.
    pub tally: Tally,
}

const BAD_GATEWAY: &[u8] = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n";
const NOT_FOUND: &[u8] = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";

impl<S: Source> Front<S> {
    /// A proxy that knows these routes; the first one that fits is taken.
    pub fn new(source: S, routes: Vec<Route>) -> Arc<Front<S>> {
        Arc::new(Front { source, routes, tally: Tally::default() })
    }

    /// Where connections come from.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// Serves on a free port of the loopback interface, until the runtime ends.
    pub async fn serve(self: Arc<Self>) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&self).client(client));
            }
        });
        Ok(address)
    }

    async fn client(self: Arc<Self>, mut client: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        while let Some(request) = Message::read(&mut client).await? {
            let route = self.routes.iter().find(|route| request.path().starts_with(&route.prefix));
            let Some(route) = route else {
                client.write_all(NOT_FOUND).await?;
                continue;
            };
            match self.carry(&route.upstream, &request).await {
                Ok(answer) => client.write_all(answer.as_bytes()).await?,
                Err(_) => client.write_all(BAD_GATEWAY).await?,
            }
        }
        Ok(())
    }

    /// The upstream's answer. A kept connection may end at the moment at which it is taken: then the
    /// request is tried again, if nobody minds.
    pub async fn carry(&self, upstream: &Upstream, request: &Message) -> io::Result<Message> {
        loop {
            let (mut connection, used) = self.source.take(upstream).await?;
            connection.begin();
            match exchange(&mut *connection, request).await {
                Ok(answer) => {
                    if answer.keeps_open() && request.keeps_open() {
                        connection.finished();
                    }
                    let count = if used { &self.tally.reused } else { &self.tally.opened };
                    count.fetch_add(1, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(_) if used && request.is_idempotent() => {
                    self.tally.retried.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

async fn exchange(connection: &mut super::connection::Connection, request: &Message) -> io::Result<Message> {
    connection.write_all(request.as_bytes()).await?;
    connection.flush().await?;
    Message::read(connection).await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}
