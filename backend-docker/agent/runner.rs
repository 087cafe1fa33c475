//! Between the agent and each program: a small process that adopts the program's orphans.
//!
//! Whatever the program starts, however it detaches, stays below its runner: so "the whole tree"
//! has an exact meaning, its end can be waited for, and its usage can be added up.

use alloc::vec::Vec;

use crate::process::{Plan, Record};
use crate::sys::{self, Errno, Fd, SIGCHLD, SIGKILL, SIGTERM, bit, nr};
use crate::terminal;
use crate::wire;

const PR_SET_CHILD_SUBREAPER: usize = 36;
const PR_CAPBSET_DROP: usize = 24;
/// Where a runner and its program find their descriptors.
const STATUS: i32 = 3;

/// Never returns: the life of a runner. `files` are stdin, stdout, stderr and the status pipe.
pub fn run(plan: &Plan, files: [i32; 4]) -> ! {
    let _ = sys::prctl(PR_SET_CHILD_SUBREAPER, 1);
    if place(files).is_err() {
        sys::exit(1);
    }
    let mistake = shared_page();
    // SAFETY: one thread.
    let root = match unsafe { sys::fork(true) } {
        Ok(0) => become_program(plan, mistake),
        Ok(pid) => pid,
        Err(e) => fail(wire::STAGE_FORK, e),
    };
    for fd in 0..3 {
        drop(Fd(fd)); // Or those at the other ends would wait for us.
    }
    // SAFETY: the page outlives us, and the child has left it.
    let (stage, errno) = unsafe { *mistake };
    if stage != 0 {
        fail(stage as u8, errno);
    }
    report(&Record { kind: Record::STARTED, status: root, ..Record::default() });
    let status = supervise(root);
    if !plan.leave_tree {
        end_tree();
    }
    let usage = sys::children_rusage();
    report(&Record {
        kind: Record::ENDED,
        status,
        user_us: usage.user_us(),
        system_us: usage.system_us(),
        maxrss_kib: usage.maxrss as u64,
    });
    sys::exit(0)
}

/// Puts the four descriptors at 0 to 3 and closes all others: they are the agent's.
fn place(files: [i32; 4]) -> Result<(), Errno> {
    // First above the target range, so that none overwrites another.
    let mut high = [0; 4];
    for (to, from) in high.iter_mut().zip(files) {
        *to = sys::duplicate(from, 10)?;
    }
    for (to, from) in high.into_iter().enumerate() {
        let flags = if to as i32 == STATUS { sys::O_CLOEXEC } else { 0 };
        // SAFETY: no memory is involved.
        unsafe { sys::sys(nr::DUP3, &[from as usize, to, flags]) }?;
    }
    // SAFETY: no memory is involved.
    if unsafe { sys::sys(nr::CLOSE_RANGE, &[4, u32::MAX as usize, 0]) }.is_err() {
        (4..4096).for_each(|fd| drop(Fd(fd))); // Before Linux 5.9, or forbidden by a filter.
    }
    Ok(())
}

/// Where the program's side leaves a mistake for us to find once it has run or ended.
fn shared_page() -> *mut (u32, Errno) {
    // SAFETY: fresh memory; read and write, shared and anonymous.
    match unsafe { sys::sys(nr::MMAP, &[0, 4096, 3, 0x21, usize::MAX, 0]) } {
        Ok(address) => address as *mut (u32, Errno),
        Err(e) => fail(wire::STAGE_FORK, e),
    }
}

fn become_program(plan: &Plan, mistake: *mut (u32, Errno)) -> ! {
    let (stage, errno) = match prepare(plan) {
        Ok(()) => (wire::STAGE_EXEC, execute(plan)),
        Err(failure) => failure,
    };
    // SAFETY: our parent sleeps until we end.
    unsafe { *mistake = (stage as u32, errno) };
    sys::exit(127)
}

fn prepare(plan: &Plan) -> Result<(), (u8, Errno)> {
    // SAFETY (of all calls below): pointers lead to values that live until after the call.
    let call = |stage: u8, n: usize, args: &[usize]| unsafe { sys::sys(n, args) }.map_err(|e| (stage, e));
    call(wire::STAGE_FORK, nr::SETSID, &[])?;
    if plan.terminal.is_some() {
        terminal::adopt().map_err(|e| (wire::STAGE_TERMINAL, e))?;
    }
    // The kernel shall choose us rather than the agent when memory runs out.
    if let Ok(fd) = sys::open(b"/proc/self/oom_score_adj", sys::O_WRONLY, 0) {
        let _ = sys::write(fd.0, b"1000");
    }
    for (resource, limits) in &plan.limits {
        call(wire::STAGE_LIMIT, nr::PRLIMIT64, &[0, *resource, limits.as_ptr() as usize, 0])?;
    }
    let user = &plan.user;
    call(wire::STAGE_USER, nr::SETGROUPS, &[user.groups.len(), user.groups.as_ptr() as usize])?;
    let [uid, gid] = [user.uid as usize, user.gid as usize];
    call(wire::STAGE_USER, nr::SETRESGID, &[gid, gid, gid])?;
    forget_capabilities(plan.capabilities);
    call(wire::STAGE_USER, nr::SETRESUID, &[uid, uid, uid])?;
    keep_capabilities(plan.capabilities)?;
    call(wire::STAGE_DIRECTORY, nr::CHDIR, &[plan.directory.ptr()])?;
    sys::block_signals(0);
    Ok(())
}

/// Takes from the bounding set what the program must not get back, not even by a set-user-id file.
fn forget_capabilities(keep: u64) {
    for capability in 0..64 {
        if keep & (1 << capability) == 0 && sys::prctl(PR_CAPBSET_DROP, capability) == Err(sys::EINVAL) {
            return; // Beyond the last one this kernel knows.
        }
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
        while let Ok((pid, status)) = sys::wait_any(sys::WNOHANG) {
            match pid {
                0 => break,
                _ if pid == root => return status,
                _ => {}
            }
        }
        if sys::wait_signal(bit(SIGCHLD) | bit(SIGTERM)) == Ok(SIGTERM) {
            return end_root(root);
        }
    }
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

fn report(record: &Record) {
    let _ = sys::write_all(STATUS, record.as_bytes());
}

fn fail(stage: u8, errno: Errno) -> ! {
    report(&Record { kind: Record::FAILED, status: errno, maxrss_kib: stage as u64, ..Record::default() });
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
