//! Futures that are dropped at every point where they can be, and futures that are polled by hand.
//!
//! A caller can go away at any `.await`. [`everywhere`] runs a scenario once for each of these
//! points, found by counting and not by guessing, and at each of them in two ways: at once after
//! the poll, and after the next wake (when something may already have been granted to the future
//! that it does not know of yet). [`HandPolled`] needs no runtime at all: the test itself decides
//! who is polled next, and sees who was woken.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};

/// More polls than any scenario should need: a future that passes it is not finished by polling.
const MAX_POLLS: usize = 1_000;

/// Where one run of a scenario drops its future.
#[derive(Debug)]
pub struct Cut {
    polls: usize,
    /// Whether the future waits for its next wake before it is dropped.
    after_wake: bool,
    finished: AtomicBool,
}

impl Cut {
    fn new(polls: usize, after_wake: bool) -> Self {
        Self { polls, after_wake, finished: AtomicBool::new(false) }
    }

    /// How often the future is polled before it is dropped.
    pub fn polls(&self) -> usize {
        self.polls
    }

    /// Runs `future` up to the cut. `None` says that it was dropped there.
    pub async fn run<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = Some(Box::pin(future));
        let mut polls = 0;
        let output = poll_fn(|cx| {
            if polls < self.polls {
                polls += 1;
                if let Some(Poll::Ready(output)) = future.as_mut().map(|f| f.as_mut().poll(cx)) {
                    return Poll::Ready(Some(output));
                }
                if polls < self.polls || self.after_wake {
                    return Poll::Pending;
                }
            }
            future = None;
            Poll::Ready(None)
        })
        .await;
        self.finished.store(output.is_some(), SeqCst);
        output
    }

    fn finished(&self) -> bool {
        self.finished.load(SeqCst)
    }
}

/// Runs `scenario` once for every point at which the future given to [`Cut::run`] can be dropped.
///
/// The scenario builds its world anew each time, passes one future to `cut.run`, and asserts
/// afterwards. The last run is the one in which the future is not dropped.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use poolyard_testkit::{Gate, cancel};
///
/// let runs = cancel::everywhere(async |cut| {
///     let gate = Gate::new();
///     gate.release(1);
///     let passed = cut.run(gate.pass()).await.is_some();
///     assert_eq!(gate.waiting(), 0, "passed: {passed}");
/// })
/// .await;
/// assert!(runs > 1);
/// # });
/// ```
///
/// Returns the number of runs.
///
/// # Panics
///
/// If the future has not ended after 1,000 polls.
pub async fn everywhere(scenario: impl AsyncFnMut(&Cut)) -> usize {
    match up_to(MAX_POLLS, scenario).await {
        (runs, true) => runs,
        _ => panic!("the future did not end within {MAX_POLLS} polls: does the scenario let it end?"),
    }
}

/// Like [`everywhere`], but at most the first `max_polls` polls are cut. For futures of which
/// nobody knows how often they are polled.
///
/// Returns the number of runs, and whether the future came to its end in the last of them.
pub async fn up_to(max_polls: usize, mut scenario: impl AsyncFnMut(&Cut)) -> (usize, bool) {
    let mut runs = 0;
    for polls in 0..max_polls {
        for after_wake in [false, true] {
            // Without a poll there is no wake to wait for.
            if polls == 0 && after_wake {
                continue;
            }
            let cut = Cut::new(polls, after_wake);
            scenario(&cut).await;
            runs += 1;
            if cut.finished() {
                return (runs, true);
            }
        }
    }
    (runs, false)
}

/// Like [`everywhere`] for two futures: every pair of points at which they can be dropped.
///
/// Returns the number of runs.
///
/// # Panics
///
/// If one of the futures has not ended after 1,000 polls.
pub async fn every_pair(mut scenario: impl AsyncFnMut(&Cut, &Cut)) -> usize {
    let mut runs = 0;
    everywhere(async |first| {
        let (polls, after_wake) = (first.polls, first.after_wake);
        runs += everywhere(async |second| {
            let again = Cut::new(polls, after_wake);
            scenario(&again, second).await;
            first.finished.store(again.finished(), SeqCst);
        })
        .await;
    })
    .await;
    runs
}

/// Polls a future with a counting waker, to its end, and says how many polls it took.
/// The future must not need a runtime to be woken.
///
/// # Panics
///
/// If the future waits for something that nobody here can do.
pub fn count_polls<F: Future>(future: F) -> (usize, F::Output) {
    let mut future = HandPolled::new(future);
    for polls in 1.. {
        if let Poll::Ready(output) = future.poll() {
            return (polls, output);
        }
        assert!(future.is_woken(), "the future waits and nobody will wake it: it took {polls} polls");
    }
    unreachable!("the loop has no end")
}

/// Polls a pinned future once, with a waker that does nothing.
pub fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Counts how often it is woken.
#[derive(Debug, Default)]
pub struct CountingWaker(AtomicUsize);

impl CountingWaker {
    /// A counter that was not woken yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// How often it was woken.
    pub fn wakes(&self) -> usize {
        self.0.load(SeqCst)
    }

    /// The waker to poll with.
    pub fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }
}

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// Owns a future that the test polls by hand, and counts its wakes. Dropping it drops the future.
///
/// ```
/// use poolyard_testkit::{Gate, cancel::HandPolled};
///
/// let gate = Gate::new();
/// let mut call = HandPolled::new(gate.pass());
/// assert!(call.poll().is_pending());
/// assert!(!call.is_woken());
/// gate.release(1);
/// assert!(call.is_woken());
/// assert!(call.poll().is_ready());
/// ```
#[derive(Debug)]
pub struct HandPolled<F: Future> {
    future: Pin<Box<F>>,
    waker: Arc<CountingWaker>,
    /// The number of wakes when the future was polled last; before the first poll, it is due.
    seen: Option<usize>,
    done: bool,
}

impl<F: Future> HandPolled<F> {
    /// Takes the future, unpolled.
    pub fn new(future: F) -> Self {
        Self { future: Box::pin(future), waker: CountingWaker::new(), seen: None, done: false }
    }

    /// Polls once, woken or not.
    ///
    /// # Panics
    ///
    /// If the future has already ended.
    pub fn poll(&mut self) -> Poll<F::Output> {
        assert!(!self.done, "the future has already ended");
        self.seen = Some(self.waker.wakes());
        let polled = self.future.as_mut().poll(&mut Context::from_waker(&self.waker.waker()));
        self.done = polled.is_ready();
        polled
    }

    /// Polls as an executor would: only while it is woken (or was never polled).
    pub fn run(&mut self) -> Poll<F::Output> {
        while self.is_woken() {
            if let Poll::Ready(output) = self.poll() {
                return Poll::Ready(output);
            }
        }
        Poll::Pending
    }

    /// Whether an executor would poll it: it was woken since its last poll, or never polled.
    pub fn is_woken(&self) -> bool {
        !self.done && self.seen.is_none_or(|seen| self.waker.wakes() > seen)
    }

    /// How often it was woken so far.
    pub fn wakes(&self) -> usize {
        self.waker.wakes()
    }

    /// Whether it has ended.
    pub fn is_done(&self) -> bool {
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Step;
    use parking_lot::Mutex;

    #[test]
    fn polls_are_counted() {
        assert_eq!(count_polls(Step::ok().play()), (1, Ok(())));
        assert_eq!(count_polls(Step::err("no").yields(3).play()), (4, Err("no")));
    }

    #[test]
    #[should_panic(expected = "nobody will wake it")]
    fn a_future_that_hangs_is_not_counted_for_ever() {
        let _ = count_polls(Step::hang().yields(2).play());
    }

    #[tokio::test]
    async fn every_await_point_is_cut_early_and_late() {
        let cuts = Mutex::new(Vec::new());
        everywhere(async |cut| {
            let output = cut.run(Step::ok().yields(2).play()).await;
            cuts.lock().push((cut.polls(), cut.after_wake, output.is_some()));
        })
        .await;
        let expected = [
            (0, false, false),
            (1, false, false),
            (1, true, false),
            (2, false, false),
            (2, true, false),
            (3, false, true),
        ];
        assert_eq!(*cuts.lock(), expected);
    }

    #[tokio::test]
    async fn every_pair_is_cut() {
        let mut finished = 0;
        let runs = every_pair(async |first, second| {
            let one = first.run(Step::ok().yields(1).play()).await;
            let two = second.run(Step::ok().yields(2).play()).await;
            finished += usize::from(one.is_some() && two.is_some());
        })
        .await;
        assert_eq!((runs, finished), (4 * 6, 1));
    }

    #[test]
    fn a_hand_polled_future_runs_only_while_it_is_woken() {
        let mut future = HandPolled::new(Step::hang().yields(2).play());
        assert!(future.is_woken());
        assert!(future.run().is_pending());
        assert_eq!(future.wakes(), 2);
        assert!(!future.is_woken());
    }
}
