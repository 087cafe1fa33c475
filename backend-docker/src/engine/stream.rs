//! The engine's two-way streams: attach and exec, for containers without a resident agent.
//!
//! Without a terminal the engine puts eight bytes before each piece of output: the stream, three zeros,
//! the length. With one all output is one stream of bare bytes.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use super::http::escape;
use super::{Engine, INSPECT};
use crate::error::{Error, ErrorKind, Stage};

/// The longest piece that a sane engine sends.
const MAX_PIECE: usize = 16 << 20;

pub(crate) type StdioWriter = WriteHalf<TokioIo<Upgraded>>;

/// Stdin, stdout and stderr of something in a container.
pub(crate) struct Stdio {
    pub(crate) reader: StdioReader,
    writer: StdioWriter,
}

pub(crate) struct StdioReader {
    stream: ReadHalf<TokioIo<Upgraded>>,
    buffer: BytesMut,
    terminal: bool,
}

impl Stdio {
    fn new(stream: TokioIo<Upgraded>, terminal: bool) -> Stdio {
        let (stream, writer) = tokio::io::split(stream);
        Stdio { reader: StdioReader { stream, buffer: BytesMut::new(), terminal }, writer }
    }

    pub(crate) fn into_parts(self) -> (StdioReader, StdioWriter) {
        (self.reader, self.writer)
    }

    /// Writes all of stdin and ends it.
    pub(crate) async fn write_and_end(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.writer.write_all(bytes).await?;
        self.writer.shutdown().await
    }
}

impl StdioReader {
    /// The next piece: 1 for stdout, 2 for stderr. `None` at the end.
    pub(crate) async fn next(&mut self) -> std::io::Result<Option<(u8, Bytes)>> {
        if self.terminal {
            return Ok(self.fill(1).await?.then(|| (1, self.buffer.split().freeze())));
        }
        if !self.fill(8).await? {
            return Ok(None);
        }
        let len = u32::from_be_bytes(self.buffer[4..8].try_into().expect("four bytes")) as usize;
        let stream = self.buffer[0];
        if stream > 2 || len > MAX_PIECE {
            return Err(std::io::Error::other("not the engine's stream format"));
        }
        self.buffer.advance(8);
        if !self.fill(len).await? {
            return Ok(None);
        }
        Ok(Some((stream, self.buffer.split_to(len).freeze())))
    }

    async fn fill(&mut self, len: usize) -> std::io::Result<bool> {
        while self.buffer.len() < len {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Engine {
    /// Attaches to a container's main program. Done before its start, this misses nothing.
    pub(crate) async fn attach(&self, id: &str) -> Result<Stdio, Error> {
        let path = format!("/containers/{}/attach?stream=1&stdin=1&stdout=1&stderr=1", escape(id));
        Ok(Stdio::new(self.http.hijack(Stage::Create, &path, None, INSPECT).await?, false))
    }

    pub(crate) async fn exec_create(&self, id: &str, config: &serde_json::Value) -> Result<String, Error> {
        #[derive(serde::Deserialize)]
        struct Created {
            #[serde(rename = "Id")]
            id: String,
        }
        let path = format!("/containers/{}/exec", escape(id));
        let body = Some(config.to_string().into_bytes());
        let reply = self.http.bytes(Stage::Exec, hyper::Method::POST, &path, body, INSPECT).await?;
        let created: Created = serde_json::from_slice(&reply).map_err(|e| {
            Error::new(Stage::Exec, ErrorKind::Protocol, "the engine's reply names no exec").with_source(e)
        })?;
        Ok(created.id)
    }

    pub(crate) async fn exec_start(&self, exec: &str, terminal: bool) -> Result<Stdio, Error> {
        let path = format!("/exec/{}/start", escape(exec));
        let body = serde_json::json!({ "Detach": false, "Tty": terminal }).to_string().into_bytes();
        Ok(Stdio::new(self.http.hijack(Stage::Exec, &path, Some(body), INSPECT).await?, terminal))
    }

    /// Sets the size of an exec's terminal, and tells what runs in it.
    pub(crate) async fn exec_resize(&self, exec: &str, rows: u16, columns: u16) -> Result<(), Error> {
        let path = format!("/exec/{}/resize?h={rows}&w={columns}", escape(exec));
        self.http.bytes(Stage::Exec, hyper::Method::POST, &path, None, INSPECT).await.map(drop)
    }

    /// Waits for the exit code: the stream ends a moment before the engine notes it.
    pub(crate) async fn exec_end(&self, exec: &str) -> Result<i64, Error> {
        loop {
            if let Some(code) = self.exec_exit_code(exec).await? {
                return Ok(code);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The exit code, once the program has ended.
    pub(crate) async fn exec_exit_code(&self, exec: &str) -> Result<Option<i64>, Error> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct State {
            #[serde(default)]
            running: bool,
            exit_code: Option<i64>,
        }
        let path = format!("/exec/{}/json", escape(exec));
        let state: State = self.http.json(Stage::Exec, hyper::Method::GET, &path, INSPECT).await?;
        Ok(state.exit_code.filter(|_| !state.running))
    }
}
