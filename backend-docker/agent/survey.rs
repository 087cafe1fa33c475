//! A description of everything in the container that could hold a trace of a user, as lines of
//! text: the library compares it with the one it took when the container was new.
//!
//! - `p` a process: id, parent's id, start time, name
//! - `m` a mount
//! - `f` an entry of a writable mount: type and mode, owner, and for all but directories size,
//!   times and inode. A change time cannot be forged without a privilege that nobody inside has.
//! - `u` a listening unix socket
//! - `i` a System V memory segment, semaphore set or message queue
//! - `r` a route
//! - `h` the host's name
//!
//! Listening TCP and UDP sockets are not searched: a socket needs a process that holds it, and no
//! process is left but those of the service.

use alloc::vec::Vec;

use crate::runner::Digits;
use crate::sys::{self, CStr, Errno, Fd, O_DIRECTORY, O_NOFOLLOW};

/// A container with more entries than that in its writable mounts cannot be proven clean.
const MAX_ENTRIES: usize = 20_000;
const MAX_FILE: usize = 1 << 20;
const ENOSPC: Errno = 28;

/// Without `ours`, a process that waits for its order.
pub fn take(ours: Option<i32>) -> Result<Vec<u8>, Errno> {
    let mut out = Vec::new();
    processes(&mut out, ours)?;
    mounts(&mut out)?;
    unix_sockets(&mut out);
    for kind in [b"shm".as_slice(), b"sem", b"msg"] {
        copy_lines(&mut out, b"i ", &[b"/proc/sysvipc/", kind].concat(), 1);
    }
    copy_lines(&mut out, b"r ", b"/proc/net/route", 1);
    copy_lines(&mut out, b"r ", b"/proc/net/ipv6_route", 0);
    copy_lines(&mut out, b"h ", b"/proc/sys/kernel/hostname", 0);
    Ok(out)
}

fn line(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
    out.push(b'\n');
}

fn copy_lines(out: &mut Vec<u8>, prefix: &[u8], path: &[u8], skip: usize) {
    let file = sys::slurp(path, MAX_FILE).unwrap_or_default();
    for text in file.split(|b| *b == b'\n').skip(skip).filter(|l| !l.is_empty()) {
        line(out, &[prefix, text]);
    }
}

/// Every process but the agent.
pub fn each_process(f: &mut dyn FnMut(i32, i32, &[u8], &[u8])) -> Result<(), Errno> {
    let proc = sys::open(b"/proc", O_DIRECTORY, 0)?;
    sys::each_name(proc.0, &mut |name| {
        let Some(pid) = core::str::from_utf8(name).ok().and_then(|n| n.parse::<i32>().ok()) else {
            return Ok(());
        };
        if pid == 1 {
            return Ok(());
        }
        let stat = sys::slurp(&[b"/proc/", name, b"/stat"].concat(), 4096).unwrap_or_default();
        // The name stands in parentheses and may contain any character.
        let Some(close) = stat.iter().rposition(|b| *b == b')') else { return Ok(()) };
        let open = stat.iter().position(|b| *b == b'(').unwrap_or(0);
        let mut fields = stat[close + 2..].split(|b| *b == b' ');
        let parent = fields.nth(1).and_then(|f| core::str::from_utf8(f).ok()?.parse().ok()).unwrap_or(0);
        let start = fields.nth(17).unwrap_or_default();
        f(pid, parent, start, &stat[open..=close]);
        Ok(())
    })
}

fn processes(out: &mut Vec<u8>, ours: Option<i32>) -> Result<(), Errno> {
    each_process(&mut |pid, parent, start, name| {
        if ours == Some(pid) {
            return;
        }
        let (mut a, mut b) = (Digits::new(), Digits::new());
        let name: Vec<u8> = name.iter().map(|c| if *c == b'\n' { b'?' } else { *c }).collect();
        line(out, &[b"p ", a.of(pid as u64), b" ", b.of(parent as u64), b" ", start, b" ", &name]);
    })
}

/// File systems of the kernel's own making, which a user cannot fill.
const SYNTHETIC: [&[u8]; 6] = [b"proc", b"sysfs", b"cgroup", b"cgroup2", b"devpts", b"securityfs"];

fn mounts(out: &mut Vec<u8>) -> Result<(), Errno> {
    let table = sys::slurp(b"/proc/self/mountinfo", MAX_FILE)?;
    let mut left = MAX_ENTRIES;
    for text in table.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
        line(out, &[b"m ", text]);
        let Some(path) = writable(text) else { continue };
        let path = unescape(path);
        match sys::open(&path, O_DIRECTORY, 0) {
            Ok(dir) => tree(out, &dir, &mut path.clone(), &mut left)?,
            Err(sys::ENOTDIR) => single(out, &path),
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// The path of a mount that a user could have left something in. The root is not among them: its
/// changes are the engine's to tell.
fn writable(text: &[u8]) -> Option<&[u8]> {
    let mut fields = text.split(|b| *b == b' ');
    let path = fields.nth(4)?;
    let options = fields.next()?;
    let kind = fields.skip_while(|f| *f != b"-").nth(1)?;
    let writable = options.starts_with(b"rw");
    (writable && path != b"/" && !SYNTHETIC.contains(&kind)).then_some(path)
}

/// The kernel writes spaces and the like as a backslash and three octal digits.
fn unescape(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut at = 0;
    while at < path.len() {
        match path[at..] {
            [b'\\', a, b, c, ..] => {
                out.push((a & 3) << 6 | (b & 7) << 3 | (c & 7));
                at += 4;
            }
            [byte, ..] => {
                out.push(byte);
                at += 1;
            }
            [] => break,
        }
    }
    out
}

fn tree(out: &mut Vec<u8>, dir: &Fd, path: &mut Vec<u8>, left: &mut usize) -> Result<(), Errno> {
    let home = sys::fstat(dir.0)?;
    entry(out, &home, path);
    let mut names = Vec::new();
    sys::each_name(dir.0, &mut |name| {
        names.push(name.to_vec());
        Ok(())
    })?;
    names.sort();
    for name in names {
        *left = left.checked_sub(1).ok_or(ENOSPC)?;
        let text = CStr::new(&name);
        let stat = sys::lstat_at(dir.0, &text)?;
        if stat.dev != home.dev {
            continue; // Another mount.
        }
        let length = path.len();
        path.push(b'/');
        path.extend_from_slice(&name);
        match stat.is_dir() {
            true => {
                tree(out, &sys::open_at(dir.0 as usize, &text, O_DIRECTORY | O_NOFOLLOW, 0)?, path, left)?
            }
            false => entry(out, &stat, path),
        }
        path.truncate(length);
    }
    Ok(())
}

fn single(out: &mut Vec<u8>, path: &[u8]) {
    if let Ok(stat) = sys::open(path, sys::O_NONBLOCK, 0).and_then(|f| sys::fstat(f.0)) {
        entry(out, &stat, path);
    }
}

fn entry(out: &mut Vec<u8>, stat: &sys::Stat, path: &[u8]) {
    let numbers: &[u64] = match stat.is_dir() {
        // A directory's times and size tell of files that came and went.
        true => &[stat.mode as u64, stat.uid as u64, stat.gid as u64],
        false => &[
            stat.mode as u64,
            stat.uid as u64,
            stat.gid as u64,
            stat.size,
            stat.mtime_ns,
            stat.ctime_ns,
            stat.ino,
        ],
    };
    out.extend_from_slice(b"f");
    for number in numbers {
        out.push(b' ');
        out.extend_from_slice(Digits::new().of(*number));
    }
    out.push(b' ');
    out.extend(path.iter().map(|b| if *b == b'\n' { b'?' } else { *b }));
    out.push(b'\n');
}

fn unix_sockets(out: &mut Vec<u8>) {
    let table = sys::slurp(b"/proc/net/unix", MAX_FILE).unwrap_or_default();
    for text in table.split(|b| *b == b'\n').skip(1) {
        let fields: Vec<&[u8]> = text.split(|b| *b == b' ').filter(|f| !f.is_empty()).collect();
        // Num RefCount Protocol Flags Type St Inode Path; this flag: it accepts connections.
        if fields.get(3) == Some(&b"00010000".as_slice()) {
            line(out, &[b"u ", fields.get(7).copied().unwrap_or_default()]);
        }
    }
}
