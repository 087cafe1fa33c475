//! [`Exec`]: something that runs commands.

use std::future::Future;
use std::sync::Arc;

use tokio::io::AsyncRead;

use crate::command::{Command, Stdin};
use crate::error::ExecError;
use crate::outcome::Outcome;
use crate::process::Process;
use crate::support::Support;

/// Something that runs commands: a sandbox, a container, or a plain process for tests.
///
/// Code that is generic over it runs unchanged on every backend. Its behaviour is fixed by the laws of
/// `exec_suite!` in `poolyard-testkit`, which every implementer runs.
///
/// A command ends with its main process: whatever else it has started is killed then, wherever it hides.
/// What was written before is still read.
///
/// # For implementers
///
/// `support` and `spawn` are required. `exec` has a default on top of `spawn`; override it where one round
/// trip can do the whole work. Begin both with [`Support::check`], and enforce the limits that it returns.
pub trait Exec: Send + Sync {
    /// What can be enforced here, and where commands start.
    fn support(&self) -> &Support;

    /// Starts a command and hands out its streams.
    ///
    /// Files are in place before the program starts. The program has started when this returns: a program
    /// that cannot be executed is an error, not an outcome.
    ///
    /// # Errors
    ///
    /// [`ExecError`] says how far the command came, what kind of failure it is, and whether the executor is
    /// still usable. Nothing of the command is left running.
    ///
    /// # Cancel safety
    ///
    /// A dropped future leaves nothing running. Files that were copied in may stay.
    fn spawn(&self, command: &Command) -> impl Future<Output = Result<Process, ExecError>> + Send;

    /// Runs a command to its end.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn); and [`InvalidCommand`](crate::ErrorKind::InvalidCommand) for
    /// [`Stdin::Piped`], since nobody could write.
    ///
    /// # Cancel safety
    ///
    /// A dropped future kills every process of the command. Its outcome is lost.
    fn exec(&self, command: &Command) -> impl Future<Output = Result<Outcome, ExecError>> + Send {
        async move {
            command.refuse_piped()?;
            self.spawn(command).await?.wait().await
        }
    }

    /// Runs a command to its end while it reads `stdin`, whatever the command says of its input. A source
    /// that fails is an end of file.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn).
    ///
    /// # Cancel safety
    ///
    /// A dropped future kills every process of the command. What was read from `stdin` is lost.
    fn exec_with_stdin(
        &self,
        command: &Command,
        stdin: impl AsyncRead + Send,
    ) -> impl Future<Output = Result<Outcome, ExecError>> + Send {
        let command = Command { stdin: Stdin::Piped, ..command.clone() };
        async move { self.spawn(&command).await?.wait_feeding(stdin).await }
    }
}

impl Command {
    /// Refuses a piped standard input, for implementers that override [`Exec::exec`].
    ///
    /// # Errors
    ///
    /// [`InvalidCommand`](crate::ErrorKind::InvalidCommand), field `stdin`.
    pub fn refuse_piped(&self) -> Result<(), ExecError> {
        match self.stdin {
            Stdin::Piped => Err(ExecError::invalid(
                "stdin",
                "is piped, but exec hands out no stream; use spawn, exec_with_stdin or stdin_bytes",
            )),
            _ => Ok(()),
        }
    }
}

impl<E: Exec + ?Sized> Exec for &E {
    fn support(&self) -> &Support {
        (**self).support()
    }

    fn spawn(&self, command: &Command) -> impl Future<Output = Result<Process, ExecError>> + Send {
        (**self).spawn(command)
    }

    fn exec(&self, command: &Command) -> impl Future<Output = Result<Outcome, ExecError>> + Send {
        (**self).exec(command)
    }
}

impl<E: Exec + ?Sized> Exec for Arc<E> {
    fn support(&self) -> &Support {
        (**self).support()
    }

    fn spawn(&self, command: &Command) -> impl Future<Output = Result<Process, ExecError>> + Send {
        (**self).spawn(command)
    }

    fn exec(&self, command: &Command) -> impl Future<Output = Result<Outcome, ExecError>> + Send {
        (**self).exec(command)
    }
}

impl<E: Exec + ?Sized> Exec for Box<E> {
    fn support(&self) -> &Support {
        (**self).support()
    }

    fn spawn(&self, command: &Command) -> impl Future<Output = Result<Process, ExecError>> + Send {
        (**self).spawn(command)
    }

    fn exec(&self, command: &Command) -> impl Future<Output = Result<Outcome, ExecError>> + Send {
        (**self).exec(command)
    }
}
