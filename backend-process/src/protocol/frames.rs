//! [`Frames`]: raw bytes, as described in [`poolyard_worker::wire`].

use std::time::Duration;

use poolyard_worker::Arena;
use poolyard_worker::wire::{HEADER, Header, Kind};

use super::{Event, Input, Malformed, Protocol, Word};

/// Payloads from this size on go through the arena, if there is one.
const ARENA_FROM: usize = 32 * 1024;

/// Raw bytes in frames: the fastest protocol, and that of the worker kit.
#[derive(Default)]
pub struct Frames {
    arena: Option<Arena>,
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
        let arena = self.arena.as_mut().ok_or(WRONG)?;
        let len = u64::from_le_bytes(payload.try_into().map_err(|_| WRONG)?);
        let len = usize::try_from(len).map_err(|_| WRONG)?;
        arena.answer().get(..len).map(<[u8]>::to_vec).ok_or(WRONG)
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
        match &mut self.arena {
            Some(arena) if (ARENA_FROM..=arena.half()).contains(&request.len()) => {
                arena.request()[..request.len()].copy_from_slice(request);
                Self::push(id, Kind::ArenaCall, &(request.len() as u64).to_le_bytes(), out)
            }
            _ => Self::push(id, Kind::Call, request, out),
        }
    }

    fn decode(&mut self, input: &mut Input) -> Result<Option<Event<Vec<u8>>>, Malformed> {
        let Some(bytes) = input.bytes().first_chunk::<HEADER>() else {
            input.want(HEADER)?;
            return Ok(None);
        };
        let header = Header::parse(bytes).map_err(|bad| Malformed::NotAMessage(bad.to_string()))?;
        let whole = HEADER + header.len as usize;
        if input.bytes().len() < whole {
            input.want(whole)?;
            return Ok(None);
        }
        if whole > input.max() {
            return Err(Malformed::TooLarge { len: whole, max: input.max() });
        }
        input.consume(HEADER);
        let payload = input.take(header.len as usize);
        Ok(Some(Event { id: header.id, word: self.word(header.kind, payload)? }))
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
