//! Streams of one program, with flow control in both directions.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;

use super::link::Link;
use super::wire;

/// More credit than any stream needs: for one that nobody reads any more.
pub(super) const UNLIMITED: u32 = 1 << 30;

/// Output of a program. Dropping it lets the program write on, to nobody.
pub(crate) struct OutStream {
    link: Link,
    id: u32,
    stream: u8,
    pieces: mpsc::UnboundedReceiver<Bytes>,
    window: Arc<AtomicI64>,
    /// Taken by the reader, not yet granted to the program again.
    owed: u32,
    current: Bytes,
    ended: bool,
}

impl OutStream {
    pub(super) fn new(
        link: Link,
        id: u32,
        stream: u8,
        pieces: mpsc::UnboundedReceiver<Bytes>,
        window: Arc<AtomicI64>,
    ) -> Self {
        Self { link, id, stream, pieces, window, owed: 0, current: Bytes::new(), ended: false }
    }

    /// The next piece; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        std::future::poll_fn(|cx| self.poll_piece(cx)).await
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let piece = std::task::ready!(self.pieces.poll_recv(cx));
        match &piece {
            Some(piece) => {
                self.owed += piece.len() as u32;
                if self.owed >= wire::WINDOW / 4 {
                    self.grant(self.owed);
                    self.owed = 0;
                }
            }
            None => self.ended = true,
        }
        Poll::Ready(piece)
    }

    fn grant(&self, bytes: u32) {
        self.window.fetch_add(bytes.into(), Ordering::Relaxed);
        self.link.send(wire::CREDIT, self.stream, self.id, &bytes.to_le_bytes());
    }
}

impl Drop for OutStream {
    fn drop(&mut self) {
        if !self.ended {
            self.grant(UNLIMITED);
        }
    }
}

impl AsyncRead for OutStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.current.is_empty() {
            match std::task::ready!(self.poll_piece(cx)) {
                Some(piece) => self.current = piece,
                None => return Poll::Ready(Ok(())),
            }
        }
        let n = self.current.len().min(buffer.remaining());
        buffer.put_slice(&self.current[..n]);
        self.current.advance(n);
        Poll::Ready(Ok(()))
    }
}

/// How much input the program's side has room for.
pub(super) struct Room(Mutex<RoomState>);

struct RoomState {
    bytes: u32,
    closed: bool,
    waker: Option<Waker>,
}

impl Room {
    pub(super) fn new() -> Arc<Room> {
        let state = RoomState { bytes: wire::STDIN_WINDOW, closed: false, waker: None };
        Arc::new(Room(Mutex::new(state)))
    }

    pub(super) fn add(&self, bytes: u32) {
        self.change(|state| state.bytes = state.bytes.saturating_add(bytes));
    }

    /// Nobody reads any more.
    pub(super) fn close(&self) {
        self.change(|state| state.closed = true);
    }

    fn change(&self, change: impl FnOnce(&mut RoomState)) {
        let mut state = self.0.lock();
        change(&mut state);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes room for up to `wanted` bytes.
    fn poll_take(&self, cx: &Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        let mut state = self.0.lock();
        if state.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if state.bytes == 0 {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let n = wanted.min(state.bytes as usize).min(wire::CHUNK);
        state.bytes -= n as u32;
        Poll::Ready(Ok(n))
    }
}

/// Input of a program. Dropping it is the end of the input.
pub(crate) struct InStream {
    link: Link,
    id: u32,
    room: Arc<Room>,
    ended: bool,
}

impl InStream {
    pub(super) fn new(link: Link, id: u32, room: Arc<Room>) -> Self {
        Self { link, id, room, ended: false }
    }

    fn end(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            self.link.send(wire::STDIN_EOF, 0, self.id, &[]);
        }
    }
}

impl AsyncWrite for InStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if self.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let n = std::task::ready!(self.room.poll_take(cx, bytes.len()))?;
        self.link.send(wire::STDIN, 0, self.id, &bytes[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end();
        Poll::Ready(Ok(()))
    }
}

impl Drop for InStream {
    fn drop(&mut self) {
        self.end();
    }
}
