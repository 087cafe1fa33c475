//! The words that the library and the resident agent exchange, over one stream.
//!
//! A frame is a header of twelve bytes (payload length u32, kind u8, flags u8, two bytes zero,
//! request id u32; little endian) and its payload. The library chooses the ids. Every request ends
//! with exactly one of [`EXIT`], [`FAILED`] and [`DONE`]; `CREDIT`, `STDIN`, `STDIN_EOF`, `KILL` and
//! `RESIZE` are not requests but speak of one. Whoever reads a frame that breaks a rule closes the stream.
//!
//! Output flows only as far as the library has granted credit, and input as far as the agent has:
//! a slow reader stops its own stream and nobody else's. A program with a terminal has all its output
//! on stream 1, and stream 2 ends at once; the end of its input is typed as a character.
//!
//! | library to agent | payload |
//! |---|---|
//! | `SPAWN` | flags, time limit, user, directory, capabilities, arguments, environment, limits, terminal size |
//! | `STDIN`, `STDIN_EOF` | bytes for a program's stdin, or for the file of a `PUT` |
//! | `CREDIT` | flags = stream; how many more bytes may come |
//! | `KILL` | flags = signal; 9 ends the whole tree; cancels a `PROBE` |
//! | `RESIZE` | rows and columns of a program's terminal |
//! | `PUT` | mode, owner, path; data follows as `STDIN` |
//! | `GET` | path; data comes as `OUT` on stream 1 |
//! | `RESET` | directories to empty, paths to keep |
//! | `SURVEY` | nothing; a description of everything that could hold a trace comes as `OUT` |
//! | `PROBE` | flags = what; time limit, port or path |
//! | `PING`, `QUIT` | nothing |
//! | `LOOPBACK_DOWN` | nothing; takes the last network interface away |
//!
//! | agent to library | payload |
//! |---|---|
//! | `HELLO` | protocol version; sent first |
//! | `STARTED` | process id, after the program's `execve` succeeded; 0 if it was killed before that was known |
//! | `OUT`, `EOF` | flags = stream; bytes. The `EOF` of stream 0: the program reads no more |
//! | `ROOM` | how many bytes of input were taken |
//! | `EXIT` | flags: [`TIMED_OUT`]; wait status, user and system time (us), peak memory (KiB), wall time (us), kills for want of memory, refused forks |
//! | `FAILED` | flags = [stage](stage_name); error number: the program was not started |
//! | `DONE` | error number, 0 for success; after a `GET` the file's permission bits |

#![allow(dead_code)] // Each side uses its half.

use alloc::vec::Vec;

/// Changes with every incompatible change of this file.
pub const VERSION: u32 = 2;

pub const HEADER: usize = 12;
/// No payload is longer.
pub const MAX_PAYLOAD: usize = 1 << 20;
/// Output that may be on its way per stream before the reader has taken any, but for what is left
/// in a pipe when its program ends.
pub const WINDOW: u32 = 256 << 10;
/// What may be left in a pipe.
pub const SLACK: u32 = 2 << 20;
/// Input that may be on its way per program.
pub const STDIN_WINDOW: u32 = 128 << 10;
/// The longest piece of data in one frame.
pub const CHUNK: usize = 64 << 10;

pub const SPAWN: u8 = 1;
pub const STDIN: u8 = 2;
pub const STDIN_EOF: u8 = 3;
pub const CREDIT: u8 = 4;
pub const KILL: u8 = 5;
/// Signal of `KILL`: the strongest one, but to the program only.
pub const KILL_ROOT: u8 = 128 + 9;
pub const PUT: u8 = 6;
pub const GET: u8 = 7;
pub const RESET: u8 = 8;
pub const SURVEY: u8 = 9;
pub const PROBE: u8 = 10;
pub const PING: u8 = 11;
pub const QUIT: u8 = 12;
pub const LOOPBACK_DOWN: u8 = 13;
pub const RESIZE: u8 = 14;

pub const HELLO: u8 = 64;
pub const STARTED: u8 = 65;
pub const OUT: u8 = 66;
pub const EOF: u8 = 67;
pub const ROOM: u8 = 68;
pub const EXIT: u8 = 69;
pub const FAILED: u8 = 70;
pub const DONE: u8 = 71;

/// Flags of `SPAWN`: the container's main program, which survives a reset and whose end is the
/// agent's end; a pipe at stdin instead of `/dev/null`; an empty environment to start from; its
/// descendants outlive it; a terminal at all three streams.
pub const SERVICE: u32 = 1;
pub const PIPE_STDIN: u32 = 2;
pub const CLEAR_ENV: u32 = 4;
pub const LEAVE_TREE: u32 = 8;
pub const TERMINAL: u32 = 16;

/// Flag of `EXIT`: the time limit ended it.
pub const TIMED_OUT: u8 = 1;

/// What `PROBE` waits for: a port that accepts, a path that exists.
pub const PROBE_PORT: u8 = 1;
pub const PROBE_PATH: u8 = 2;

/// Where the start of a program failed.
pub const STAGE_PIPE: u8 = 1;
pub const STAGE_FORK: u8 = 2;
pub const STAGE_LIMIT: u8 = 3;
pub const STAGE_USER: u8 = 4;
pub const STAGE_CAPABILITIES: u8 = 5;
pub const STAGE_DIRECTORY: u8 = 6;
pub const STAGE_EXEC: u8 = 7;
pub const STAGE_TERMINAL: u8 = 8;

pub fn stage_name(stage: u8) -> &'static str {
    match stage {
        STAGE_PIPE => "making its pipes",
        STAGE_FORK => "making its process",
        STAGE_LIMIT => "setting a resource limit",
        STAGE_USER => "becoming its user",
        STAGE_CAPABILITIES => "setting its capabilities",
        STAGE_DIRECTORY => "entering its directory",
        STAGE_EXEC => "executing it",
        STAGE_TERMINAL => "making its terminal",
        _ => "starting it",
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub len: usize,
    pub kind: u8,
    pub flags: u8,
    pub id: u32,
}

impl Header {
    /// `None` breaks the rules.
    pub fn read(bytes: &[u8; HEADER]) -> Option<Header> {
        let len = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
        let id = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        if len > MAX_PAYLOAD || bytes[6] != 0 || bytes[7] != 0 {
            return None;
        }
        Some(Header { len, kind: bytes[4], flags: bytes[5], id })
    }

    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.len as u32).to_le_bytes());
        out.extend_from_slice(&[self.kind, self.flags, 0, 0]);
        out.extend_from_slice(&self.id.to_le_bytes());
    }
}

pub fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, id: u32, payload: &[u8]) {
    Header { len: payload.len(), kind, flags, id }.write(out);
    out.extend_from_slice(payload);
}

pub fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub fn put_bytes(out: &mut Vec<u8>, value: &[u8]) {
    put_u32(out, value.len() as u32);
    out.extend_from_slice(value);
}

pub fn put_list<'a>(out: &mut Vec<u8>, items: impl ExactSizeIterator<Item = &'a [u8]>) {
    put_u32(out, items.len() as u32);
    for item in items {
        put_bytes(out, item);
    }
}

/// Takes a payload apart. Every method gives `None` where the payload is too short.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }

    pub fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    pub fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let n = self.u32()? as usize;
        self.take(n)
    }

    pub fn list(&mut self) -> Option<Vec<&'a [u8]>> {
        let n = self.u32()? as usize;
        // Each item takes four bytes at least: a false count cannot make us reserve memory.
        if n > self.0.len() / 4 {
            return None;
        }
        (0..n).map(|_| self.bytes()).collect()
    }
}
