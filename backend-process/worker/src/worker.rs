//! [`Worker`]: the loop that answers calls.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::answer::Answer;
use crate::arena::Arena;
use crate::call::Call;
use crate::channel::{Channel, keep};
use crate::queue::Queue;
use crate::scoreboard::Scoreboard;
use crate::wire::{Header, Kind};

/// This process as a worker.
pub struct Worker {
    channel: Channel,
    arena: Option<Arena>,
    scoreboard: Option<Scoreboard>,
    reset: Option<Box<dyn FnMut()>>,
    /// Where calls come from, if not from the channel.
    queue: Option<Queue>,
    /// For the next answer.
    spare: Vec<u8>,
}

impl Worker {
    /// Takes the channel to the pool over: the descriptors that `POOLYARD_CHANNEL` names, or else
    /// standard input and output, which from then on are `/dev/null` and standard error.
    ///
    /// # Errors
    ///
    /// If the descriptors are not there, because the program was not started by a pool.
    pub fn connect() -> io::Result<Self> {
        let (arena, scoreboard) = (Arena::from_env()?, Scoreboard::from_env()?);
        let queue = Queue::from_env(scoreboard.as_ref())?;
        Ok(Self { channel: Channel::from_env()?, arena, scoreboard, reset: None, queue, spare: Vec::new() })
    }

    /// Runs `reset` when the pool wants the last user's traces gone.
    pub fn on_reset(mut self, reset: impl FnMut() + 'static) -> Self {
        self.reset = Some(Box::new(reset));
        self
    }

    /// Says that it is ready and answers calls until the pool closes the channel, or tells it by SIGTERM to
    /// take no more from the queue that it shares with others, if it does.
    ///
    /// An `Err` of the handler is the answer of that call; the worker goes on. A panic is answered
    /// as a failure too, and the worker then asks to be retired, because nobody knows what state
    /// it is in.
    ///
    /// # Errors
    ///
    /// When the channel breaks, or something that is no frame comes in.
    pub fn serve(self, mut handler: impl FnMut(&mut Call<'_>) -> Result<Vec<u8>, String>) -> io::Result<()> {
        self.serve_into(|call, answer| handler(call).map(|bytes| answer.set(bytes)))
    }

    /// As [`serve`](Worker::serve), with a handler that writes its answer piece by piece: a large one, in an
    /// arena, is then not copied once more.
    ///
    /// # Errors
    ///
    /// As [`serve`](Worker::serve).
    pub fn serve_into(
        mut self,
        mut handler: impl FnMut(&mut Call<'_>, &mut Answer<'_>) -> Result<(), String>,
    ) -> io::Result<()> {
        self.channel.push(0, Kind::Ready, &[])?;
        self.idle();
        if let Some(queue) = self.queue.take() {
            return self.serve_queue(queue, handler);
        }
        while let Some((header, payload)) = self.channel.next()? {
            match header.kind {
                Kind::Call => {
                    let done = self.run(header.id, &payload, &mut [], &mut handler)?;
                    self.say(header.id, done)?;
                }
                Kind::ArenaCall => self.answer_from_arena(header, &payload, &mut handler)?,
                Kind::Ping => self.channel.push(header.id, Kind::Pong, &[])?,
                Kind::Reset => self.do_reset(header.id)?,
                // One thread answers in order: by the time a cancel is read, its call is over.
                Kind::Cancel => {}
                _ => return Err(unexpected(header.kind)),
            }
            self.channel.give_back(payload);
        }
        self.channel.flush()
    }

    /// Each answer is with the pool before the next call is taken: it knows then which one a death has cost.
    fn serve_queue(
        mut self,
        mut queue: Queue,
        mut handler: impl FnMut(&mut Call<'_>, &mut Answer<'_>) -> Result<(), String>,
    ) -> io::Result<()> {
        self.channel.flush()?;
        while let Some((header, payload)) = queue.next()? {
            let done = self.run(header.id, payload, &mut [], &mut handler)?;
            self.say(header.id, done)?;
            self.channel.flush()?;
        }
        Ok(())
    }

    fn idle(&self) {
        self.scoreboard.iter().for_each(Scoreboard::idle);
    }

    fn do_reset(&mut self, id: u32) -> io::Result<()> {
        if let Some(reset) = &mut self.reset {
            reset();
        }
        self.channel.push(id, Kind::Pong, &[])
    }

    fn say(&mut self, id: u32, done: Done) -> io::Result<()> {
        match done {
            Ok((_, Some(answer))) => {
                let said = self.channel.push(id, Kind::Reply, &answer);
                self.spare = keep(answer);
                said
            }
            Ok((used, None)) => self.channel.push(id, Kind::ArenaReply, &(used as u64).to_le_bytes()),
            Err(why) => self.channel.push(id, Kind::Failure, why.as_bytes()),
        }
    }

    fn answer_from_arena(
        &mut self,
        header: Header,
        payload: &[u8],
        handler: &mut impl FnMut(&mut Call<'_>, &mut Answer<'_>) -> Result<(), String>,
    ) -> io::Result<()> {
        let mut arena = self.arena.take().ok_or_else(|| unexpected(Kind::ArenaCall))?;
        let len = <[u8; 8]>::try_from(payload).map_or(usize::MAX, |len| u64::from_le_bytes(len) as usize);
        let (request, room) = arena.halves();
        let request = request.get(..len).ok_or_else(|| unexpected(Kind::ArenaCall))?;
        let done = self.run(header.id, request, room, handler)?;
        self.arena = Some(arena);
        self.say(header.id, done)
    }

    fn run(
        &mut self,
        id: u32,
        payload: &[u8],
        room: &mut [u8],
        handler: &mut impl FnMut(&mut Call<'_>, &mut Answer<'_>) -> Result<(), String>,
    ) -> io::Result<Done> {
        self.scoreboard.iter().for_each(Scoreboard::begin);
        let mut retire = false;
        let mut call = Call { id, payload, channel: &mut self.channel, retire: &mut retire };
        let mut answer = Answer::new(room, std::mem::take(&mut self.spare));
        let result = catch_unwind(AssertUnwindSafe(|| handler(&mut call, &mut answer)));
        self.scoreboard.iter().for_each(Scoreboard::end);
        let result = result.unwrap_or_else(|panic| {
            retire = true;
            Err(format!("the handler panicked: {}", panic_text(panic.as_ref())))
        });
        if retire {
            self.channel.push(0, Kind::Bye, &[])?;
        }
        Ok(result.map(|()| answer.finish()))
    }
}

/// What came of a call: an [`Answer`]'s end, or why there is none.
type Done = Result<(usize, Option<Vec<u8>>), String>;

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("with something that is no text")
}

fn unexpected(kind: Kind) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the pool sent a {kind:?} that does not belong here"))
}
