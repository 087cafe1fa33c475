//! [`Exec`] for [`Sandbox`]: from a command to its outcome.

use std::future::{Future, poll_fn};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use poolyard_exec::{
    Command, ErrorKind, Exec, ExecError, ExecFds, Fds, InputWriter, Limit, Limits, Outcome, Output,
    OutputReader, Process, ProcessControl, ProcessParts, Signal, Stage as At, Stdin, Support, TtySize,
    Verdict, WaitStatus,
};
use tokio::io::{AsyncRead, ReadBuf};

use crate::alarm::Alarm;
use crate::channel::{self, Channel};
use crate::error::{Error, Stage};
use crate::files;
use crate::lease::{FIRST, Lease};
use crate::protocol::{Kind, open};
use crate::request;
use crate::run::{Cause, Run, Watch};
use crate::sandbox::Sandbox;
use crate::spec::Background;
use crate::streams::{self, FULLEST_PIPE, Input, OutputEnd, OutputPipe, Stream};

/// What a runner that could not execute a program ends with; a program may end with it, too.
const NOT_STARTED: i32 = 127;

/// A command whose runner has been told to start it.
struct Started {
    run: Arc<Run>,
    /// Its socket closes when the program starts, and holds the reason if it cannot.
    runner: OwnedFd,
    ends: Ends,
    /// What we have left of the command's ends.
    theirs: Theirs,
    /// For every command but the first.
    alarm: Option<Alarm>,
}

/// Our ends of the standard streams.
#[derive(Default)]
struct Ends {
    stdin: Option<OwnedFd>,
    stdout: Option<OutputEnd>,
    stderr: Option<OutputEnd>,
    terminal: Option<Arc<OwnedFd>>,
    /// Whether someone writes to the terminal.
    terminal_input: bool,
}

/// The command's ends, by number, in the order of the numbers.
type Theirs = Vec<(u32, OwnedFd)>;

impl Exec for Sandbox {
    fn support(&self) -> &Support {
        self.support_ref()
    }

    async fn spawn(&self, command: &Command) -> Result<Process, ExecError> {
        self.spawn_with_fds(command, Fds::new()).await
    }

    /// One message to the runner and one from the init: the program's start is not waited for, a program
    /// that could not start is found out at its end.
    async fn exec(&self, command: &Command) -> Result<Outcome, ExecError> {
        command.refuse_piped()?;
        let limits = self.support_ref().check(command)?;
        let Started { run, runner, ends, mut theirs, alarm } =
            self.start(command, limits, Fds::new()).await?;
        // Ours keep pipes from closing, which would wake this task for nothing at the command's end. What else the
        // command was given, its whole input for one, is not ours to keep.
        theirs.retain(|(number, _)| command.tty.is_none() && *number != 0);
        let mut watch = Watch::new(Arc::clone(&run), alarm);
        let mut streams = ends.into_outputs(&run).map_err(internal)?;
        let ended = collect(&mut watch, &mut streams, command.capture).await;
        let code = ended.as_ref().ok().and_then(|outcome| outcome.status).and_then(WaitStatus::code);
        // Any other code is the program's own.
        if matches!(code, None | Some(NOT_STARTED))
            && let Some(error) = start_failure(&runner)
        {
            return Err(error.into());
        }
        let mut outcome = ended?;
        self.collect_files(command, &mut outcome).await?;
        // Who was left running must find out that nobody reads any more.
        let nobody_left = self.spec().inner().background == Background::Kill && run.was_alone();
        if run.index == FIRST && nobody_left {
            run.lease.keep((runner, streams.map(|stream| stream.map(Stream::into_end)), theirs));
        }
        Ok(outcome)
    }
}

impl ExecFds for Sandbox {
    async fn spawn_with_fds(&self, command: &Command, fds: Fds) -> Result<Process, ExecError> {
        let limits = self.support_ref().check(command)?;
        fds.check(command)?;
        let Started { run, runner, ends, theirs, alarm } = self.start(command, limits, fds).await?;
        // Who reads hears of the end of a stream when the command closes it.
        drop(theirs);
        let mut watch = Watch::new(Arc::clone(&run), alarm);
        // Closed by execve, or a reason why not.
        let runner = Channel::over(runner).map_err(internal)?;
        if let Ok(Some(message)) = runner.receive().await {
            let _ = poll_fn(|cx| Pin::new(&mut watch).poll(cx)).await;
            return Err(message.failure().into());
        }
        let control = Arc::new(Control { run: Arc::clone(&run), terminal: ends.terminal.clone() });
        let (stdin, stdout, stderr) = ends.into_streams(&run).map_err(internal)?;
        let lease = Arc::clone(self.lease());
        let wanted = command.files_out.clone();
        let exit = async move {
            let mut outcome = watch.await?;
            for file in &wanted {
                outcome.files.push(files::copy_out(&lease, file).await?);
            }
            Ok(outcome)
        };
        let parts =
            ProcessParts { stdin, stdout, stderr, exit: Box::pin(exit), control, capture: command.capture };
        Ok(Process::new(parts))
    }
}

impl Sandbox {
    /// Puts files in place, sets limits, and tells the runner what to become.
    async fn start(&self, command: &Command, limits: Limits, fds: Fds) -> Result<Started, ExecError> {
        let lease = self.lease();
        lease.touch();
        if self.is_broken() {
            return Err(Error::gone("its lease was ended; return it to the pool and take another").into());
        }
        for file in &command.files_in {
            files::copy_in(lease, file).await?;
        }
        let given = fds.into_entries();
        let (runner, pipes, before) = match lease.take_armed() {
            Some(armed) => (Some(armed.runner), armed.pipes.map(Some), armed.before),
            None => (None, [None, None], None),
        };
        let (ends, mut theirs) = match command.tty {
            Some(size) => terminal(lease, command, size).await?,
            None => standard_streams(command, &given, pipes).map_err(internal)?,
        };
        theirs.extend(given);
        theirs.sort_by_key(|(number, _)| *number);
        let (index, runner, alarm) = match runner {
            Some(runner) => (FIRST, runner, None),
            None => {
                let alarm = Alarm::new().map_err(internal)?;
                let (index, runner) = lease.spawn_runner().await.map_err(ExecError::from)?;
                (index, runner, Some(alarm))
            }
        };
        let version = self.shared().cgroup_version();
        let mut run = Run::prepare(Arc::clone(lease), version, index, before, limits).map_err(busy)?;
        let numbers: Vec<u32> = theirs.iter().map(|(number, _)| *number).collect();
        let request = request::encode(command, run.limits(), self.support_ref().work_dir(), &numbers)
            .map_err(internal)?;
        let handed: Vec<BorrowedFd<'_>> =
            request.memory.iter().chain(theirs.iter().map(|(_, fd)| fd)).map(AsFd::as_fd).collect();
        run.begin();
        channel::send(runner.as_raw_fd(), &request.frame, &handed)
            .map_err(|_| ExecError::from(Error::gone("the runner is gone")))?;
        Ok(Started { run: Arc::new(run), runner, ends, theirs, alarm })
    }

    async fn collect_files(&self, command: &Command, outcome: &mut Outcome) -> Result<(), ExecError> {
        for file in &command.files_out {
            outcome.files.push(files::copy_out(self.lease(), file).await?);
        }
        Ok(())
    }
}

fn internal(error: impl std::error::Error + Send + Sync + 'static) -> ExecError {
    let message = format!("a system call failed here: {error}");
    ExecError::new(At::Prepare, ErrorKind::Internal, message).with_source(error)
}

fn busy(error: Error) -> ExecError {
    match error.stage() {
        Stage::Command => ExecError::new(At::Check, ErrorKind::Busy, error.to_string()),
        _ => error.into(),
    }
}

fn start_failure(runner: &OwnedFd) -> Option<Error> {
    match channel::receive(runner.as_raw_fd()) {
        Ok(Some(message)) if message.kind == Kind::Failed => Some(message.failure()),
        _ => None,
    }
}

/// Makes the streams that are not `given`. Without input there is nothing to make: the runner has an
/// empty one already.
fn standard_streams(
    command: &Command,
    given: &[(u32, OwnedFd)],
    prepared: [Option<OutputPipe>; 2],
) -> std::io::Result<(Ends, Theirs)> {
    let (mut ends, mut theirs) = (Ends::default(), Theirs::new());
    match &command.stdin {
        Stdin::Empty => {}
        Stdin::Bytes(bytes) => theirs.push((0, streams::input_bytes(bytes)?)),
        Stdin::Piped => {
            let (ours, end) = streams::input_pipe()?;
            theirs.push((0, end));
            ends.stdin = Some(ours);
        }
    }
    let [stdout, stderr] = prepared;
    for (number, end, pipe) in [(1, &mut ends.stdout, stdout), (2, &mut ends.stderr, stderr)] {
        if given.iter().all(|(other, _)| *other != number) {
            let (ours, command_end) = pipe.map_or_else(streams::output_pipe, Ok)?;
            theirs.push((number, command_end));
            *end = Some(ours);
        }
    }
    Ok((ends, theirs))
}

/// Makes a terminal in the lease.
async fn terminal(lease: &Lease, command: &Command, size: TtySize) -> Result<(Ends, Theirs), ExecError> {
    let master = lease.open(open::WORK, open::TERMINAL, 0, c"").await?;
    let theirs = terminal_ends(command, &master, size).map_err(internal)?;
    let terminal_input = command.stdin == Stdin::Piped;
    Ok((Ends { terminal: Some(Arc::new(master)), terminal_input, ..Ends::default() }, theirs))
}

fn terminal_ends(command: &Command, master: &OwnedFd, size: TtySize) -> std::io::Result<Theirs> {
    let slave = streams::terminal_peer(master, size)?;
    match &command.stdin {
        Stdin::Piped => {}
        // What is typed before the program reads waits for it, up to the 4 KiB that a terminal holds.
        Stdin::Bytes(bytes) => streams::type_in(master, bytes)?,
        Stdin::Empty => streams::type_in(master, b"")?,
    }
    Ok(vec![(1, slave.try_clone()?), (2, slave.try_clone()?), (0, slave)])
}

impl Ends {
    /// Standard output and standard error. A terminal has but one stream.
    fn into_outputs(self, run: &Arc<Run>) -> std::io::Result<[Option<Stream>; 2]> {
        let stream = |end, number| Stream::new(end, Arc::clone(run), number);
        match self.terminal {
            Some(terminal) => Ok([Some(stream(streams::output_end(terminal.try_clone()?)?, 0)), None]),
            None => Ok([self.stdout.map(|end| stream(end, 0)), self.stderr.map(|end| stream(end, 1))]),
        }
    }

    fn into_streams(
        mut self,
        run: &Arc<Run>,
    ) -> std::io::Result<(Option<InputWriter>, OutputReader, OutputReader)> {
        let stdin = match (self.stdin.take(), &self.terminal) {
            (Some(pipe), _) => Some(Input::new(pipe, false)?),
            (None, Some(terminal)) if self.terminal_input => Some(Input::new(terminal.try_clone()?, true)?),
            (None, _) => None,
        };
        let [stdout, stderr] = self.into_outputs(run)?;
        let reader = |stream: Option<Stream>| match stream {
            Some(stream) => OutputReader::new(stream),
            None => OutputReader::new(tokio::io::empty()),
        };
        Ok((stdin.map(InputWriter::new), reader(stdout), reader(stderr)))
    }
}

/// Reads the streams until the command has ended, and then what is left in them.
async fn collect(
    watch: &mut Watch,
    streams: &mut [Option<Stream>; 2],
    capture: u64,
) -> Result<Outcome, ExecError> {
    let mut outputs = [Output::default(), Output::default()];
    let ended = poll_fn(|cx| {
        // First: who writes faster than is read here would let nothing else have a turn.
        let ended = Pin::new(&mut *watch).poll(cx);
        if ended.is_pending() {
            for (stream, output) in streams.iter_mut().zip(&mut outputs) {
                poll_into(stream, output, capture, cx);
            }
        }
        ended
    });
    let mut outcome = ended.await?;
    let mut over = false;
    for (stream, output) in streams.iter_mut().zip(&mut outputs) {
        over |= stream.as_mut().is_some_and(|stream| drain(stream, output, capture));
    }
    if over {
        // It had written too much before it ended by itself.
        outcome.verdict = Verdict::Exceeded(Limit::Output);
        outcome.limits_hit.insert(0, Limit::Output);
    }
    let [stdout, stderr] = outputs;
    merge(&mut outcome.stdout, stdout);
    merge(&mut outcome.stderr, stderr);
    Ok(outcome)
}

/// Reads what is there. A stream at its end is dropped.
fn poll_into(stream: &mut Option<Stream>, output: &mut Output, capture: u64, cx: &mut Context<'_>) {
    let mut space = [const { MaybeUninit::uninit() }; 16 << 10];
    while let Some(open) = stream {
        let mut buffer = ReadBuf::uninit(&mut space);
        match Pin::new(open).poll_read(cx, &mut buffer) {
            Poll::Pending => return,
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => output.push(buffer.filled(), capture),
            Poll::Ready(_) => *stream = None,
        }
    }
}

/// Reads what is left in a stream whose command has ended. Says whether it was over the limit.
fn drain(stream: &mut Stream, output: &mut Output, capture: u64) -> bool {
    let mut space = [0; 4 << 10];
    // Who was left running may write for ever: what comes after a full pipe is not the command's.
    for _ in 0..=FULLEST_PIPE / space.len() {
        match stream.read_rest(&mut space) {
            Ok((given, over)) => {
                output.push(&space[..given], capture);
                output.truncated |= over;
                if given == 0 || over {
                    return over;
                }
            }
            // The other end is open still: here, or with someone who was left running.
            Err(_) => return false,
        }
    }
    output.truncated = true;
    false
}

fn merge(into: &mut Output, output: Output) {
    into.bytes = output.bytes;
    into.truncated |= output.truncated;
}

/// Signals, terminal size and kill for a running command.
struct Control {
    run: Arc<Run>,
    terminal: Option<Arc<OwnedFd>>,
}

#[async_trait]
impl ProcessControl for Control {
    async fn signal(&self, signal: Signal) -> Result<(), ExecError> {
        self.refuse_ended()?;
        Ok(self.run.lease.signal_number(self.run.index, signal.number())?)
    }

    async fn resize(&self, size: TtySize) -> Result<(), ExecError> {
        self.refuse_ended()?;
        let Some(terminal) = &self.terminal else {
            let message = "has no terminal to resize; ask for one with Command::tty";
            return Err(ExecError::new(At::Run, ErrorKind::InvalidCommand { field: "tty" }, message));
        };
        streams::resize(terminal, size).map_err(internal)
    }

    fn kill(&self) {
        self.run.kill(Cause::Cancelled);
    }
}

impl Control {
    fn refuse_ended(&self) -> Result<(), ExecError> {
        match self.run.has_ended() {
            true => Err(ExecError::new(
                At::Run,
                ErrorKind::Ended,
                "the command has ended; there is nothing to signal",
            )),
            false => Ok(()),
        }
    }
}
