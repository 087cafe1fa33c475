//! A program as the agent sees it: what was ordered, its pipes and its end.

use alloc::vec::Vec;

use crate::sys::{self, CStr, EINVAL, Errno, Fd};
use crate::terminal::{self, Size};
use crate::user::{self, User};
use crate::wire::{self, Reader};

/// So long a runner may take to end a tree.
const PATIENCE_US: u64 = 1_000_000;

/// Everything a program needs, made by its runner before its process: afterwards nothing may fail on memory.
pub struct Plan {
    pub candidates: Vec<CStr>,
    pub argv: Vec<usize>,
    pub envp: Vec<usize>,
    pub directory: CStr,
    pub user: User,
    pub capabilities: u64,
    pub limits: Vec<(usize, [u64; 2])>,
    pub leave_tree: bool,
    /// What `argv` and `envp` point into.
    _texts: Vec<CStr>,
}

impl Plan {
    /// An error names the stage that the library shall be told.
    pub fn new(order: &Order<'_>, environment: &[Vec<u8>]) -> Result<Plan, (u8, Errno)> {
        let user = order.user()?;
        let environment = merge(order, environment, &user);
        let program = *order.args.first().ok_or((wire::STAGE_EXEC, EINVAL))?;
        let candidates = candidates(program, &environment);
        let mut texts = Vec::new();
        let mut list = |items: &[Vec<u8>]| -> Vec<usize> {
            let mut pointers = Vec::with_capacity(items.len() + 1);
            for item in items {
                let text = CStr::new(item);
                pointers.push(text.ptr());
                texts.push(text);
            }
            pointers.push(0);
            pointers
        };
        let argv = list(&order.args.iter().map(|a| a.to_vec()).collect::<Vec<_>>());
        let envp = list(&environment);
        Ok(Plan {
            candidates,
            argv,
            envp,
            directory: CStr::new(order.directory),
            user,
            capabilities: order.capabilities,
            limits: limits(&order.limits).ok_or((wire::STAGE_LIMIT, EINVAL))?,
            leave_tree: order.has(wire::LEAVE_TREE),
            _texts: texts,
        })
    }
}

/// A `SPAWN`, as it was sent.
pub struct Order<'a> {
    flags: u32,
    pub timeout_ms: u64,
    user: &'a [u8],
    directory: &'a [u8],
    capabilities: u64,
    args: Vec<&'a [u8]>,
    env: Vec<&'a [u8]>,
    limits: Vec<&'a [u8]>,
    size: Size,
}

impl<'a> Order<'a> {
    pub fn read(payload: &'a [u8]) -> Result<Order<'a>, (u8, Errno)> {
        Self::parse(&mut Reader(payload)).ok_or((wire::STAGE_EXEC, EINVAL))
    }

    fn parse(reader: &mut Reader<'a>) -> Option<Order<'a>> {
        Some(Order {
            flags: reader.u32()?,
            timeout_ms: reader.u64()?,
            user: reader.bytes()?,
            directory: reader.bytes()?,
            capabilities: reader.u64()?,
            args: reader.list()?,
            env: reader.list()?,
            limits: reader.list()?,
            size: Size(reader.u32()?),
        })
    }

    pub fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    fn user(&self) -> Result<User, (u8, Errno)> {
        user::find(self.user).map_err(|e| (wire::STAGE_USER, e))
    }
}

fn name_of(entry: &[u8]) -> &[u8] {
    entry.split(|b| *b == b'=').next().unwrap_or(entry)
}

/// The container's environment, the user's home, and over both what the library asked for.
fn merge(order: &Order<'_>, environment: &[Vec<u8>], user: &User) -> Vec<Vec<u8>> {
    let mut out: Vec<Vec<u8>> = Vec::new();
    let mut set = |entry: Vec<u8>| match out.iter_mut().find(|e| name_of(e) == name_of(&entry)) {
        Some(old) => *old = entry,
        None => out.push(entry),
    };
    if !order.has(wire::CLEAR_ENV) {
        environment.iter().for_each(|e| set(e.clone()));
        if let Some(home) = &user.home {
            set([b"HOME=".as_slice(), home].concat());
        }
    }
    order.env.iter().for_each(|e| set(e.to_vec()));
    out
}

/// Where the program may be: its path, or its name in each directory of PATH.
fn candidates(program: &[u8], environment: &[Vec<u8>]) -> Vec<CStr> {
    if program.contains(&b'/') {
        return alloc::vec![CStr::new(program)];
    }
    let path = environment.iter().find_map(|e| e.strip_prefix(b"PATH="));
    let path = path.unwrap_or(b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    let directory = |dir: &[u8]| if dir.is_empty() { b".".to_vec() } else { dir.to_vec() };
    path.split(|b| *b == b':').map(|dir| CStr::new(&[&directory(dir), &b"/"[..], program].concat())).collect()
}

fn limits(items: &[&[u8]]) -> Option<Vec<(usize, [u64; 2])>> {
    let one = |item: &&[u8]| {
        let mut reader = Reader(item);
        Some((reader.u32()? as usize, [reader.u64()?, reader.u64()?]))
    };
    items.iter().map(one).collect()
}

/// What a runner writes into its status pipe; small enough to arrive in one piece.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Record {
    pub kind: u32,
    pub status: i32,
    pub user_us: u64,
    pub system_us: u64,
    /// Of a failure: its stage.
    pub maxrss_kib: u64,
}

impl Record {
    pub const STARTED: u32 = 1;
    pub const ENDED: u32 = 2;
    pub const FAILED: u32 = 3;
    pub const SIZE: usize = size_of::<Record>();

    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: plain numbers without padding.
        unsafe { core::slice::from_raw_parts((&raw const *self).cast(), Self::SIZE) }
    }

    pub fn read(fd: i32) -> Result<Option<Record>, Errno> {
        let mut bytes = [0u8; Self::SIZE];
        match sys::read(fd, &mut bytes)? {
            // SAFETY: any bytes make a record of plain numbers.
            Self::SIZE => Ok(Some(unsafe { core::ptr::read_unaligned(bytes.as_ptr().cast()) })),
            _ => Ok(None),
        }
    }
}

/// One output stream of a program.
pub struct Output {
    pub fd: Fd,
    pub credit: u32,
    pub watched: bool,
}

impl Output {
    fn new(fd: Fd) -> Option<Output> {
        sys::set_nonblocking(fd.0);
        Some(Output { fd, credit: wire::WINDOW, watched: false })
    }
}

/// Our ends of a program's streams: all of them one terminal, or pipes.
pub struct Streams {
    pub stdin: Option<Fd>,
    pub outputs: [Option<Output>; 2],
    pub terminal: Option<Fd>,
}

impl Streams {
    /// And the program's ends.
    pub fn make(order: &Order<'_>) -> Result<(Streams, [Fd; 3]), (u8, Errno)> {
        match order.has(wire::TERMINAL) {
            true => Self::terminal(order.user()?.uid, order).map_err(|e| (wire::STAGE_TERMINAL, e)),
            false => Self::pipes().map_err(|e| (wire::STAGE_PIPE, e)),
        }
    }

    pub fn pipes() -> Result<(Streams, [Fd; 3]), Errno> {
        let (input, stdin) = sys::pipe(0)?;
        let (out, their_out) = sys::pipe(0)?;
        let (err, their_err) = sys::pipe(0)?;
        sys::set_nonblocking(stdin.0);
        let outputs = [Output::new(out), Output::new(err)];
        Ok((Streams { stdin: Some(stdin), outputs, terminal: None }, [input, their_out, their_err]))
    }

    fn terminal(owner: u32, order: &Order<'_>) -> Result<(Streams, [Fd; 3]), Errno> {
        let (ours, theirs) = terminal::open(owner, order.size)?;
        let again = |fd: &Fd| sys::duplicate(fd.0, 0).map(Fd);
        let output = again(&ours)?;
        let stdin = match order.has(wire::PIPE_STDIN) {
            true => Some(again(&ours)?),
            // It waits for whoever reads first.
            false => sys::write_all(ours.0, &[terminal::END_OF_FILE]).map(|()| None)?,
        };
        let theirs = [again(&theirs)?, again(&theirs)?, theirs];
        Ok((Streams { stdin, outputs: [Output::new(output), None], terminal: Some(ours) }, theirs))
    }
}

pub struct Process {
    pub runner: i32,
    pub root: i32,
    pub service: bool,
    pub stdin: Option<Fd>,
    /// Input that the program has not taken yet.
    pub pending: Vec<u8>,
    pub stdin_ends: bool,
    pub stdin_watched: bool,
    /// Whether the last byte of the input ended a line, as nothing does.
    pub at_line_start: bool,
    /// Our end of its terminal, besides those in `stdin` and `outputs`.
    pub terminal: Option<Fd>,
    pub outputs: [Option<Output>; 2],
    pub status: Fd,
    pub ended: Option<Record>,
    pub started_us: u64,
    pub deadline_us: Option<u64>,
    pub timed_out: bool,
    /// By when the runner is to have ended everything.
    pub runner_deadline_us: Option<u64>,
    /// What the container's counters said at the start.
    pub before: [u64; 2],
}

impl Process {
    /// What `runner` is about to start.
    pub fn of(
        order: &Order<'_>,
        runner: i32,
        status: Fd,
        streams: Streams,
        started_us: u64,
        before: [u64; 2],
    ) -> Process {
        Process {
            runner,
            root: 0,
            service: order.has(wire::SERVICE),
            stdin: streams.stdin.filter(|_| order.has(wire::PIPE_STDIN)),
            pending: Vec::new(),
            stdin_ends: false,
            stdin_watched: false,
            at_line_start: true,
            terminal: streams.terminal,
            outputs: streams.outputs,
            status,
            ended: None,
            started_us,
            deadline_us: (order.timeout_ms > 0).then(|| started_us + order.timeout_ms * 1000),
            timed_out: false,
            runner_deadline_us: None,
            before,
        }
    }

    /// A terminal has no end of input but a character for it, which has this meaning only where a
    /// line begins; elsewhere it passes the begun line on.
    pub fn type_end_of_input(&mut self) {
        if self.terminal.is_some() {
            let times = if self.at_line_start { 1 } else { 2 };
            self.pending.extend([terminal::END_OF_FILE; 2].into_iter().take(times));
        }
    }

    /// Asks the runner to end everything, and us to end the runner if it does not: a program of its user can
    /// stop it for ever.
    pub fn end_tree(&mut self) {
        if self.ended.is_none() {
            for signal in [sys::SIGTERM, sys::SIGCONT] {
                let _ = sys::kill(self.runner, signal);
            }
            self.runner_deadline_us.get_or_insert(sys::now_us() + PATIENCE_US);
        }
    }

    pub fn end_runner(&mut self) {
        self.runner_deadline_us = None;
        let _ = sys::kill(self.runner, sys::SIGKILL);
    }

    /// When there is something to do about it, if nothing else happens.
    pub fn next_us(&self) -> Option<u64> {
        [self.deadline_us, self.runner_deadline_us].into_iter().flatten().min()
    }
}
