//! [`Worker`]: one worker process, and the calls to it.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use poolyard_core::Reuse;
use tokio::time::sleep_until;

use crate::call::{CallError, Cause, Deadline, Phase};
use crate::call_queue::Seat;
use crate::exit::{Death, Kill};
use crate::in_place::RequestWriter;
use crate::io::Io;
use crate::memory::Scale;
use crate::protocol::{Event, Frames, Input, Malformed, Protocol, Word};
use crate::spec::{OnReturn, WorkerSpec};
use crate::supervisor::Child;

/// How long the end of a process may take to be known after its channel has ended.
const END_OF_CHANNEL: Duration = Duration::from_secs(1);

/// A worker process, ready for calls. Dropping it kills the process and all that it has started.
///
/// I/O runs in the task that calls, without any hand-over to another one.
pub struct Worker<P: Protocol = Frames> {
    child: Child,
    io: Io,
    input: Input,
    output: Vec<u8>,
    written: usize,
    protocol: P,
    /// The last id that was given to a call.
    id: u32,
    /// A call has begun and its answer has not ended: whoever comes next would get it.
    busy: bool,
    retire: bool,
    calls: u64,
    born: Instant,
    limits: Limits,
    /// Its place at the queue that it takes its calls from, if it shares one.
    seat: Option<Seat>,
}

/// When this worker is to be replaced.
#[derive(Clone, Copy, Debug)]
struct Limits {
    calls: Option<u64>,
    age: Option<Duration>,
    memory: Option<Scale>,
    on_return: OnReturn,
}

impl Limits {
    /// The `serial`th worker's, each with another part of the spread.
    fn new(spec: &WorkerSpec, serial: u64) -> Self {
        let part = spread(spec.spread, serial);
        Self {
            calls: spec.max_calls.map(|calls| calls - (calls as f64 * part) as u64),
            age: spec.max_age.map(|age| age.mul_f64(1.0 - part)),
            memory: spec.scale(spec.soft_memory),
            on_return: spec.on_return,
        }
    }
}

/// Which part of its limits the `serial`th worker gives up. Multiples of the golden ratio are spread evenly,
/// however many there are.
pub(crate) fn spread(percent: u8, serial: u64) -> f64 {
    (serial as f64 * 0.618_033_988_749_895).fract() * f64::from(percent) / 100.0
}

/// A call that has been encoded.
pub(crate) struct Turn {
    id: u32,
    begun: Instant,
    deadline: Deadline,
}

impl<P: Protocol> Worker<P> {
    pub(crate) fn new(child: Child, io: Io, protocol: P, spec: &WorkerSpec, serial: u64) -> Self {
        let now = Instant::now();
        Self {
            child,
            io,
            input: Input::new(spec.max_message),
            output: Vec::new(),
            written: 0,
            protocol,
            id: 0,
            busy: false,
            retire: false,
            calls: 0,
            born: now,
            limits: Limits::new(spec, serial),
            seat: None,
        }
    }

    pub(crate) fn seated(self, seat: Option<Seat>) -> Self {
        Self { seat, ..self }
    }

    /// The call that it has taken from the queue that it shares; 0 = none.
    pub(crate) fn taken_call(&self) -> u32 {
        self.seat.as_ref().map_or(0, Seat::call)
    }

    /// The process id.
    pub fn pid(&self) -> i32 {
        self.child.life.pid
    }

    /// How many calls it has answered.
    pub fn calls(&self) -> u64 {
        self.calls
    }

    /// How the process ended; `None` while it lives.
    pub fn death(&self) -> Option<Death> {
        self.child.life.death()
    }

    /// The end of what it has written to standard error.
    pub fn stderr(&self) -> String {
        self.child.life.stderr()
    }

    /// Whether the next call would get its own answer: the process lives, and no earlier call was left
    /// halfway.
    pub fn is_usable(&self) -> bool {
        self.is_in_step() && self.death().is_none()
    }

    /// Sends a request and waits for the response. Parts are put together.
    ///
    /// # Errors
    ///
    /// [`CallError`] says how far the call had come and why it failed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the worker halfway: it is given to nobody else, and its pool replaces
    /// it.
    pub fn call(
        &mut self,
        request: &P::Request,
        deadline: Deadline,
    ) -> impl Future<Output = Result<P::Response, CallError>> + Send + '_ {
        let turn = self.begin(request, deadline);
        async move { self.finish(turn?).await }
    }

    /// Sends a request whose response is then taken part by part.
    ///
    /// # Errors
    ///
    /// As [`call`](Worker::call), for what can go wrong before anything is sent.
    pub fn stream(&mut self, request: &P::Request, deadline: Deadline) -> Result<Stream<'_, P>, CallError> {
        let turn = self.begin(request, deadline)?;
        Ok(Stream { worker: self, turn, done: false })
    }

    /// Kills the process and all that it has started.
    pub fn kill(&mut self) {
        self.busy = true;
        self.child.kill(Kill::Dropped);
    }

    fn begin(&mut self, request: &P::Request, deadline: Deadline) -> Result<Turn, CallError> {
        self.begin_with(deadline, |protocol, id, out| protocol.encode(id, request, out))
    }

    /// Begins a call that `encode` says.
    pub(crate) fn begin_with(
        &mut self,
        deadline: Deadline,
        encode: impl FnOnce(&mut P, u32, &mut Vec<u8>) -> Result<(), Malformed>,
    ) -> Result<Turn, CallError> {
        let begun = Instant::now();
        let refused =
            |worker: &Self, cause| Err(CallError::new(Phase::Write, cause, worker.pid(), begun.elapsed()));
        if !self.is_in_step() {
            return refused(self, Cause::Desynchronised);
        }
        let id = self.next_id();
        self.clear_output();
        match encode(&mut self.protocol, id, &mut self.output) {
            Ok(()) => self.busy = true,
            Err(malformed) => return refused(self, Cause::Refused(malformed)),
        }
        Ok(Turn { id, begun, deadline })
    }

    /// Whether no earlier call was left halfway.
    pub(crate) fn is_in_step(&self) -> bool {
        !self.busy && self.input.is_empty()
    }

    fn next_id(&mut self) -> u32 {
        // Not 0, and positive where it is signed.
        self.id = self.id % (i32::MAX as u32) + 1;
        self.id
    }

    fn clear_output(&mut self) {
        /// More than this is not kept between calls.
        const KEPT: usize = 2 << 20;
        self.output.clear();
        self.output.shrink_to(KEPT);
        self.written = 0;
    }

    pub(crate) async fn finish(&mut self, mut turn: Turn) -> Result<P::Response, CallError> {
        let mut whole = None;
        loop {
            match self.next_answer(&mut turn).await? {
                Answer::Part(part) => add::<P>(&mut whole, part),
                Answer::Last(part) => {
                    add::<P>(&mut whole, part);
                    // Always there, since a part was just added.
                    if let Some(whole) = whole {
                        return Ok(whole);
                    }
                }
            }
        }
    }

    async fn next_answer(&mut self, turn: &mut Turn) -> Result<Answer<P::Response>, CallError> {
        loop {
            let event = match self.next_event(turn.deadline.next()).await {
                Ok(event) => event,
                Err(Cause::Deadline) if self.is_warned(turn) => continue,
                Err(cause) => return Err(self.failed(turn, cause)),
            };
            let ours = event.id == turn.id || !P::HAS_IDS;
            match event.word {
                Word::Part(part) if ours => return Ok(Answer::Part(part)),
                Word::Done(part) if ours => {
                    self.answered();
                    return Ok(Answer::Last(part));
                }
                Word::Failed(why) if ours => {
                    self.answered();
                    return Err(self.failed(turn, Cause::Failed(why)));
                }
                Word::Extend(time) if ours => turn.deadline.extend(time),
                Word::Retire => self.retire = true,
                _ => return Err(self.failed(turn, Cause::Malformed(Malformed::WrongId(event.id)))),
            }
        }
    }

    /// Sends the signal that the deadline has before its end; once.
    fn is_warned(&self, turn: &mut Turn) -> bool {
        let warning = turn.deadline.warning.take();
        warning.iter().for_each(|(_, signal)| self.child.signal(*signal));
        warning.is_some()
    }

    fn answered(&mut self) {
        self.calls += 1;
        self.busy = false;
    }

    fn failed(&self, turn: &Turn, cause: Cause) -> CallError {
        let phase = if self.written < self.output.len() {
            Phase::Write
        } else if self.input.is_empty() {
            Phase::Wait
        } else {
            Phase::Read
        };
        CallError::new(phase, cause, self.pid(), turn.begun.elapsed()).with(self.stderr(), self.input.bytes())
    }

    /// The next thing that the worker says, while what is to be written is written.
    pub(crate) async fn next_event(&mut self, deadline: Instant) -> Result<Event<P::Response>, Cause> {
        let mut late = pin!(sleep_until(deadline.into()));
        let mut death = None;
        let mut closed = None;
        loop {
            let seen = poll_fn(|cx| {
                if closed.is_none()
                    && let Poll::Ready(seen) = self.poll_event(cx)
                {
                    return Poll::Ready(seen);
                }
                if let Poll::Ready(how) = self.child.life.poll_died(cx) {
                    death = Some(how);
                    return Poll::Ready(Ok(None));
                }
                ready!(late.as_mut().poll(cx));
                Poll::Ready(Err(closed.take().unwrap_or(Cause::Deadline)))
            })
            .await?;
            match (seen, death) {
                (Some(event), _) => return Ok(event),
                (None, Some(death)) => return self.last_words(death),
                // The channel has ended. Most often the process has too, which is known in a moment.
                (None, None) => {
                    closed = Some(Cause::Closed);
                    late.as_mut().reset((Instant::now() + END_OF_CHANNEL).min(deadline).into());
                }
            }
        }
    }

    /// Writes, then reads and decodes, as far as that goes without waiting. `None` = the channel has ended.
    pub(crate) fn poll_event(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Event<P::Response>>, Cause>> {
        while self.written < self.output.len() {
            match self.io.poll_write(cx, &self.output[self.written..]) {
                Poll::Ready(Ok(count)) => self.written += count,
                // A worker that no longer listens may still have answered.
                Poll::Ready(Err(_)) | Poll::Pending => break,
            }
        }
        loop {
            if let Some(event) = self.protocol.decode(&mut self.input).map_err(Cause::Malformed)? {
                return Poll::Ready(Ok(Some(event)));
            }
            match ready!(self.io.poll_read(cx, self.input.room())) {
                Ok(0) | Err(_) => return Poll::Ready(Ok(None)),
                Ok(_) => {}
            }
        }
    }

    /// A worker may answer and end: what it wrote before its end counts.
    pub(crate) fn last_words(&mut self, death: Death) -> Result<Event<P::Response>, Cause> {
        loop {
            if let Some(event) = self.protocol.decode(&mut self.input).map_err(Cause::Malformed)? {
                return Ok(event);
            }
            match self.io.read_now(self.input.room()) {
                Ok(Some(count)) if count > 0 => {}
                _ => return Err(Cause::Exited(death)),
            }
        }
    }

    /// Waits until the worker says that it is ready.
    pub(crate) async fn ready(&mut self, deadline: Instant) -> Result<(), Cause> {
        match self.next_event(deadline).await?.word {
            Word::Ready => Ok(()),
            _ => Err(Cause::Malformed(Malformed::Unexpected("this first word"))),
        }
    }

    /// Asks and waits for a pong. False if the protocol has no such question.
    pub(crate) async fn ask(
        &mut self,
        question: fn(&mut P, u32, &mut Vec<u8>) -> bool,
        deadline: Instant,
    ) -> Result<bool, Cause> {
        let id = self.next_id();
        self.clear_output();
        if !question(&mut self.protocol, id, &mut self.output) {
            return Ok(false);
        }
        self.busy = true;
        loop {
            let event = self.next_event(deadline).await?;
            match event.word {
                Word::Pong if event.id == id => break,
                Word::Retire => self.retire = true,
                _ => return Err(Cause::Malformed(Malformed::WrongId(event.id))),
            }
        }
        self.busy = false;
        Ok(true)
    }

    /// Whether it has said nothing that nobody asked for. Words that may come at any time are taken.
    pub(crate) fn is_silent(&mut self) -> bool {
        loop {
            match self.protocol.decode(&mut self.input) {
                Ok(Some(Event { word: Word::Retire, .. })) => self.retire = true,
                Ok(Some(_)) | Err(_) => return false,
                Ok(None) => match self.io.read_now(self.input.room()) {
                    Ok(None) => return self.input.is_empty(),
                    Ok(Some(count)) if count > 0 => {}
                    _ => return false,
                },
            }
        }
    }

    /// What becomes of it now that its user is done.
    pub(crate) fn verdict(&mut self) -> Reuse {
        if !self.is_usable() || self.limits.on_return == OnReturn::Replace || self.is_worn() {
            return Reuse::Broken;
        }
        match self.limits.on_return {
            OnReturn::Keep => Reuse::Now,
            OnReturn::Reset | OnReturn::Replace => Reuse::Recycle,
        }
    }

    pub(crate) fn is_worn(&mut self) -> bool {
        self.retire
            || self.limits.calls.is_some_and(|max| self.calls >= max)
            || self.limits.age.is_some_and(|max| self.born.elapsed() >= max)
            || self.is_fat()
    }

    fn is_fat(&mut self) -> bool {
        let pid = self.pid();
        self.limits.memory.as_mut().is_some_and(|scale| scale.exceeded(pid))
    }

    /// Lets it end by itself, asks it to by its signal if it has one, and kills it at last. Returns when it
    /// is gone.
    pub(crate) async fn end(&mut self, kill: Kill, spec: &WorkerSpec) {
        let grace = spec.stop_grace;
        let mut ended = self.death().is_some() || grace.is_zero();
        if !ended && self.is_usable() {
            self.busy = true;
            self.io.close_input();
            ended = tokio::time::timeout(grace, self.child.life.died()).await.is_ok();
        }
        if let Some(signal) = spec.stop_signal.filter(|_| !ended) {
            self.child.signal(signal);
            let _ = tokio::time::timeout(grace, self.child.life.died()).await;
        }
        self.child.kill(kill);
        self.child.life.buried().await;
    }

    /// Adds bytes to what is being written.
    pub(crate) fn feed(&mut self, bytes: &mut Vec<u8>) {
        if self.written == self.output.len() {
            self.clear_output();
            std::mem::swap(&mut self.output, bytes);
        } else {
            self.output.append(bytes);
        }
    }

    /// Whether a call has been begun whose answer has not come: for calls that are kept account of
    /// elsewhere.
    pub(crate) fn set_busy(&mut self, busy: bool) {
        self.busy = busy;
    }

    pub(crate) fn count_call(&mut self) {
        self.calls += 1;
    }

    pub(crate) fn set_retiring(&mut self) {
        self.retire = true;
    }

    /// A value of its protocol for those who encode calls elsewhere. Large payloads go over the pipe then:
    /// the arena has room for one call.
    pub(crate) fn share_protocol(&mut self) -> P {
        self.protocol.attach(None);
        self.protocol.session()
    }

    pub(crate) fn protocol(&mut self) -> &mut P {
        &mut self.protocol
    }

    pub(crate) fn child(&self) -> &Child {
        &self.child
    }
}

impl Worker<Frames> {
    /// Begins a request that is written piece by piece, into the [arena](WorkerSpec::arena) if there is one, and
    /// whose answer stays there until it is read. That saves a copy of each.
    ///
    /// ```no_run
    /// # use std::io::{Read, Write};
    /// # async fn example(
    /// #     worker: &mut poolyard_process::Worker,
    /// #     deadline: poolyard_process::Deadline,
    /// # ) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut request = worker.request();
    /// writeln!(request, "rotate 90")?;
    /// std::io::copy(&mut std::fs::File::open("in.png")?, &mut request)?;
    /// let mut answer = request.call(deadline).await?;
    /// std::io::copy(&mut answer, &mut std::fs::File::create("out.png")?)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn request(&mut self) -> RequestWriter<'_> {
        RequestWriter::new(self)
    }

    /// Sends many requests at once and waits for all responses, in the order of the requests. Writing and
    /// reading overlap, so that the batch may be of any size.
    ///
    /// A worker of the worker kit answers every call that it has read; a worker of another make must, too.
    ///
    /// # Errors
    ///
    /// As [`call`](Worker::call); each response may be the worker's refusal of that request.
    ///
    /// # Cancel safety
    ///
    /// As [`call`](Worker::call).
    pub async fn call_batch<B: AsRef<[u8]>>(
        &mut self,
        requests: &[B],
        deadline: Deadline,
    ) -> Result<Vec<Result<Vec<u8>, String>>, CallError> {
        let Some((first, rest)) = requests.split_first() else { return Ok(Vec::new()) };
        // Outside the arena, which has room for one call.
        let mut turn =
            self.begin_with(deadline, |frames, id, out| frames.encode_outside(id, first.as_ref(), out))?;
        let first_id = turn.id;
        for request in rest {
            let id = self.next_id();
            if let Err(malformed) = self.protocol.encode_outside(id, request.as_ref(), &mut self.output) {
                return Err(self.failed(&turn, Cause::Refused(malformed)));
            }
        }
        let mut answers: Vec<Option<Result<Vec<u8>, String>>> = vec![None; requests.len()];
        let mut open = requests.len();
        while open > 0 {
            let event = match self.next_event(turn.deadline.at).await {
                Ok(event) => event,
                Err(cause) => return Err(self.failed(&turn, cause)),
            };
            let index = event.id.wrapping_sub(first_id) as usize;
            let slot = answers.get_mut(index).filter(|slot| slot.is_none());
            let answer = match (event.word, slot) {
                (Word::Done(answer), Some(slot)) => slot.insert(Ok(answer)),
                (Word::Failed(why), Some(slot)) => slot.insert(Err(why)),
                (Word::Extend(time), Some(_)) => {
                    turn.deadline.extend(time);
                    continue;
                }
                (Word::Retire, _) => {
                    self.retire = true;
                    continue;
                }
                _ => return Err(self.failed(&turn, Cause::Malformed(Malformed::WrongId(event.id)))),
            };
            let _ = answer;
            open -= 1;
            self.calls += 1;
        }
        self.busy = false;
        Ok(answers.into_iter().flatten().collect())
    }
}

impl<P: Protocol> fmt::Debug for Worker<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("pid", &self.pid())
            .field("calls", &self.calls)
            .field("usable", &self.is_usable())
            .field("death", &self.death())
            .finish()
    }
}

enum Answer<R> {
    Part(R),
    Last(R),
}

fn add<P: Protocol>(whole: &mut Option<P::Response>, part: P::Response) {
    match whole {
        Some(whole) => P::append(whole, part),
        None => *whole = Some(part),
    }
}

/// A response that is taken part by part. Dropping it before its end leaves the worker halfway; its pool
/// replaces it then.
pub struct Stream<'a, P: Protocol> {
    worker: &'a mut Worker<P>,
    turn: Turn,
    done: bool,
}

impl<P: Protocol> Stream<'_, P> {
    /// The next part, or `None` after the last.
    ///
    /// # Errors
    ///
    /// As [`Worker::call`].
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost: the next call returns what this one would have.
    pub async fn next(&mut self) -> Result<Option<P::Response>, CallError> {
        if self.done {
            return Ok(None);
        }
        match self.worker.next_answer(&mut self.turn).await {
            Ok(Answer::Part(part)) => Ok(Some(part)),
            Ok(Answer::Last(part)) => {
                self.done = true;
                Ok(Some(part))
            }
            Err(error) => {
                self.done = true;
                Err(error)
            }
        }
    }
}
