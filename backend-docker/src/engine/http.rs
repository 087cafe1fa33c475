//! Plain HTTP to the engine, one connection per request.
//!
//! For the calls where strict types would break on one odd container, and for the ones that turn
//! into byte streams. Paths carry no API version: every engine answers those with what it knows.
//! A kept connection would save 0.07 ms of a call that takes ten times that, and would belong to
//! the runtime that made it, which may end before the next call.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;

use super::classify;
use crate::error::{Error, ErrorKind, Stage};

/// No reply of the engine is read beyond this.
const MAX_REPLY: usize = 64 << 20;

/// Where an engine listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Address {
    Unix(PathBuf),
    Tcp(String),
}

#[derive(Clone, Debug)]
pub(crate) struct Http {
    pub(crate) address: Address,
}

/// The task behind a request, which must not wait for an engine that nobody listens to any more.
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A reply that goes on.
pub(crate) struct Body {
    incoming: Incoming,
    _connection: Connection,
}

impl Body {
    /// The next piece; `None` when the engine has ended or the stream broke off.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        loop {
            // Trailers have no data.
            if let Ok(data) = self.incoming.frame().await?.ok()?.into_data() {
                return Some(data);
            }
        }
    }
}

trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

impl Http {
    /// One request whose whole reply is JSON.
    pub(crate) async fn json<T: DeserializeOwned>(
        &self,
        stage: Stage,
        method: Method,
        path: &str,
        limit: Duration,
    ) -> Result<T, Error> {
        let body = self.bytes(stage, method, path, None, limit).await?;
        serde_json::from_slice(&body).map_err(|e| unreadable(stage, e))
    }

    /// One request and its whole reply.
    pub(crate) async fn bytes(
        &self,
        stage: Stage,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        limit: Duration,
    ) -> Result<Bytes, Error> {
        let call = async {
            let (reply, _connection) = self.send(stage, method, path, body, false).await?;
            collect(stage, checked(stage, reply).await?).await
        };
        tokio::time::timeout(limit, call).await.unwrap_or_else(|_| Err(Error::timeout(stage, limit)))
    }

    /// A request whose reply goes on for as long as it is read. Only its head has a deadline.
    pub(crate) async fn stream(&self, stage: Stage, path: &str, limit: Duration) -> Result<Body, Error> {
        let call = async {
            let (reply, connection) = self.send(stage, Method::GET, path, None, false).await?;
            let incoming = checked(stage, reply).await?.into_body();
            Ok(Body { incoming, _connection: connection })
        };
        tokio::time::timeout(limit, call).await.unwrap_or_else(|_| Err(Error::timeout(stage, limit)))
    }

    /// A request that turns its connection into a two-way byte stream.
    pub(crate) async fn hijack(
        &self,
        stage: Stage,
        path: &str,
        body: Option<Vec<u8>>,
        limit: Duration,
    ) -> Result<TokioIo<Upgraded>, Error> {
        let call = async {
            let (reply, _connection) = self.send(stage, Method::POST, path, body, true).await?;
            let reply = match reply.status() {
                StatusCode::SWITCHING_PROTOCOLS => reply,
                _ => checked(stage, reply).await?,
            };
            hyper::upgrade::on(reply).await.map_err(|e| unreachable(stage, e))
        };
        match tokio::time::timeout(limit, call).await {
            Ok(upgraded) => Ok(TokioIo::new(upgraded?)),
            Err(_) => Err(Error::timeout(stage, limit)),
        }
    }

    async fn send(
        &self,
        stage: Stage,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        upgrade: bool,
    ) -> Result<(Response<Incoming>, Connection), Error> {
        let socket = self.connect().await.map_err(|e| unreachable(Stage::Connect, e))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(socket)).await.map_err(|e| unreachable(stage, e))?;
        let connection = Connection(tokio::spawn(async move {
            let _ = connection.with_upgrades().await;
        }));
        let reply = sender.send_request(request(method, path, body, upgrade)).await;
        Ok((reply.map_err(|e| unreachable(stage, e))?, connection))
    }

    async fn connect(&self) -> std::io::Result<Box<dyn Socket>> {
        Ok(match &self.address {
            Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
            Address::Tcp(address) => Box::new(TcpStream::connect(address).await?),
        })
    }
}

fn request(method: Method, path: &str, body: Option<Vec<u8>>, upgrade: bool) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path).header(HOST, "engine");
    if body.is_some() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    if upgrade {
        request = request.header(CONNECTION, "Upgrade").header(UPGRADE, "tcp");
    }
    request.body(Full::new(body.unwrap_or_default().into())).expect("paths are escaped where they are made")
}

async fn checked(stage: Stage, reply: Response<Incoming>) -> Result<Response<Incoming>, Error> {
    #[derive(serde::Deserialize)]
    struct Complaint {
        message: String,
    }
    let status = reply.status();
    if status.is_success() || status.is_informational() {
        return Ok(reply);
    }
    let body = collect(stage, reply).await?;
    let message = match serde_json::from_slice::<Complaint>(&body) {
        Ok(complaint) => complaint.message,
        Err(_) => String::from_utf8_lossy(&body).into_owned(),
    };
    Err(classify(stage, status.as_u16(), &message))
}

async fn collect(stage: Stage, reply: Response<Incoming>) -> Result<Bytes, Error> {
    let body = Limited::new(reply.into_body(), MAX_REPLY).collect().await;
    body.map(|b| b.to_bytes()).map_err(|e| {
        Error::new(stage, ErrorKind::Unreachable, "the engine's reply broke off or is too long")
            .with_source(e)
    })
}

fn unreachable(stage: Stage, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let message = "is the engine running, and may this user reach its socket?";
    Error::new(stage, ErrorKind::Unreachable, message).with_source(source)
}

fn unreadable(stage: Stage, source: serde_json::Error) -> Error {
    Error::new(stage, ErrorKind::Protocol, "the engine's reply is not what its API promises")
        .with_source(source)
}

/// Escapes a value for use in a path or query.
pub(crate) fn escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
