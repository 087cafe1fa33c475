//! [`Link`]: the connection to one agent.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;

use super::request::{Next, Request, Route};
use super::streams::UNLIMITED;
use super::wire::{self, HEADER, Header};
use crate::error::{Error, ErrorKind, Stage};

/// How long the agent may take to say hello once it has connected.
const HELLO: Duration = Duration::from_secs(5);

/// The connection to one agent. Clones are the same connection.
#[derive(Clone)]
pub(crate) struct Link(Arc<Shared>);

struct Shared {
    stream: UnixStream,
    /// What the socket did not take at once.
    unsent: Mutex<BytesMut>,
    /// Of its own, so that the writing task can wait without keeping the connection open.
    more_to_send: Arc<Notify>,
    routes: Mutex<Routes>,
    next_id: AtomicU32,
}

struct Routes {
    by_id: HashMap<u32, Route>,
    /// No reply will come any more.
    closed: bool,
}

impl Link {
    /// Waits for the agent to connect and to say hello. `closed` is called when it has gone.
    pub(crate) async fn accept(
        listener: UnixListener,
        closed: impl FnOnce() + Send + 'static,
    ) -> Result<Link, Error> {
        let (stream, _) = listener.accept().await.map_err(broken)?;
        drop(listener); // Nobody else shall reach us.
        let mut reader = Reader::default();
        let hello = tokio::time::timeout(HELLO, reader.first(&stream)).await;
        let hello = hello.map_err(|_| Error::timeout(Stage::Agent, HELLO))?.map_err(broken)?;
        check_version(&hello)?;
        let shared = Arc::new(Shared {
            stream,
            unsent: Mutex::default(),
            more_to_send: Arc::default(),
            routes: Mutex::new(Routes { by_id: HashMap::new(), closed: false }),
            next_id: AtomicU32::new(1),
        });
        tokio::spawn(read(shared.clone(), reader, closed));
        tokio::spawn(write(Arc::downgrade(&shared), shared.more_to_send.clone()));
        Ok(Link(shared))
    }

    /// Sends a request and makes ready for its replies.
    pub(super) fn open(&self, kind: u8, flags: u8, payload: &[u8], route: Route) -> Result<u32, Error> {
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let mut routes = self.0.routes.lock();
        if routes.closed {
            return Err(gone());
        }
        routes.by_id.insert(id, route);
        drop(routes);
        self.send(kind, flags, id, payload);
        Ok(id)
    }

    pub(crate) fn request(
        &self,
        kind: u8,
        flags: u8,
        payload: &[u8],
        stage: Stage,
    ) -> Result<Request, Error> {
        Request::open(self, kind, flags, payload, stage)
    }

    pub(super) fn send(&self, kind: u8, flags: u8, id: u32, payload: &[u8]) {
        self.0.send(kind, flags, id, payload);
    }

    /// Nobody reads what the program writes: it must not wait for that.
    pub(super) fn let_run(&self, id: u32) {
        self.0.let_run(id);
    }

    pub(super) fn forget(&self, id: u32) {
        // Dropped outside the lock: a route holds streams that send when they are dropped.
        let route = self.0.routes.lock().by_id.remove(&id);
        drop(route);
    }

    /// Ends the agent, and with it everything in the container.
    pub(crate) fn quit(&self) {
        self.send(wire::QUIT, 0, 0, &[]);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.routes.lock().closed
    }
}

pub(super) fn gone() -> Error {
    Error::new(Stage::Agent, ErrorKind::Missing, "the container has died; take another one from the pool")
}

fn broken(source: io::Error) -> Error {
    Error::new(Stage::Agent, ErrorKind::Protocol, "the agent did not answer").with_source(source)
}

fn check_version(hello: &(Header, Bytes)) -> Result<(), Error> {
    let version = wire::Reader(&hello.1).u32();
    if hello.0.kind == wire::HELLO && version == Some(wire::VERSION) {
        return Ok(());
    }
    let message = format!("the agent speaks version {version:?} of the protocol, we speak {}", wire::VERSION);
    Err(Error::new(Stage::Agent, ErrorKind::Protocol, message))
}

/// Cuts what arrives into frames.
#[derive(Default)]
struct Reader {
    buffer: BytesMut,
}

impl Reader {
    async fn first(&mut self, stream: &UnixStream) -> io::Result<(Header, Bytes)> {
        loop {
            if let Some(frame) = self.frame()? {
                return Ok(frame);
            }
            self.fill(stream).await?;
        }
    }

    async fn fill(&mut self, stream: &UnixStream) -> io::Result<()> {
        loop {
            stream.readable().await?;
            self.buffer.reserve(wire::CHUNK);
            match stream.try_read_buf(&mut self.buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn frame(&mut self) -> io::Result<Option<(Header, Bytes)>> {
        let Some(head) = self.buffer.get(..HEADER) else { return Ok(None) };
        let head = Header::read(head.try_into().expect("twelve bytes"))
            .ok_or_else(|| io::Error::other("a frame breaks the rules"))?;
        if self.buffer.len() < HEADER + head.len {
            return Ok(None);
        }
        self.buffer.advance(HEADER);
        Ok(Some((head, self.buffer.split_to(head.len).freeze())))
    }
}

/// Runs on drop as well: a runtime that ends takes the connection with it.
struct Closing<F: FnOnce()> {
    shared: Arc<Shared>,
    closed: Option<F>,
}

impl<F: FnOnce()> Drop for Closing<F> {
    fn drop(&mut self) {
        let mut routes = self.shared.routes.lock();
        routes.closed = true;
        // The senders go with it: whoever waits learns that nothing will come.
        let orphans = std::mem::take(&mut routes.by_id);
        drop(routes);
        drop(orphans);
        self.shared.more_to_send.notify_one();
        if let Some(closed) = self.closed.take() {
            closed();
        }
    }
}

async fn read<F: FnOnce()>(shared: Arc<Shared>, mut reader: Reader, closed: F) {
    let closing = Closing { shared, closed: Some(closed) };
    let end: io::Result<()> = async {
        loop {
            while let Some((head, payload)) = reader.frame()? {
                closing.shared.dispatch(head, payload)?;
            }
            reader.fill(&closing.shared.stream).await?;
        }
    }
    .await;
    tracing::debug!(reason = ?end.err(), "an agent's connection ended");
}

impl Shared {
    /// Writes a frame at once, or as much of it as the socket takes.
    fn send(&self, kind: u8, flags: u8, id: u32, payload: &[u8]) {
        let mut frame = Vec::with_capacity(HEADER + payload.len());
        wire::frame(&mut frame, kind, flags, id, payload);
        let mut unsent = self.unsent.lock();
        let taken = if unsent.is_empty() { self.stream.try_write(&frame).unwrap_or(0) } else { 0 };
        if taken < frame.len() {
            unsent.extend_from_slice(&frame[taken..]);
            self.more_to_send.notify_one();
        }
    }

    fn let_run(&self, id: u32) {
        for stream in [1, 2] {
            self.send(wire::CREDIT, stream, id, &UNLIMITED.to_le_bytes());
        }
    }

    fn dispatch(&self, head: Header, payload: Bytes) -> io::Result<()> {
        let mut routes = self.routes.lock();
        let Some(route) = routes.by_id.get_mut(&head.id) else {
            return Ok(()); // Its user has gone.
        };
        let next =
            route.deliver(head, payload).ok_or_else(|| io::Error::other("a reply breaks the rules"))?;
        let over = if next == Next::Over { routes.by_id.remove(&head.id) } else { None };
        drop(routes);
        // Outside the lock: a route holds streams that send when they are dropped.
        drop(over);
        if next == Next::Kill {
            self.send(wire::KILL, 9, head.id, &[]);
            self.let_run(head.id);
        }
        Ok(())
    }
}

/// Sends what was left over, whenever the socket takes it again.
async fn write(shared: Weak<Shared>, more_to_send: Arc<Notify>) {
    loop {
        more_to_send.notified().await;
        if !flush(&shared).await {
            return;
        }
    }
}

/// `false`: the connection has ended.
async fn flush(shared: &Weak<Shared>) -> bool {
    loop {
        let Some(strong) = shared.upgrade().filter(|s| !s.routes.lock().closed) else { return false };
        if strong.unsent.lock().is_empty() {
            return true;
        }
        if strong.stream.writable().await.is_err() {
            return false;
        }
        let mut unsent = strong.unsent.lock();
        if let Ok(n) = strong.stream.try_write(&unsent) {
            unsent.advance(n);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shared(stream: UnixStream) -> Arc<Shared> {
        let routes = Mutex::new(Routes { by_id: HashMap::new(), closed: false });
        let next_id = AtomicU32::new(1);
        Arc::new(Shared { stream, unsent: Mutex::default(), more_to_send: Arc::default(), routes, next_id })
    }

    /// Frames with kinds and ids that may mean something, and payloads that mean nothing.
    fn frames() -> impl Strategy<Value = Vec<u8>> {
        let payload = prop::collection::vec(any::<u8>(), 0..80);
        let frame = (60..74_u8, 0..4_u8, 0..4_u32, payload).prop_map(|(kind, flags, id, payload)| {
            let mut out = Vec::new();
            wire::frame(&mut out, kind, flags, id, &payload);
            out
        });
        prop::collection::vec(frame, 0..20).prop_map(|all| all.concat())
    }

    /// Feeds bytes in pieces to a connection with requests of every kind under way.
    fn survive(bytes: &[u8], cut: usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (ours, _theirs) = UnixStream::pair().unwrap();
            let link = Link(shared(ours));
            let kinds = [wire::SPAWN, wire::PUT, wire::SURVEY];
            let requests = kinds.map(|kind| link.request(kind, 0, &[], Stage::Exec).unwrap());
            let mut reader = Reader::default();
            let mut read = |piece: &[u8]| -> io::Result<()> {
                reader.buffer.extend_from_slice(piece);
                while let Some((head, payload)) = reader.frame()? {
                    link.0.dispatch(head, payload)?;
                }
                Ok(())
            };
            let (first, second) = bytes.split_at(cut.min(bytes.len()));
            // An error is what a broken rule is answered with; a panic is what must not be.
            let _ = read(first).and_then(|()| read(second));
            drop(requests);
        });
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn no_bytes_of_an_agent_break_its_reader(bytes in prop::collection::vec(any::<u8>(), 0..400), cut in 0..400_usize) {
            survive(&bytes, cut);
        }

        #[test]
        fn no_frames_of_an_agent_break_its_reader(bytes in frames(), cut in 0..400_usize) {
            survive(&bytes, cut);
        }

        #[test]
        fn a_frame_is_read_as_it_was_written(kind: u8, flags: u8, id: u32, payload in prop::collection::vec(any::<u8>(), 0..300), cut in 0..300_usize) {
            let mut bytes = Vec::new();
            wire::frame(&mut bytes, kind, flags, id, &payload);
            let (first, second) = bytes.split_at(cut.min(bytes.len() - 1));
            let mut reader = Reader::default();
            reader.buffer.extend_from_slice(first);
            prop_assert!(reader.frame().unwrap().is_none());
            reader.buffer.extend_from_slice(second);
            let (head, read) = reader.frame().unwrap().unwrap();
            prop_assert_eq!((head.kind, head.flags, head.id, &read[..]), (kind, flags, id, &payload[..]));
        }

        #[test]
        fn lists_are_read_as_they_were_written(items in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..20)) {
            let mut bytes = Vec::new();
            wire::put_list(&mut bytes, items.iter().map(Vec::as_slice));
            let read = wire::Reader(&bytes).list().unwrap();
            prop_assert_eq!(read, items);
        }

        #[test]
        fn no_payload_breaks_the_one_who_takes_it_apart(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut reader = wire::Reader(&bytes);
            while reader.list().is_some() && reader.bytes().is_some() && reader.u64().is_some() {}
        }
    }
}
