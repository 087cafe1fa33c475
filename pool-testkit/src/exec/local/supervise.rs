//! One thread per command: it watches the limits, kills what is left, reaps, and gives the verdict.
//!
//! A thread, not a task: a limit holds and a zombie is reaped even if the runtime that started the command
//! is gone or busy.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use poolyard_exec::{
    ErrorKind, ExecError, FileOut, Limit, Limits, Measured, Outcome, Signal, Source, Stage, Usage, Verdict,
    WaitStatus,
};
use tokio::sync::oneshot;

use super::dir::PrivateDir;
use super::files;
use super::meter::Meter;
use super::sample::Sample;
use super::tree::{Cause, Tree};

/// How often limits that have no event of their own are looked at.
const INTERVAL: Duration = Duration::from_millis(20);

/// How long killed processes may take to vanish before we say that something is wrong.
const VANISH: Duration = Duration::from_secs(10);

pub(crate) struct Job {
    pub(crate) tree: Arc<Tree>,
    pub(crate) started: Instant,
    pub(crate) limits: Limits,
    pub(crate) stdout: Arc<Meter>,
    pub(crate) stderr: Arc<Meter>,
    pub(crate) dir: Arc<PrivateDir>,
    pub(crate) files_out: Vec<FileOut>,
}

/// Starts the thread; the future gives its outcome.
pub(crate) fn supervise(
    job: Job,
) -> io::Result<impl Future<Output = Result<Outcome, ExecError>> + Send + 'static> {
    let (report, outcome) = oneshot::channel();
    let work = move || {
        // Nobody listens any more if the process handle was dropped.
        let _ = report.send(job.run());
    };
    std::thread::Builder::new().name("local-exec".into()).spawn(work)?;
    Ok(async move { outcome.await.unwrap_or_else(|_| Err(failed(io::Error::other("the watcher panicked")))) })
}

fn failed(error: io::Error) -> ExecError {
    ExecError::new(Stage::Wait, ErrorKind::Internal, "the command's end could not be learned")
        .with_source(error)
}

impl Job {
    fn run(self) -> Result<Outcome, ExecError> {
        let watched = self.watch();
        let reaped = self.tree.reap();
        let wall_time = self.started.elapsed();
        let vanished = self.wait_until_gone();
        self.tree.set_gone();
        watched.map_err(failed)?;
        vanished.map_err(failed)?;
        let (status, rusage) = reaped.map_err(failed)?;
        Ok(self.outcome(status, usage(wall_time, &rusage)))
    }

    /// Returns when the main process has ended.
    fn watch(&self) -> io::Result<()> {
        while !self.tree.exits_within(self.pause())? {
            if let Some(limit) = self.exceeded() {
                self.tree.end(Cause::Limit(limit));
            }
        }
        Ok(())
    }

    fn pause(&self) -> Option<Duration> {
        let interval = self.samples().then_some(INTERVAL);
        let to_deadline = self.limits.wall_time.map(|limit| limit.saturating_sub(self.started.elapsed()));
        // A deadline that has passed must not make the loop spin until the kill has worked.
        let to_deadline = to_deadline.map(|time| time.max(Duration::from_millis(1)));
        interval.into_iter().chain(to_deadline).min()
    }

    fn samples(&self) -> bool {
        let limits = &self.limits;
        limits.cpu_time.is_some() || limits.memory.is_some() || limits.processes.is_some()
    }

    fn exceeded(&self) -> Option<Limit> {
        if self.limits.wall_time.is_some_and(|limit| self.started.elapsed() >= limit) {
            return Some(Limit::WallTime);
        }
        if !self.samples() {
            return None;
        }
        let sample = Sample::take(self.tree.pid());
        let over = [
            (Limit::CpuTime, self.limits.cpu_time.is_some_and(|limit| sample.cpu_time > limit)),
            (Limit::Memory, self.limits.memory.is_some_and(|limit| sample.memory > limit)),
            (Limit::Processes, self.limits.processes.is_some_and(|limit| sample.processes > limit)),
        ];
        over.into_iter().find(|(_, over)| *over).map(|(limit, _)| limit)
    }

    /// Killed processes take a moment to vanish, and nothing announces it.
    fn wait_until_gone(&self) -> io::Result<()> {
        let started = Instant::now();
        while self.tree.has_members() {
            if started.elapsed() > VANISH {
                return Err(io::Error::other("killed processes do not vanish"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn outcome(&self, status: WaitStatus, usage: Usage) -> Outcome {
        let mut outcome = Outcome::new(self.verdict(status, &usage));
        if let Verdict::Exceeded(limit) = outcome.verdict {
            outcome.limits_hit.push(limit);
        }
        outcome.status = Some(status);
        outcome.stdout.truncated = self.stdout.is_over();
        outcome.stderr.truncated = self.stderr.is_over();
        outcome.files = files::collect(&self.dir, &self.files_out);
        outcome.usage = usage;
        outcome
    }

    fn verdict(&self, status: WaitStatus, usage: &Usage) -> Verdict {
        let cpu_time = usage.cpu_time.map(|measured| measured.value);
        match self.tree.cause() {
            Some(Cause::Limit(limit)) => return Verdict::Exceeded(limit),
            Some(Cause::Cancelled) => return Verdict::Cancelled,
            None => {}
        }
        if self.stdout.is_over() || self.stderr.is_over() {
            return Verdict::Exceeded(Limit::Output);
        }
        if self.limits.cpu_time.is_some() && cpu_time > self.limits.cpu_time {
            return Verdict::Exceeded(Limit::CpuTime);
        }
        match status.signal() {
            Some(Signal::XFSZ) if self.limits.file_size.is_some() => Verdict::Exceeded(Limit::FileSize),
            _ => Verdict::from_status(status),
        }
    }
}

fn usage(wall_time: Duration, rusage: &libc::rusage) -> Usage {
    let time = |time: libc::timeval| {
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        Duration::from_secs(seconds) + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or(0))
    };
    let (user, system) = (time(rusage.ru_utime), time(rusage.ru_stime));
    let from_rusage = |time| Some(Measured::new(time, Source::Rusage));
    let mut usage = Usage::default();
    usage.wall_time = Some(Measured::new(wall_time, Source::HostClock));
    usage.cpu_time = from_rusage(user + system);
    usage.user_time = from_rusage(user);
    usage.system_time = from_rusage(system);
    // The kernel says kilobytes.
    let peak = u64::try_from(rusage.ru_maxrss).unwrap_or(0) * 1024;
    usage.memory_peak = Some(Measured::new(peak, Source::Rusage));
    usage
}
