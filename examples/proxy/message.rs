//! As much of HTTP/1.1 as is needed: messages with a `Content-Length` or without a body.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

const MAX_HEAD: usize = 16 * 1024;
const MAX_BODY: usize = 1024 * 1024;

/// One message, request or answer, as it came.
#[derive(Debug)]
pub struct Message {
    bytes: Vec<u8>,
    head: usize,
}

impl Message {
    /// Reads one message; `None` where the other side has said all that it wants to say.
    ///
    /// # Errors
    ///
    /// Of the connection, and for messages that are too long, cut off, or in chunks.
    pub async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Message>> {
        let mut bytes = Vec::with_capacity(1024);
        let head = loop {
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if bytes.len() > MAX_HEAD {
                return Err(io::Error::other("the head of a message is longer than 16 KiB"));
            }
            if from.read_buf(&mut bytes).await? == 0 {
                let nothing = bytes.is_empty();
                return if nothing { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        };
        let mut message = Message { bytes, head };
        let length = head + message.body_length()?;
        while message.bytes.len() < length {
            if from.read_buf(&mut message.bytes).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        match message.bytes.len() == length {
            true => Ok(Some(message)),
            false => Err(io::Error::other("a message came before the answer to the one before")),
        }
    }

    fn body_length(&self) -> io::Result<usize> {
        if self.header("transfer-encoding").is_some() {
            return Err(io::Error::other("messages in chunks are not understood here"));
        }
        let Some(length) = self.header("content-length") else { return Ok(0) };
        let length = length.parse().map_err(io::Error::other)?;
        if length > MAX_BODY {
            return Err(io::Error::other("the body of a message is longer than 1 MiB"));
        }
        Ok(length)
    }

    fn head(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.head]).unwrap_or_default()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head().lines().skip(1);
        let mut headers = lines.filter_map(|line| line.split_once(':'));
        headers.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The path of a request.
    pub fn path(&self) -> &str {
        self.head().split(' ').nth(1).unwrap_or_default()
    }

    /// Whether doing it twice is the same as doing it once.
    pub fn is_idempotent(&self) -> bool {
        ["GET ", "HEAD ", "PUT ", "DELETE "].iter().any(|method| self.head().starts_with(method))
    }

    /// Whether the connection stays open after it.
    pub fn keeps_open(&self) -> bool {
        !self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// As it came.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What follows the head.
    pub fn body(&self) -> &[u8] {
        &self.bytes[self.head..]
    }
}
