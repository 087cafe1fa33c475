//! What a container's service writes: the last lines of it.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::watch;

/// How many lines are kept.
const MAX_LINES: usize = 2048;
/// A longer line is cut into several.
const MAX_LINE: usize = 16 << 10;

pub(crate) struct Logs {
    lines: Mutex<Lines>,
    /// How many lines there have been.
    total: watch::Sender<u64>,
}

#[derive(Default)]
struct Lines {
    kept: VecDeque<String>,
    /// How many were dropped in front of those.
    dropped: u64,
    /// The beginnings of lines on stdout and stderr.
    partial: [Vec<u8>; 2],
}

impl Logs {
    pub(crate) fn new() -> Logs {
        Logs { lines: Mutex::default(), total: watch::Sender::new(0) }
    }

    /// Takes a piece of stream 1 or 2.
    pub(crate) fn push(&self, stream: u8, piece: &[u8]) {
        let mut lines = self.lines.lock();
        let partial = &mut lines.partial[usize::from(stream == 2)];
        let mut buffer = std::mem::take(partial);
        buffer.extend_from_slice(piece);
        let mut rest = buffer.as_slice();
        while let Some(end) =
            rest.iter().position(|b| *b == b'\n').or((rest.len() > MAX_LINE).then_some(MAX_LINE))
        {
            lines.add(&rest[..end]);
            rest = &rest[end + usize::from(rest[end] == b'\n')..];
        }
        lines.partial[usize::from(stream == 2)] = rest.to_vec();
        self.tell(lines);
    }

    /// A stream has ended: what is left of it is its last line.
    pub(crate) fn end(&self, stream: u8) {
        let mut lines = self.lines.lock();
        let rest = std::mem::take(&mut lines.partial[usize::from(stream == 2)]);
        if !rest.is_empty() {
            lines.add(&rest);
        }
        self.tell(lines);
    }

    fn tell(&self, lines: parking_lot::MutexGuard<'_, Lines>) {
        let total = lines.dropped + lines.kept.len() as u64;
        drop(lines);
        self.total.send_if_modified(|old| std::mem::replace(old, total) != total);
    }

    /// The last `count` lines, oldest first.
    pub(crate) fn last(&self, count: usize) -> Vec<String> {
        let lines = self.lines.lock();
        let skip = lines.kept.len().saturating_sub(count);
        lines.kept.iter().skip(skip).cloned().collect()
    }

    /// Waits until `needle` has been in `times` lines, counted from the first line on.
    pub(crate) async fn wait_for(&self, needle: &str, times: u32) {
        let mut total = self.total.subscribe();
        let (mut seen, mut found) = (0, 0);
        loop {
            found += self.count(needle, &mut seen);
            if found >= times {
                return;
            }
            total.changed().await.expect("we hold the sender");
        }
    }

    /// In how many lines after the first `seen` it is.
    fn count(&self, needle: &str, seen: &mut u64) -> u32 {
        let lines = self.lines.lock();
        let skip = seen.saturating_sub(lines.dropped) as usize;
        let found = lines.kept.iter().skip(skip).filter(|line| line.contains(needle)).count();
        *seen = lines.dropped + lines.kept.len() as u64;
        found as u32
    }
}

impl Lines {
    fn add(&mut self, line: &[u8]) {
        if self.kept.len() == MAX_LINES {
            self.kept.pop_front();
            self.dropped += 1;
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.kept.push_back(String::from_utf8_lossy(line).into_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_lines_per_stream() {
        let logs = Logs::new();
        logs.push(1, b"one\ntw");
        logs.push(2, b"error\n");
        logs.push(1, b"o\r\nlast");
        assert_eq!(logs.last(10), ["one", "error", "two"]);
        logs.end(1);
        assert_eq!(logs.last(1), ["last"]);
    }

    #[test]
    fn only_so_many_lines_are_kept() {
        let logs = Logs::new();
        for n in 0..MAX_LINES + 5 {
            logs.push(1, format!("{n}\n").as_bytes());
        }
        assert_eq!(logs.last(MAX_LINES + 5).len(), MAX_LINES);
        assert_eq!(logs.last(MAX_LINES)[0], "5");
    }

    #[tokio::test]
    async fn a_line_that_came_before_the_wait_counts() {
        let logs = Logs::new();
        logs.push(1, b"ready\n");
        logs.wait_for("ready", 1).await;
        let later = async { logs.push(2, b"ready again\n") };
        tokio::join!(logs.wait_for("ready", 2), later);
    }
}
