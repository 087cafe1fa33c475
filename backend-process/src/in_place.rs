//! [`RequestWriter`] and [`AnswerReader`]: a request and its answer that are written and read where they lie.
//!
//! They lend no slices of the arena: its worker can write to it at any time, and the bytes of a slice must not
//! change.

use std::io;

use poolyard_worker::Arena;

use crate::call::{CallError, Deadline};
use crate::protocol::Frames;
use crate::worker_process::Worker;

/// A request that is written piece by piece. What does not fit into the half of the arena that is for requests, or
/// has none, is gathered beside it and goes over the pipe. Dropping it leaves the worker as it was.
pub struct RequestWriter<'a> {
    worker: &'a mut Worker<Frames>,
    /// How many bytes stand in the arena.
    used: usize,
    /// All of it, if it is not in the arena.
    beside: Option<Vec<u8>>,
}

impl<'a> RequestWriter<'a> {
    pub(crate) fn new(worker: &'a mut Worker<Frames>) -> Self {
        // A worker that is still at an earlier request may be reading it.
        let has_room = worker.is_in_step() && worker.protocol().arena_mut().is_some();
        Self { worker, used: 0, beside: (!has_room).then(Vec::new) }
    }

    /// Adds bytes to its end.
    pub fn push(&mut self, bytes: &[u8]) {
        match (self.worker.protocol().arena_mut(), &mut self.beside) {
            (Some(arena), None) if bytes.len() <= arena.half() - self.used => {
                arena.write_request(self.used, bytes);
                self.used += bytes.len();
            }
            (Some(arena), None) => {
                let mut all = Vec::with_capacity(self.used + bytes.len());
                arena.append_request(self.used, &mut all);
                all.extend_from_slice(bytes);
                self.beside = Some(all);
            }
            (_, beside) => beside.get_or_insert_default().extend_from_slice(bytes),
        }
    }

    /// Sends it and waits for the answer. All parts of an answer are there when this returns.
    ///
    /// # Errors
    ///
    /// As [`Worker::call`].
    ///
    /// # Cancel safety
    ///
    /// As [`Worker::call`]: dropping the future leaves the worker halfway, and nobody else gets it or its arena.
    pub async fn call(self, deadline: Deadline) -> Result<AnswerReader<'a>, CallError> {
        let Self { worker, used, beside } = self;
        let turn = worker.begin_with(deadline, |frames, id, out| match &beside {
            Some(request) => frames.encode_outside(id, request, out),
            None => frames.encode_in_place(id, used, out),
        })?;
        let head = worker.finish(turn).await?;
        Ok(AnswerReader { head, tail: worker.protocol().left(), at: 0 })
    }
}

impl io::Write for RequestWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An answer that lies where the worker has put it. It stays there, whatever becomes of the worker, until this is
/// dropped; the worker takes no other call before. Reading never waits.
///
/// What is read is copied. A worker that goes on writing after it has answered changes what is read later,
/// so look at nothing twice: check the copy, and use the copy.
pub struct AnswerReader<'a> {
    /// What has come over the pipe: parts, or all of it.
    head: Vec<u8>,
    /// What lies in the arena behind that.
    tail: Option<(&'a Arena, usize)>,
    /// How much has been read.
    at: usize,
}

impl AnswerReader<'_> {
    /// How many bytes it has in all.
    pub fn len(&self) -> usize {
        self.head.len() + self.tail.map_or(0, |(_, len)| len)
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies bytes from `at` on, and says how many: as many as there are, or as `into` has room for.
    pub fn read_at(&self, at: usize, into: &mut [u8]) -> usize {
        let head = self.head.get(at..).unwrap_or_default();
        let first = head.len().min(into.len());
        let (front, rest) = into.split_at_mut(first);
        front.copy_from_slice(&head[..first]);
        let Some((arena, len)) = self.tail else { return first };
        let from = (at + first).saturating_sub(self.head.len()).min(len);
        let second = rest.len().min(len - from);
        arena.read_answer(from, &mut rest[..second]);
        first + second
    }

    /// All of it, whatever has been read.
    pub fn into_vec(self) -> Vec<u8> {
        let mut all = self.head;
        if let Some((arena, len)) = self.tail {
            arena.append_answer(0, len, &mut all);
        }
        all
    }
}

impl io::Read for AnswerReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.read_at(self.at, into);
        self.at += read;
        Ok(read)
    }
}
