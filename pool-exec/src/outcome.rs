//! [`Outcome`]: how a command ended.

use std::borrow::Cow;

use crate::limit::Limit;
use crate::status::{Signal, WaitStatus};
use crate::usage::Usage;

/// How a command ended and what it left.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// Why it ended.
    pub verdict: Verdict,
    /// The main process's wait status, if the executor could learn it.
    pub status: Option<WaitStatus>,
    /// What it wrote to standard output, unless the stream was taken.
    pub stdout: Output,
    /// What it wrote to standard error, unless the stream was taken.
    pub stderr: Output,
    /// One entry per [`Command::files_out`](crate::Command::files_out), in the same order.
    pub files: Vec<CollectedFile>,
    /// Limits that were seen to be hit, also where the program lived on: a refused fork, a killed child.
    pub limits_hit: Vec<Limit>,
    /// What it used.
    pub usage: Usage,
}

/// Why a command ended: the one value to branch on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Verdict {
    /// The program exited by itself.
    Exited {
        /// Its exit code, 0 to 255.
        code: i32,
    },
    /// A signal that no limit and no caller accounts for ended it.
    Signaled {
        /// The signal.
        signal: Signal,
    },
    /// It was ended because it exceeded this limit.
    Exceeded(Limit),
    /// It was ended by [`Process::kill`](crate::Process::kill).
    Cancelled,
}

/// What a command wrote to one stream.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Output {
    /// What was kept.
    pub bytes: Vec<u8>,
    /// Whether there was more.
    pub truncated: bool,
}

/// A file that was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CollectedFile {
    /// The path, as asked.
    pub path: Vec<u8>,
    /// What was found there.
    pub state: FileState,
}

/// What was found where a file was to be collected.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FileState {
    /// A regular file.
    Found {
        /// Its content, at most as much as asked.
        bytes: Vec<u8>,
        /// Its permission bits.
        mode: u32,
        /// Whether it is longer.
        truncated: bool,
    },
    /// Nothing.
    Missing,
    /// A directory, device, pipe, or symbolic link; links are never followed.
    NotAFile,
    /// A file that could not be read, and why.
    Unreadable(String),
}

impl Outcome {
    /// An outcome with nothing but a verdict.
    pub fn new(verdict: Verdict) -> Self {
        Self {
            verdict,
            status: None,
            stdout: Output::default(),
            stderr: Output::default(),
            files: Vec::new(),
            limits_hit: Vec::new(),
            usage: Usage::default(),
        }
    }

    /// Whether the program exited with 0.
    pub fn success(&self) -> bool {
        self.verdict == Verdict::Exited { code: 0 }
    }

    /// The exit code, if the program exited by itself.
    pub fn code(&self) -> Option<i32> {
        match self.verdict {
            Verdict::Exited { code } => Some(code),
            _ => None,
        }
    }

    /// The content of a collected file, if it was found whole.
    pub fn file(&self, path: impl AsRef<[u8]>) -> Option<&[u8]> {
        let file = self.files.iter().find(|file| file.path == path.as_ref())?;
        match &file.state {
            FileState::Found { bytes, truncated: false, .. } => Some(bytes),
            _ => None,
        }
    }
}

impl Verdict {
    /// The verdict on an end that no limit and no caller accounts for.
    pub fn from_status(status: WaitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Verdict::Exited { code },
            (_, Some(signal)) => Verdict::Signaled { signal },
            // A stopped process has not ended; only a kernel that lies comes here.
            _ => Verdict::Signaled { signal: Signal::KILL },
        }
    }
}

impl Output {
    /// What was kept, as text; bytes that are not UTF-8 are replaced.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_becomes_a_verdict() {
        assert_eq!(Verdict::from_status(WaitStatus::from_code(7)), Verdict::Exited { code: 7 });
        let killed = Verdict::from_status(WaitStatus::from_raw(15));
        assert_eq!(killed, Verdict::Signaled { signal: Signal::TERM });
    }

    #[test]
    fn only_a_whole_file_is_given_by_path() {
        let mut outcome = Outcome::new(Verdict::Exited { code: 0 });
        let found = |truncated| FileState::Found { bytes: b"x".to_vec(), mode: 0o644, truncated };
        outcome.files = vec![
            CollectedFile { path: b"whole".to_vec(), state: found(false) },
            CollectedFile { path: b"cut".to_vec(), state: found(true) },
            CollectedFile { path: b"none".to_vec(), state: FileState::Missing },
        ];
        assert_eq!(outcome.file("whole"), Some(&b"x"[..]));
        assert_eq!(outcome.file("cut"), None);
        assert_eq!(outcome.file("none"), None);
    }
}
