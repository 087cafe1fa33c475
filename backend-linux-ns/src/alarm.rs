//! [`Alarm`]: a timer that the runtime knows as a descriptor.

use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::reactor::register;

/// Rings at a moment that can be set anew. It is made when there is time for it; to set it is one system call,
/// where a new timer of the runtime's wakes the runtime up, so that it looks how long it may sleep.
#[derive(Debug)]
pub(crate) struct Alarm {
    timer: AsyncFd<OwnedFd>,
}

impl Alarm {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self { timer: register(timer, Interest::READABLE)? })
    }

    /// Sets it to `at`, which may have passed, or stops it.
    pub(crate) fn set(&self, at: Option<Instant>) -> io::Result<()> {
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let left = at.map(|at| at.saturating_duration_since(Instant::now()));
        let value = left.map_or(never, |left| Timespec {
            tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
            // No time at all would stop it.
            tv_nsec: i64::from(left.subsec_nanos().max(1)),
        });
        timerfd_settime(
            &self.timer,
            TimerfdTimerFlags::empty(),
            &Itimerspec { it_interval: never, it_value: value },
        )?;
        Ok(())
    }

    /// Waits until it rings.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.timer.poll_read_ready(cx))?;
            match rustix::io::read(self.timer.get_ref(), &mut [0; 8]) {
                Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                other => return Poll::Ready(other.map(drop).map_err(io::Error::from)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn it_rings_at_the_moment_that_was_set_last() {
        let alarm = Alarm::new().unwrap();
        let begun = Instant::now();
        alarm.set(Some(begun)).unwrap();
        poll_fn(|cx| alarm.poll(cx)).await.unwrap();
        alarm.set(Some(begun + Duration::from_millis(10))).unwrap();
        alarm.set(Some(begun + Duration::from_millis(50))).unwrap();
        poll_fn(|cx| alarm.poll(cx)).await.unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(50));
        alarm.set(Some(Instant::now())).unwrap();
        alarm.set(None).unwrap();
        let rings = tokio::time::timeout(Duration::from_millis(20), poll_fn(|cx| alarm.poll(cx))).await;
        assert!(rings.is_err(), "it was stopped");
    }
}
