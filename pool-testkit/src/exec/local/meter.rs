//! The pipes of a command: output that is counted on its way, input that can be shut down.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use poolyard_exec::Limit;
use rustix::io::{Errno, ioctl_fionread};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::unix::pipe;

use super::tree::{Cause, Tree};

/// One output pipe and how much has come out of it.
#[derive(Debug)]
pub(crate) struct Meter {
    limit: u64,
    /// Read and count are one step under the lock, so that count plus content is exact at any time.
    flow: Mutex<Flow>,
}

#[derive(Debug)]
struct Flow {
    /// Gone once the reader is: the program's next write fails, as with any pipe.
    pipe: Option<pipe::Receiver>,
    count: u64,
}

impl Meter {
    pub(crate) fn new(pipe: Option<OwnedFd>, limit: Option<u64>) -> io::Result<Arc<Self>> {
        let pipe = pipe.map(pipe::Receiver::from_owned_fd).transpose()?;
        let flow = Mutex::new(Flow { pipe, count: 0 });
        Ok(Arc::new(Self { limit: limit.unwrap_or(u64::MAX), flow }))
    }

    /// Whether the program wrote more than it may, what nobody has read yet included.
    pub(crate) fn is_over(&self) -> bool {
        let flow = self.flow.lock();
        let unread = flow.pipe.as_ref().and_then(|pipe| ioctl_fionread(pipe).ok()).unwrap_or(0);
        flow.count + unread > self.limit
    }

    /// Reads and counts. What is over the limit is cut off; then, and at the end, nothing is read.
    fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>, ends: Ends) -> Poll<io::Result<()>> {
        let mut flow = self.flow.lock();
        let Flow { pipe: Some(pipe), count } = &mut *flow else { return Poll::Ready(Ok(())) };
        let before = buffer.filled().len();
        match ends {
            Ends::WithPipe => ready!(Pin::new(pipe).poll_read(cx, buffer))?,
            Ends::WhenEmpty => read_now(pipe, buffer)?,
        }
        let room = self.limit.saturating_sub(*count);
        let read = buffer.filled().len() - before;
        *count += read as u64;
        let kept = usize::try_from(room).unwrap_or(usize::MAX).min(read);
        buffer.set_filled(before + kept);
        Poll::Ready(Ok(()))
    }
}

/// What the end of a stream is.
#[derive(Clone, Copy)]
enum Ends {
    /// Nobody can write any more.
    WithPipe,
    /// Nothing is in the pipe at this moment.
    WhenEmpty,
}

/// Past the runtime, which may not have seen yet that there is something to read.
fn read_now(pipe: &pipe::Receiver, buffer: &mut ReadBuf<'_>) -> io::Result<()> {
    match rustix::io::read(pipe, buffer.initialize_unfilled()) {
        Ok(read) => buffer.advance(read),
        Err(Errno::AGAIN) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// The reader's side of a [`Meter`]. Over the limit it kills the command and ends.
pub(crate) struct MeteredReader {
    meter: Arc<Meter>,
    tree: Arc<Tree>,
    /// Ends the stream where a process that left the group keeps the pipe open.
    gone: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_gone: bool,
}

impl MeteredReader {
    pub(crate) fn new(meter: Arc<Meter>, tree: Arc<Tree>) -> Self {
        let watched = Arc::clone(&tree);
        let gone = Box::pin(async move { watched.gone().await });
        Self { meter, tree, gone, is_gone: false }
    }
}

impl AsyncRead for MeteredReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Before the read: what the command wrote is then in the pipe.
        self.is_gone = self.is_gone || self.gone.as_mut().poll(cx).is_ready();
        let ends = if self.is_gone { Ends::WhenEmpty } else { Ends::WithPipe };
        let before = buffer.filled().len();
        let read = self.meter.poll_read(cx, buffer, ends);
        // Also if part of it fits: that is the last part.
        if self.meter.flow.lock().count > self.meter.limit {
            self.tree.end(Cause::Limit(Limit::Output));
        }
        if matches!(read, Poll::Ready(Ok(()))) && buffer.filled().len() == before {
            self.meter.flow.lock().pipe = None;
        }
        read
    }
}

impl Drop for MeteredReader {
    fn drop(&mut self) {
        self.meter.flow.lock().pipe = None;
    }
}

/// A pipe to the program whose shutdown closes it.
pub(crate) struct InputPipe {
    pipe: Option<pipe::Sender>,
}

impl InputPipe {
    pub(crate) fn new(pipe: pipe::Sender) -> Self {
        Self { pipe: Some(pipe) }
    }
}

impl AsyncWrite for InputPipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.pipe {
            Some(pipe) => Pin::new(pipe).poll_write(cx, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pipe = None;
        Poll::Ready(Ok(()))
    }
}
