//! The messages between the host and its zygote, over a socket that keeps their boundaries.
//!
//! | direction | message | descriptors |
//! |---|---|---|
//! | host to zygote | [`Order`]: start this | what it gets as 0, 1, 2, ... |
//! | zygote to host | [`Word::Born`] | its pidfd |
//! | zygote to host | [`Word::Failed`], [`Word::NoEntry`], [`Word::Ended`] | |
//!
//! The end of the socket is a message too: a zygote whose host is gone kills all and ends; a host whose
//! zygote is gone takes its workers for dead.

use std::ffi::CString;

use crate::attrs::{Attrs, Grouping, Limit};
use crate::error::Stage;
use crate::exit::Exit;
use crate::sys::setup::Failed;
use crate::sys::spawn::Image;

/// The largest order, in bytes.
pub(crate) const MAX_ORDER: usize = 128 * 1024;
/// The size of every word.
pub(crate) const WORD: usize = 24;

/// Start a process.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) token: u64,
    pub(crate) entry: bool,
    pub(crate) image: Image,
}

/// What the zygote says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Born { token: u64, pid: i32 },
    Failed { token: u64, failed: Failed },
    NoEntry { token: u64 },
    Ended { token: u64, exit: Exit },
}

impl Word {
    pub(crate) fn to_bytes(self) -> [u8; WORD] {
        let (kind, token, a, b) = match self {
            Word::Born { token, pid } => (1, token, pid, 0),
            Word::Failed { token, failed } => (2, token, failed.0 as i32, failed.1),
            Word::NoEntry { token } => (3, token, 0, 0),
            Word::Ended { token, exit: Exit::Code(code) } => (4, token, 0, code),
            Word::Ended { token, exit: Exit::Signal(signal) } => (4, token, 1, signal),
            Word::Ended { token, .. } => (4, token, 2, 0),
        };
        let mut bytes = [0; WORD];
        bytes[..8].copy_from_slice(&u64::to_le_bytes(kind));
        bytes[8..16].copy_from_slice(&token.to_le_bytes());
        bytes[16..20].copy_from_slice(&a.to_le_bytes());
        bytes[20..].copy_from_slice(&b.to_le_bytes());
        bytes
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let (kind, token, a, b) = (reader.u64()?, reader.u64()?, reader.u32()? as i32, reader.u32()? as i32);
        Some(match (kind, a) {
            (1, pid) => Word::Born { token, pid },
            (2, stage) => Word::Failed { token, failed: (*Stage::ALL.get(usize::try_from(stage).ok()?)?, b) },
            (3, _) => Word::NoEntry { token },
            (4, 0) => Word::Ended { token, exit: Exit::Code(b) },
            (4, 1) => Word::Ended { token, exit: Exit::Signal(b) },
            (4, _) => Word::Ended { token, exit: Exit::Unknown },
            _ => return None,
        })
    }
}

impl Order {
    pub(crate) fn encode(token: u64, entry: bool, image: &Image) -> Vec<u8> {
        let mut out = Writer(Vec::with_capacity(4096));
        out.u64(token);
        out.u32(entry.into());
        out.bytes(image.path.as_bytes());
        out.list(&image.argv, |out, arg| out.bytes(arg.as_bytes()));
        out.list(&image.envp, |out, variable| out.bytes(variable.as_bytes()));
        out.option(image.cwd.as_ref(), |out, dir| out.bytes(dir.as_bytes()));
        out.attrs(&image.attrs);
        out.0
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader(bytes);
        Some(Self {
            token: from.u64()?,
            entry: from.u32()? != 0,
            image: Image {
                path: from.c_string()?,
                argv: from.list(Reader::c_string)?,
                envp: from.list(Reader::c_string)?,
                cwd: from.option(Reader::c_string)?,
                attrs: from.attrs()?,
            },
        })
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Lengths beyond 4 GiB do not occur: the whole message is limited to [`MAX_ORDER`].
    fn bytes(&mut self, bytes: &[u8]) {
        self.u32(bytes.len() as u32);
        self.0.extend_from_slice(bytes);
    }

    fn list<T>(&mut self, list: &[T], write: impl Fn(&mut Self, &T)) {
        self.u32(list.len() as u32);
        list.iter().for_each(|item| write(self, item));
    }

    fn option<T>(&mut self, option: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.u32(option.is_some().into());
        if let Some(value) = option {
            write(self, value);
        }
    }

    fn attrs(&mut self, attrs: &Attrs) {
        self.u32((attrs.grouping == Grouping::Session).into());
        self.option(attrs.nice, |out, nice| out.u32(nice as u32));
        self.list(&attrs.rlimits, |out, (limit, soft, hard)| {
            out.u32(limit.number());
            out.u64(*soft);
            out.u64(*hard);
        });
        self.list(&attrs.cpus, |out, cpu| out.u64(*cpu as u64));
        self.option(attrs.umask, Self::u32);
        self.option(attrs.uid, Self::u32);
        self.option(attrs.gid, Self::u32);
        self.option(attrs.groups.as_deref(), |out, groups| out.list(groups, |out, group| out.u32(*group)));
        self.u32(attrs.no_new_privs.into());
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn u32(&mut self) -> Option<u32> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*bytes))
    }

    fn u64(&mut self) -> Option<u64> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*bytes))
    }

    fn c_string(&mut self) -> Option<CString> {
        let len = self.u32()? as usize;
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        CString::new(bytes).ok()
    }

    /// Grows item by item, so that a wrong count cannot ask for memory.
    fn list<T>(&mut self, read: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        (0..self.u32()?).map(|_| read(self)).collect()
    }

    fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.u32()? == 0 { Some(None) } else { read(self).map(Some) }
    }

    fn attrs(&mut self) -> Option<Attrs> {
        Some(Attrs {
            grouping: if self.u32()? == 0 { Grouping::ProcessGroup } else { Grouping::Session },
            nice: self.option(|from| Some(from.u32()? as i32))?,
            rlimits: self.list(|from| {
                let number = from.u32()?;
                let limit = Limit::ALL.into_iter().find(|limit| limit.number() == number)?;
                Some((limit, from.u64()?, from.u64()?))
            })?,
            cpus: self.list(|from| usize::try_from(from.u64()?).ok())?,
            umask: self.option(Self::u32)?,
            uid: self.option(Self::u32)?,
            gid: self.option(Self::u32)?,
            groups: self.option(|from| from.list(Self::u32))?,
            no_new_privs: self.u32()? != 0,
            outlives_parent: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_order_survives_the_wire() {
        let attrs = Attrs::new().nice(-5).rlimit(Limit::OpenFiles, 64).cpus([0, 1]).umask(0o77).uid(1).gid(2);
        let attrs = attrs.groups([3, 4]).no_new_privs().grouping(Grouping::ProcessGroup);
        let text = |text: &str| CString::new(text).expect("no zero byte");
        let (argv, envp) = (vec![text("a"), text("")], vec![text("A=b")]);
        let image = Image { path: text("/bin/a"), argv, envp, cwd: Some(text("/")), attrs };
        let bytes = Order::encode(7, true, &image);
        assert_eq!(Order::decode(&bytes), Some(Order { token: 7, entry: true, image }));
        for len in 0..bytes.len() {
            assert_eq!(Order::decode(&bytes[..len]), None, "a message cut at {len} is no message");
        }
    }

    #[test]
    fn every_word_survives_the_wire() {
        let token = u64::MAX - 1;
        let exits = [Exit::Code(3), Exit::Signal(9), Exit::Unknown];
        let ends = exits.map(|exit| Word::Ended { token, exit });
        let stages = Stage::ALL.map(|stage| Word::Failed { token, failed: (stage, 13) });
        let words = [Word::Born { token, pid: 5 }, Word::NoEntry { token }];
        for word in words.into_iter().chain(ends).chain(stages) {
            assert_eq!(Word::parse(&word.to_bytes()), Some(word));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoders_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = Word::parse(&bytes);
            let _ = Order::decode(&bytes);
        }
    }
}
