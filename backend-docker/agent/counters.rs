//! How often the kernel refused the container something: the only way to tell a program that was
//! killed for want of memory from one that was killed.

use crate::sys::{self, Fd, nr};

/// Kept open, because they are read at the start and the end of every program.
pub struct Counters {
    memory: Option<Fd>,
    processes: Option<Fd>,
}

impl Counters {
    pub fn open() -> Counters {
        let first = |paths: [&[u8]; 2]| paths.iter().find_map(|path| sys::open(path, 0, 0).ok());
        Counters {
            memory: first([b"/sys/fs/cgroup/memory.events", b"/sys/fs/cgroup/memory/memory.oom_control"]),
            processes: first([b"/sys/fs/cgroup/pids.events", b"/sys/fs/cgroup/pids/pids.events"]),
        }
    }

    /// Kills for want of memory, refused forks.
    pub fn read(&self) -> [u64; 2] {
        [number_after(&self.memory, b"oom_kill "), number_after(&self.processes, b"max ")]
    }
}

fn number_after(file: &Option<Fd>, word: &[u8]) -> u64 {
    let Some(fd) = file else { return 0 };
    let mut buffer = [0u8; 512];
    // SAFETY: the buffer is ours and as long as we say.
    let n = unsafe { sys::sys(nr::PREAD64, &[fd.0 as usize, buffer.as_mut_ptr() as usize, buffer.len(), 0]) };
    let text = &buffer[..n.unwrap_or(0)];
    let line = text.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(word));
    line.and_then(|digits| core::str::from_utf8(digits).ok()?.parse().ok()).unwrap_or(0)
}
