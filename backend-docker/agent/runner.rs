//! Between the agent and each program: a small process that adopts the program's orphans.
//!
//! Whatever the program starts, however it detaches, stays below its runner: so "the whole tree"
//! has an exact meaning, its end can be waited for, and its usage can be added up.

use alloc::vec;
use alloc::vec::Vec;

use crate::process::{Order, Plan, Record, Streams};
use crate::sys::{self, Errno, Fd, SIGCHLD, SIGKILL, SIGTERM, bit, nr};
use crate::terminal;
use crate::wire;

const PR_SET_CHILD_SUBREAPER: usize = 36;
const PR_CAPBSET_READ: usize = 23;
const PR_CAPBSET_DROP: usize = 24;
/// Where a runner and its program find their descriptors.
const STATUS: i32 = 3;
const ORDERS: i32 = 4;
const NOTHING: i32 = 5;
/// What an empty pipe takes at once, wherever the kernel has not made it smaller.
const MAX_TOLD: usize = 32 << 10;

/// What every runner of this container starts from.
pub struct Origin {
    pub environment: Vec<Vec<u8>>,
    /// The capabilities that a program could get: bits of the bounding set.
    bounding: u64,
}

impl Origin {
    pub fn new(environment: Vec<Vec<u8>>) -> Origin {
        let has = |capability: &u64| sys::prctl(PR_CAPBSET_READ, *capability as usize) == Ok(1);
        let bounding = (0..64).filter(has).fold(0, |set, capability| set | 1 << capability);
        Origin { environment, bounding }
    }
}

/// A runner that waits to be told what to run.
pub struct Runner {
    pub pid: i32,
    pub status: Fd,
    pub streams: Streams,
    orders: Fd,
}

impl Runner {
    /// Forks one before anybody needs it: that is a good part of what a program costs.
    pub fn spare(origin: &Origin) -> Result<Runner, (u8, Errno)> {
        let streams = Streams::pipes().map_err(|e| (wire::STAGE_PIPE, e))?;
        Self::fork(origin, streams, None)
    }

    /// Forks one that knows what to run.
    pub fn told(origin: &Origin, order: &Order<'_>) -> Result<Runner, (u8, Errno)> {
        Self::fork(origin, Streams::make(order)?, Some(order))
    }

    fn fork(
        origin: &Origin,
        (streams, [input, out, err]): (Streams, [Fd; 3]),
        order: Option<&Order<'_>>,
    ) -> Result<Runner, (u8, Errno)> {
        let pipe = || sys::pipe(0).map_err(|e| (wire::STAGE_PIPE, e));
        let ((status, their_status), (their_orders, orders)) = (pipe()?, pipe()?);
        sys::set_nonblocking(status.0);
        sys::set_nonblocking(orders.0);
        // SAFETY: one thread.
        match unsafe { sys::fork() } {
            Ok(0) => run(origin, [input.0, out.0, err.0, their_status.0, their_orders.0], order),
            Ok(pid) => Ok(Runner { pid, status, streams, orders }),
            Err(e) => Err((wire::STAGE_FORK, e)),
        }
    }

    /// Tells a spare one what to run. `false`: it cannot be told that, or is no more.
    pub fn tell(&self, payload: &[u8]) -> bool {
        let order = [&(payload.len() as u32).to_le_bytes(), payload].concat();
        // The last program may have stopped it.
        order.len() <= MAX_TOLD
            && sys::kill(self.pid, sys::SIGCONT).is_ok()
            && sys::write(self.orders.0, &order) == Ok(order.len())
    }
}

/// Never returns: the life of a runner. `files` are stdin, stdout, stderr, the status pipe and the pipe of
/// orders.
fn run(origin: &Origin, files: [i32; 5], order: Option<&Order<'_>>) -> ! {
    let _ = sys::prctl(PR_SET_CHILD_SUBREAPER, 1);
    if place(files).is_err() {
        sys::exit(1);
    }
    prefer_us_to_the_agent();
    match order {
        Some(order) => obey(origin, order),
        None => {
            let Some(payload) = read_order() else { sys::exit(0) };
            match Order::read(&payload) {
                Ok(order) => obey(origin, &order),
                Err((stage, errno)) => fail(stage, errno),
            }
        }
    }
}

/// When memory runs out, the kernel shall choose a program, or else its runner.
fn prefer_us_to_the_agent() {
    if let Ok(fd) = sys::open(b"/proc/self/oom_score_adj", sys::O_WRONLY, 0) {
        let _ = sys::write(fd.0, b"1000");
    }
}

/// `None`: the agent has no use for us.
fn read_order() -> Option<Vec<u8>> {
    let mut order = Vec::new();
    loop {
        match sys::append(&mut order, ORDERS, MAX_TOLD) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(sys::EINTR) => {}
            Err(_) => return None,
        }
        let (head, payload) = order.split_at_checked(4).unwrap_or_default();
        if head.try_into().is_ok_and(|head| u32::from_le_bytes(head) as usize == payload.len()) {
            return Some(payload.to_vec());
        }
    }
}

fn obey(origin: &Origin, order: &Order<'_>) -> ! {
    let plan = match Plan::new(order, &origin.environment) {
        Ok(plan) => plan,
        Err((stage, errno)) => fail(stage, errno),
    };
    let terminal = order.has(wire::TERMINAL);
    if !terminal && !order.has(wire::PIPE_STDIN) {
        // SAFETY: no memory is involved.
        let _ = unsafe { sys::sys(nr::DUP3, &[NOTHING as usize, 0, 0]) };
    }
    let mut mistake = None;
    let life = || mistake = Some(become_program(&plan, origin.bounding, terminal));
    // SAFETY: one thread; all that stays of the child is its mistake.
    let root = match unsafe { sys::vfork(life) } {
        Ok(pid) => pid,
        Err(e) => fail(wire::STAGE_FORK, e),
    };
    if let Some((stage, errno)) = mistake {
        fail(stage, errno);
    }
    let mut news = vec![Record { kind: Record::STARTED, status: root, ..Record::default() }];
    // A short program has often ended before we were given a processor again: then it is all told at once.
    let status = reaped(root).unwrap_or_else(|| {
        for fd in 0..3 {
            drop(Fd(fd)); // Or those at the other ends would wait for us.
        }
        report(&news);
        news.clear();
        supervise(root)
    });
    if !plan.leave_tree {
        end_tree();
    }
    let usage = sys::children_rusage();
    news.push(Record {
        kind: Record::ENDED,
        status,
        user_us: usage.user_us(),
        system_us: usage.system_us(),
        maxrss_kib: usage.maxrss as u64,
    });
    report(&news);
    sys::exit(0)
}

/// Puts the descriptors at 0 to 4 and closes all others: they are the agent's.
fn place(files: [i32; 5]) -> Result<(), Errno> {
    // First above the target range, so that none overwrites another.
    let mut high = [0; 5];
    for (to, from) in high.iter_mut().zip(files) {
        *to = sys::duplicate(from, 10)?;
    }
    for (to, from) in high.into_iter().enumerate() {
        let flags = if to as i32 >= STATUS { sys::O_CLOEXEC } else { 0 };
        // SAFETY: no memory is involved.
        unsafe { sys::sys(nr::DUP3, &[from as usize, to, flags]) }?;
    }
    let rest = NOTHING as usize;
    // SAFETY: no memory is involved.
    if unsafe { sys::sys(nr::CLOSE_RANGE, &[rest, u32::MAX as usize, 0]) }.is_err() {
        (NOTHING..4096).for_each(|fd| drop(Fd(fd))); // Before Linux 5.9, or forbidden by a filter.
    }
    // Now the lowest number that is free.
    core::mem::forget(sys::open(b"/dev/null", 0, 0)?);
    Ok(())
}

/// Returns only with what went wrong.
fn become_program(plan: &Plan, bounding: u64, terminal: bool) -> (u8, Errno) {
    match prepare(plan, bounding, terminal) {
        Ok(()) => (wire::STAGE_EXEC, execute(plan)),
        Err(mistake) => mistake,
    }
}

fn prepare(plan: &Plan, bounding: u64, terminal: bool) -> Result<(), (u8, Errno)> {
    // SAFETY (of all calls below): pointers lead to values that live until after the call.
    let call = |stage: u8, n: usize, args: &[usize]| unsafe { sys::sys(n, args) }.map_err(|e| (stage, e));
    call(wire::STAGE_FORK, nr::SETSID, &[])?;
    if terminal {
        terminal::adopt().map_err(|e| (wire::STAGE_TERMINAL, e))?;
    }
    for (resource, limits) in &plan.limits {
        call(wire::STAGE_LIMIT, nr::PRLIMIT64, &[0, *resource, limits.as_ptr() as usize, 0])?;
    }
    let user = &plan.user;
    call(wire::STAGE_USER, nr::SETGROUPS, &[user.groups.len(), user.groups.as_ptr() as usize])?;
    let [uid, gid] = [user.uid as usize, user.gid as usize];
    call(wire::STAGE_USER, nr::SETRESGID, &[gid, gid, gid])?;
    forget_capabilities(bounding & !plan.capabilities);
    call(wire::STAGE_USER, nr::SETRESUID, &[uid, uid, uid])?;
    keep_capabilities(plan.capabilities)?;
    call(wire::STAGE_DIRECTORY, nr::CHDIR, &[plan.directory.ptr()])?;
    sys::block_signals(0);
    Ok(())
}

/// Takes from the bounding set what the program must not get back, not even by a set-user-id file.
fn forget_capabilities(set: u64) {
    for capability in (0..64).filter(|capability| set & (1 << capability) != 0) {
        let _ = sys::prctl(PR_CAPBSET_DROP, capability);
    }
}

fn keep_capabilities(keep: u64) -> Result<(), (u8, Errno)> {
    let header = [0x2008_0522u32, 0];
    let mut sets = [0u32; 6];
    let header = &raw const header as usize;
    // SAFETY: the kernel writes three words for each half of the sets.
    unsafe { sys::sys(nr::CAPGET, &[header, sets.as_mut_ptr() as usize]) }
        .map_err(|e| (wire::STAGE_CAPABILITIES, e))?;
    let [low, high] = [keep as u32, (keep >> 32) as u32];
    let sets = [sets[0] & low, sets[1] & low, 0, sets[3] & high, sets[4] & high, 0];
    // SAFETY: as above, read.
    unsafe { sys::sys(nr::CAPSET, &[header, sets.as_ptr() as usize]) }
        .map(drop)
        .map_err(|e| (wire::STAGE_CAPABILITIES, e))
}

/// Returns only with an error. Of several directories' errors, a refusal says more than an absence;
/// and of a file that is there, an absence means its interpreter's.
fn execute(plan: &Plan) -> Errno {
    let mut worst = sys::ENOENT;
    for path in &plan.candidates {
        let args = [path.ptr(), plan.argv.as_ptr() as usize, plan.envp.as_ptr() as usize];
        // SAFETY: zero-terminated texts in null-terminated lists, which the plan owns.
        match unsafe { sys::sys(nr::EXECVE, &args) } {
            Err(sys::ENOENT) if sys::lstat_at(sys::AT_FDCWD as i32, path).is_ok() => worst = sys::ENOEXEC,
            Err(e) if e != sys::ENOENT && e != sys::ENOTDIR => worst = e,
            _ => {}
        }
    }
    worst
}

/// Reaps until the program itself has ended, or the agent wants the tree to end.
fn supervise(root: i32) -> i32 {
    loop {
        if let Some(status) = reaped(root) {
            return status;
        }
        if sys::wait_signal(bit(SIGCHLD) | bit(SIGTERM)) == Ok(SIGTERM) {
            return end_root(root);
        }
    }
}

/// Reaps who has ended; the status of the program itself if it is among them.
fn reaped(root: i32) -> Option<i32> {
    while let Ok((pid, status)) = sys::wait_any(sys::WNOHANG) {
        match pid {
            0 => break,
            _ if pid == root => return Some(status),
            _ => {}
        }
    }
    None
}

fn end_root(root: i32) -> i32 {
    kill_below(b"self");
    loop {
        match sys::wait_any(0) {
            Ok((pid, status)) if pid == root => return status,
            Ok(_) => kill_below(b"self"),
            Err(_) => return SIGKILL,
        }
    }
}

/// Kills every descendant until there is none. The dead leave us their children, so each pass
/// finds what the last one missed.
fn end_tree() {
    loop {
        match sys::wait_any(sys::WNOHANG) {
            Err(_) => return,
            Ok((0, _)) => {
                kill_below(b"self");
                let _ = sys::wait_any(0);
            }
            Ok(_) => {}
        }
    }
}

/// Kills all descendants of a process, the topmost first.
fn kill_below(pid: &[u8]) {
    let mut queue = children(pid);
    let mut at = 0;
    while at < queue.len() {
        let child = queue[at];
        let _ = sys::kill(child, SIGKILL);
        let mut digits = Digits::new();
        queue.extend(children(digits.of(child as u64)));
        at += 1;
    }
}

fn children(pid: &[u8]) -> Vec<i32> {
    let thread = if pid == b"self" { b"thread-self".as_slice() } else { pid };
    let path = match pid {
        b"self" => [b"/proc/".as_slice(), thread, b"/children"].concat(),
        _ => [b"/proc/".as_slice(), pid, b"/task/", pid, b"/children"].concat(),
    };
    let list = sys::slurp(&path, 1 << 20).unwrap_or_default();
    let number = |word: &[u8]| core::str::from_utf8(word).ok()?.parse().ok();
    list.split(|b| *b == b' ').filter_map(number).collect()
}

fn report(news: &[Record]) {
    let bytes: Vec<u8> = news.iter().flat_map(Record::as_bytes).copied().collect();
    let _ = sys::write_all(STATUS, &bytes);
}

fn fail(stage: u8, errno: Errno) -> ! {
    let stage = stage as u64;
    report(&[Record { kind: Record::FAILED, status: errno, maxrss_kib: stage, ..Record::default() }]);
    sys::exit(1)
}

/// A number in decimal, without memory of its own.
pub struct Digits([u8; 20]);

impl Digits {
    pub fn new() -> Digits {
        Digits([0; 20])
    }

    pub fn of(&mut self, mut n: u64) -> &[u8] {
        let mut at = 20;
        loop {
            at -= 1;
            self.0[at] = b'0' + (n % 10) as u8;
            n /= 10;
            if n == 0 {
                return &self.0[at..];
            }
        }
    }
}
