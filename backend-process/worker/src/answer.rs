//! [`Answer`]: what a handler has to say, written to where the pool reads it.

use std::io;

/// The answer to a call. Large ones go straight into the memory that is shared with the pool, if there is any.
pub struct Answer<'a> {
    /// Shared with the pool; empty where the answer goes over the pipe.
    room: &'a mut [u8],
    used: usize,
    /// All of it, if there is no room.
    spilled: Vec<u8>,
}

impl<'a> Answer<'a> {
    /// `spilled` is empty, with as much capacity as there is from earlier answers.
    pub(crate) fn new(room: &'a mut [u8], spilled: Vec<u8>) -> Self {
        Self { room, used: 0, spilled }
    }

    /// Adds bytes to its end.
    pub fn push(&mut self, bytes: &[u8]) {
        let end = self.used + bytes.len();
        match self.room.get_mut(self.used..end).filter(|_| self.spilled.is_empty()) {
            Some(free) => {
                free.copy_from_slice(bytes);
                self.used = end;
            }
            None => self.spill().extend_from_slice(bytes),
        }
    }

    /// Takes these bytes for all of it.
    pub(crate) fn set(&mut self, bytes: Vec<u8>) {
        if bytes.len() <= self.room.len() {
            self.push(&bytes);
        } else {
            self.spilled = bytes;
        }
    }

    fn spill(&mut self) -> &mut Vec<u8> {
        self.spilled.extend_from_slice(&self.room[..std::mem::take(&mut self.used)]);
        &mut self.spilled
    }

    /// How many bytes stand in the room, and the answer itself if it does not fit there.
    pub(crate) fn finish(self) -> (usize, Option<Vec<u8>>) {
        let over_the_pipe = self.room.is_empty() || !self.spilled.is_empty();
        (self.used, over_the_pipe.then_some(self.spilled))
    }
}

impl io::Write for Answer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_stays_in_its_room_as_long_as_it_fits() {
        let mut room = [0; 4];
        let mut answer = Answer::new(&mut room, Vec::new());
        answer.push(b"ab");
        answer.push(b"cd");
        assert_eq!(answer.finish(), (4, None));
        assert_eq!(&room, b"abcd");
    }

    #[test]
    fn an_answer_that_does_not_fit_goes_over_the_pipe_whole() {
        for (room, pieces) in [(4, ["abc", "de", "f"]), (0, ["a", "", "b"]), (1, ["", "abc", "d"])] {
            let mut room = vec![0; room];
            let mut answer = Answer::new(&mut room, Vec::new());
            pieces.iter().for_each(|piece| answer.push(piece.as_bytes()));
            assert_eq!(answer.finish(), (0, Some(pieces.concat().into_bytes())));
        }
        assert_eq!(Answer::new(&mut [], Vec::new()).finish(), (0, Some(Vec::new())));
    }

    #[test]
    fn a_whole_answer_is_put_where_it_fits() {
        let mut room = [0; 2];
        for (bytes, expected) in [(&b"ab"[..], (2, None)), (b"abc", (0, Some(b"abc".to_vec())))] {
            let mut answer = Answer::new(&mut room, Vec::new());
            answer.set(bytes.to_vec());
            assert_eq!(answer.finish(), expected);
        }
    }
}
