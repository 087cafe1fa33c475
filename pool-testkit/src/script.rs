//! [`Step`]: what one call of a scripted manager does, and in which order calls take their steps.

use std::collections::{BTreeMap, VecDeque};
use std::future::{pending, poll_fn};
use std::panic::resume_unwind;
use std::task::Poll;
use std::time::Duration;

use proptest::prelude::*;

use crate::gate::Gate;

/// The methods of a manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "each is named after the method")]
pub enum Method {
    Create,
    Recycle,
    HealthCheck,
    Destroy,
    DestroyNow,
    Reuse,
    Cost,
    Retry,
    Describe,
    Hibernate,
    Wake,
    GenericKey,
    Specialise,
}

/// What one call does: it waits (yields, then time, then a gate) and then ends in one way.
///
/// ```
/// use poolyard_testkit::{Gate, Step};
/// use std::time::Duration;
///
/// let gate = Gate::new();
/// let steps = [
///     Step::ok(),
///     Step::ok().yields(3),
///     Step::err("no such image").after(Duration::from_secs(2)),
///     Step::ok().at(&gate),
///     Step::panic(),
///     Step::hang(),
/// ];
/// # let _ = steps;
/// ```
#[derive(Clone, Debug)]
pub struct Step {
    yields: u32,
    sleep: Option<Duration>,
    gate: Option<Gate>,
    then: Then,
}

/// How a call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It does what it should.
    Ok,
    /// It fails with this text. Methods without an error take it for [`Then::Ok`].
    Err(&'static str),
    /// It never ends.
    Hang,
    /// It panics when its future is polled; synchronous methods panic when they are called.
    Panic,
    /// It panics before it has even returned a future.
    PanicAtCall,
    /// It holds its thread for so long, and then does what it should.
    Block(Duration),
}

impl Step {
    /// A call that ends like `then`, without waiting.
    pub const fn new(then: Then) -> Self {
        Self { yields: 0, sleep: None, gate: None, then }
    }

    /// A call that does what it should.
    pub const fn ok() -> Self {
        Self::new(Then::Ok)
    }

    /// A call that fails.
    pub const fn err(text: &'static str) -> Self {
        Self::new(Then::Err(text))
    }

    /// A call that never ends.
    pub const fn hang() -> Self {
        Self::new(Then::Hang)
    }

    /// A call that panics at its last poll. The panic is not printed.
    pub const fn panic() -> Self {
        Self::new(Then::Panic)
    }

    /// A call that panics before it has returned a future. The panic is not printed.
    pub const fn panic_at_call() -> Self {
        Self::new(Then::PanicAtCall)
    }

    /// A call that holds its thread for `time`.
    pub const fn block(time: Duration) -> Self {
        Self::new(Then::Block(time))
    }

    /// Returns to the executor `count` times first, each time with its waker already woken.
    pub const fn yields(mut self, count: u32) -> Self {
        self.yields = count;
        self
    }

    /// Sleeps for `time` first, by tokio's clock.
    pub const fn after(mut self, time: Duration) -> Self {
        self.sleep = Some(time);
        self
    }

    /// Waits at `gate` first.
    pub fn at(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }

    /// What happens before a future exists.
    pub(crate) fn at_call(&self) {
        if self.then == Then::PanicAtCall {
            quiet_panic();
        }
    }

    /// The whole step of a synchronous method: it cannot wait, only panic or block.
    pub(crate) fn in_sync(&self) {
        match self.then {
            Then::Panic | Then::PanicAtCall => quiet_panic(),
            Then::Block(time) => std::thread::sleep(time),
            Then::Ok | Then::Err(_) | Then::Hang => {}
        }
    }

    /// What happens while the future is polled.
    pub(crate) async fn play(self) -> Result<(), &'static str> {
        yield_times(self.yields).await;
        if let Some(time) = self.sleep {
            tokio::time::sleep(time).await;
        }
        if let Some(gate) = &self.gate {
            gate.pass().await;
        }
        match self.then {
            Then::Ok | Then::PanicAtCall => Ok(()),
            Then::Err(text) => Err(text),
            Then::Hang => pending().await,
            Then::Panic => quiet_panic(),
            Then::Block(time) => {
                std::thread::sleep(time);
                Ok(())
            }
        }
    }
}

/// Unwinds without the panic hook, so that planned panics do not look like failures in the output.
fn quiet_panic() -> ! {
    resume_unwind(Box::new("scripted panic"))
}

async fn yield_times(mut count: u32) {
    poll_fn(|cx| {
        if count == 0 {
            return Poll::Ready(());
        }
        count -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

/// A proptest strategy of steps that need no time: some yields, then success, failure, a panic or
/// a hang. Successes are the most frequent, and steps shrink towards [`Step::ok`].
pub fn steps() -> impl Strategy<Value = Step> {
    let then = prop_oneof![
        12 => Just(Then::Ok),
        3 => Just(Then::Err("scripted error")),
        1 => Just(Then::Panic),
        1 => Just(Then::PanicAtCall),
        1 => Just(Then::Hang),
    ];
    (0..4u32, then).prop_map(|(yields, then)| Step::new(then).yields(yields))
}

/// Queues of steps, one per method, and what happens when a queue is empty.
#[derive(Debug, Default)]
pub(crate) struct Script {
    queues: BTreeMap<Method, VecDeque<Step>>,
    defaults: BTreeMap<Method, Step>,
}

impl Script {
    pub(crate) fn push(&mut self, method: Method, steps: impl IntoIterator<Item = Step>) {
        self.queues.entry(method).or_default().extend(steps);
    }

    pub(crate) fn set_default(&mut self, method: Method, step: Step) {
        self.defaults.insert(method, step);
    }

    /// Forgets all steps that are left, and the defaults: from now on everything goes well.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn next(&mut self, method: Method) -> Step {
        let queued = self.queues.get_mut(&method).and_then(VecDeque::pop_front);
        queued.or_else(|| self.defaults.get(&method).cloned()).unwrap_or(Step::ok())
    }
}
