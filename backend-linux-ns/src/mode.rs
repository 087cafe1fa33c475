//! [`Mode`]: which user and group ids a sandbox's processes have outside.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::unistd::{Uid, User, getegid, geteuid};

use crate::error::{Error, ErrorKind, Stage};
use crate::protocol::MapMode;

/// With which ids sandboxes run, as seen from outside. Chosen once, never weakened in silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// This process is root: each sandbox gets 65536 ids that nobody else has.
    Root,
    /// The caller has subordinate ids (/etc/subuid): commands run under one of them, the sandbox's own
    /// processes under the caller's.
    Subordinate,
    /// Commands run under the caller's own ids. Pid namespaces and filters alone keep them from the
    /// sandbox's own processes.
    SingleUid,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Root => "root",
            Mode::Subordinate => "unprivileged with subordinate ids",
            Mode::SingleUid => "unprivileged with a single id",
        })
    }
}

/// What is mapped to what; the fields of a `Create`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ids {
    pub(crate) map: MapMode,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) sub_uid: u32,
    pub(crate) sub_gid: u32,
    pub(crate) count: u32,
}

/// The uid and gid of commands, inside.
pub(crate) const COMMAND_ID: u32 = 1000;
/// Ids per sandbox: what images expect.
const BLOCK: u32 = 1 << 16;
/// A range that neither distributions nor systemd hand out: 0x70000000 to 0x7fffffff.
const FIRST_BLOCK: u32 = 0x7000;
const BLOCKS: u32 = 0x1000;

impl Mode {
    /// The strongest mode that this process can use.
    pub(crate) fn best() -> Self {
        [Mode::Root, Mode::Subordinate]
            .into_iter()
            .find(|mode| mode.missing().is_none())
            .unwrap_or(Mode::SingleUid)
    }

    /// Why this mode cannot be used, and what to do; `None` if it can.
    pub fn missing(self) -> Option<String> {
        match self {
            Mode::Root if !geteuid().is_root() => Some("this process is not root; run it as root".into()),
            Mode::Subordinate if geteuid().is_root() => {
                Some("root has no need of subordinate ids; use the mode root".into())
            }
            Mode::Subordinate => subordinate().err(),
            Mode::Root | Mode::SingleUid => None,
        }
    }

    /// The ids of the next sandbox.
    pub(crate) fn ids(self) -> Result<Ids, Error> {
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        let own = Ids { map: MapMode::Single, uid, gid, sub_uid: 0, sub_gid: 0, count: 1 };
        match self {
            Mode::Root => {
                let first = next_block() * BLOCK;
                Ok(Ids { map: MapMode::Block, uid: first, gid: first, count: BLOCK, ..own })
            }
            Mode::Subordinate => {
                let (sub_uid, sub_gid, count) = subordinate()
                    .map_err(|reason| Error::new(Stage::MapIds, ErrorKind::Unsupported, reason))?;
                Ok(Ids { map: MapMode::Tools, sub_uid, sub_gid, count, ..own })
            }
            Mode::SingleUid => Ok(own),
        }
    }
}

/// Blocks go round, beginning somewhere else in each process.
fn next_block() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let offset = std::process::id().wrapping_mul(0x9e37_79b9) >> 20;
    FIRST_BLOCK + (offset + NEXT.fetch_add(1, Ordering::Relaxed)) % BLOCKS
}

fn subordinate() -> Result<(u32, u32, u32), String> {
    for tool in ["/usr/bin/newuidmap", "/usr/bin/newgidmap"] {
        if !Path::new(tool).exists() {
            return Err(format!("{tool} is missing; install the package uidmap"));
        }
    }
    let (uid, uids) = range("/etc/subuid")?;
    let (gid, gids) = range("/etc/subgid")?;
    match uids.min(gids).min(BLOCK - 1) {
        count if count >= COMMAND_ID => Ok((uid, gid, count)),
        count => {
            Err(format!("there are only {count} subordinate ids; add {BLOCK} with `usermod --add-subuids`"))
        }
    }
}

/// The first range of this user in a file of lines `name:first:count`.
fn range(file: &str) -> Result<(u32, u32), String> {
    let uid = Uid::current();
    let name = User::from_uid(uid).ok().flatten().map(|user| user.name).unwrap_or_default();
    let text = fs::read_to_string(file).unwrap_or_default();
    find_range(&text, &name, uid.as_raw())
        .ok_or_else(|| format!("{file} has no line for `{name}`; add one with `usermod --add-subuids`"))
}

fn find_range(text: &str, name: &str, uid: u32) -> Option<(u32, u32)> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        let mine = (!name.is_empty() && owner == name) || owner.parse() == Ok(uid);
        let range = (fields.next()?.parse().ok()?, fields.next()?.trim().parse().ok()?);
        mine.then_some(range)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_found_by_name_or_number() {
        let text = "other:1:2\nme:100000:65536\n1234:5:6\nbroken\n";
        assert_eq!(find_range(text, "me", 1), Some((100_000, 65_536)));
        assert_eq!(find_range(text, "", 1234), Some((5, 6)));
        assert_eq!(find_range(text, "nobody", 7), None);
    }

    #[test]
    fn two_sandboxes_in_a_row_have_different_blocks() {
        let (a, b) = (next_block(), next_block());
        assert_ne!(a, b);
        assert!((FIRST_BLOCK..FIRST_BLOCK + BLOCKS).contains(&a));
    }
}
