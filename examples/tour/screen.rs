//! [`Screen`]: what the tour writes. Live progress on a terminal, plain lines elsewhere.

use std::cell::Cell;
use std::io::{IsTerminal, Write, stdout};
use std::time::{Duration, Instant};

/// How many columns are used at most.
pub(crate) const WIDTH: usize = 80;

/// Between two redraws: more often nobody can read.
const REDRAW: Duration = Duration::from_millis(50);

const BAR: usize = 24;

pub(crate) struct Screen {
    kind: Kind,
    redrawn: Cell<Option<Instant>>,
}

#[derive(PartialEq)]
enum Kind {
    Live,
    Plain,
    #[cfg(test)]
    Silent,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let live = stdout().is_terminal() && !dumb;
        Self { kind: if live { Kind::Live } else { Kind::Plain }, redrawn: Cell::new(None) }
    }

    #[cfg(test)]
    pub(crate) fn silent() -> Self {
        Self { kind: Kind::Silent, redrawn: Cell::new(None) }
    }

    /// Opens a section.
    pub(crate) fn heading(&self, text: &str) {
        self.line("");
        self.line(text);
    }

    /// A line that stays; takes the place of the progress.
    pub(crate) fn line(&self, text: &str) {
        match self.kind {
            Kind::Live => write(&format!("\r\x1b[K{text}\n")),
            Kind::Plain => write(&format!("{text}\n")),
            #[cfg(test)]
            Kind::Silent => {}
        }
        self.redrawn.set(None);
    }

    /// Words in lines of the screen's width, each indented.
    pub(crate) fn paragraph(&self, indent: usize, text: &str) {
        for line in wrapped(text, WIDTH - indent) {
            self.line(&format!("{:indent$}{line}", ""));
        }
    }

    /// How far something is; nothing where the output is not a terminal.
    pub(crate) fn progress(&self, label: &str, done: usize, of: usize) {
        let fresh = self.redrawn.get().is_some_and(|at| at.elapsed() < REDRAW);
        if self.kind != Kind::Live || fresh {
            return;
        }
        self.redrawn.set(Some(Instant::now()));
        let filled = BAR * done.min(of) / of.max(1);
        let bar = format!("{}{}", "#".repeat(filled), ".".repeat(BAR - filled));
        write(&format!("\r\x1b[K  {label:<34} [{bar}] {done}"));
    }
}

/// A reader that has gone away (`| head`) is no reason to fail.
fn write(text: &str) {
    let mut out = stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_wider_than_the_screen_unless_a_word_is() {
        let text = "word ".repeat(100);
        assert!(wrapped(&text, 76).iter().all(|line| line.len() <= 76));
        assert_eq!(wrapped("a very-long-word b", 5), ["a", "very-long-word", "b"]);
    }
}
