//! A program as the agent sees it: its plan before, its pipes and its end after the start.

use alloc::vec::Vec;

use crate::runner;
use crate::sys::{self, CStr, EINVAL, Errno, Fd};
use crate::terminal::{self, Size};
use crate::user::{self, User};
use crate::wire::{self, Reader};

/// Everything a program needs, made before its process: afterwards nothing may fail on memory.
pub struct Plan {
    pub candidates: Vec<CStr>,
    pub argv: Vec<usize>,
    pub envp: Vec<usize>,
    pub directory: CStr,
    pub user: User,
    pub capabilities: u64,
    pub limits: Vec<(usize, [u64; 2])>,
    pub leave_tree: bool,
    pub service: bool,
    pub pipe_stdin: bool,
    /// A terminal at all three streams, of this size.
    pub terminal: Option<Size>,
    pub timeout_ms: u64,
    /// What `argv` and `envp` point into.
    _texts: Vec<CStr>,
}

impl Plan {
    /// An error names the stage that the library shall be told.
    pub fn read(payload: &[u8], environment: &[Vec<u8>]) -> Result<Plan, (u8, Errno)> {
        let mut reader = Reader(payload);
        let parsed = Parsed::read(&mut reader).ok_or((wire::STAGE_EXEC, EINVAL))?;
        let user = user::find(parsed.user).map_err(|e| (wire::STAGE_USER, e))?;
        let environment = merge(&parsed, environment, &user);
        let program = *parsed.args.first().ok_or((wire::STAGE_EXEC, EINVAL))?;
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
        let argv = list(&parsed.args.iter().map(|a| a.to_vec()).collect::<Vec<_>>());
        let envp = list(&environment);
        let flag = |bit: u32| parsed.flags & bit != 0;
        Ok(Plan {
            candidates,
            argv,
            envp,
            directory: CStr::new(parsed.directory),
            user,
            capabilities: parsed.capabilities,
            limits: limits(&parsed.limits).ok_or((wire::STAGE_LIMIT, EINVAL))?,
            leave_tree: flag(wire::LEAVE_TREE),
            service: flag(wire::SERVICE),
            pipe_stdin: flag(wire::PIPE_STDIN),
            terminal: flag(wire::TERMINAL).then_some(parsed.size),
            timeout_ms: parsed.timeout_ms,
            _texts: texts,
        })
    }
}

struct Parsed<'a> {
    flags: u32,
    timeout_ms: u64,
    user: &'a [u8],
    directory: &'a [u8],
    capabilities: u64,
    args: Vec<&'a [u8]>,
    env: Vec<&'a [u8]>,
    limits: Vec<&'a [u8]>,
    size: Size,
}

impl<'a> Parsed<'a> {
    fn read(reader: &mut Reader<'a>) -> Option<Parsed<'a>> {
        Some(Parsed {
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
}

fn name_of(entry: &[u8]) -> &[u8] {
    entry.split(|b| *b == b'=').next().unwrap_or(entry)
}

/// The container's environment, the user's home, and over both what the library asked for.
fn merge(parsed: &Parsed<'_>, environment: &[Vec<u8>], user: &User) -> Vec<Vec<u8>> {
    let mut out: Vec<Vec<u8>> = Vec::new();
    let mut set = |entry: Vec<u8>| match out.iter_mut().find(|e| name_of(e) == name_of(&entry)) {
        Some(old) => *old = entry,
        None => out.push(entry),
    };
    if parsed.flags & wire::CLEAR_ENV == 0 {
        environment.iter().for_each(|e| set(e.clone()));
        if let Some(home) = &user.home {
            set([b"HOME=".as_slice(), home].concat());
        }
    }
    parsed.env.iter().for_each(|e| set(e.to_vec()));
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

/// Both ends of a program's streams; ours are all descriptors of one terminal, or pipes.
struct Streams {
    theirs: [Fd; 3],
    stdin: Option<Fd>,
    outputs: [Option<Output>; 2],
    terminal: Option<Fd>,
}

impl Streams {
    fn make(plan: &Plan) -> Result<Streams, (u8, Errno)> {
        match plan.terminal {
            Some(size) => Self::terminal(plan, size).map_err(|e| (wire::STAGE_TERMINAL, e)),
            None => Self::pipes(plan).map_err(|e| (wire::STAGE_PIPE, e)),
        }
    }

    fn pipes(plan: &Plan) -> Result<Streams, Errno> {
        let (input, stdin) = match plan.pipe_stdin {
            true => sys::pipe(0).map(|(r, w)| (r, Some(w)))?,
            false => (sys::open(b"/dev/null", 0, 0)?, None),
        };
        if let Some(fd) = &stdin {
            sys::set_nonblocking(fd.0);
        }
        let (out, their_out) = sys::pipe(0)?;
        let (err, their_err) = sys::pipe(0)?;
        let outputs = [Output::new(out), Output::new(err)];
        Ok(Streams { theirs: [input, their_out, their_err], stdin, outputs, terminal: None })
    }

    fn terminal(plan: &Plan, size: Size) -> Result<Streams, Errno> {
        let (ours, theirs) = terminal::open(plan.user.uid, size)?;
        let again = |fd: &Fd| sys::duplicate(fd.0, 0).map(Fd);
        let output = again(&ours)?;
        let stdin = match plan.pipe_stdin {
            true => Some(again(&ours)?),
            // It waits for whoever reads first.
            false => sys::write_all(ours.0, &[terminal::END_OF_FILE]).map(|()| None)?,
        };
        let theirs = [again(&theirs)?, again(&theirs)?, theirs];
        Ok(Streams { theirs, stdin, outputs: [Output::new(output), None], terminal: Some(ours) })
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
    /// What the container's counters said at the start.
    pub before: [u64; 2],
}

impl Process {
    pub fn start(plan: &Plan) -> Result<Process, (u8, Errno)> {
        let Streams { theirs, stdin, outputs, terminal } = Streams::make(plan)?;
        let (status, their_status) = sys::pipe(0).map_err(|e| (wire::STAGE_PIPE, e))?;
        sys::set_nonblocking(status.0);
        let started_us = sys::now_us();
        let [input, out, err] = &theirs;
        // SAFETY: one thread.
        let runner = match unsafe { sys::fork(false) } {
            Ok(0) => runner::run(plan, [input.0, out.0, err.0, their_status.0]),
            Ok(pid) => pid,
            Err(e) => return Err((wire::STAGE_FORK, e)),
        };
        let limit = (plan.timeout_ms > 0).then(|| started_us + plan.timeout_ms * 1000);
        Ok(Process {
            runner,
            root: 0,
            service: plan.service,
            stdin,
            pending: Vec::new(),
            stdin_ends: false,
            stdin_watched: false,
            at_line_start: true,
            terminal,
            outputs,
            status,
            ended: None,
            started_us,
            deadline_us: limit,
            timed_out: false,
            before: [0; 2],
        })
    }

    /// A terminal has no end of input but a character for it, which has this meaning only where a
    /// line begins; elsewhere it passes the begun line on.
    pub fn type_end_of_input(&mut self) {
        if self.terminal.is_some() {
            let times = if self.at_line_start { 1 } else { 2 };
            self.pending.extend([terminal::END_OF_FILE; 2].into_iter().take(times));
        }
    }

    /// Asks the runner to end everything.
    pub fn end_tree(&self) {
        if self.ended.is_none() {
            let _ = sys::kill(self.runner, sys::SIGTERM);
        }
    }
}
