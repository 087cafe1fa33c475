//! The frames between a pool and its workers.
//!
//! A frame is a header of twelve bytes and a payload:
//!
//! | bytes | meaning |
//! |---|---|
//! | 0..4 | length of the payload, little endian |
//! | 4..8 | id of the call it belongs to, little endian; 0 = none |
//! | 8 | [`Kind`] |
//! | 9..12 | zero |
//!
//! The pool sends [`Kind::Call`] with an id that is not 0; the worker answers with any number of
//! [`Kind::Part`] and then exactly one [`Kind::Reply`] or [`Kind::Failure`] of the same id. A worker
//! that has read several calls answers all of them, in any order. When the pool closes the
//! worker's input, the worker ends.

use std::fmt;

/// How long the header is, in bytes.
pub const HEADER: usize = 12;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Pool to worker: a request.
    Call = 1,
    /// Pool to worker: answer with [`Kind::Pong`].
    Ping = 2,
    /// Pool to worker: the call of this id is no longer wanted. It is still answered once.
    Cancel = 3,
    /// Pool to worker: forget what the last user left, then answer with [`Kind::Pong`].
    Reset = 4,
    /// Pool to worker: a request that lies in the arena; the payload is its length in eight bytes.
    ArenaCall = 5,
    /// Worker to pool, id 0, once: it is ready for calls.
    Ready = 16,
    /// Worker to pool: the answer, or its last part.
    Reply = 17,
    /// Worker to pool: a part of the answer; more follows.
    Part = 18,
    /// Worker to pool: the call failed; the payload says why, as text. The worker is fine.
    Failure = 19,
    /// Worker to pool: alive and clean.
    Pong = 20,
    /// Worker to pool: this call needs longer; the payload is milliseconds from now in four bytes.
    Extend = 21,
    /// Worker to pool, id 0: retire me after the calls that I have.
    Bye = 22,
    /// Worker to pool: the answer lies in the arena; the payload is its length in eight bytes.
    ArenaReply = 23,
}

impl Kind {
    /// Every kind, for tests that must not forget one.
    pub const ALL: [Kind; 13] = [
        Kind::Call,
        Kind::Ping,
        Kind::Cancel,
        Kind::Reset,
        Kind::ArenaCall,
        Kind::Ready,
        Kind::Reply,
        Kind::Part,
        Kind::Failure,
        Kind::Pong,
        Kind::Extend,
        Kind::Bye,
        Kind::ArenaReply,
    ];

    /// The kind with this number, if there is one.
    pub fn from_byte(byte: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// What stands before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Length of the payload in bytes.
    pub len: u32,
    /// The call it belongs to; 0 = none.
    pub id: u32,
    /// What it is.
    pub kind: Kind,
}

impl Header {
    /// The header as it goes over the wire.
    pub fn to_bytes(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&self.len.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.id.to_le_bytes());
        bytes[8] = self.kind as u8;
        bytes
    }

    /// Reads a header.
    ///
    /// # Errors
    ///
    /// [`BadHeader`] if the bytes cannot be one: most often something printed to standard output.
    pub fn parse(bytes: &[u8; HEADER]) -> Result<Self, BadHeader> {
        let [l0, l1, l2, l3, i0, i1, i2, i3, kind, pad @ ..] = *bytes;
        let kind = Kind::from_byte(kind).filter(|_| pad == [0; 3]).ok_or(BadHeader(*bytes))?;
        Ok(Self { len: u32::from_le_bytes([l0, l1, l2, l3]), id: u32::from_le_bytes([i0, i1, i2, i3]), kind })
    }
}

/// Bytes that are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadHeader([u8; HEADER]);

impl fmt::Display for BadHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a frame header: \"{}\"", self.0.escape_ascii())
    }
}

impl std::error::Error for BadHeader {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_survives_the_wire() {
        for kind in Kind::ALL {
            let header = Header { len: 70_000, id: 0x0102_0304, kind };
            assert_eq!(Header::parse(&header.to_bytes()), Ok(header));
        }
    }

    #[test]
    fn printed_text_is_not_a_header() {
        assert!(Header::parse(b"hello world\n").is_err());
        assert!(Header::parse(&[0; HEADER]).is_err());
    }
}
