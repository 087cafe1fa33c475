//! [`Shared`]: calls that are under way at the same time, at one worker or at several that share a queue.
//!
//! Callers encode their calls into one buffer; a task per worker writes whatever has gathered there in one
//! go, reads what comes, and hands each answer to its caller. With one call at a time this costs a
//! hand-over more than a [`Worker`] of one's own; with 32 it is ten times as fast.
//!
//! With a [`CallQueue`] callers put their calls into it themselves, and there is such a task for each worker that
//! takes from it, for the answers.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::DerefMut;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use poolyard_worker::MAX_QUEUED;
use tokio::sync::oneshot;

use crate::call::{CallError, Cause, Deadline, Phase};
use crate::call_queue::CallQueue;
use crate::exit::Death;
use crate::protocol::{Event, Malformed, Protocol, Word};
use crate::supervisor::Life;
use crate::sys::fds;
use crate::worker_process::Worker;

/// A worker, or a queue of workers, as its callers see it.
pub(crate) struct Shared<P: Protocol> {
    /// The one that has all the calls; `None` where several take them from a queue.
    life: Option<Arc<Life>>,
    state: Mutex<State<P>>,
}

struct State<P: Protocol> {
    protocol: P,
    /// Encoded and not yet with the worker.
    output: Vec<u8>,
    /// Where calls go instead.
    outlet: Option<Outlet>,
    open: HashMap<u32, Open<P::Response>, BuildHasherDefault<IdHasher>>,
    last_id: u32,
    /// How many calls there have been.
    count: u64,
    /// Why there are no more calls.
    closed: Option<Cause>,
    /// No more calls come; it ends when those that are open are answered.
    draining: bool,
    driver: Option<Waker>,
}

/// The way into a queue that the kernel keeps.
struct Outlet {
    queue: CallQueue,
    /// For which the kernel had no room yet.
    unsent: VecDeque<(u32, Vec<u8>)>,
}

/// For ids, which nobody but this file chooses.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32((self.0 as u32) << 8 | u32::from(*byte)));
    }

    fn write_u32(&mut self, id: u32) {
        self.0 = u64::from(id).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// A call whose answer has not come.
struct Open<R> {
    /// Its number in the order in which calls came.
    number: u64,
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
type Answer<R> = (Result<R, Failure>, Option<Place>);

/// Why a call failed, and at which worker.
#[derive(Clone)]
struct Failure {
    phase: Phase,
    cause: Cause,
    pid: i32,
    stderr: String,
}

impl Failure {
    fn at<P: Protocol>(worker: &Worker<P>, cause: Cause) -> Self {
        Self { phase: Phase::Wait, cause, pid: worker.pid(), stderr: worker.stderr() }
    }

    fn before_any_worker(cause: Cause) -> Self {
        Self { phase: Phase::Queue, cause, pid: 0, stderr: String::new() }
    }
}

/// What a call takes up until it is answered, whether or not its caller still waits.
pub(crate) type Place = Box<dyn Send>;

impl<P: Protocol> Shared<P> {
    /// The calls of this worker.
    pub(crate) fn new(worker: &mut Worker<P>) -> Arc<Self> {
        let life = Some(worker.child().life.clone());
        Arc::new(Self { life, state: Mutex::new(State::new(worker.share_protocol(), None)) })
    }

    /// The calls of all workers that take from this queue.
    pub(crate) fn queued(protocol: P, queue: CallQueue) -> Arc<Self> {
        let outlet = Outlet { queue, unsent: VecDeque::new() };
        Arc::new(Self { life: None, state: Mutex::new(State::new(protocol, Some(outlet))) })
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
        self: &Arc<Self>,
        request: &P::Request,
        deadline: Deadline,
        place: Place,
    ) -> Result<P::Response, CallError> {
        let begun = Instant::now();
        let (id, mut answer) = self.begin(request, deadline, place).map_err(|cause| {
            let phase = if matches!(cause, Cause::Refused(_)) { Phase::Write } else { Phase::Queue };
            self.failure(phase, cause).after(begun)
        })?;
        let open = CancelOnDrop { shared: self, id };
        let mut at = deadline.at;
        let answered = loop {
            match tokio::time::timeout_at(at.into(), &mut answer).await {
                Ok(answered) => break answered,
                Err(_) => match self.extended(open.id) {
                    Some(later) if later > at => at = later,
                    _ => return Err(self.failure(self.phase(id), Cause::Deadline).after(begun)),
                },
            }
        };
        // Nothing is left to be cancelled.
        std::mem::forget(open);
        match answered {
            Ok((answer, _place)) => answer.map_err(|failure| failure.after(begun)),
            Err(_) => Err(self.failure(Phase::Wait, Cause::NotAccepted).after(begun)),
        }
    }

    fn failure(&self, phase: Phase, cause: Cause) -> Failure {
        match &self.life {
            Some(life) => Failure { phase, cause, pid: life.pid, stderr: life.stderr() },
            None => Failure { phase, ..Failure::before_any_worker(cause) },
        }
    }

    /// How far an open call has come.
    fn phase(&self, id: u32) -> Phase {
        let state = self.state.lock();
        let number = state.open.get(&id).map_or(0, |open| open.number);
        if state.first_untaken().is_some_and(|first| number >= first) { Phase::Queue } else { Phase::Wait }
    }

    fn begin(
        self: &Arc<Self>,
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
        let stuck = match &mut state.outlet {
            None => {
                state.protocol.encode(id, request, &mut state.output).map_err(Cause::Refused)?;
                false
            }
            Some(outlet) => {
                let mut message = Vec::new();
                state.protocol.encode(id, request, &mut message).map_err(Cause::Refused)?;
                outlet.push(id, message).map_err(Cause::Refused)?
            }
        };
        state.count += 1;
        let number = state.count;
        let reply = Some(reply);
        state.open.insert(id, Open { number, parts: None, reply, deadline, abandoned: None, place });
        if stuck {
            tokio::spawn(flush(Arc::downgrade(self)));
        }
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
    /// another call, so it is given up. One that is in the kernel's queue is executed all the same.
    fn cancel(&self, id: u32) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if state.outlet.as_mut().is_some_and(|outlet| outlet.forget(id)) {
            let unsent = state.open.remove(&id);
            drop(guard);
            return drop(unsent);
        }
        let Some(open) = state.open.get_mut(&id) else { return };
        open.reply = None;
        open.abandoned = Some(Instant::now());
        if state.outlet.is_none() {
            let _ = state.protocol.cancel(id, &mut state.output);
        }
        state.driver.take().into_iter().for_each(Waker::wake);
    }

    /// Moves what has gathered to the worker, and has the driver woken for what comes next. True when there
    /// is nothing left to do.
    fn load(&self, worker: &mut Worker<P>, waker: &Waker) -> bool {
        let mut state = self.state.lock();
        if state.outlet.is_some() {
            return false;
        }
        if !state.output.is_empty() {
            worker.feed(&mut state.output);
        }
        if state.driver.as_ref().is_none_or(|driver| !driver.will_wake(waker)) {
            state.driver = Some(waker.clone());
        }
        state.draining && state.open.is_empty()
    }

    /// Whether a worker owes an answer for too long to callers that have gone.
    fn owes_too_long(&self, worker: &Worker<P>) -> bool {
        let state = self.state.lock();
        let too_long = |open: &Open<P::Response>| open.abandoned.is_some_and(|since| since.elapsed() >= OWED);
        match state.outlet {
            None => state.open.values().any(too_long),
            Some(_) => state.open.get(&worker.taken_call()).is_some_and(too_long),
        }
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
            Word::Failed(why) => Some(Err(Failure::at(worker, Cause::Failed(why)))),
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

    /// What a worker had answered before its end counts.
    fn last_words(&self, worker: &mut Worker<P>, death: Death) -> Cause {
        loop {
            match worker.last_words(death).and_then(|event| self.event(event, worker)) {
                Ok(()) => {}
                Err(cause) => return cause,
            }
        }
    }

    fn close(&self, failure: &Failure) {
        let ids: Vec<u32> = {
            let mut state = self.state.lock();
            state.closed = Some(failure.cause.clone());
            state.open.keys().copied().collect()
        };
        self.fail(&ids, failure);
    }

    fn fail(&self, ids: &[u32], failure: &Failure) {
        let failed: Vec<_> = {
            let mut state = self.state.lock();
            ids.iter().filter_map(|id| state.open.remove(id)).collect()
        };
        for Open { reply, place, .. } in failed {
            if let Some(reply) = reply {
                let _ = reply.send((Err(failure.clone()), Some(place)));
            }
        }
    }

    /// Takes back what no worker has taken from the queue, and fails it.
    pub(crate) fn recall(&self, cause: Cause) {
        let ids: Vec<u32> = {
            let mut state = self.state.lock();
            let Some(outlet) = &mut state.outlet else { return };
            let taken_back = std::iter::from_fn(|| outlet.queue.take_back());
            let mut ids: Vec<u32> = taken_back.collect();
            ids.extend(outlet.unsent.drain(..).map(|(id, _)| id));
            ids
        };
        self.fail(&ids, &Failure::before_any_worker(cause));
    }

    /// Calls that have been taken, and that no worker says that it has.
    fn astray(&self) -> Vec<u32> {
        let state = self.state.lock();
        let Some(outlet) = &state.outlet else { return Vec::new() };
        let (first, said) = (state.first_untaken().unwrap_or(u64::MAX), outlet.queue.taken());
        let taken = state.open.iter().filter(|(_, open)| open.number < first);
        taken.map(|(id, _)| *id).filter(|id| !said.contains(id)).collect()
    }
}

impl Outlet {
    /// Puts a call into the queue. True if it is the first for which there is no room.
    fn push(&mut self, id: u32, message: Vec<u8>) -> Result<bool, Malformed> {
        if message.len() > MAX_QUEUED {
            return Err(Malformed::TooLarge { len: message.len(), max: MAX_QUEUED });
        }
        let first = self.unsent.is_empty();
        match if first { self.queue.push(&message) } else { Err(nix::Error::EAGAIN) } {
            Ok(()) => Ok(false),
            Err(nix::Error::EAGAIN | nix::Error::ENOBUFS) => {
                self.unsent.push_back((id, message));
                Ok(first)
            }
            Err(error) => Err(Malformed::NotAMessage(error.to_string())),
        }
    }

    /// Puts those into the queue that wait for room. True when none is left.
    fn push_more(&mut self) -> bool {
        while let Some((_, message)) = self.unsent.front() {
            if self.queue.push(message).is_err() {
                return false;
            }
            self.unsent.pop_front();
        }
        true
    }

    /// Drops a call that is not in the queue yet.
    fn forget(&mut self, id: u32) -> bool {
        let before = self.unsent.len();
        self.unsent.retain(|(unsent, _)| *unsent != id);
        self.unsent.len() < before
    }
}

/// A worker has ended that took from the queue: the call that it had is lost with it, and no other.
async fn settle<P: Protocol>(shared: Arc<Shared<P>>, taken: u32, failure: Failure) {
    if taken != 0 {
        return shared.fail(&[taken], &failure);
    }
    // It has said nothing of a call, but may have died between taking one and saying so. Such a call is
    // nobody's from now on, while that of a living worker is said or answered in a moment.
    let mut astray = shared.astray();
    for _ in 0..LOOKS {
        if astray.is_empty() {
            return;
        }
        tokio::time::sleep(OWED / LOOKS).await;
        let now = shared.astray();
        astray.retain(|id| now.contains(id));
    }
    shared.fail(&astray, &failure);
}

/// Puts calls into the queue as there is room, until none is left.
async fn flush<P: Protocol>(shared: Weak<Shared<P>>) {
    let end = {
        let Some(shared) = shared.upgrade() else { return };
        let state = shared.state.lock();
        state.outlet.as_ref().and_then(|outlet| fds::watch(outlet.queue.end().ok()?).ok())
    };
    loop {
        // Without a look at the end of the queue, now and then has to do.
        let room = match &end {
            Some(end) => end.writable().await.ok(),
            None => None,
        };
        let Some(shared) = shared.upgrade() else { return };
        if shared.state.lock().outlet.as_mut().is_none_or(Outlet::push_more) {
            return;
        }
        match room {
            Some(mut room) => room.clear_ready(),
            None => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}

impl Failure {
    fn after(self, begun: Instant) -> CallError {
        let Self { phase, cause, pid, stderr } = self;
        CallError::new(phase, cause, pid, begun.elapsed()).with(stderr, &[])
    }
}

impl<P: Protocol> State<P> {
    fn new(protocol: P, outlet: Option<Outlet>) -> Self {
        let (output, open, last_id, count, closed, draining, driver) = Default::default();
        Self { protocol, output, outlet, open, last_id, count, closed, draining, driver }
    }

    /// The number of the first call that no worker has taken from the queue.
    fn first_untaken(&self) -> Option<u64> {
        let outlet = self.outlet.as_ref()?;
        let first = outlet.queue.first().or(outlet.unsent.front().map(|(id, _)| *id))?;
        self.open.get(&first).map(|open| open.number)
    }

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

/// How often it is looked within that time whether a call is nobody's.
const LOOKS: u32 = 20;

enum Seen<R> {
    Event(Event<R>),
    /// Nothing is open and nothing more comes.
    Drained,
    Failed(Cause),
    Died(Death),
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
                return Poll::Ready(Seen::Died(death));
            }
            while patience.as_mut().poll(cx).is_ready() {
                if shared.owes_too_long(&worker) {
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
            Seen::Died(death) => break shared.last_words(&mut worker, death),
            Seen::Drained => {
                worker.set_busy(false);
                break Cause::NotAccepted;
            }
            // The process most often has ended, too, which is known in a moment.
            Seen::ChannelEnded => match tokio::time::timeout(OWED, died.as_mut()).await {
                Ok(death) => break shared.last_words(&mut worker, death),
                Err(_) => break Cause::Closed,
            },
        }
        if worker.is_worn()
            && let Some(worn) = worn.take()
        {
            worn();
        }
    };
    let failure = Failure::at(&worker, cause);
    match shared.life {
        Some(_) => shared.close(&failure),
        // Beside this, since the worker's successor does not wait for it.
        None => drop(tokio::spawn(settle(shared, worker.taken_call(), failure))),
    }
}
