//! [`ExecFds`]: executors that can hand open descriptors of this process to a program.

use std::future::Future;
use std::os::fd::OwnedFd;

use crate::command::{Command, Stdin};
use crate::error::ExecError;
use crate::exec::Exec;
use crate::process::Process;

/// An executor on this host, which can hand open descriptors of this process to a program. A remote engine
/// cannot.
pub trait ExecFds: Exec {
    /// As [`Exec::spawn`], with `fds` open in the program. Begin with [`Fds::check`].
    ///
    /// # Errors
    ///
    /// As [`Exec::spawn`]; the descriptors are closed then.
    ///
    /// # Cancel safety
    ///
    /// As [`Exec::spawn`]; the descriptors are closed.
    fn spawn_with_fds(
        &self,
        command: &Command,
        fds: Fds,
    ) -> impl Future<Output = Result<Process, ExecError>> + Send;
}

/// Descriptors to be handed over, by the number that the program sees.
///
/// Numbers 0, 1 and 2 replace the standard streams: with them two programs can be joined by a pipe.
#[derive(Debug, Default)]
pub struct Fds {
    entries: Vec<(u32, OwnedFd)>,
}

impl Fds {
    /// No number above this: every one below needs a place in the program's table.
    pub const MAX_NUMBER: u32 = 1023;

    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// The program sees `fd` as `number`.
    pub fn give(mut self, number: u32, fd: impl Into<OwnedFd>) -> Self {
        self.entries.push((number, fd.into()));
        self
    }

    /// Whether these can be given to `command`.
    ///
    /// # Errors
    ///
    /// [`InvalidCommand`](crate::ErrorKind::InvalidCommand), field `fds`: a number twice or too high, or a
    /// standard stream that the command sets otherwise.
    pub fn check(&self, command: &Command) -> Result<(), ExecError> {
        let mut numbers: Vec<u32> = self.entries.iter().map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        let invalid = |message: String| Err(ExecError::invalid("fds", message));
        if let Some(pair) = numbers.windows(2).find(|pair| pair[0] == pair[1]) {
            return invalid(format!("has number {} twice; give each number once", pair[0]));
        }
        if numbers.last().is_some_and(|last| *last > Self::MAX_NUMBER) {
            return invalid(format!("has a number above {}; choose lower ones", Self::MAX_NUMBER));
        }
        if numbers.first() == Some(&0) && command.stdin != Stdin::Empty {
            return invalid("has number 0, but the command sets its stdin; remove one of them".into());
        }
        if command.tty.is_some() && numbers.first().is_some_and(|first| *first <= 2) {
            return invalid(
                "replaces a standard stream, but the command has a tty; remove one of them".into(),
            );
        }
        Ok(())
    }

    /// The pairs, in the order they were given.
    pub fn into_entries(self) -> Vec<(u32, OwnedFd)> {
        self.entries
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn null() -> File {
        File::open("/dev/null").unwrap()
    }

    #[test]
    fn each_number_is_given_once_and_is_not_too_high() {
        let command = Command::new("a");
        Fds::new().give(3, null()).give(4, null()).check(&command).unwrap();
        Fds::new().give(3, null()).give(3, null()).check(&command).unwrap_err();
        Fds::new().give(Fds::MAX_NUMBER, null()).check(&command).unwrap();
        Fds::new().give(Fds::MAX_NUMBER + 1, null()).check(&command).unwrap_err();
    }

    #[test]
    fn a_standard_stream_has_one_master() {
        let zero = || Fds::new().give(0, null());
        zero().check(&Command::new("a")).unwrap();
        zero().check(&Command::new("a").stdin_bytes("b")).unwrap_err();
        Fds::new().give(1, null()).check(&Command::new("a").tty(24, 80)).unwrap_err();
        Fds::new().give(3, null()).check(&Command::new("a").tty(24, 80)).unwrap();
    }
}
