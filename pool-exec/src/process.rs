//! [`Process`]: a command that runs.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};

use crate::command::TtySize;
use crate::error::{ErrorKind, ExecError, Stage};
use crate::outcome::{Outcome, Output};
use crate::status::Signal;
use crate::stdio::{InputWriter, OutputReader};

/// A command that runs. Dropping it kills every process that the command started.
///
/// ```
/// use poolyard_exec::{Command, Exec, ExecError};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// async fn echo(sandbox: &impl Exec) -> Result<(), Box<dyn std::error::Error>> {
///     let mut process = sandbox.spawn(&Command::new("cat").stdin_piped()).await?;
///     let mut stdin = process.take_stdin().expect("stdin is piped");
///     let mut stdout = process.take_stdout().expect("not taken yet");
///     stdin.write_all(b"hello").await?;
///     stdin.flush().await?;
///     let mut answer = [0; 5];
///     stdout.read_exact(&mut answer).await?;
///     drop(stdin);
///     assert!(process.wait().await?.success());
///     Ok(())
/// }
/// ```
pub struct Process {
    stdin: Option<InputWriter>,
    stdout: Collector,
    stderr: Collector,
    /// Gone once it has been awaited to its end.
    exit: Option<Exit>,
    /// What the exit future said while output was still being collected.
    ended: Option<Outcome>,
    control: Arc<dyn ProcessControl>,
}

type Exit = Pin<Box<dyn Future<Output = Result<Outcome, ExecError>> + Send>>;

/// What an implementer of [`Exec`](crate::Exec) makes a [`Process`] from.
pub struct ProcessParts {
    /// If and only if the command's stdin is piped.
    pub stdin: Option<InputWriter>,
    /// Ends when the command has ended, or exceeded its output limit.
    pub stdout: OutputReader,
    /// As `stdout`; at its end from the beginning if the command has a terminal.
    pub stderr: OutputReader,
    /// Resolves once no process of the command is left. Its outcome has no output bytes, but says
    /// `truncated` where the executor cut a stream off. It does not wait for the streams to be read, and its
    /// verdict counts what was written but not read yet.
    pub exit: Pin<Box<dyn Future<Output = Result<Outcome, ExecError>> + Send>>,
    /// Signals, terminal size, and the kill that a drop needs.
    pub control: Arc<dyn ProcessControl>,
    /// [`Command::capture`](crate::Command::capture).
    pub capture: u64,
}

/// What can be done to a running command from anywhere. Implementers write it; users get it from
/// [`Process::control`].
///
/// After the command's end every method does nothing, or says [`ErrorKind::Ended`]; none may reach a process
/// that happens to have the same number.
#[async_trait]
pub trait ProcessControl: Send + Sync + 'static {
    /// Sends a signal to the command's main process.
    async fn signal(&self, signal: Signal) -> Result<(), ExecError>;

    /// Changes the size of the command's terminal.
    async fn resize(&self, size: TtySize) -> Result<(), ExecError>;

    /// Begins to kill every process of the command, and returns at once. Works outside a runtime. The
    /// verdict is [`Cancelled`](crate::Verdict::Cancelled), unless the command had already ended.
    fn kill(&self);
}

impl Process {
    /// For implementers.
    pub fn new(parts: ProcessParts) -> Self {
        Self {
            stdin: parts.stdin,
            stdout: Collector::new(parts.stdout, parts.capture),
            stderr: Collector::new(parts.stderr, parts.capture),
            exit: Some(parts.exit),
            ended: None,
            control: parts.control,
        }
    }

    /// Standard input, once, if the command's is piped.
    pub fn take_stdin(&mut self) -> Option<InputWriter> {
        self.stdin.take()
    }

    /// Standard output, once. What is taken is not in the outcome.
    pub fn take_stdout(&mut self) -> Option<OutputReader> {
        self.stdout.reader.take()
    }

    /// Standard error, once. What is taken is not in the outcome.
    pub fn take_stderr(&mut self) -> Option<OutputReader> {
        self.stderr.reader.take()
    }

    /// A handle for signals and kills that outlives borrows of the process.
    pub fn control(&self) -> Arc<dyn ProcessControl> {
        Arc::clone(&self.control)
    }

    /// Sends a signal to the command's main process.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Ended`] if the command has ended; [`ErrorKind::UnsupportedFeature`] where the executor
    /// cannot send signals.
    pub fn signal(&self, signal: Signal) -> impl Future<Output = Result<(), ExecError>> + Send + use<> {
        let control = self.control();
        async move { control.signal(signal).await }
    }

    /// Changes the size of the command's terminal.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Ended`] if the command has ended; [`ErrorKind::InvalidCommand`] if it has no terminal.
    pub fn resize(&self, size: TtySize) -> impl Future<Output = Result<(), ExecError>> + Send + use<> {
        let control = self.control();
        async move { control.resize(size).await }
    }

    /// Begins to kill every process of the command, and returns at once; [`wait`](Self::wait) tells when
    /// they are gone. Does nothing after the end.
    pub fn kill(&self) {
        self.control.kill();
    }

    /// Waits until no process of the command is left. Closes standard input and collects standard output
    /// and standard error, each unless it was taken.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Ended`] if the outcome was given before; whatever the executor says went wrong.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is lost, the next call goes on where this one stopped. The command goes on meanwhile.
    pub async fn wait(&mut self) -> Result<Outcome, ExecError> {
        self.stdin = None;
        let mut outcome = poll_fn(|cx| self.poll_end(cx)).await?;
        self.stdout.finish(&mut outcome.stdout);
        self.stderr.finish(&mut outcome.stderr);
        Ok(outcome)
    }

    /// Feeds `source` to the program, then waits.
    pub(crate) async fn wait_feeding(&mut self, source: impl AsyncRead + Send) -> Result<Outcome, ExecError> {
        let stdin = self.take_stdin();
        let mut feed = Box::pin(feed(stdin, source));
        let mut fed = false;
        let feed_along = poll_fn(|cx| {
            fed = fed || feed.as_mut().poll(cx).is_ready();
            self.poll_end(cx)
        });
        let mut outcome = feed_along.await?;
        self.stdout.finish(&mut outcome.stdout);
        self.stderr.finish(&mut outcome.stderr);
        Ok(outcome)
    }

    /// Ready when the exit is known and both streams that were not taken are at their end.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<Outcome, ExecError>> {
        // The end first, which also keeps the limits: a program that writes faster than is read here would let
        // nothing after its streams have a turn.
        if self.ended.is_none() {
            let Some(exit) = &mut self.exit else { return Poll::Ready(Err(already_waited())) };
            if let Poll::Ready(end) = exit.as_mut().poll(cx) {
                self.exit = None;
                self.ended = Some(end?);
            }
        }
        let stdout = self.stdout.poll_collect(cx);
        let stderr = self.stderr.poll_collect(cx);
        if self.ended.is_none() || stdout.is_pending() || stderr.is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(self.ended.take().ok_or_else(already_waited))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.exit.is_some() {
            self.control.kill();
        }
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("waited", &self.exit.is_none()).finish_non_exhaustive()
    }
}

fn already_waited() -> ExecError {
    ExecError::new(Stage::Wait, ErrorKind::Ended, "the outcome was given before; keep it from the first wait")
}

/// Copies `source` into the program. A program that stops reading ends the copy, and that is no error; a
/// source that fails ends it like an end of file.
async fn feed(stdin: Option<InputWriter>, source: impl AsyncRead + Send) {
    let Some(mut stdin) = stdin else { return };
    let mut source = Box::pin(source);
    let mut chunk = vec![0; 16 << 10];
    while let Ok(length @ 1..) = source.read(&mut chunk).await {
        if stdin.write_all(&chunk[..length]).await.is_err() || stdin.flush().await.is_err() {
            return;
        }
    }
    // The program may be gone already; then nobody misses the end of file.
    let _ = stdin.shutdown().await;
}

/// Reads one stream to its end and keeps the first bytes.
struct Collector {
    /// Gone once it is taken or at its end.
    reader: Option<OutputReader>,
    kept: Output,
    capture: u64,
}

impl Collector {
    fn new(reader: OutputReader, capture: u64) -> Self {
        Self { reader: Some(reader), kept: Output::default(), capture }
    }

    /// Ready at the end of the stream. A read error is an end: the exit future tells what happened.
    fn poll_collect(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut space = [0; 8 << 10];
        while let Some(reader) = &mut self.reader {
            let mut buffer = ReadBuf::new(&mut space);
            let read: Poll<io::Result<()>> = Pin::new(reader).poll_read(cx, &mut buffer);
            match read {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.kept.push(buffer.filled(), self.capture)
                }
                Poll::Ready(_) => self.reader = None,
            }
        }
        Poll::Ready(())
    }

    fn finish(&mut self, into: &mut Output) {
        let kept = std::mem::take(&mut self.kept);
        into.bytes = kept.bytes;
        into.truncated |= kept.truncated;
    }
}

impl Output {
    /// Adds what fits under `capture` bytes in all, and notes whether anything did not. For implementers.
    pub fn push(&mut self, bytes: &[u8], capture: u64) {
        let room = capture.saturating_sub(self.bytes.len() as u64);
        let fits = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
        self.bytes.extend_from_slice(&bytes[..fits]);
        self.truncated |= fits < bytes.len();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::DuplexStream;
    use tokio::sync::oneshot;

    use super::*;
    use crate::outcome::Verdict;

    /// The executor's side of a process that exists only here.
    struct Guest {
        stdin: DuplexStream,
        stdout: Option<DuplexStream>,
        stderr: Option<DuplexStream>,
        exit: Option<oneshot::Sender<Result<Outcome, ExecError>>>,
        kills: Arc<Kills>,
    }

    #[derive(Default)]
    struct Kills(AtomicUsize);

    #[async_trait]
    impl ProcessControl for Kills {
        async fn signal(&self, _: Signal) -> Result<(), ExecError> {
            Ok(())
        }
        async fn resize(&self, _: TtySize) -> Result<(), ExecError> {
            Ok(())
        }
        fn kill(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Guest {
        fn new(capture: u64) -> (Process, Guest) {
            let (stdin, guest_stdin) = tokio::io::duplex(16);
            let (stdout, guest_stdout) = tokio::io::duplex(16);
            let (stderr, guest_stderr) = tokio::io::duplex(16);
            let (exit, end) = oneshot::channel();
            let kills = Arc::new(Kills::default());
            let process = Process::new(ProcessParts {
                stdin: Some(InputWriter::new(stdin)),
                stdout: OutputReader::new(stdout),
                stderr: OutputReader::new(stderr),
                exit: Box::pin(async { end.await.unwrap() }),
                control: kills.clone(),
                capture,
            });
            let (stdout, stderr) = (Some(guest_stdout), Some(guest_stderr));
            (process, Guest { stdin: guest_stdin, stdout, stderr, exit: Some(exit), kills })
        }

        async fn write(&mut self, bytes: &[u8]) {
            self.stdout.as_mut().unwrap().write_all(bytes).await.unwrap();
        }

        fn end(&mut self, outcome: Outcome) {
            self.stdout = None;
            self.stderr = None;
            self.exit.take().unwrap().send(Ok(outcome)).unwrap();
        }
    }

    fn exited() -> Outcome {
        Outcome::new(Verdict::Exited { code: 0 })
    }

    #[tokio::test]
    async fn wait_collects_what_was_not_taken_and_closes_stdin() {
        let (mut process, mut guest) = Guest::new(1000);
        let program = async {
            let mut input = Vec::new();
            guest.stdin.read_to_end(&mut input).await.unwrap();
            guest.write(&[b'x'; 100]).await;
            guest.end(exited());
        };
        let (outcome, ()) = tokio::join!(process.wait(), program);
        let outcome = outcome.unwrap();
        assert_eq!(outcome.stdout.bytes, [b'x'; 100]);
        assert!(!outcome.stdout.truncated);
    }

    #[tokio::test]
    async fn what_is_over_the_capture_is_dropped_and_said_to_be() {
        let (mut process, mut guest) = Guest::new(10);
        let program = async {
            guest.write(&[b'x'; 100]).await;
            guest.end(exited());
        };
        let (outcome, ()) = tokio::join!(process.wait(), program);
        let stdout = outcome.unwrap().stdout;
        assert_eq!((stdout.bytes.len(), stdout.truncated), (10, true));
    }

    #[tokio::test]
    async fn a_stream_that_the_executor_cut_off_stays_marked() {
        let (mut process, mut guest) = Guest::new(1000);
        let mut outcome = exited();
        outcome.stderr.truncated = true;
        guest.end(outcome);
        let outcome = process.wait().await.unwrap();
        assert!(outcome.stderr.truncated && !outcome.stdout.truncated);
    }

    #[tokio::test]
    async fn a_wait_that_is_dropped_loses_nothing() {
        let (mut process, mut guest) = Guest::new(1000);
        guest.write(b"first ").await;
        tokio::select! {
            biased;
            _ = process.wait() => panic!("the program runs"),
            () = std::future::ready(()) => {}
        }
        guest.write(b"second").await;
        guest.end(exited());
        assert_eq!(process.wait().await.unwrap().stdout.text(), "first second");
        assert_eq!(process.wait().await.unwrap_err().kind(), ErrorKind::Ended);
    }

    #[tokio::test]
    async fn dropping_a_process_kills_it_unless_it_has_ended() {
        let (process, guest) = Guest::new(0);
        drop(process);
        assert_eq!(guest.kills.0.load(Ordering::SeqCst), 1);

        let (mut process, mut guest) = Guest::new(0);
        guest.end(exited());
        process.wait().await.unwrap();
        drop(process);
        assert_eq!(guest.kills.0.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn a_program_that_stops_reading_does_not_hold_up_the_wait() {
        let (mut process, mut guest) = Guest::new(0);
        let program = async {
            let mut first = [0; 1];
            guest.stdin.read_exact(&mut first).await.unwrap();
            guest.end(exited());
        };
        let endless = tokio::io::repeat(b'x');
        let (outcome, ()) = tokio::join!(process.wait_feeding(endless), program);
        assert!(outcome.unwrap().success());
    }

    #[tokio::test]
    async fn feeding_passes_every_byte_and_the_end() {
        let (mut process, mut guest) = Guest::new(0);
        let program = async {
            let mut input = Vec::new();
            guest.stdin.read_to_end(&mut input).await.unwrap();
            guest.end(exited());
            input
        };
        let source = vec![b'x'; 40_000];
        let (outcome, input) = tokio::join!(process.wait_feeding(&source[..]), program);
        outcome.unwrap();
        assert_eq!(input, source);
    }
}
