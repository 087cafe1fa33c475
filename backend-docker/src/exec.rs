//! Commands in a container: [`Exec`] by the resident agent, or else through the engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use poolyard_exec::{
    CollectedFile, Command, ErrorKind as ExecErrorKind, Exec, ExecError, FileState, InputWriter, Limit,
    Limits, Measured, Network as ExecNetwork, Outcome, OutputReader, Process, ProcessControl, ProcessParts,
    Signal, Source, Stage as ExecStage, Stdin, Support, TtySize, Usage, Verdict, WaitStatus,
};
use tokio::io::AsyncWriteExt;

use crate::agent::{Exit, Killer, Link, Request, Spawn, wire};
use crate::container::Container;
use crate::engine::types::ImageConfig;
use crate::engine_exec;
use crate::error::{Error, ErrorKind, Stage};
use crate::spec::{ContainerSpec, Network, mask};

const RLIMIT_FSIZE: u32 = 1;
const RLIMIT_STACK: u32 = 3;
const RLIMIT_NOFILE: u32 = 7;
const SIGXFSZ: i32 = 25;

/// The agent itself, the guardian of one command, and that of the next one.
pub(crate) const OWN_PROCESSES: u32 = 3;

/// What can be enforced in a container of this kind.
pub(crate) fn support(spec: &ContainerSpec, image: &ImageConfig) -> Support {
    let work_dir = spec.work_dir.as_deref().unwrap_or(&image.working_dir);
    let work_dir = if work_dir.starts_with('/') { work_dir } else { "/" };
    if !spec.agent {
        return engine_exec::support(spec, work_dir);
    }
    Support::new(work_dir)
        .per_command([Limit::WallTime, Limit::Output, Limit::FileSize, Limit::OpenFiles, Limit::Stack])
        .per_resource([Limit::Memory, Limit::Processes, Limit::CpuSet, Limit::CpuBandwidth, Limit::Network])
        .unsupported(
            [Limit::CpuTime],
            "a container's processor time is not counted per command; limit the wall time, or the share of \
             processors with ContainerSpec::cpus",
        )
        .unsupported(
            [Limit::Swap],
            "engines limit it only together with memory, and not on every kernel; see ContainerSpec::swap",
        )
        .unsupported(
            [Limit::DiskBytes, Limit::DiskInodes],
            "each file system of a container has its own size; set it with Tmpfs::new",
        )
        .with_made_with(made_with(spec))
}

pub(crate) fn made_with(spec: &ContainerSpec) -> Limits {
    let mut limits = spec.command_limits.clone();
    limits.processes = Some(u64::from(spec.pids.saturating_sub(OWN_PROCESSES)));
    limits.memory = spec.memory;
    limits.swap = None;
    limits.cpu_bandwidth = spec.nano_cpus.map(|n| (n / 1_000_000) as u32);
    limits.cpu_set = spec.cpu_set.as_deref().and_then(parse_cpus).map(|cpus| cpus.into_iter().collect());
    limits.network = Some(match spec.network {
        Network::Off => ExecNetwork::Off,
        Network::Loopback => ExecNetwork::Loopback,
        _ => ExecNetwork::Shared,
    });
    limits
}

/// The kernel's list format: `0-1,4`.
fn parse_cpus(text: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cpus.extend(first.parse::<u32>().ok()?..=last.parse().ok()?);
    }
    Some(cpus)
}

impl Exec for Container {
    fn support(&self) -> &Support {
        &self.support
    }

    async fn spawn(&self, command: &Command) -> Result<Process, ExecError> {
        let limits = self.support.check(command)?;
        let Some(link) = self.link() else { return engine_exec::spawn(self, command, &limits).await };
        self.copy_in(link, command).await?;
        let mut request = self.start(link, command, &limits).await?;
        let mut stdin = request.take_input();
        let piped = match &command.stdin {
            Stdin::Empty => None,
            Stdin::Bytes(bytes) => {
                let bytes = bytes.clone();
                // A program that stops reading is no error.
                let feed = async move {
                    let _ = stdin.write_all(&bytes).await;
                };
                feed_along(feed).await;
                None
            }
            Stdin::Piped => Some(InputWriter::new(stdin)),
        };
        let stdout = OutputReader::new(request.take_output(1));
        let stderr = OutputReader::new(request.take_output(2));
        let control = Arc::new(Control::new(request.killer(), command.tty.is_some()));
        let collector = Collector {
            link: link.clone(),
            files: command.files_out.clone(),
            work_dir: self.support.work_dir().to_vec(),
            control: control.clone(),
        };
        let exit = Box::pin(collector.finish(request));
        Ok(Process::new(ProcessParts {
            stdin: piped,
            stdout,
            stderr,
            exit,
            control,
            capture: command.capture,
        }))
    }
}

impl Container {
    async fn copy_in(&self, link: &Link, command: &Command) -> Result<(), ExecError> {
        for file in &command.files_in {
            let path = absolute(self.support.work_dir(), &file.path);
            link.write_file(&path, &file.bytes, file.mode, self.user()).await.map_err(|e| {
                match e.kind() {
                    ErrorKind::File(_) => {
                        ExecError::new(ExecStage::CopyIn, ExecErrorKind::CopyInFailed, e.to_string())
                            .with_source(e)
                    }
                    _ => gone(ExecStage::CopyIn, e),
                }
            })?;
        }
        Ok(())
    }

    async fn start(&self, link: &Link, command: &Command, limits: &Limits) -> Result<Request, ExecError> {
        let mut flags = 0;
        if !command.inherit_env {
            flags |= wire::CLEAR_ENV;
        }
        if command.stdin != Stdin::Empty {
            flags |= wire::PIPE_STDIN;
        }
        if command.tty.is_some() {
            flags |= wire::TERMINAL;
        }
        let capabilities = mask(&self.spec.capabilities).map_err(|e| gone(ExecStage::Prepare, e))?;
        let spawn = Spawn {
            flags,
            timeout: limits.wall_time,
            user: self.user().into(),
            directory: command.cwd.clone().unwrap_or_else(|| self.support.work_dir().to_vec()),
            capabilities,
            argv: command.argv.clone(),
            env: command.env.iter().map(|(name, value)| [name, &b"="[..], value].concat()).collect(),
            limits: rlimits(limits),
            size: command.tty.map_or((0, 0), |size| (size.rows, size.columns)),
        };
        let opened = Request::open_limited(link, wire::SPAWN, 0, &spawn.encode(), Stage::Exec, limits.output);
        let mut request = opened.map_err(|e| gone(ExecStage::Start, e))?;
        match request.started().await.map_err(|e| gone(ExecStage::Start, e))? {
            Ok(()) => Ok(request),
            Err((stage, errno)) => Err(not_started(command, stage, errno)),
        }
    }
}

/// Writes what fits at once, and goes on in the background with what does not.
async fn feed_along(feed: impl Future<Output = ()> + Send + 'static) {
    let mut feed = Box::pin(feed);
    let done = std::future::poll_fn(|cx| std::task::Poll::Ready(feed.as_mut().poll(cx).is_ready()));
    if !done.await {
        tokio::spawn(feed);
    }
}

fn rlimits(limits: &Limits) -> Vec<(u32, u64)> {
    let all =
        [(RLIMIT_FSIZE, limits.file_size), (RLIMIT_STACK, limits.stack), (RLIMIT_NOFILE, limits.open_files)];
    all.into_iter().filter_map(|(resource, value)| Some((resource, value?))).collect()
}

fn absolute(work_dir: &[u8], path: &[u8]) -> Vec<u8> {
    if path.starts_with(b"/") { path.to_vec() } else { [work_dir, b"/", path].concat() }
}

pub(crate) fn gone(stage: ExecStage, error: Error) -> ExecError {
    let message = "the container has died; discard it and take another one";
    ExecError::new(stage, ExecErrorKind::ResourceGone, message).with_source(error)
}

fn not_started(command: &Command, stage: u8, errno: i32) -> ExecError {
    let program = String::from_utf8_lossy(&command.argv[0]);
    let at = wire::stage_name(stage);
    let (kind, message) = match (stage, errno) {
        (wire::STAGE_EXEC, libc::ENOENT | libc::ENOTDIR) => (
            ExecErrorKind::ProgramNotFound,
            format!("there is no program `{program}` inside, or not the interpreter that it names"),
        ),
        (wire::STAGE_EXEC, libc::E2BIG) => (
            ExecErrorKind::InvalidCommand { field: "argv" },
            "is longer than the kernel allows; pass the rest by stdin or in a file".into(),
        ),
        (wire::STAGE_EXEC, _) => {
            (ExecErrorKind::NotExecutable, format!("`{program}` cannot be executed; is it a program?"))
        }
        (wire::STAGE_DIRECTORY, _) => {
            (ExecErrorKind::NoWorkingDirectory, "the working directory is missing or not a directory".into())
        }
        (wire::STAGE_USER, libc::EINVAL) => {
            (ExecErrorKind::Internal, "the specification's user does not exist inside".into())
        }
        _ => (ExecErrorKind::Internal, format!("{at} failed; are its processes used up?")),
    };
    ExecError::new(ExecStage::Start, kind, message).with_source(std::io::Error::from_raw_os_error(errno))
}

pub(crate) fn no_terminal() -> ExecError {
    let field = ExecErrorKind::InvalidCommand { field: "tty" };
    ExecError::new(ExecStage::Run, field, "the command has no terminal; ask for one with Command::tty")
}

pub(crate) fn still_runs(ended: &AtomicBool) -> Result<(), ExecError> {
    match ended.load(Ordering::Relaxed) {
        false => Ok(()),
        true => Err(ExecError::new(ExecStage::Run, ExecErrorKind::Ended, "the command has ended")),
    }
}

/// Signals to one running command.
struct Control {
    killer: Killer,
    terminal: bool,
    killed: AtomicBool,
    ended: AtomicBool,
}

impl Control {
    fn new(killer: Killer, terminal: bool) -> Self {
        Self { killer, terminal, killed: AtomicBool::new(false), ended: AtomicBool::new(false) }
    }
}

#[async_trait]
impl ProcessControl for Control {
    async fn signal(&self, signal: Signal) -> Result<(), ExecError> {
        still_runs(&self.ended)?;
        match signal.number() {
            9 => self.killer.signal_root(),
            number => self.killer.signal(number as u8),
        }
        Ok(())
    }

    async fn resize(&self, size: TtySize) -> Result<(), ExecError> {
        still_runs(&self.ended)?;
        if !self.terminal {
            return Err(no_terminal());
        }
        self.killer.resize(size.rows, size.columns);
        Ok(())
    }

    fn kill(&self) {
        if !self.ended.load(Ordering::Relaxed) {
            self.killed.store(true, Ordering::Relaxed);
            self.killer.signal(9);
        }
    }
}

/// Turns a program's end into an outcome.
struct Collector {
    link: Link,
    files: Vec<poolyard_exec::FileOut>,
    work_dir: Vec<u8>,
    control: Arc<Control>,
}

impl Collector {
    async fn finish(self, mut request: Request) -> Result<Outcome, ExecError> {
        let exit = request.exit().await.map_err(|e| gone(ExecStage::Wait, e))?;
        self.control.ended.store(true, Ordering::Relaxed);
        let exceeded = request.exceeded();
        let killed = self.control.killed.load(Ordering::Relaxed);
        let mut outcome = Outcome::new(verdict(&exit, exceeded != 0, killed));
        outcome.status = Some(WaitStatus::from_raw(exit.status));
        outcome.stdout.truncated = exceeded & 1 != 0;
        outcome.stderr.truncated = exceeded & 2 != 0;
        outcome.limits_hit = limits_hit(&exit, &outcome.verdict);
        outcome.usage = usage(&exit);
        for file in &self.files {
            outcome.files.push(self.collect(file).await?);
        }
        Ok(outcome)
    }

    async fn collect(&self, file: &poolyard_exec::FileOut) -> Result<CollectedFile, ExecError> {
        let path = absolute(&self.work_dir, &file.path);
        let state = match self.link.read_file(&path, file.max_bytes).await {
            Ok(found) => {
                FileState::Found { bytes: found.bytes, mode: found.mode & 0o777, truncated: found.truncated }
            }
            Err(e) => match *e.kind() {
                ErrorKind::File(libc::ENOENT | libc::ENOTDIR) => FileState::Missing,
                ErrorKind::File(libc::EINVAL | libc::ELOOP | libc::ENXIO | libc::EISDIR) => {
                    FileState::NotAFile
                }
                ErrorKind::File(_) => FileState::Unreadable(e.kind().to_string()),
                _ => return Err(gone(ExecStage::CopyOut, e)),
            },
        };
        Ok(CollectedFile { path: file.path.clone(), state })
    }
}

fn verdict(exit: &Exit, too_much_output: bool, killed: bool) -> Verdict {
    let by_signal = exit.status & 0x7f;
    if exit.timed_out {
        return Verdict::Exceeded(Limit::WallTime);
    }
    if too_much_output {
        return Verdict::Exceeded(Limit::Output);
    }
    if by_signal == 9 && exit.oom_kills > 0 {
        return Verdict::Exceeded(Limit::Memory);
    }
    if by_signal == SIGXFSZ {
        return Verdict::Exceeded(Limit::FileSize);
    }
    if by_signal == 9 && killed {
        return Verdict::Cancelled;
    }
    Verdict::from_status(WaitStatus::from_raw(exit.status))
}

fn limits_hit(exit: &Exit, verdict: &Verdict) -> Vec<Limit> {
    let mut hit = Vec::new();
    if let Verdict::Exceeded(limit) = verdict {
        hit.push(*limit);
    }
    for (count, limit) in [(exit.oom_kills, Limit::Memory), (exit.refused_forks, Limit::Processes)] {
        if count > 0 && !hit.contains(&limit) {
            hit.push(limit);
        }
    }
    hit
}

fn usage(exit: &Exit) -> Usage {
    let account = |time: Duration| Some(Measured::new(time, Source::Rusage));
    let mut usage = Usage::default();
    usage.wall_time = Some(Measured::new(exit.wall, Source::AgentClock));
    usage.cpu_time = account(exit.user + exit.system);
    usage.user_time = account(exit.user);
    usage.system_time = account(exit.system);
    usage.memory_peak = Some(Measured::new(exit.peak_bytes, Source::Rusage));
    usage
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_read_as_the_kernel_writes_them() {
        assert_eq!(parse_cpus("0-1,4"), Some(vec![0, 1, 4]));
        assert_eq!(parse_cpus("x"), None);
    }

    #[test]
    fn a_kill_for_want_of_memory_is_told_from_any_other() {
        let killed = Exit { status: 9, ..Exit::default() };
        assert_eq!(verdict(&killed, false, false), Verdict::Signaled { signal: Signal::KILL });
        assert_eq!(verdict(&killed, false, true), Verdict::Cancelled);
        let oom = Exit { oom_kills: 1, ..killed };
        assert_eq!(verdict(&oom, false, false), Verdict::Exceeded(Limit::Memory));
    }
}
