//! [`JsonLines`]: one JSON text per line, both ways.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Event, Input, Malformed, Protocol, Word};

/// A line of JSON per request, a line of JSON per response. There are no ids: a worker answers in order,
/// one call at a time.
pub struct JsonLines<Q: ?Sized, R> {
    /// How far the input is known to hold no end of line.
    searched: usize,
    types: PhantomData<fn(&Q) -> R>,
}

impl<Q: ?Sized, R> Default for JsonLines<Q, R> {
    fn default() -> Self {
        Self { searched: 0, types: PhantomData }
    }
}

impl<Q, R> Protocol for JsonLines<Q, R>
where
    Q: Serialize + ?Sized + 'static,
    R: DeserializeOwned + Send + 'static,
{
    type Request = Q;
    type Response = R;

    const HAS_IDS: bool = false;
    const SAYS_READY: bool = false;

    fn session(&self) -> Self {
        Self::default()
    }

    fn encode(&mut self, _id: u32, request: &Q, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let before = out.len();
        serde_json::to_writer(&mut *out, request).map_err(|error| {
            out.truncate(before);
            Malformed::NotAMessage(error.to_string())
        })?;
        out.push(b'\n');
        Ok(())
    }

    fn decode(&mut self, input: &mut Input) -> Result<Option<Event<R>>, Malformed> {
        let new = &input.bytes()[self.searched..];
        let Some(end) = new.iter().position(|byte| *byte == b'\n') else {
            self.searched = input.bytes().len();
            input.want_more()?;
            return Ok(None);
        };
        let end = self.searched + end;
        self.searched = 0;
        if end > input.max() {
            return Err(Malformed::TooLarge { len: end, max: input.max() });
        }
        let line = &input.bytes()[..end];
        let response = serde_json::from_slice(line).map_err(|error| not_json(line, &error))?;
        input.consume(end + 1);
        Ok(Some(Event { id: 0, word: Word::Done(response) }))
    }

    fn append(whole: &mut R, part: R) {
        *whole = part;
    }
}

pub(super) fn not_json(text: &[u8], error: &serde_json::Error) -> Malformed {
    let start = &text[..text.len().min(200)];
    Malformed::NotAMessage(format!("{error}: \"{}\"", start.escape_ascii()))
}
