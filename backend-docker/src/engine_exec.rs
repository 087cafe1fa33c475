//! Commands in a container without the resident agent: [`Exec`](poolyard_exec::Exec) through the engine.
//!
//! The engine starts a program and carries its streams, but has no word for ending it. So whatever must
//! end, because its time or its output is over, or because nobody wants it any more, takes its container
//! along: drastic, and the only way to be sure of the whole tree.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use poolyard_exec::{
    Command, ErrorKind as ExecErrorKind, ExecError, Feature, InputWriter, Limit, Limits, Measured, Outcome,
    OutputReader, Process, ProcessControl, ProcessParts, Signal, Source, Stage as ExecStage, Stdin, Support,
    TtySize, Usage, Verdict, WaitStatus,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;

use crate::container::Container;
use crate::engine::events::Lifeline;
use crate::engine::{StdioReader, StdioWriter};
use crate::error::{Error, ErrorKind};
use crate::exec::{gone, made_with, no_terminal, still_runs};
use crate::shop::Shop;
use crate::spec::ContainerSpec;

/// What may be written by a program and not read yet, per stream.
const WINDOW: usize = 64 << 10;
/// How often a program is looked at whose output nobody reads: its end does not show in the stream then.
const LOOK: Duration = Duration::from_millis(200);
/// How long the engine may take to end a container.
const END: Duration = Duration::from_secs(30);
/// The end of input at a terminal, where a line begins.
const END_OF_FILE: u8 = 4;
const KILLED: i64 = 128 + 9;

/// What the engine can enforce for one command, which is nothing, and we by ending the container.
pub(crate) fn support(spec: &ContainerSpec, work_dir: &str) -> Support {
    Support::new(work_dir)
        .per_command([Limit::WallTime, Limit::Output])
        .per_resource([Limit::Memory, Limit::Processes, Limit::CpuSet, Limit::CpuBandwidth, Limit::Network])
        .unsupported(
            [
                Limit::CpuTime,
                Limit::Swap,
                Limit::DiskBytes,
                Limit::DiskInodes,
                Limit::FileSize,
                Limit::OpenFiles,
                Limit::Stack,
            ],
            "the engine sets no limits for one command; make the container with the resident agent, or set \
             the limit for the container (ContainerSpec::ulimit)",
        )
        .with_made_with(made_with(spec))
        .without(Feature::Signal, "the engine sends no signals to what it executes; use the resident agent")
        .without(Feature::AbsoluteFiles, "files go in and out by the resident agent only")
}

/// Refuses what the engine would do in another way than asked.
fn refuse(command: &Command) -> Result<(), ExecError> {
    let invalid = |field, message: &'static str| {
        Err(ExecError::new(ExecStage::Check, ExecErrorKind::InvalidCommand { field }, message))
    };
    if !command.inherit_env {
        return invalid("env", "the engine adds the container's variables to all; say so with inherit_env");
    }
    if !command.files_in.is_empty() || !command.files_out.is_empty() {
        return invalid("files_in", "files go in and out by the resident agent only; mount them instead");
    }
    Ok(())
}

fn text(field: &'static str, bytes: &[u8]) -> Result<String, ExecError> {
    String::from_utf8(bytes.to_vec()).map_err(|e| {
        let message = "the engine takes nothing but UTF-8; use the resident agent for other bytes";
        ExecError::new(ExecStage::Check, ExecErrorKind::InvalidCommand { field }, message).with_source(e)
    })
}

fn config(container: &Container, command: &Command) -> Result<serde_json::Value, ExecError> {
    let argv: Vec<String> = command.argv.iter().map(|word| text("argv", word)).collect::<Result<_, _>>()?;
    let variable = |(name, value): &(Vec<u8>, Vec<u8>)| text("env", &[name, &b"="[..], value].concat());
    let env: Vec<String> = command.env.iter().map(variable).collect::<Result<_, _>>()?;
    let directory = command.cwd.as_deref().unwrap_or(container.support.work_dir());
    Ok(serde_json::json!({
        "AttachStdin": has_input(command), "AttachStdout": true, "AttachStderr": true,
        "Tty": command.tty.is_some(), "ConsoleSize": command.tty.map(|size| [size.rows, size.columns]),
        "Cmd": argv, "Env": env, "User": container.user(), "WorkingDir": text("cwd", directory)?,
    }))
}

/// A terminal is told the end of its input by a character.
fn has_input(command: &Command) -> bool {
    command.stdin != Stdin::Empty || command.tty.is_some()
}

pub(crate) async fn spawn(
    container: &Container,
    command: &Command,
    limits: &Limits,
) -> Result<Process, ExecError> {
    refuse(command)?;
    let engine = &container.shop.engine;
    let config = config(container, command)?;
    let failed = |e| gone(ExecStage::Start, e);
    let exec = engine.exec_create(&container.id, &config).await.map_err(failed)?;
    let control = Arc::new(Control::new(container, &exec, command.tty.is_some()));
    // From here on it may run, and a dropped future must not leave it running.
    let half = Half(Some(control.clone()));
    let stdio = engine.exec_start(&exec, command.tty.is_some()).await.map_err(failed)?;
    if let Some(size) = command.tty {
        engine.exec_resize(&exec, size.rows, size.columns).await.map_err(failed)?;
    }
    let (reader, writer) = stdio.into_parts();
    let (stdin, input) = input(command, writer);
    let [(stdout, to_out), (stderr, to_err)] = [tokio::io::duplex(WINDOW), tokio::io::duplex(WINDOW)];
    let output = tokio::spawn(pump(reader, [to_out, to_err], limits.output));
    let follower = Follower {
        control: control.clone(),
        input,
        output,
        began: Instant::now(),
        wall_time: limits.wall_time,
    };
    // A task of its own, because time runs whether anybody waits or not.
    let exit = tokio::spawn(follower.finish());
    half.keep();
    Ok(Process::new(ProcessParts {
        stdin,
        stdout: OutputReader::new(stdout),
        stderr: OutputReader::new(stderr),
        exit: Box::pin(async { exit.await.unwrap_or_else(|_| Err(runtime_ended())) }),
        control,
        capture: command.capture,
    }))
}

fn runtime_ended() -> ExecError {
    let message = "the runtime that the command was started on has ended; wait for commands before it does";
    ExecError::new(ExecStage::Wait, ExecErrorKind::Internal, message)
}

/// A command that nobody holds yet.
struct Half(Option<Arc<Control>>);

impl Half {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        if let Some(control) = self.0.take() {
            control.kill();
        }
    }
}

fn input(command: &Command, writer: StdioWriter) -> (Option<InputWriter>, Option<JoinHandle<()>>) {
    let terminal = command.tty.is_some();
    match &command.stdin {
        Stdin::Empty if !terminal => (None, None),
        Stdin::Empty => (None, Some(tokio::spawn(feed(tokio::io::empty(), writer, terminal)))),
        Stdin::Bytes(bytes) => {
            let bytes = std::io::Cursor::new(bytes.clone());
            (None, Some(tokio::spawn(feed(bytes, writer, terminal))))
        }
        Stdin::Piped => {
            let (ours, theirs) = tokio::io::duplex(WINDOW);
            (Some(InputWriter::new(ours)), Some(tokio::spawn(feed(theirs, writer, terminal))))
        }
    }
}

/// Passes input on until its end. A program that reads no more is no error.
async fn feed(mut from: impl AsyncRead + Unpin, mut to: StdioWriter, terminal: bool) {
    let mut buffer = vec![0; 16 << 10];
    let mut at_line_start = true;
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        at_line_start = buffer[n - 1] == b'\n';
        if to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
    let _ = match terminal {
        false => to.shutdown().await,
        // In the midst of a line the first one only passes the line on.
        true => to.write_all(&[END_OF_FILE; 2][usize::from(at_line_start)..]).await,
    };
}

/// Passes output on until its end, or until a stream is over its limit: then says which.
async fn pump(mut from: StdioReader, to: [DuplexStream; 2], limit: Option<u64>) -> Option<usize> {
    let mut to = to;
    let mut left = [limit.unwrap_or(u64::MAX); 2];
    // A stream that breaks off has ended; how, the engine knows.
    while let Ok(Some((stream, piece))) = from.next().await {
        let at = usize::from(stream == 2);
        let room = left[at].min(piece.len() as u64);
        left[at] -= room;
        // Nobody may want it any more; the program must not wait for that.
        let _ = to[at].write_all(&piece[..room as usize]).await;
        if room < piece.len() as u64 {
            return Some(at);
        }
    }
    None
}

/// Waits for a command's end, and ends it where its limits do.
struct Follower {
    control: Arc<Control>,
    input: Option<JoinHandle<()>>,
    output: JoinHandle<Option<usize>>,
    began: Instant,
    wall_time: Option<Duration>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        if let Some(input) = &self.input {
            input.abort();
        }
    }
}

impl Follower {
    async fn finish(mut self) -> Result<Outcome, ExecError> {
        let control = self.control.clone();
        let late = async {
            match self.wall_time {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        let exceeded = tokio::select! {
            over = &mut self.output => over.ok().flatten().map(|stream| (Limit::Output, Some(stream))),
            () = late => Some((Limit::WallTime, None)),
            () = control.ended_unread() => {
                // The rest of its output may be on its way; or nobody reads, and it stays where it is.
                let over = tokio::time::timeout(LOOK, &mut self.output).await;
                over.ok().and_then(Result::ok).flatten().map(|stream| (Limit::Output, Some(stream)))
            }
        };
        let mut outcome = match exceeded {
            Some((limit, stream)) => {
                control.end().await;
                let mut outcome = Outcome::new(Verdict::Exceeded(limit));
                outcome.limits_hit.push(limit);
                outcome.stdout.truncated = stream == Some(0);
                outcome.stderr.truncated = stream == Some(1);
                outcome
            }
            None => control.outcome().await?,
        };
        control.ended.store(true, Ordering::Relaxed);
        let mut usage = Usage::default();
        usage.wall_time = Some(Measured::new(self.began.elapsed(), Source::HostClock));
        outcome.usage = usage;
        Ok(outcome)
    }
}

/// What can be done to a running command: little.
struct Control {
    shop: Arc<Shop>,
    lifeline: Arc<Lifeline>,
    container: String,
    exec: String,
    terminal: bool,
    /// Whether memory had run out before.
    was_short: bool,
    killed: AtomicBool,
    ended: AtomicBool,
}

impl Control {
    fn new(container: &Container, exec: &str, terminal: bool) -> Self {
        Self {
            shop: container.shop.clone(),
            lifeline: container.lifeline.clone(),
            container: container.id.clone(),
            exec: exec.to_owned(),
            terminal,
            was_short: container.lifeline.now().oom,
            killed: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        }
    }

    /// Ends the container, and waits until nothing runs in it.
    async fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        self.shop.remove(&self.container).await;
        let _ = tokio::time::timeout(END, self.lifeline.death()).await;
    }

    async fn ended_unread(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            if !matches!(self.shop.engine.exec_exit_code(&self.exec).await, Ok(None)) {
                return;
            }
        }
    }

    /// How it ended by itself; or was killed, and its container with it.
    async fn outcome(&self) -> Result<Outcome, ExecError> {
        let code = self.shop.engine.exec_end(&self.exec).await;
        if self.killed.load(Ordering::Relaxed) {
            let _ = tokio::time::timeout(END, self.lifeline.death()).await;
            return Ok(Outcome::new(Verdict::Cancelled));
        }
        let code = code.map_err(|e| gone(ExecStage::Wait, e))?;
        let status = WaitStatus::from_raw((code as i32 & 0xff) << 8);
        let out_of_memory = code == KILLED && !self.was_short && self.lifeline.now().oom;
        let mut outcome = match out_of_memory {
            true => Outcome::new(Verdict::Exceeded(Limit::Memory)),
            false => Outcome::new(Verdict::from_status(status)),
        };
        outcome.limits_hit.extend(out_of_memory.then_some(Limit::Memory));
        outcome.status = Some(status);
        Ok(outcome)
    }
}

#[async_trait]
impl ProcessControl for Control {
    async fn signal(&self, _: Signal) -> Result<(), ExecError> {
        still_runs(&self.ended)?;
        let message = "the engine sends no signals to what it executes; kill it, or use the resident agent";
        Err(ExecError::new(ExecStage::Run, ExecErrorKind::UnsupportedFeature(Feature::Signal), message))
    }

    async fn resize(&self, size: TtySize) -> Result<(), ExecError> {
        still_runs(&self.ended)?;
        if !self.terminal {
            return Err(no_terminal());
        }
        let resized = self.shop.engine.exec_resize(&self.exec, size.rows, size.columns).await;
        resized.map_err(|e: Error| match e.kind() {
            ErrorKind::Missing | ErrorKind::Conflict => gone(ExecStage::Run, e),
            _ => ExecError::new(ExecStage::Run, ExecErrorKind::Internal, "the engine did not resize it")
                .with_source(e),
        })
    }

    fn kill(&self) {
        if !self.ended.load(Ordering::Relaxed) && !self.killed.swap(true, Ordering::Relaxed) {
            self.shop.engine.http.address.remove_from_a_thread(self.container.clone(), Duration::ZERO);
        }
    }
}
