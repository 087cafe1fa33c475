//! A connection to an upstream, and the manager that makes it.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use poolyard::{Builder, Context, Gone, KeyPolicy, Manager, Meta, Pool, Reuse};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::socket::Socket;
use super::upstream::{Route, Upstream};

/// A connection to an upstream.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    turns: Arc<Turns>,
    watcher: Option<AbortHandle>,
    clean: bool,
}

#[derive(Debug)]
enum Stream {
    Tcp(Socket),
    Tls(Box<TlsStream<Socket>>),
}

impl Connection {
    /// Connects, and shakes hands where the upstream has a name.
    pub async fn open(upstream: &Upstream, tls: &TlsConnector) -> io::Result<Connection> {
        let socket = TcpStream::connect(upstream.address).await?;
        socket.set_nodelay(true)?;
        let socket = Socket(Arc::new(socket));
        let stream = match &upstream.server_name {
            None => Stream::Tcp(socket),
            Some(name) => {
                let name = ServerName::try_from(name.clone()).map_err(io::Error::other)?;
                Stream::Tls(Box::new(tls.connect(name, socket).await?))
            }
        };
        Ok(Connection { stream, turns: Arc::default(), watcher: None, clean: true })
    }

    /// Looks out for the upstream's end of the connection, from now on, whenever nobody uses it.
    fn watched(mut self, gone: Gone) -> Connection {
        let socket = match &self.stream {
            Stream::Tcp(socket) => socket.clone(),
            Stream::Tls(stream) => stream.get_ref().0.clone(),
        };
        self.watcher = Some(tokio::spawn(watch(socket, Arc::clone(&self.turns), gone)).abort_handle());
        self
    }

    /// Somebody uses it. Until [`finished`](Connection::finished) is called it must not be used again.
    pub fn begin(&mut self) {
        self.turns.begin();
        self.clean = false;
    }

    /// The exchange is complete, and the upstream will keep the connection open.
    pub fn finished(&mut self) {
        self.clean = true;
    }

    /// Whether another exchange can follow.
    pub fn is_clean(&self) -> bool {
        self.clean
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(watcher) = &self.watcher {
            watcher.abort();
        }
    }
}

/// Whose turn it is: the user's in odd turns, the watcher's in even ones.
#[derive(Debug, Default)]
struct Turns {
    turn: AtomicU64,
    idle: Notify,
}

impl Turns {
    fn begin(&self) {
        if self.now().is_multiple_of(2) {
            self.turn.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn end(&self) {
        if !self.now().is_multiple_of(2) {
            self.turn.fetch_add(1, Ordering::AcqRel);
            self.idle.notify_one();
        }
    }

    fn now(&self) -> u64 {
        self.turn.load(Ordering::Acquire)
    }

    /// The next turn of the watcher.
    async fn idle(&self) -> u64 {
        loop {
            match self.now() {
                turn if turn.is_multiple_of(2) => return turn,
                _ => self.idle.notified().await,
            }
        }
    }
}

/// Whatever an upstream says while nobody has asked, its goodbye above all, ends the connection.
async fn watch(socket: Socket, turns: Arc<Turns>, gone: Gone) {
    loop {
        let turn = turns.idle().await;
        let said = socket.0.peek(&mut [0]).await;
        // What came while the connection was in use was for its user.
        if turns.now() == turn {
            return gone.report(match said {
                Ok(0) => "closed by the upstream",
                Ok(_) => "unexpected bytes from the upstream",
                Err(_) => "reset by the upstream",
            });
        }
    }
}

/// Makes connections.
pub struct Connections {
    tls: TlsConnector,
}

impl Connections {
    /// `tls`: whom to trust.
    pub fn new(tls: Arc<ClientConfig>) -> Connections {
        Connections { tls: TlsConnector::from(tls) }
    }
}

impl Manager for Connections {
    type Key = Upstream;
    type Resource = Connection;
    type Error = io::Error;

    async fn create(&self, upstream: &Upstream, cx: &Context) -> io::Result<Connection> {
        Ok(Connection::open(upstream, &self.tls).await?.watched(cx.gone()))
    }

    fn reuse(&self, _: &Upstream, connection: &mut Connection, _: &Meta) -> Reuse {
        connection.turns.end();
        if connection.clean { Reuse::Now } else { Reuse::Broken }
    }
}

/// A pool of connections for these routes: each upstream with its own idle timeout, and the least
/// recently used connection, whatever its upstream, makes room when there are `max_total`.
pub fn pool(routes: &[Route], tls: Arc<ClientConfig>, max_total: usize) -> Builder<Connections> {
    let timeouts: HashMap<Upstream, Duration> =
        routes.iter().map(|route| (route.upstream.clone(), route.idle_timeout)).collect();
    Pool::builder(Connections::new(tls)).name("upstreams").max_total(max_total).policy(move |upstream| {
        match timeouts.get(upstream) {
            Some(timeout) => KeyPolicy::new().idle_timeout(*timeout),
            None => KeyPolicy::new(),
        }
    })
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut TaskContext<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
