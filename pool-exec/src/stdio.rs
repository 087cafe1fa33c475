//! [`InputWriter`] and [`OutputReader`]: the streams of a running command, whatever carries them.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Standard input of a running command. Shutting it down, or dropping it, is the program's end of file.
///
/// A write waits while the program does not read; it fails with `BrokenPipe` once nobody can.
pub struct InputWriter(Pin<Box<dyn AsyncWrite + Send>>);

/// Standard output or standard error of a running command.
///
/// A program whose output is not read is made to wait, as with any pipe; nothing is buffered without bound.
pub struct OutputReader(Pin<Box<dyn AsyncRead + Send>>);

impl InputWriter {
    /// For implementers: a pipe, a pseudo terminal, one channel of a connection.
    pub fn new(writer: impl AsyncWrite + Send + 'static) -> Self {
        Self(Box::pin(writer))
    }
}

impl OutputReader {
    /// For implementers: a pipe, a pseudo terminal, one channel of a connection.
    pub fn new(reader: impl AsyncRead + Send + 'static) -> Self {
        Self(Box::pin(reader))
    }
}

impl AsyncWrite for InputWriter {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.as_mut().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_shutdown(cx)
    }
}

impl AsyncRead for OutputReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_read(cx, buffer)
    }
}

impl fmt::Debug for InputWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InputWriter")
    }
}

impl fmt::Debug for OutputReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OutputReader")
    }
}
