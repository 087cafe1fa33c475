//! [`Interpreter`]: one process, its two pipes, and the task that waits for its end.

use std::io;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{InterpreterError, Language};

/// A process that evaluates expressions. Dropping it kills the process.
#[derive(Debug)]
pub struct Interpreter {
    pid: u32,
    requests: ChildStdin,
    replies: Lines<BufReader<ChildStdout>>,
    /// How often it was reset: the token that the next answer must echo.
    resets: u64,
    /// Dropped to end the process.
    life: Option<oneshot::Sender<()>>,
    /// Owns the process and reaps it.
    keeper: Option<JoinHandle<()>>,
}

impl Interpreter {
    /// Starts a process; `on_end` hears it if the process ends by itself. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`InterpreterError::Start`] if there is no such program or no room for another process.
    pub fn start(
        language: Language,
        on_end: impl FnOnce(String) + Send + 'static,
    ) -> Result<Self, InterpreterError> {
        let program = language.program();
        let mut command = Command::new(program);
        command.args(language.arguments()).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let started = command.spawn().and_then(|mut child| {
            let requests = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
            let replies = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
            let pid = child.id().ok_or(io::ErrorKind::NotFound)?;
            Ok((child, pid, requests, replies))
        });
        let (child, pid, requests, replies) =
            started.map_err(|source| InterpreterError::Start { program, source })?;
        let (life, over) = oneshot::channel();
        let keeper = tokio::spawn(keep(child, over, on_end));
        let replies = BufReader::new(replies).lines();
        Ok(Self { pid, requests, replies, resets: 0, life: Some(life), keeper: Some(keeper) })
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Evaluates one expression.
    ///
    /// # Errors
    ///
    /// [`InterpreterError::Refused`] for an expression that cannot be evaluated, others if the
    /// interpreter is of no more use.
    ///
    /// # Cancel safety
    ///
    /// A dropped future leaves the interpreter out of step. The next [`reset`](Self::reset) notices.
    pub async fn evaluate(&mut self, expression: &str) -> Result<String, InterpreterError> {
        if expression.contains('\n') {
            return Err(InterpreterError::Refused("an expression is one line".into()));
        }
        let answer = self.ask("eval", expression).await?;
        match answer.split_once(' ') {
            Some(("ok", value)) => Ok(value.to_owned()),
            Some(("error", why)) => Err(InterpreterError::Refused(why.to_owned())),
            _ => Err(InterpreterError::Unclean { answer }),
        }
    }

    /// Forgets what expressions left behind, and makes sure of it: the worker compares its
    /// surroundings with those of its start, and an answer that was meant for somebody else does
    /// not carry the token.
    ///
    /// # Errors
    ///
    /// [`InterpreterError::Unclean`] or [`InterpreterError::Lost`]; it must be ended then.
    pub async fn reset(&mut self) -> Result<(), InterpreterError> {
        self.resets += 1;
        let token = self.resets.to_string();
        let answer = self.ask("reset", &token).await?;
        match answer.strip_prefix("clean ") {
            Some(echo) if echo == token => Ok(()),
            _ => Err(InterpreterError::Unclean { answer }),
        }
    }

    /// Makes sure that it still calculates.
    ///
    /// # Errors
    ///
    /// As [`evaluate`](Self::evaluate), and [`InterpreterError::Unclean`] for a wrong result.
    pub async fn check(&mut self) -> Result<(), InterpreterError> {
        match self.evaluate("6 * 7").await? {
            answer if answer == "42" => Ok(()),
            answer => Err(InterpreterError::Unclean { answer }),
        }
    }

    /// Kills the process and waits until it is gone. Harmless if it is gone already.
    pub async fn end(&mut self) {
        self.life = None;
        if let Some(keeper) = self.keeper.take() {
            // It ends early only with its runtime, and the process with it.
            let _ = keeper.await;
        }
    }

    async fn ask(&mut self, command: &str, text: &str) -> Result<String, InterpreterError> {
        let line = format!("{command} {text}\n");
        self.requests.write_all(line.as_bytes()).await.map_err(InterpreterError::Lost)?;
        let answer = self.replies.next_line().await.map_err(InterpreterError::Lost)?;
        answer.ok_or_else(|| InterpreterError::Lost(io::ErrorKind::UnexpectedEof.into()))
    }
}

/// Waits for the end of the process, whoever causes it. The process is killed when this task is
/// dropped with its runtime.
async fn keep(mut child: Child, over: oneshot::Receiver<()>, on_end: impl FnOnce(String)) {
    tokio::select! {
        status = child.wait() => on_end(match status {
            Ok(status) => format!("the process ended: {status}"),
            Err(error) => format!("the process cannot be waited for: {error}"),
        }),
        _ = over => {
            // It may have ended a moment ago; both ways it is reaped.
            let _ = child.kill().await;
        }
    }
}
