//! A command that runs: its limits, its end, its outcome.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use parking_lot::Mutex;
use poolyard_exec::{Limit, Limits, Measured, Outcome, Source, Usage, Verdict, WaitStatus};

use crate::alarm::Alarm;
use crate::cgroup::{Reading, SlotLimits, Version};
use crate::error::{Error, ErrorKind, Stage};
use crate::lease::{Exit, Lease};

/// How long the init has to report after it was told to kill; it needs microseconds.
const GRACE: Duration = Duration::from_secs(1);
/// The kernel's clock does not tick more often.
const SHORTEST_LOOK: Duration = Duration::from_millis(1);

/// The commands that run in a lease. They share one cgroup, so its limits hold for all of them.
#[derive(Debug, Default)]
pub(crate) struct Running {
    count: u32,
    pub(crate) limits: SlotLimits,
    /// Whether the lease has ended, and its slot may have another one.
    pub(crate) over: bool,
    /// Counts starts, so that a command learns at its end whether it was alone.
    starts: u64,
}

/// Why a command was killed by us. The first reason counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Limit(Limit),
    Cancelled,
}

/// One running command, shared by whoever waits for it, reads from it or signals it.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) lease: Arc<Lease>,
    pub(crate) index: u32,
    limits: Limits,
    version: Option<Version>,
    started: Instant,
    before: Reading,
    starts_before: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    cause: Option<(Cause, Instant)>,
    /// Streams that were cut off: standard output, standard error.
    cut: [bool; 2],
    ended: bool,
    /// The task that waits for the end, and those that read from streams.
    wakers: Vec<Waker>,
}

impl Run {
    /// Takes a place among the commands of the lease and sets the limits. `before` is what the slot had
    /// counted when it was last at rest, if that is known. Call [`begin`](Self::begin) when the program is
    /// about to start.
    pub(crate) fn prepare(
        lease: Arc<Lease>,
        version: Option<Version>,
        index: u32,
        before: Option<Reading>,
        limits: Limits,
    ) -> Result<Self, Error> {
        let wanted = slot_limits(&limits);
        let mut running = lease.running.lock();
        if running.count > 0 && running.limits != wanted {
            let detail = "a running command of this sandbox has other memory, swap or process limits; use the \
                          same, wait for its end, or take another sandbox";
            return Err(Error::new(Stage::Command, ErrorKind::System, detail));
        }
        // Once a command has run, what was counted before it says nothing any more.
        let before = before.filter(|_| running.starts == 0);
        if let Some(slot) = lease.slot() {
            slot.limit(&wanted).map_err(|e| Error::system(Stage::Cgroup, e))?;
            if running.count == 0 && before.is_none() {
                slot.reset_peak();
            }
        }
        running.count += 1;
        running.starts += 1;
        running.limits = wanted;
        let starts_before = if running.count == 1 { running.starts } else { 0 };
        drop(running);
        let before = before.unwrap_or_else(|| lease.reading());
        let state = Mutex::default();
        Ok(Self { lease, index, limits, version, started: Instant::now(), before, starts_before, state })
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The program starts now.
    pub(crate) fn begin(&mut self) {
        self.started = Instant::now();
    }

    /// Kills the command because of `cause`, unless it has ended or is being killed already. Returns at
    /// once.
    pub(crate) fn kill(&self, cause: Cause) {
        let mut state = self.state.lock();
        if state.ended || state.cause.is_some() {
            return;
        }
        state.cause = Some((cause, Instant::now()));
        // The waiting task sets a deadline for the init's answer.
        state.wakers.drain(..).for_each(Waker::wake);
        drop(state);
        match self.lease.signal(self.index, Signal::SIGKILL) {
            Ok(()) => self.lease.unbind_disks(false),
            Err(_) => self.lease.end(),
        }
    }

    /// A stream has exceeded the output limit.
    pub(crate) fn cut(&self, stream: usize) {
        self.state.lock().cut[stream] = true;
        self.kill(Cause::Limit(Limit::Output));
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.state.lock().ended
    }

    /// Wakes `waker` when the command ends or is killed.
    pub(crate) fn wake_at_end(&self, waker: &Waker) {
        let mut state = self.state.lock();
        if state.ended {
            waker.wake_by_ref();
        } else if !state.wakers.iter().any(|known| known.will_wake(waker)) {
            state.wakers.push(waker.clone());
        }
    }

    /// Processor time since the command was prepared.
    fn cpu_used(&self) -> Option<Duration> {
        Some(self.lease.slot()?.cpu()?.saturating_sub(self.before.cpu?))
    }

    /// Whether no other command ran meanwhile, so that the cgroup's numbers are its own.
    pub(crate) fn was_alone(&self) -> bool {
        self.lease.running.lock().starts == self.starts_before
    }

    /// The outcome without output and files.
    fn conclude(&self, exit: &Exit) -> Outcome {
        let mut state = self.state.lock();
        state.ended = true;
        state.wakers.drain(..).for_each(Waker::wake);
        let (cause, cut) = (state.cause.map(|(cause, _)| cause), state.cut);
        drop(state);
        if cause.is_some() {
            self.lease.bind_disks();
        }
        let wall = self.started.elapsed();
        // Read once: each number is a system call.
        let after = self.lease.reading();
        let cpu = after.cpu.zip(self.before.cpu).map(|(after, before)| after.saturating_sub(before));
        let facts = Facts { status: exit.status, cause, hit: self.hits(&after), cpu };
        let mut outcome = Outcome::new(facts.verdict(&self.limits));
        outcome.status = Some(WaitStatus::from_raw(exit.status));
        outcome.limits_hit = facts.limits_hit(&outcome.verdict);
        outcome.usage = self.usage(wall, cpu, &after, exit);
        (outcome.stdout.truncated, outcome.stderr.truncated) = (cut[0], cut[1]);
        outcome
    }

    fn hits(&self, after: &Reading) -> Hits {
        Hits {
            memory: after.memory_kills > self.before.memory_kills,
            processes: after.forks_refused > self.before.forks_refused,
        }
    }

    fn usage(&self, wall: Duration, cpu: Option<Duration>, after: &Reading, exit: &Exit) -> Usage {
        let time = |at: usize| Duration::new(exit.usage[at], exit.usage[at + 1] as u32 * 1000);
        let (user, system) = (time(0), time(2));
        let mut usage = Usage::default();
        usage.wall_time = Some(Measured::new(wall, Source::HostClock));
        usage.user_time = Some(Measured::new(user, Source::Rusage));
        usage.system_time = Some(Measured::new(system, Source::Rusage));
        usage.cpu_time = Some(Measured::new(user + system, Source::Rusage));
        usage.memory_peak = Some(Measured::new(exit.usage[4] * 1024, Source::Rusage));
        if let (Some(slot), Some(version), true) = (self.lease.slot(), self.version, self.was_alone()) {
            let source = if version == Version::V1 { Source::CgroupV1 } else { Source::CgroupV2 };
            if let Some(cpu) = cpu {
                usage.cpu_time = Some(Measured::new(cpu, source));
            }
            // A peak that cannot be set back is this command's only if it has grown.
            let grown = |after: Option<u64>, before: Option<u64>| after.filter(|_| after > before);
            let memory = if slot.peak_resets() {
                after.memory_peak
            } else {
                grown(after.memory_peak, self.before.memory_peak)
            };
            if let Some(memory) = memory {
                usage.memory_peak = Some(Measured::new(memory, source));
            }
            let processes = grown(after.processes_peak, self.before.processes_peak);
            usage.processes_peak = processes.map(|count| Measured::new(count, source));
        }
        usage
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.lease.leave(self.index);
        self.lease.running.lock().count -= 1;
    }
}

/// Limits that a cgroup enforces.
pub(crate) fn slot_limits(limits: &Limits) -> SlotLimits {
    SlotLimits {
        memory: limits.memory,
        swap: limits.swap,
        processes: limits.processes,
        bandwidth: limits.cpu_bandwidth,
        cpus: limits.cpu_set.as_ref().map(ToString::to_string),
        disks: limits.io_bandwidth,
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Hits {
    memory: bool,
    processes: bool,
}

/// Everything that decides a verdict.
#[derive(Clone, Copy, Debug)]
struct Facts {
    status: i32,
    cause: Option<Cause>,
    hit: Hits,
    cpu: Option<Duration>,
}

impl Facts {
    /// What we did comes first, then what the kernel did for us, then what the program did.
    fn verdict(&self, limits: &Limits) -> Verdict {
        let status = WaitStatus::from_raw(self.status);
        let signal = status.signal().map(|signal| signal.number());
        match self.cause {
            Some(Cause::Cancelled) => return Verdict::Cancelled,
            Some(Cause::Limit(limit)) => return Verdict::Exceeded(limit),
            None => {}
        }
        let over_cpu = limits.cpu_time.is_some_and(|limit| self.cpu.is_some_and(|used| used > limit));
        if self.hit.memory {
            return Verdict::Exceeded(Limit::Memory);
        }
        if over_cpu || (limits.cpu_time.is_some() && signal == Some(libc::SIGXCPU)) {
            return Verdict::Exceeded(Limit::CpuTime);
        }
        if limits.file_size.is_some() && signal == Some(libc::SIGXFSZ) {
            return Verdict::Exceeded(Limit::FileSize);
        }
        Verdict::from_status(status)
    }

    fn limits_hit(&self, verdict: &Verdict) -> Vec<Limit> {
        let decided = match verdict {
            Verdict::Exceeded(limit) => Some(*limit),
            _ => None,
        };
        let others = [(self.hit.memory, Limit::Memory), (self.hit.processes, Limit::Processes)];
        let others = others.into_iter().filter(|&(hit, limit)| hit && Some(limit) != decided);
        decided.into_iter().chain(others.map(|(_, limit)| limit)).collect()
    }
}

/// Waits for the end of a run and enforces its times. Dropping it before the end kills the command.
pub(crate) struct Watch {
    run: Arc<Run>,
    /// Its own, unless it is for the first command of the lease, which finds one there.
    alarm: Option<Alarm>,
    /// The alarm is set to the end of the time that the init has to report a kill. Set once: to set it again
    /// would take back what has rung and was not heard yet.
    grace: bool,
    ended: bool,
}

impl Watch {
    pub(crate) fn new(run: Arc<Run>, alarm: Option<Alarm>) -> Self {
        let watch = Self { run, alarm, grace: false, ended: false };
        watch.set_alarm(Some(Duration::ZERO));
        watch
    }

    fn alarm(&self) -> &Alarm {
        self.alarm.as_ref().unwrap_or(&self.run.lease.alarm)
    }

    /// To the next moment at which there is something to look at, with so much processor time used.
    fn set_alarm(&self, cpu: Option<Duration>) {
        let run = &self.run;
        let killed = run.state.lock().cause.map(|(_, at)| at + GRACE);
        let wall = run.limits.wall_time.map(|limit| run.started + limit);
        let next = match killed {
            // The init was ended, too, which is heard of by its channel.
            Some(_) if run.lease.is_broken() => None,
            Some(_) => killed,
            None => [wall, self.next_look_at_cpu(cpu)].into_iter().flatten().min(),
        };
        if self.alarm().set(next).is_err() {
            // Nobody could enforce a limit.
            run.lease.end();
        }
    }

    /// With all processors at work the budget cannot be spent before this moment.
    fn next_look_at_cpu(&self, used: Option<Duration>) -> Option<Instant> {
        let limit = self.run.limits.cpu_time?;
        self.run.before.cpu?;
        let left = limit.saturating_sub(used?);
        let cpus =
            self.run.limits.cpu_set.as_ref().map_or_else(processors, |cpus| cpus.iter().count() as u32);
        let parallel = cpus
            .min(self.run.limits.processes.map_or(u32::MAX, |count| count.min(u64::from(u32::MAX)) as u32));
        Some(Instant::now() + (left / parallel.max(1)).max(SHORTEST_LOOK))
    }

    fn look(&self) {
        let run = &self.run;
        let now = Instant::now();
        if let Some((_, at)) = run.state.lock().cause {
            // The init was told to kill and has not reported: it is stopped, or worse.
            if now >= at + GRACE {
                run.lease.end();
            }
            return;
        }
        let over = |limit: Option<Duration>, used: Option<Duration>| matches!((limit, used), (Some(l), Some(u)) if u >= l);
        if over(run.limits.wall_time, Some(run.started.elapsed())) {
            run.kill(Cause::Limit(Limit::WallTime));
        } else if over(run.limits.cpu_time, run.cpu_used()) {
            run.kill(Cause::Limit(Limit::CpuTime));
        }
    }
}

/// How many processors a command may use at once, asked once: the answer takes the system longer than a run.
/// Those of the machine, since a thread that asks may be bound to fewer than the launcher.
fn processors() -> u32 {
    static COUNT: LazyLock<u32> = LazyLock::new(|| {
        let online = nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_ONLN).ok().flatten();
        online.and_then(|count| u32::try_from(count).ok()).unwrap_or(1).max(1)
    });
    *COUNT
}

impl Future for Watch {
    type Output = Result<Outcome, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            if let Poll::Ready(exit) = self.run.lease.poll_exit(cx, self.run.index) {
                self.ended = true;
                let ended = exit.map(|exit| self.run.conclude(&exit));
                return Poll::Ready(ended.inspect_err(|_| self.run.lease.end()));
            }
            self.run.wake_at_end(cx.waker());
            if !self.grace && self.run.state.lock().cause.is_some() {
                self.grace = true;
                self.set_alarm(None);
            }
            if let Err(e) = ready!(self.alarm().poll(cx)) {
                return Poll::Ready(Err(Error::system(Stage::Run, e)));
            }
            self.look();
            self.set_alarm(self.run.cpu_used());
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.ended {
            self.run.kill(Cause::Cancelled);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(status: i32) -> Facts {
        Facts { status, cause: None, hit: Hits::default(), cpu: Some(Duration::from_secs(1)) }
    }

    #[test]
    fn a_limit_explains_a_kill_and_nothing_explains_it_away() {
        let limits = Limits::new().cpu_time(Duration::from_secs(2)).file_size(10);
        assert_eq!(facts(0x700).verdict(&limits), Verdict::Exited { code: 7 });
        let memory = Facts { hit: Hits { memory: true, processes: false }, ..facts(9) };
        assert_eq!(memory.verdict(&limits), Verdict::Exceeded(Limit::Memory));
        let wall = Facts { cause: Some(Cause::Limit(Limit::WallTime)), ..facts(9) };
        assert_eq!(wall.verdict(&limits), Verdict::Exceeded(Limit::WallTime));
        assert_eq!(facts(libc::SIGXFSZ).verdict(&limits), Verdict::Exceeded(Limit::FileSize));
        let plain = Limits::new();
        let signal = facts(libc::SIGXFSZ).verdict(&plain);
        assert!(matches!(signal, Verdict::Signaled { .. }), "no file limit was asked for");
        let unexplained = facts(9).verdict(&limits);
        assert!(matches!(unexplained, Verdict::Signaled { .. }), "a SIGKILL alone is no limit");
    }

    #[test]
    fn too_much_time_counts_even_if_the_program_ended_by_itself() {
        let limits = Limits::new().cpu_time(Duration::from_millis(500));
        assert_eq!(facts(0).verdict(&limits), Verdict::Exceeded(Limit::CpuTime));
    }

    #[test]
    fn a_refused_fork_is_told_although_the_program_lived_on() {
        let facts = Facts { hit: Hits { memory: false, processes: true }, ..facts(0) };
        let verdict = facts.verdict(&Limits::new());
        assert_eq!(verdict, Verdict::Exited { code: 0 });
        assert_eq!(facts.limits_hit(&verdict), [Limit::Processes]);
    }
}
