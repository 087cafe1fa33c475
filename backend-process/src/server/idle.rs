//! [`Accept::PerRequest`](super::Accept::PerRequest): connections between two requests.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use nix::sys::socket::{MsgFlags, recv};
use parking_lot::Mutex;
use tokio::io::unix::AsyncFd;
use tokio::sync::{oneshot, watch};

use super::{Inner, pass};
use crate::sys::fds;

/// The connections that belong to no worker.
#[derive(Default)]
pub(super) struct Idle(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    /// Oldest first. Dropping the sender closes the connection.
    connections: BTreeMap<u64, oneshot::Sender<()>>,
    count: u64,
}

impl Idle {
    /// Adds one; with more than `max` of them, the oldest has to go.
    fn enter(&self, max: usize) -> (u64, oneshot::Receiver<()>) {
        let (stay, told_to_go) = oneshot::channel();
        let mut waiting = self.0.lock();
        waiting.count += 1;
        let number = waiting.count;
        waiting.connections.insert(number, stay);
        if waiting.connections.len() > max.max(1) {
            waiting.connections.pop_first();
        }
        (number, told_to_go)
    }

    fn leave(&self, number: u64) {
        self.0.lock().connections.remove(&number);
    }
}

/// Has a connection wait for its next request, and hands it to a worker then. It is closed when its client has
/// closed it, when it has waited too long, and when the server stops.
pub(super) fn await_request(inner: &Arc<Inner>, connection: OwnedFd) {
    let (number, told_to_go) = inner.idle.enter(inner.config.max_idle);
    let (stopping, patience) = (inner.stopping.subscribe(), inner.config.keep_alive);
    let inner = Arc::downgrade(inner);
    tokio::spawn(async move {
        let asked = asked_within(connection, patience, told_to_go, stopping).await;
        come_back(&inner, number, asked);
    });
}

fn come_back(inner: &Weak<Inner>, number: u64, asked: Option<OwnedFd>) {
    let Some(inner) = inner.upgrade() else { return };
    inner.idle.leave(number);
    if let Some(connection) = asked {
        pass::hold(&inner, connection);
    }
}

/// The connection, when there is something to read on it; `None` if that does not come.
async fn asked_within(
    connection: OwnedFd,
    patience: Duration,
    told_to_go: oneshot::Receiver<()>,
    mut stopping: watch::Receiver<bool>,
) -> Option<OwnedFd> {
    let watched = fds::watch(connection).ok()?;
    let asked = {
        let mut asks = pin!(asks(&watched));
        let mut told_to_go = pin!(told_to_go);
        let mut stops = pin!(stopping.wait_for(|stop| *stop));
        let outcome = std::future::poll_fn(|cx| {
            if told_to_go.as_mut().poll(cx).is_ready() || stops.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(false));
            }
            asks.as_mut().poll(cx)
        });
        matches!(tokio::time::timeout(patience, outcome).await, Ok(Ok(true)))
    };
    asked.then(|| watched.into_inner())
}

/// Whether a request comes: false when the client has closed the connection.
async fn asks(connection: &AsyncFd<OwnedFd>) -> io::Result<bool> {
    loop {
        let mut ready = connection.readable().await?;
        let look = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        match recv(connection.as_raw_fd(), &mut [0], look) {
            Ok(count) => return Ok(count > 0),
            Err(nix::Error::EAGAIN) => ready.clear_ready(),
            Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
