//! [`Request`]: one request under way, and [`Route`]: where its replies go.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::link::{Link, gone};
use super::streams::{InStream, OutStream, Room};
use super::wire::{self, Header};
use crate::error::{Error, ErrorKind, Stage};

/// A survey is not held up by credit, but it has an end.
const MAX_SURVEY: i64 = 16 << 20;

/// How a program ended.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Exit {
    pub(crate) status: i32,
    pub(crate) timed_out: bool,
    pub(crate) user: Duration,
    pub(crate) system: Duration,
    pub(crate) peak_bytes: u64,
    pub(crate) wall: Duration,
    pub(crate) oom_kills: u64,
    pub(crate) refused_forks: u64,
}

enum Reply {
    Started,
    Failed {
        stage: u8,
        errno: i32,
    },
    Exit(Exit),
    /// Error number, and what a simple request gives.
    Done(i32, u32),
}

/// What follows from a reply.
#[derive(PartialEq, Eq)]
pub(super) enum Next {
    More,
    Over,
    Kill,
}

/// Where one request's replies go.
pub(super) struct Route {
    control: mpsc::UnboundedSender<Reply>,
    outputs: [Option<Output>; 2],
    input: Option<Arc<Room>>,
    /// Which streams wrote more than they may, as bits 1 and 2.
    exceeded: Arc<AtomicU8>,
}

struct Output {
    pieces: mpsc::UnboundedSender<Bytes>,
    /// How much the agent may still send.
    window: Arc<AtomicI64>,
    /// How much the program may still write.
    limit: Option<u64>,
}

impl Route {
    /// `None`: the reply breaks the rules.
    pub(super) fn deliver(&mut self, head: Header, payload: Bytes) -> Option<Next> {
        let mut reader = wire::Reader(&payload);
        let reply = match head.kind {
            wire::OUT => return self.output(head.flags, payload),
            wire::EOF => {
                self.end_of_stream(head.flags)?;
                return Some(Next::More);
            }
            wire::ROOM => {
                self.input.as_ref()?.add(reader.u32()?);
                return Some(Next::More);
            }
            wire::STARTED => Reply::Started,
            wire::FAILED => Reply::Failed { stage: head.flags, errno: reader.u32()? as i32 },
            wire::EXIT => Reply::Exit(exit(head.flags, &mut reader)?),
            wire::DONE => Reply::Done(reader.u32()? as i32, reader.u32().unwrap_or(0)),
            _ => return None,
        };
        let over = !matches!(reply, Reply::Started);
        // Nobody may be there to hear it any more.
        let _ = self.control.send(reply);
        Some(if over { Next::Over } else { Next::More })
    }

    fn output(&mut self, stream: u8, mut piece: Bytes) -> Option<Next> {
        let output = self.outputs.get_mut((stream as usize).checked_sub(1)?)?;
        let Some(output) = output else { return Some(Next::More) };
        let left = output.window.fetch_sub(piece.len() as i64, Ordering::Relaxed) - piece.len() as i64;
        if left < -i64::from(wire::SLACK) {
            return None;
        }
        let mut next = Next::More;
        if let Some(left) = &mut output.limit {
            if piece.len() as u64 > *left {
                next = Next::Kill;
                piece.truncate(*left as usize);
            }
            *left = left.saturating_sub(piece.len() as u64);
        }
        let _ = output.pieces.send(piece);
        if next == Next::Kill {
            self.exceeded.fetch_or(stream, Ordering::Relaxed);
            self.outputs = [None, None];
        }
        Some(next)
    }

    fn end_of_stream(&mut self, stream: u8) -> Option<()> {
        match stream {
            0 => self.input.as_ref()?.close(),
            stream => *self.outputs.get_mut(stream as usize - 1)? = None,
        }
        Some(())
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        if let Some(room) = &self.input {
            room.close();
        }
    }
}

fn exit(flags: u8, reader: &mut wire::Reader<'_>) -> Option<Exit> {
    Some(Exit {
        timed_out: flags & wire::TIMED_OUT != 0,
        status: reader.u32()? as i32,
        user: Duration::from_micros(reader.u64()?),
        system: Duration::from_micros(reader.u64()?),
        peak_bytes: reader.u64()?.saturating_mul(1024),
        wall: Duration::from_micros(reader.u64()?),
        oom_kills: reader.u64()?,
        refused_forks: reader.u64()?,
    })
}

/// One request under way. Dropping it ends what it began.
pub(crate) struct Request {
    link: Link,
    id: u32,
    stage: Stage,
    control: mpsc::UnboundedReceiver<Reply>,
    outputs: [Option<OutStream>; 2],
    input: Option<InStream>,
    exceeded: Arc<AtomicU8>,
    over: bool,
}

impl Request {
    pub(super) fn open(
        link: &Link,
        kind: u8,
        flags: u8,
        payload: &[u8],
        stage: Stage,
    ) -> Result<Request, Error> {
        Self::open_limited(link, kind, flags, payload, stage, None)
    }

    /// `output_limit` ends a program that writes more than that to one of its streams.
    pub(crate) fn open_limited(
        link: &Link,
        kind: u8,
        flags: u8,
        payload: &[u8],
        stage: Stage,
        output_limit: Option<u64>,
    ) -> Result<Request, Error> {
        let (sender, control) = mpsc::unbounded_channel();
        let outputs = match kind {
            wire::SPAWN => 2,
            wire::GET | wire::SURVEY => 1,
            _ => 0,
        };
        let window = if kind == wire::SURVEY { MAX_SURVEY } else { wire::WINDOW.into() };
        let exceeded = Arc::<AtomicU8>::default();
        let mut route =
            Route { control: sender, outputs: [None, None], input: None, exceeded: exceeded.clone() };
        let mut receivers = [None, None];
        for (output, received) in route.outputs.iter_mut().zip(&mut receivers).take(outputs) {
            let (pieces, receiver) = mpsc::unbounded_channel();
            let window = Arc::new(AtomicI64::new(window));
            *output = Some(Output { pieces, window: window.clone(), limit: output_limit });
            *received = Some((receiver, window));
        }
        let room = matches!(kind, wire::SPAWN | wire::PUT).then(Room::new);
        route.input = room.clone();
        let id = link.open(kind, flags, payload, route)?;
        let mut stream = 0;
        let outputs = receivers.map(|receiver| {
            stream += 1;
            receiver.map(|(pieces, window)| OutStream::new(link.clone(), id, stream, pieces, window))
        });
        let input = room.map(|room| InStream::new(link.clone(), id, room));
        Ok(Request { link: link.clone(), id, stage, control, outputs, input, exceeded, over: false })
    }

    /// An output stream, 1 or 2. Can be taken once.
    pub(crate) fn take_output(&mut self, stream: usize) -> OutStream {
        self.outputs[stream - 1].take().expect("taken once, of a request that has it")
    }

    /// The input stream. Can be taken once.
    pub(crate) fn take_input(&mut self) -> InStream {
        self.input.take().expect("taken once, of a request that has it")
    }

    /// Which streams wrote more than their limit, as bits 1 and 2.
    pub(crate) fn exceeded(&self) -> u8 {
        self.exceeded.load(Ordering::Relaxed)
    }

    pub(crate) fn killer(&self) -> Killer {
        Killer { link: self.link.clone(), id: self.id }
    }

    async fn next(&mut self) -> Result<Reply, Error> {
        let reply = self.control.recv().await;
        self.over = !matches!(reply, Some(Reply::Started));
        reply.ok_or_else(|| gone().at(self.stage))
    }

    /// Waits until the program runs. The inner error says where its start failed.
    pub(crate) async fn started(&mut self) -> Result<Result<(), (u8, i32)>, Error> {
        match self.next().await? {
            Reply::Started => Ok(Ok(())),
            Reply::Failed { stage, errno } => Ok(Err((stage, errno))),
            _ => Err(self.nonsense()),
        }
    }

    /// Waits until the program has ended.
    pub(crate) async fn exit(&mut self) -> Result<Exit, Error> {
        match self.next().await? {
            Reply::Exit(exit) => Ok(exit),
            _ => Err(self.nonsense()),
        }
    }

    /// Waits for the answer to a simple request: 0, or an error number.
    pub(crate) async fn done(self) -> Result<i32, Error> {
        Ok(self.answer().await?.0)
    }

    /// As [`done`](Request::done), with the value that comes with it.
    pub(crate) async fn answer(mut self) -> Result<(i32, u32), Error> {
        match self.next().await? {
            Reply::Done(errno, value) => Ok((errno, value)),
            _ => Err(self.nonsense()),
        }
    }

    /// All of stream 1, and then the answer.
    pub(crate) async fn collect(mut self) -> Result<(Vec<u8>, i32), Error> {
        let mut stream = self.take_output(1);
        let mut out = Vec::new();
        while let Some(piece) = stream.next().await {
            out.extend_from_slice(&piece);
        }
        Ok((out, self.done().await?))
    }

    fn nonsense(&self) -> Error {
        Error::new(self.stage, ErrorKind::Protocol, "the agent's answer fits no question of ours")
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if !self.over {
            self.link.forget(self.id);
            self.killer().signal(9);
            self.link.send(wire::STDIN_EOF, 0, self.id, &[]);
            self.link.let_run(self.id);
        }
    }
}

/// Reaches a program from anywhere, for as long as it lives; afterwards nothing.
#[derive(Clone)]
pub(crate) struct Killer {
    link: Link,
    id: u32,
}

impl Killer {
    /// 9 ends the whole tree, anything else goes to the program's process group.
    pub(crate) fn signal(&self, signal: u8) {
        self.link.send(wire::KILL, signal, self.id, &[]);
    }

    /// Tells a program's terminal its size, and the program that it changed.
    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        self.link.send(wire::RESIZE, 0, self.id, &super::size((rows, columns)));
    }

    /// Kills the program itself, and leaves it to its end to end the tree.
    pub(crate) fn signal_root(&self) {
        self.link.send(wire::KILL, wire::KILL_ROOT, self.id, &[]);
    }
}
