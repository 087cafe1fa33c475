//! Turns a command into an `Exec`: a frame, and a memory file if the words are too long for one.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use nix::sys::memfd::{MFdFlags, memfd_create};
use poolyard_exec::{Command, Limits};
use poolyard_guest::frame::{Header, Writer};

use crate::protocol::{self, Kind, MAX_FRAME};

/// What the fixed part takes at most, with the mask of processors and all descriptors and limits.
const FIXED_PART: usize = 2048;
/// What of it is taken in any case, at most.
const LEAST_PART: usize = 96;

/// An `Exec`, ready to be sent.
pub(crate) struct Request {
    pub(crate) frame: Vec<u8>,
    /// Holds the words if they are large; goes before all other descriptors.
    pub(crate) memory: Option<OwnedFd>,
}

/// `targets` are the numbers that the descriptors get, in the order in which they are sent.
pub(crate) fn encode(
    command: &Command,
    limits: &Limits,
    work_dir: &[u8],
    targets: &[u32],
) -> io::Result<Request> {
    let words = Words::of(command, work_dir);
    let inline = words.bytes.len() + FIXED_PART <= MAX_FRAME;
    let memory = if inline { None } else { Some(memory_file(&words.bytes)?) };
    let flags = if command.tty.is_some() { protocol::exec::TERMINAL } else { 0 };
    let (mask, limits) = (affinity(limits), resource_limits(limits));
    // Not more: whatever is cleared here has left the processor's caches since the last command.
    let fixed = LEAST_PART + 4 * targets.len() + mask.len() + 20 * limits.len();
    let mut frame = vec![0; fixed + if inline { words.bytes.len() } else { 0 }];
    let mut writer = Writer::new(&mut frame, Header { kind: Kind::Exec as u16, flags, seq: 0 });
    writer.u64(if inline { 0 } else { words.bytes.len() as u64 });
    writer.u32(targets.len() as u32);
    for &target in targets {
        writer.u32(target);
    }
    writer.bytes(&mask);
    writer.u32(limits.len() as u32);
    for (resource, soft, hard) in limits {
        writer.u32(resource).u64(soft).u64(hard);
    }
    writer.u32(words.cwd).u32(words.argv).u32(words.envp);
    writer.align(8);
    if inline {
        writer.raw(&words.bytes);
    }
    let len = writer.finish().map_err(|_| io::Error::other("the command's fixed part is too long"))?.len();
    frame.truncate(len);
    Ok(Request { frame, memory })
}

/// Tables of offsets, each ended by 0, and behind them the texts: so the runner needs only to add an
/// address to each entry.
struct Words {
    bytes: Vec<u8>,
    argv: u32,
    envp: u32,
    cwd: u32,
}

impl Words {
    fn of(command: &Command, work_dir: &[u8]) -> Self {
        let paths = command.candidates();
        let variables: Vec<Vec<u8>> = environment(command);
        let entries = paths.len() + command.argv.len() + variables.len() + 3;
        let cwd = command.cwd.as_deref().unwrap_or(work_dir);
        let texts = paths.iter().chain(&command.argv).chain(&variables);
        let len = texts.map(|text| text.len() + 1).sum::<usize>() + cwd.len() + 1;
        let mut bytes = Vec::with_capacity(entries * 8 + len);
        bytes.resize(entries * 8, 0);
        let mut slot = 0;
        let mut table = |bytes: &mut Vec<u8>, texts: &[Vec<u8>]| {
            let start = slot;
            for text in texts {
                let offset = append(bytes, text);
                bytes[slot..slot + 8].copy_from_slice(&u64::from(offset).to_le_bytes());
                slot += 8;
            }
            slot += 8;
            start as u32
        };
        table(&mut bytes, &paths);
        let argv = table(&mut bytes, &command.argv);
        let envp = table(&mut bytes, &variables);
        let cwd = append(&mut bytes, cwd);
        Self { bytes, argv, envp, cwd }
    }
}

fn append(bytes: &mut Vec<u8>, text: &[u8]) -> u32 {
    let offset = bytes.len() as u32;
    bytes.extend_from_slice(text);
    bytes.push(0);
    offset
}

/// `name=value`, the last of each name.
fn environment(command: &Command) -> Vec<Vec<u8>> {
    let last = |at: usize, name: &[u8]| command.env[at + 1..].iter().all(|(later, _)| later != name);
    let kept = command.env.iter().enumerate().filter(|(at, (name, _))| last(*at, name));
    kept.map(|(_, (name, value))| [name, &b"="[..], value].concat()).collect()
}

fn memory_file(bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create("poolyard-words", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(bytes)?;
    Ok(file.into())
}

/// A mask of processors; empty for all.
fn affinity(limits: &Limits) -> Vec<u8> {
    let Some(cpus) = &limits.cpu_set else { return Vec::new() };
    let mut mask = vec![0; 128];
    for cpu in cpus.iter().filter(|cpu| *cpu < 1024) {
        mask[cpu as usize / 8] |= 1 << (cpu % 8);
    }
    mask
}

fn resource_limits(limits: &Limits) -> Vec<(u32, u64, u64)> {
    let mut list = Vec::new();
    let mut limit = |resource: libc::__rlimit_resource_t, soft: u64, hard: u64| {
        list.push((resource, soft, hard));
    };
    if let Some(time) = limits.cpu_time {
        // A second wall: for one process, in whole seconds. The cgroup counts all of them exactly.
        let seconds = time.as_secs() + 1 + u64::from(time.subsec_nanos() > 0);
        limit(libc::RLIMIT_CPU, seconds, seconds + 1);
    }
    if let Some(bytes) = limits.file_size {
        limit(libc::RLIMIT_FSIZE, bytes, bytes);
    }
    if let Some(count) = limits.open_files {
        limit(libc::RLIMIT_NOFILE, count, count);
    }
    if let Some(bytes) = limits.stack {
        limit(libc::RLIMIT_STACK, bytes, bytes);
    }
    list
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn table(words: &Words, at: u32) -> Vec<&str> {
        let entry = |at: usize| u64::from_le_bytes(words.bytes[at..at + 8].try_into().unwrap()) as usize;
        let offsets = (at as usize..).step_by(8).map(entry).take_while(|&offset| offset != 0);
        offsets.map(|offset| text(words, offset)).collect()
    }

    fn text(words: &Words, offset: usize) -> &str {
        let bytes = &words.bytes[offset..];
        std::str::from_utf8(bytes.split(|&byte| byte == 0).next().unwrap()).unwrap()
    }

    #[test]
    fn every_word_is_found_through_its_table() {
        let command = Command::new("a")
            .arg("b")
            .arg("")
            .env("X", "old")
            .env("Y", "1")
            .env("X", "new")
            .env("PATH", "/p:/q");
        let words = Words::of(&command, b"/box");
        assert_eq!(table(&words, 0), ["/p/a", "/q/a"]);
        assert_eq!(table(&words, words.argv), ["a", "b", ""]);
        assert_eq!(table(&words, words.envp), ["Y=1", "X=new", "PATH=/p:/q"]);
        assert_eq!(text(&words, words.cwd as usize), "/box");
        assert_eq!(words.bytes.last(), Some(&0));
    }

    #[test]
    fn a_command_with_all_that_there_is_has_room_in_its_frame() {
        let targets: Vec<u32> = (0..64).collect();
        let limits =
            Limits::new().cpu_time(Duration::from_secs(1)).file_size(1).open_files(1).stack(1).cpu_set([0]);
        for len in 0..64 {
            let command = Command::new("x".repeat(len + 1)).tty(80, 24);
            assert!(encode(&command, &limits, b"/box", &targets).unwrap().frame.len() < FIXED_PART);
            assert!(encode(&command, &Limits::new(), b"/", &[]).is_ok());
        }
    }

    #[test]
    fn long_words_go_through_a_memory_file() {
        let short = encode(&Command::new("a"), &Limits::new(), b"/", &[1, 2]).unwrap();
        assert!(short.memory.is_none() && short.frame.len() < 2048);
        let command = Command::new("a").arg(vec![b'x'; MAX_FRAME]);
        let long = encode(&command, &Limits::new(), b"/", &[1, 2]).unwrap();
        assert!(long.memory.is_some() && long.frame.len() < FIXED_PART);
    }
}
