//! The master's part in [`Accept::Pass`], [`Accept::PerRequest`] and [`Accept::Notify`].

use std::collections::VecDeque;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use nix::sys::socket::{SockFlag, accept4};
use parking_lot::Mutex;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use super::member::Member;
use super::{Accept, Inner, idle};
use crate::sys::fds;

/// How many connections a worker is handed before it has finished the first: so that it need not wait for
/// the master between two.
const AHEAD: usize = 2;

#[derive(Default)]
pub(super) struct Pass {
    /// Accepted, and with no worker yet.
    held: Mutex<VecDeque<OwnedFd>>,
    /// Told when there is room for more.
    room: Notify,
}

/// What the master does while the server accepts, where workers do not accept by themselves.
pub(super) async fn conduct(inner: Arc<Inner>) {
    let result = match inner.config.accept {
        Accept::Pass | Accept::PerRequest => accept_all(&inner).await,
        Accept::Notify => notify_all(&inner).await,
        Accept::Inherit | Accept::ReusePort => return,
    };
    if let Err(error) = result {
        tracing::error!(%error, "poolyard: the server accepts no more");
    }
}

/// Waits until every connection that was accepted has a worker, once no more are accepted.
pub(super) async fn all_handed_over(inner: &Inner) {
    while !inner.pass.held.lock().is_empty() {
        inner.pass.room.notified().await;
    }
}

/// Waits until somebody wants to connect.
pub(super) async fn wanted(inner: &Inner) -> io::Result<()> {
    if !inner.config.accept.is_by_master() {
        return watched(inner)?.readable().await.map(drop);
    }
    // Those have been accepted already.
    loop {
        let mut changed = std::pin::pin!(inner.changed.notified());
        changed.as_mut().enable();
        if !inner.pass.held.lock().is_empty() {
            return Ok(());
        }
        changed.await;
    }
}

fn watched(inner: &Inner) -> io::Result<AsyncFd<TcpListener>> {
    // Any listener: it is only looked at.
    fds::watch(TcpListener::from(inner.listen.socket().try_clone()?))
}

async fn accept_all(inner: &Arc<Inner>) -> io::Result<()> {
    let listener = watched(inner)?;
    loop {
        while inner.pass.held.lock().len() >= inner.config.max_held {
            inner.pass.room.notified().await;
        }
        let mut ready = listener.readable().await?;
        match accept(listener.get_ref().as_raw_fd()) {
            // Most often its first request is there, which the first look finds.
            Ok(connection) if inner.config.accept == Accept::PerRequest => {
                idle::await_request(inner, connection);
            }
            Ok(connection) => hold(inner, connection),
            Err(nix::Error::EAGAIN) => ready.clear_ready(),
            Err(nix::Error::EMFILE | nix::Error::ENFILE) => {
                // The connections that are held give theirs back.
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            Err(_) => {}
        }
    }
}

/// Puts a connection at the end of the line for a worker.
pub(super) fn hold(inner: &Arc<Inner>, connection: OwnedFd) {
    inner.pass.held.lock().push_back(connection);
    if inner.config.min_workers == 0 {
        inner.changed.notify_waiters();
    }
    pump(inner);
}

/// Takes in what a worker has said; false at the end. What it gives back waits for its next request.
pub(super) fn take_words(inner: &Arc<Inner>, member: &Member) -> bool {
    let mut returned = Vec::new();
    let goes_on = member.take_words(&mut returned);
    returned.into_iter().for_each(|connection| idle::await_request(inner, connection));
    goes_on
}

#[allow(unsafe_code, reason = "the new descriptor comes as a number")]
fn accept(listener: RawFd) -> nix::Result<OwnedFd> {
    let fd = accept4(listener, SockFlag::SOCK_CLOEXEC)?;
    // SAFETY: the kernel has just opened it for this process.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

async fn notify_all(inner: &Arc<Inner>) -> io::Result<()> {
    let listener = watched(inner)?;
    loop {
        // Every connection that comes is news: readiness is only forgotten, never looked up.
        listener.readable().await?.clear_ready();
        notify_one(inner);
    }
}

fn notify_one(inner: &Inner) {
    // One that leaves between the look and the word is seen to leave by the next look.
    while let Some(member) = least_busy(inner, usize::MAX) {
        if member.notify() || !member.is_leaving() {
            return;
        }
    }
}

/// Hands connections to workers that have room, oldest first. Called whenever there is a connection, a
/// worker, or room.
pub(super) fn pump(inner: &Arc<Inner>) {
    match inner.config.accept {
        Accept::Pass | Accept::PerRequest => while hand_over_one(inner) {},
        // A new worker, or one that is done: there may be connections that nobody was told of.
        Accept::Notify if has_waiting(inner) => notify_one(inner),
        _ => {}
    }
}

fn has_waiting(inner: &Inner) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let mut fds = [PollFd::new(inner.listen.socket().as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|count| count > 0)
}

fn hand_over_one(inner: &Inner) -> bool {
    // Held until the worker has one more in its list: no two threads reorder connections, or see the same room.
    let mut held = inner.pass.held.lock();
    let Some(member) = least_busy(inner, AHEAD) else { return false };
    let Some(connection) = held.pop_front() else { return false };
    match member.hand_over(connection) {
        Ok(()) => inner.pass.room.notify_one(),
        Err(connection) => {
            held.push_front(connection);
            // The next look does not see one that leaves; otherwise the system is short of something.
            return member.is_leaving();
        }
    }
    true
}

/// Gives back what a dead worker had not taken.
pub(super) fn requeue(inner: &Arc<Inner>, member: &Member) {
    take_words(inner, member);
    member.forget_lent();
    let mut untaken = std::mem::take(&mut *member.untaken.lock());
    {
        let mut held = inner.pass.held.lock();
        while let Some(connection) = untaken.pop_back() {
            held.push_front(connection);
        }
    }
    pump(inner);
}

fn least_busy(inner: &Inner, room: usize) -> Option<Arc<Member>> {
    let places = inner.places.lock();
    let living = places.members.iter().flatten().filter(|member| !member.is_leaving());
    let open = |member: &&Arc<Member>| *member.open.lock();
    living.filter(|member| open(member) < room).min_by_key(open).cloned()
}
