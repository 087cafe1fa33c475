//! One call into a manager: under a deadline, with panics contained and blocking noticed.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use crate::meta::Reason;

/// From here on a poll counts as blocking its thread.
pub(crate) const BLOCKING: Duration = Duration::from_millis(100);

/// How a call ended.
pub(crate) enum Called<T> {
    Done(T),
    TimedOut,
    Panicked(String),
}

impl<E> Called<Result<(), E>> {
    /// Why the resource must go, with the error's text; `failed` is the reason of an ordinary error.
    pub(crate) fn verdict(self, failed: Reason) -> Result<(), (Reason, String)>
    where
        E: std::error::Error,
    {
        match self {
            Called::Done(Ok(())) => Ok(()),
            Called::Done(Err(error)) => Err((failed, chain(&error))),
            Called::TimedOut => Err((Reason::TimedOut, String::from("the deadline passed"))),
            Called::Panicked(message) => Err((Reason::Panicked, message)),
        }
    }
}

/// Awaits `future` until `deadline`. `hedge` runs once if it takes longer than `hedge.0`; `blocked`
/// hears of polls that hold the thread.
pub(crate) async fn call<T>(
    future: impl Future<Output = T>,
    deadline: Instant,
    hedge: Option<(Duration, impl FnOnce())>,
    blocked: impl Fn(Duration),
) -> Called<T> {
    let mut future = pin!(future);
    let mut deadline_sleep = pin!(None);
    let (hedge_after, mut on_hedge) = match hedge {
        Some((after, run)) => (Some(after), Some(run)),
        None => (None, None),
    };
    let mut hedge_sleep = pin!(None);
    let mut armed = false;
    std::future::poll_fn(move |cx| {
        if let Poll::Ready(called) = poll_watched(future.as_mut(), cx, &blocked) {
            return Poll::Ready(called);
        }
        if !armed {
            armed = true;
            deadline_sleep.set(Some(tokio::time::sleep_until(deadline.into())));
            hedge_sleep.set(hedge_after.map(tokio::time::sleep));
        }
        if let Some(sleep) = hedge_sleep.as_mut().as_pin_mut()
            && sleep.poll(cx).is_ready()
        {
            hedge_sleep.set(None);
            if let Some(run) = on_hedge.take() {
                run();
            }
        }
        match deadline_sleep.as_mut().as_pin_mut().map(|sleep| sleep.poll(cx)) {
            Some(Poll::Ready(())) => Poll::Ready(Called::TimedOut),
            _ => Poll::Pending,
        }
    })
    .await
}

/// One poll, with its panic caught and its length measured.
fn poll_watched<F: Future>(
    future: Pin<&mut F>,
    cx: &mut TaskContext<'_>,
    blocked: &impl Fn(Duration),
) -> Poll<Called<F::Output>> {
    let start = Instant::now();
    let poll = catch_unwind(AssertUnwindSafe(|| future.poll(cx)));
    let held = start.elapsed();
    if held >= BLOCKING {
        blocked(held);
    }
    match poll {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Called::Done(output)),
        Err(panic) => Poll::Ready(Called::Panicked(panic_message(&*panic))),
    }
}

/// Runs `f`; a panic becomes its message.
pub(crate) fn contained<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|panic| panic_message(&*panic))
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").to_owned()
}

/// An error and its sources in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
