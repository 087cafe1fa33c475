//! What the host says, taken apart. No system call is made here, so the same source is tested and fuzzed in
//! the library: whatever the bytes are, the answer is a value or [`BadFrame`].

use core::ffi::CStr;

use poolyard_rt::frame::{self, BadFrame, Reader};

use crate::protocol::{Kind, MapMode, create, exec, landlock};

/// Descriptors at most that a command is given.
pub const MAX_TARGETS: usize = 64;

/// What a keeper is told to build. Borrows the launcher's buffer; the keeper has a copy of it.
pub struct Plan<'a> {
    pub keep_background: bool,
    pub writable_root: bool,
    pub map: MapMode,
    pub network: u8,
    pub proc_view: u8,
    pub ids: Ids,
    /// Uid and gid of the commands, inside.
    pub uid: u32,
    pub gid: u32,
    /// Options of the writable file system, as the kernel takes them.
    pub bytes: &'a CStr,
    pub inodes: &'a CStr,
    pub hostname: &'a [u8],
    /// The cgroup that runners are born in; empty if they can only enter theirs.
    pub cgroup: &'a CStr,
    /// The filter for the keeper and everything below.
    pub coarse_filter: &'a [u8],
    /// The filter on top of it, for commands.
    pub strict_filter: &'a [u8],
    pub landlock: Rules<'a>,
    pub part_count: u32,
    /// The encoded parts.
    pub parts: Reader<'a>,
}

/// What is mapped to what.
pub struct Ids {
    /// Outside, for the first id inside.
    pub uid: u32,
    pub gid: u32,
    /// Outside, for the ids from 1 on; with tools only.
    pub sub_uid: u32,
    pub sub_gid: u32,
    pub count: u32,
}

impl<'a> Plan<'a> {
    pub fn parse(flags: u16, mut body: Reader<'a>) -> Result<Self, BadFrame> {
        let map = match body.u8()? {
            0 => MapMode::Block,
            1 => MapMode::Tools,
            2 => MapMode::Single,
            _ => return Err(BadFrame),
        };
        Ok(Self {
            keep_background: flags & create::KEEP_BACKGROUND != 0,
            writable_root: flags & create::WRITABLE_ROOT != 0,
            map,
            network: body.u8()?,
            proc_view: body.u8()?,
            ids: Ids {
                uid: body.u32()?,
                gid: body.u32()?,
                sub_uid: body.u32()?,
                sub_gid: body.u32()?,
                count: body.u32()?,
            },
            uid: body.u32()?,
            gid: body.u32()?,
            bytes: body.cstr()?,
            inodes: body.cstr()?,
            hostname: body.bytes()?,
            cgroup: body.cstr()?,
            coarse_filter: body.bytes()?,
            strict_filter: body.bytes()?,
            landlock: Rules::parse(&mut body)?,
            part_count: body.u32()?,
            parts: body,
        })
    }
}

/// A ruleset of Landlock: what it handles (and so forbids), in the kernel's bits, and what it allows.
#[derive(Clone)]
pub struct Rules<'a> {
    pub files: u64,
    pub ports: u64,
    pub scope: u64,
    count: u32,
    list: Reader<'a>,
}

/// What a ruleset allows.
pub enum Rule<'a> {
    Path { access: u64, path: &'a CStr },
    Port { access: u64, port: u16 },
}

impl<'a> Rules<'a> {
    /// Takes all of them from `body`, so that none is found to be nonsense later.
    fn parse(body: &mut Reader<'a>) -> Result<Self, BadFrame> {
        let (files, ports, scope, count) = (body.u64()?, body.u64()?, body.u64()?, body.u32()?);
        let rules = Self { files, ports, scope, count, list: body.clone() };
        let mut all = rules.clone();
        while all.next_rule()?.is_some() {}
        *body = all.list;
        Ok(rules)
    }

    /// Whether nothing is forbidden.
    pub fn is_empty(&self) -> bool {
        self.files | self.ports | self.scope == 0
    }

    pub fn next_rule(&mut self) -> Result<Option<Rule<'a>>, BadFrame> {
        let Some(left) = self.count.checked_sub(1) else { return Ok(None) };
        self.count = left;
        let (kind, access) = (self.list.u8()?, self.list.u64()?);
        match kind {
            landlock::PATH => Ok(Some(Rule::Path { access, path: self.list.cstr()? })),
            landlock::PORT => Ok(Some(Rule::Port { access, port: self.list.u16()? })),
            _ => Err(BadFrame),
        }
    }
}

/// The fixed part of an `Exec`.
///
/// ```text
/// large (u64)     length of the memory file with the words, or 0: they follow this part
/// targets         count (u32), then the number that each descriptor gets (u32)
/// processors      mask, as bytes
/// limits          count (u32), then resource (u32), soft (u64), hard (u64)
/// cwd, argv, envp offsets into the words (u32)
/// words           from the next multiple of eight on: tables of offsets (u64, ended by 0), texts
/// ```
pub struct Request {
    pub terminal: bool,
    pub large: usize,
    targets: [i32; MAX_TARGETS],
    target_count: usize,
    pub mask: [u8; 128],
    pub mask_len: usize,
    pub limits: [(u32, u64, u64); 16],
    pub limit_count: usize,
    pub cwd: usize,
    pub argv: usize,
    pub envp: usize,
    pub words_at: usize,
}

impl Request {
    pub fn parse(datagram: &[u8]) -> Result<Self, BadFrame> {
        let (header, mut body) = frame::parse(datagram)?;
        if header.kind != Kind::Exec as u16 {
            return Err(BadFrame);
        }
        let large = body.u64()? as usize;
        let (mut targets, mut limits, mut mask) = ([0; MAX_TARGETS], [(0, 0, 0); 16], [0; 128]);
        let target_count = body.u32()? as usize;
        for target in targets.get_mut(..target_count).ok_or(BadFrame)? {
            *target = body.i32()?;
        }
        let bits = body.bytes()?;
        mask.get_mut(..bits.len()).ok_or(BadFrame)?.copy_from_slice(bits);
        let limit_count = body.u32()? as usize;
        for limit in limits.get_mut(..limit_count).ok_or(BadFrame)? {
            *limit = (body.u32()?, body.u64()?, body.u64()?);
        }
        let (cwd, argv, envp) = (body.u32()? as usize, body.u32()? as usize, body.u32()? as usize);
        let words_at = (datagram.len() - body.rest().len()).next_multiple_of(8);
        if words_at > datagram.len() {
            return Err(BadFrame);
        }
        Ok(Self {
            terminal: header.flags & exec::TERMINAL != 0,
            large,
            targets,
            target_count,
            mask,
            mask_len: bits.len(),
            limits,
            limit_count,
            cwd,
            argv,
            envp,
            words_at,
        })
    }

    pub fn targets(&self) -> &[i32] {
        &self.targets[..self.target_count]
    }
}

/// Turns the offsets of the table at `at` into addresses, in place.
pub fn make_addresses(words: &mut [u8], at: usize) -> Result<(), BadFrame> {
    if words.last() != Some(&0) || !at.is_multiple_of(8) {
        return Err(BadFrame);
    }
    let (base, len) = (words.as_ptr() as u64, words.len() as u64);
    for entry in words.get_mut(at..).ok_or(BadFrame)?.chunks_exact_mut(8) {
        let offset = u64::from_le_bytes(entry.try_into().map_err(|_| BadFrame)?);
        match offset {
            0 => return Ok(()),
            _ if offset < len => entry.copy_from_slice(&(base + offset).to_le_bytes()),
            _ => return Err(BadFrame),
        }
    }
    Err(BadFrame)
}
