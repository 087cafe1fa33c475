//! [`Shared`]: one worker that answers several calls at once.
//!
//! Callers encode their calls into one buffer; a task per worker writes whatever has gathered there in one
//! go, reads what comes, and hands each answer to its caller. With one call at a time this costs a
//! hand-over more than a [`Worker`] of one's own; with 32 it is ten times as fast.

use std::collections::HashMap;
use std::future::poll_fn;
use std::ops::DerefMut;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::call::{CallError, Cause, Deadline, Phase};
use crate::protocol::{Event, Malformed, Protocol, Word};
use crate::worker_process::Worker;

/// A worker as its callers see it.
pub(crate) struct Shared<P: Protocol> {
    pid: i32,
    state: Mutex<State<P>>,
}

struct State<P: Protocol> {
    protocol: P,
    /// Encoded and not yet with the worker.
    output: Vec<u8>,
    open: HashMap<u32, Open<P::Response>>,
    last_id: u32,
    /// Why there are no more calls.
    closed: Option<Cause>,
    /// No more calls come; it ends when those that are open are answered.
    draining: bool,
    driver: Option<Waker>,
}

/// A call whose answer has not come.
struct Open<R> {
    parts: Option<R>,
    /// `None` once its caller has gone: the answer still has to come before the id is free.
    reply: Option<oneshot::Sender<Answer<R>>>,
    deadline: Deadline,
    /// Since when nobody waits for it.
    abandoned: Option<Instant>,
    /// Its place among the worker's calls, free when the answer has come.
    place: Place,
}

/// An answer, and the call's place: free as soon as the caller has the answer, so that whoever knows
/// of an answer finds the place free, and the next call does not come between the two.
type Answer<R> = (Result<R, Cause>, Option<Place>);

/// What a call takes up until it is answered, whether or not its caller still waits.
pub(crate) type Place = Box<dyn Send>;

impl<P: Protocol> Shared<P> {
    pub(crate) fn new(worker: &mut Worker<P>) -> Arc<Self> {
        let state = State {
            protocol: worker.share_protocol(),
            output: Vec::new(),
            open: HashMap::new(),
            last_id: 0,
            closed: None,
            draining: false,
            driver: None,
        };
        Arc::new(Self { pid: worker.pid(), state: Mutex::new(state) })
    }

    /// Ends the worker when all open calls are answered.
    pub(crate) fn drain(&self) {
        let driver = {
            let mut state = self.state.lock();
            state.draining = true;
            state.driver.take()
        };
        driver.into_iter().for_each(Waker::wake);
    }

    /// As [`Worker::call`]. A call that is dropped or late is cancelled, if the protocol can say that;
    /// other calls on the worker are not disturbed.
    pub(crate) async fn call(
        &self,
        request: &P::Request,
        deadline: Deadline,
        place: Place,
    ) -> Result<P::Response, CallError> {
        let begun = Instant::now();
        let failed = |phase, cause| CallError::new(phase, cause, self.pid, begun.elapsed());
        let (id, mut answer) = self.begin(request, deadline, place).map_err(|cause| match cause {
            Cause::Refused(_) => failed(Phase::Write, cause),
            _ => failed(Phase::Queue, cause),
        })?;
        let open = CancelOnDrop { shared: self, id };
        let mut at = deadline.at;
        loop {
            let late = tokio::time::timeout_at(at.into(), &mut answer);
            match late.await {
                Ok(Ok((Ok(response), _place))) => return Ok(response),
                Ok(Ok((Err(cause), _place))) => return Err(failed(Phase::Wait, cause)),
                Ok(Err(_)) => return Err(failed(Phase::Wait, Cause::NotAccepted)),
                Err(_) => match self.extended(open.id) {
                    Some(later) if later > at => at = later,
                    _ => return Err(failed(Phase::Wait, Cause::Deadline)),
                },
            }
        }
    }

    fn begin(
        &self,
        request: &P::Request,
        deadline: Deadline,
        place: Place,
    ) -> Result<(u32, oneshot::Receiver<Answer<P::Response>>), Cause> {
        let (reply, answer) = oneshot::channel();
        let mut state = self.state.lock();
        let state = &mut *state;
        if let Some(cause) = &state.closed {
            return Err(cause.clone());
        }
        if state.draining || !P::HAS_IDS && !state.open.is_empty() {
            return Err(Cause::NotAccepted);
        }
        let id = state.free_id();
        state.protocol.encode(id, request, &mut state.output).map_err(Cause::Refused)?;
        state.open.insert(id, Open { parts: None, reply: Some(reply), deadline, abandoned: None, place });
        // The driver sees everything that was added until it runs.
        if let Some(driver) = state.driver.take() {
            driver.wake();
        }
        Ok((id, answer))
    }

    fn extended(&self, id: u32) -> Option<Instant> {
        self.state.lock().open.get(&id).map(|open| open.deadline.at)
    }

    /// Nobody waits for this call any more. Without ids the worker's next answer would be taken for that of
    /// another call, so it is given up.
    fn cancel(&self, id: u32) {
        let mut state = self.state.lock();
        let state = &mut *state;
        let Some(open) = state.open.get_mut(&id) else { return };
        open.reply = None;
        open.abandoned = Some(Instant::now());
        let _ = state.protocol.cancel(id, &mut state.output);
        state.driver.take().into_iter().for_each(Waker::wake);
    }

    /// Moves what has gathered to the worker, and has the driver woken for what comes next. True when there
    /// is nothing left to do.
    fn load(&self, worker: &mut Worker<P>, waker: &Waker) -> bool {
        let mut state = self.state.lock();
        if !state.output.is_empty() {
            worker.feed(&mut state.output);
        }
        if state.driver.as_ref().is_none_or(|driver| !driver.will_wake(waker)) {
            state.driver = Some(waker.clone());
        }
        state.draining && state.open.is_empty()
    }

    fn owes_too_long(&self) -> bool {
        let state = self.state.lock();
        state.open.values().any(|open| open.abandoned.is_some_and(|since| since.elapsed() >= OWED))
    }

    fn event(&self, event: Event<P::Response>, worker: &mut Worker<P>) -> Result<(), Cause> {
        let mut state = self.state.lock();
        let id = if P::HAS_IDS { event.id } else { state.only_id() };
        let answer = match event.word {
            Word::Retire => {
                worker.set_retiring();
                return Ok(());
            }
            Word::Part(part) => {
                state.open(id)?.add::<P>(part);
                return Ok(());
            }
            Word::Extend(time) => {
                state.open(id)?.deadline.extend(time);
                return Ok(());
            }
            Word::Done(part) => {
                let open = state.open(id)?;
                open.add::<P>(part);
                open.parts.take().map(Ok)
            }
            Word::Failed(why) => Some(Err(Cause::Failed(why))),
            Word::Ready | Word::Pong => return Err(Cause::Malformed(Malformed::Unexpected("this word"))),
        };
        let open = state.open.remove(&id).ok_or(Cause::Malformed(Malformed::WrongId(id)))?;
        drop(state);
        worker.count_call();
        if let (Some(reply), Some(answer)) = (open.reply, answer) {
            // A caller that has gone meanwhile does not mind.
            let _ = reply.send((answer, Some(open.place)));
        }
        Ok(())
    }

    fn close(&self, cause: Cause) {
        let open = {
            let mut state = self.state.lock();
            state.closed = Some(cause.clone());
            std::mem::take(&mut state.open)
        };
        for reply in open.into_values().filter_map(|open| open.reply) {
            let _ = reply.send((Err(cause.clone()), None));
        }
    }
}

impl<P: Protocol> State<P> {
    fn free_id(&mut self) -> u32 {
        loop {
            self.last_id = self.last_id % (i32::MAX as u32) + 1;
            if !self.open.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }

    /// The call that is open, where there can be only one.
    fn only_id(&self) -> u32 {
        self.open.keys().next().copied().unwrap_or(0)
    }

    fn open(&mut self, id: u32) -> Result<&mut Open<P::Response>, Cause> {
        self.open.get_mut(&id).ok_or(Cause::Malformed(Malformed::WrongId(id)))
    }
}

impl<R> Open<R> {
    fn add<P: Protocol<Response = R>>(&mut self, part: R) {
        match &mut self.parts {
            Some(parts) => P::append(parts, part),
            None => self.parts = Some(part),
        }
    }
}

struct CancelOnDrop<'a, P: Protocol> {
    shared: &'a Shared<P>,
    id: u32,
}

impl<P: Protocol> Drop for CancelOnDrop<'_, P> {
    fn drop(&mut self) {
        self.shared.cancel(self.id);
    }
}

/// How long a worker may owe an answer to callers that have gone, before it is given up.
const OWED: Duration = Duration::from_secs(1);

enum Seen<R> {
    Event(Event<R>),
    /// Nothing is open and nothing more comes.
    Drained,
    Failed(Cause),
    ChannelEnded,
}

/// Serves a worker until it ends, fails or is drained; calls `worn` once when it should be replaced. Dropping
/// the worker at the end returns it to its pool, which keeps only one that owes nothing.
pub(crate) async fn drive<P: Protocol>(
    mut worker: impl DerefMut<Target = Worker<P>>,
    shared: Arc<Shared<P>>,
    worn: impl FnOnce(),
) {
    let life = worker.child().life.clone();
    let mut died = pin!(life.died());
    let mut patience = pin!(tokio::time::sleep(OWED));
    let mut worn = Some(worn);
    worker.set_busy(true);
    let cause = loop {
        let seen = poll_fn(|cx| {
            if shared.load(&mut worker, cx.waker()) {
                return Poll::Ready(Seen::Drained);
            }
            match worker.poll_event(cx) {
                Poll::Ready(Ok(Some(event))) => return Poll::Ready(Seen::Event(event)),
                Poll::Ready(Ok(None)) => return Poll::Ready(Seen::ChannelEnded),
                Poll::Ready(Err(cause)) => return Poll::Ready(Seen::Failed(cause)),
                Poll::Pending => {}
            }
            if let Poll::Ready(death) = died.as_mut().poll(cx) {
                return Poll::Ready(Seen::Failed(Cause::Exited(death)));
            }
            while patience.as_mut().poll(cx).is_ready() {
                if shared.owes_too_long() {
                    return Poll::Ready(Seen::Failed(Cause::Deadline));
                }
                patience.as_mut().reset((Instant::now() + OWED).into());
            }
            Poll::Pending
        });
        match seen.await {
            Seen::Event(event) => {
                if let Err(cause) = shared.event(event, &mut worker) {
                    break cause;
                }
            }
            Seen::Failed(cause) => break cause,
            Seen::Drained => {
                worker.set_busy(false);
                break Cause::NotAccepted;
            }
            // The process most often has ended, too, which is known in a moment.
            Seen::ChannelEnded => match tokio::time::timeout(OWED, died.as_mut()).await {
                Ok(death) => break Cause::Exited(death),
                Err(_) => break Cause::Closed,
            },
        }
        if worker.is_worn()
            && let Some(worn) = worn.take()
        {
            worn();
        }
    };
    shared.close(cause);
}
