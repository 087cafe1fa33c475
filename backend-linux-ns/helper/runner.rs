//! The runner: waits, stripped of everything, and becomes the command by `execve`.

use core::ffi::CStr;

use poolyard_rt::frame::BadFrame;
use poolyard_rt::socket::{self, MAX_FDS};
use poolyard_rt::sys::{self, Errno, Fork};

use crate::decode::{Plan, Request, make_addresses};
use crate::failure::{At, Failure, Result, reply};
use crate::keeper::ns;
use crate::protocol::{Kind, MAX_FRAME, Stage, way_in};

/// The command's descriptors lie below, the runner's own from here on.
const OWN_FDS: usize = 128;
const F_DUPFD_CLOEXEC: i32 = 1030;
/// Where a runner waits, and most commands start.
const WORK_DIR: &CStr = c"/box";

/// How a runner comes into its cgroups.
#[derive(Clone, Copy)]
pub struct WayIn<'a> {
    /// The directory of the one that it can be born in, or -1.
    pub cgroup: i32,
    /// Or else it writes 0 into each of these.
    pub entries: &'a [i32],
}

impl WayIn<'_> {
    /// Forks somebody who is in the cgroup from birth if that can be, since a move waits for the kernel. Says how it
    /// comes in, as `Armed` does.
    pub fn fork(self) -> sys::Result<(Fork, u32)> {
        let refused = match self.cgroup {
            ..0 => way_in::ENTERED,
            cgroup => match sys::fork_into(cgroup) {
                Ok(forked) => return Ok((forked, way_in::BORN)),
                Err(Errno::AGAIN) => way_in::ENTERED_FULL,
                Err(_) => way_in::ENTERED,
            },
        };
        Ok((sys::fork(0)?, refused))
    }
}

/// Strips itself, tells the host, waits for the command and executes it.
pub fn run(plan: &Plan<'_>, host: i32, entries: &[i32], entered: u32, init: Option<i32>) -> ! {
    let entries = if entered == way_in::BORN { &[] } else { entries };
    if let Err(failure) = take_place(entries) {
        failure.die(host)
    }
    let (host, init) = match keep_only(host, init).at(Stage::MapFds) {
        Ok(ends) => ends,
        Err(failure) => failure.die(host),
    };
    // From here on the socket has its new number, and only there a failure is heard.
    if let Err(failure) = strip(plan) {
        failure.die(host)
    }
    // Touched here, so that the first command does not pay for the pages.
    let Ok(buffer) = sys::map_private(None, MAX_FRAME) else { sys::exit(1) };
    buffer[..8192].fill(0);
    reply(host, Kind::Armed, 0, &[entered], init.as_slice());
    init.into_iter().for_each(sys::close);
    let failure = execute(host, buffer);
    failure.report(host, 0);
    sys::exit(127)
}

/// A session and cgroups of its own.
fn take_place(entries: &[i32]) -> Result<()> {
    sys::set_signal_mask(0);
    sys::setsid().at(Stage::CloneRunner)?;
    for (index, &file) in entries.iter().enumerate() {
        sys::write(file, b"0").at_index(Stage::AttachCgroup, index)?;
    }
    sys::unshare(ns::CGROUP).at(Stage::CgroupNamespace)
}

fn strip(plan: &Plan<'_>) -> Result<()> {
    sys::chdir(WORK_DIR).at(Stage::WorkingDirectory)?;
    empty_stdin().at(Stage::MapFds)?;
    drop_privileges(plan)
}

/// Moves the two descriptors out of the way and closes all others.
fn keep_only(host: i32, init: Option<i32>) -> sys::Result<(i32, Option<i32>)> {
    let away = |fd| sys::fcntl(fd, F_DUPFD_CLOEXEC, OWN_FDS).map(|fd| fd as i32);
    let (host, init) = (away(host)?, init.map(away).transpose()?);
    sys::close_between(0, OWN_FDS as u32 - 1)?;
    sys::close_from(host.max(init.unwrap_or(0)) as u32 + 1)?;
    Ok((host, init))
}

/// Descriptor 0 reads nothing unless the host sends another. It is the sandbox's own device: a lock on
/// the host's would be seen by everyone.
fn empty_stdin() -> sys::Result<()> {
    sys::openat(sys::AT_FDCWD, c"/dev/null", 0, 0).map(drop)
}

fn drop_privileges(plan: &Plan<'_>) -> Result<()> {
    sys::setresgid(plan.gid).at(Stage::LockDown)?;
    sys::setresuid(plan.uid).at(Stage::LockDown)?;
    sys::clear_capabilities().at(Stage::LockDown)?;
    sys::umask(0o022);
    crate::landlock::restrict(plan)?;
    if plan.strict_filter.is_empty() {
        return Ok(());
    }
    sys::install_filter(plan.strict_filter).at(Stage::Filter)
}

/// Receives one command and executes it. Returns only if that failed.
fn execute(host: i32, buffer: &'static mut [u8]) -> Failure {
    let words = match prepare(host, buffer) {
        Ok(words) => words,
        Err(failure) => return failure,
    };
    execute_first(&words)
}

/// The words of a command and where its tables begin. A table is a list of addresses that ends with
/// 0; the first one, of the paths to try, begins at 0.
struct Words {
    bytes: &'static mut [u8],
    argv: usize,
    envp: usize,
}

fn prepare(host: i32, buffer: &'static mut [u8]) -> Result<Words> {
    // Descriptors take the lowest free numbers, in order: for the usual map from 0 on there is
    // nothing left to do. (0 is taken already, and usually kept.)
    let received = socket::receive_inheritable(host, buffer).at(Stage::Protocol)?;
    if received.len == 0 {
        // The host does not want this runner any more.
        sys::exit(0)
    }
    let datagram = &mut buffer[..received.len];
    let request = Request::parse(datagram).at(Stage::Protocol)?;
    let (bytes, fds) = match (request.large, received.fds()) {
        (0, fds) => (&mut datagram[request.words_at..], fds),
        (len, [memory, fds @ ..]) => (sys::map_private(Some(*memory), len).at(Stage::Protocol)?, fds),
        (_, []) => return Err(Failure::new(Stage::Protocol, Errno::BADMSG)),
    };
    for table in [0, request.argv, request.envp] {
        make_addresses(bytes, table).at(Stage::Protocol)?;
    }
    map_fds(request.targets(), fds, request.large != 0)?;
    request.apply(bytes)?;
    Ok(Words { bytes, argv: request.argv, envp: request.envp })
}

impl Request {
    /// Sets everything that the command inherits besides its descriptors.
    fn apply(&self, words: &[u8]) -> Result<()> {
        if self.terminal {
            const TIOCSCTTY: u32 = 0x540e;
            sys::ioctl_number(0, TIOCSCTTY, 0).at(Stage::Terminal)?;
        }
        if self.mask_len > 0 {
            sys::set_affinity(&self.mask[..self.mask_len]).at(Stage::Affinity)?;
        }
        let cwd = words.get(self.cwd..).and_then(|text| CStr::from_bytes_until_nul(text).ok());
        let cwd = cwd.ok_or(BadFrame).at(Stage::Protocol)?;
        if cwd != WORK_DIR {
            sys::chdir(cwd).at(Stage::WorkingDirectory)?;
        }
        for (index, &(resource, soft, hard)) in self.limits[..self.limit_count].iter().enumerate() {
            limit(resource, soft, hard).at_index(Stage::ResourceLimit, index)?;
        }
        Ok(())
    }
}

/// A hard limit that is already lower stays: it allows no more than was asked for.
fn limit(resource: u32, soft: u64, hard: u64) -> sys::Result<()> {
    match sys::set_limit(resource, soft, hard) {
        Err(Errno::PERM) => {
            let (_, ceiling) = sys::get_limit(resource)?;
            sys::set_limit(resource, soft.min(ceiling), hard.min(ceiling))
        }
        other => other,
    }
}

/// Gives every descriptor its number. All others of the runner close on exec.
fn map_fds(targets: &[i32], fds: &[i32], memory_in_between: bool) -> Result<()> {
    if targets.len() != fds.len() {
        return Err(Failure::new(Stage::MapFds, Errno::BADMSG));
    }
    if targets == fds && !memory_in_between {
        return Ok(());
    }
    let mut away = [-1; MAX_FDS];
    for (index, (slot, &fd)) in away.iter_mut().zip(fds).enumerate() {
        *slot = sys::fcntl(fd, F_DUPFD_CLOEXEC, OWN_FDS).at_index(Stage::MapFds, index)? as i32;
    }
    sys::close_between(0, OWN_FDS as u32 - 1).at(Stage::MapFds)?;
    if !targets.contains(&0) {
        empty_stdin().at(Stage::MapFds)?;
    }
    for (index, (&target, &fd)) in targets.iter().zip(&away).enumerate() {
        sys::dup3(fd, target, 0).at_index(Stage::MapFds, index)?;
    }
    Ok(())
}

/// Tries the paths in turn. Returns what is most worth telling.
fn execute_first(words: &Words) -> Failure {
    let base = words.bytes.as_ptr();
    let mut worst = Errno::NOENT;
    for entry in words.bytes.chunks_exact(8) {
        let path = usize::from_le_bytes(entry.try_into().unwrap_or_default());
        if path == 0 {
            break;
        }
        // SAFETY: `make_addresses` made all three tables lists of addresses inside `bytes`, which
        // ends with NUL, and found their end.
        let errno =
            unsafe { execute_patiently(path as *const u8, base.add(words.argv), base.add(words.envp)) };
        match errno {
            // The file is there, so it is its interpreter that is not.
            Errno::NOENT if exists(path) => worst = Errno::NOEXEC,
            Errno::NOENT | Errno::NOTDIR => {}
            // There may be another one further on, as a shell would find it.
            Errno::ACCES => worst = errno,
            _ => {
                worst = errno;
                break;
            }
        }
    }
    Failure::new(Stage::Execute, worst)
}

fn exists(path: usize) -> bool {
    const PATH_CLOEXEC: u32 = 0o12_000_000;
    // SAFETY: `make_addresses` made it the address of a C string.
    let path = unsafe { CStr::from_ptr(path as *const _) };
    sys::openat(sys::AT_FDCWD, path, PATH_CLOEXEC, 0).map(sys::close).is_ok()
}

/// A program that was written a moment ago may still be open for writing in a process that the host
/// is just starting; that ends by itself.
///
/// # Safety
///
/// As for [`sys::execve`].
unsafe fn execute_patiently(path: *const u8, argv: *const u8, envp: *const u8) -> Errno {
    for _ in 0..50 {
        // SAFETY: the caller keeps the promise.
        match unsafe { sys::execve(path, argv.cast(), envp.cast()) } {
            Errno::TXTBSY => sys::sleep_millisecond(),
            errno => return errno,
        }
    }
    Errno::TXTBSY
}
