//! [`Frames`]: raw bytes, as described in [`poolyard_worker::wire`].

use std::time::Duration;

use poolyard_worker::Arena;
use poolyard_worker::wire::{HEADER, Header, Kind};

use super::{Event, Input, Malformed, Protocol, Word};

/// Payloads from this size on go through the arena, if there is one.
const ARENA_FROM: usize = 32 * 1024;

/// Frames from this size on are not taken out of what has come in by copying.
const LARGE: usize = 64 * 1024;

/// Raw bytes in frames: the fastest protocol, and that of the worker kit.
#[derive(Default)]
pub struct Frames {
    arena: Option<Arena>,
    /// How many bytes of an answer wait in the arena; `None` while answers are taken out of it.
    left: Option<usize>,
    /// The head of a large frame whose rest has not come.
    head: Option<Header>,
}

impl Frames {
    fn push(id: u32, kind: Kind, payload: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
        let max = u32::MAX as usize;
        let too_large = |_| Malformed::TooLarge { len: payload.len(), max };
        let len = u32::try_from(payload.len()).map_err(too_large)?;
        out.extend_from_slice(&Header { len, id, kind }.to_bytes());
        out.extend_from_slice(payload);
        Ok(())
    }

    fn word(&mut self, kind: Kind, payload: Vec<u8>) -> Result<Word<Vec<u8>>, Malformed> {
        Ok(match kind {
            Kind::Ready => Word::Ready,
            Kind::Reply => Word::Done(payload),
            Kind::Part => Word::Part(payload),
            Kind::Failure => Word::Failed(String::from_utf8_lossy(&payload).into_owned()),
            Kind::Pong => Word::Pong,
            Kind::Bye => Word::Retire,
            Kind::Extend => {
                let millis = payload.try_into().map_err(|_| Malformed::Unexpected("this extension"))?;
                Word::Extend(Duration::from_millis(u32::from_le_bytes(millis).into()))
            }
            Kind::ArenaReply => Word::Done(self.answer_in_arena(&payload)?),
            Kind::Call | Kind::Ping | Kind::Cancel | Kind::Reset | Kind::ArenaCall => {
                return Err(Malformed::Unexpected("a frame that only the pool sends"));
            }
        })
    }

    fn answer_in_arena(&mut self, payload: &[u8]) -> Result<Vec<u8>, Malformed> {
        const WRONG: Malformed = Malformed::Unexpected("this reference to the arena");
        let arena = self.arena.as_ref().ok_or(WRONG)?;
        let len = u64::from_le_bytes(payload.try_into().map_err(|_| WRONG)?);
        let len = usize::try_from(len).ok().filter(|len| *len <= arena.half()).ok_or(WRONG)?;
        let mut answer = Vec::new();
        match &mut self.left {
            Some(left) => *left = len,
            None => arena.append_answer(0, len, &mut answer),
        }
        Ok(answer)
    }

    /// Where a request can be written that is put together in place.
    pub(crate) fn arena_mut(&mut self) -> Option<&mut Arena> {
        self.arena.as_mut()
    }

    /// Adds a call whose request is the first `len` bytes of the arena, and whose answer stays there.
    pub(crate) fn encode_in_place(
        &mut self,
        id: u32,
        len: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Malformed> {
        self.left = Some(0);
        Self::push(id, Kind::ArenaCall, &(len as u64).to_le_bytes(), out)
    }

    /// Adds a call that does not use the arena, so that there may be others beside it.
    pub(crate) fn encode_outside(
        &mut self,
        id: u32,
        request: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Malformed> {
        self.left = None;
        Self::push(id, Kind::Call, request, out)
    }

    /// The arena, and how many bytes of an answer lie in it.
    pub(crate) fn left(&self) -> Option<(&Arena, usize)> {
        self.arena.as_ref().zip(self.left)
    }

    /// Takes the head of the next frame out, if all of the frame is here. That of a large one is taken out before:
    /// without its head its payload can be handed on as it came in.
    fn next_head(&mut self, input: &mut Input) -> Result<Option<Header>, Malformed> {
        if self.head.is_some() {
            return Ok(self.head.take());
        }
        let here = input.bytes();
        let Some(bytes) = here.first_chunk::<HEADER>() else {
            input.want(HEADER)?;
            return Ok(None);
        };
        let head = Header::parse(bytes).map_err(|bad| Malformed::NotAMessage(bad.to_string()))?;
        let whole = HEADER + head.len as usize;
        // Half a frame must be seen to be there.
        let is_taken = here.len() >= whole || whole > LARGE && here.len() > HEADER;
        input.want(whole)?;
        if is_taken {
            input.consume(HEADER);
        }
        Ok(is_taken.then_some(head))
    }
}

impl Protocol for Frames {
    type Request = [u8];
    type Response = Vec<u8>;

    const HAS_IDS: bool = true;
    const SAYS_READY: bool = true;
    const TAKES_FROM_QUEUE: bool = true;

    fn session(&self) -> Self {
        Self::default()
    }

    fn encode(&mut self, id: u32, request: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
        self.left = None;
        match &mut self.arena {
            Some(arena) if (ARENA_FROM..=arena.half()).contains(&request.len()) => {
                arena.write_request(0, request);
                Self::push(id, Kind::ArenaCall, &(request.len() as u64).to_le_bytes(), out)
            }
            _ => Self::push(id, Kind::Call, request, out),
        }
    }

    fn decode(&mut self, input: &mut Input) -> Result<Option<Event<Vec<u8>>>, Malformed> {
        let Some(head) = self.next_head(input)? else { return Ok(None) };
        let len = head.len as usize;
        if input.bytes().len() < len {
            input.want(len)?;
            self.head = Some(head);
            return Ok(None);
        }
        let payload = input.take(len);
        Ok(Some(Event { id: head.id, word: self.word(head.kind, payload)? }))
    }

    fn append(whole: &mut Vec<u8>, part: Vec<u8>) {
        if whole.is_empty() {
            *whole = part;
        } else {
            whole.extend_from_slice(&part);
        }
    }

    fn ping(&mut self, id: u32, out: &mut Vec<u8>) -> bool {
        Self::push(id, Kind::Ping, &[], out).is_ok()
    }

    fn reset(&mut self, id: u32, out: &mut Vec<u8>) -> bool {
        Self::push(id, Kind::Reset, &[], out).is_ok()
    }

    fn cancel(&mut self, id: u32, out: &mut Vec<u8>) -> bool {
        Self::push(id, Kind::Cancel, &[], out).is_ok()
    }

    fn attach(&mut self, arena: Option<Arena>) {
        self.arena = arena;
    }
}
