//! System calls by name. A wrapper is safe when its arguments cannot break memory safety.

use core::ffi::CStr;

use crate::syscall;

/// An error number of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

pub type Result<T> = core::result::Result<T, Errno>;

impl Errno {
    pub const PERM: Self = Self(1);
    pub const INTR: Self = Self(4);
    pub const NOENT: Self = Self(2);
    pub const NOEXEC: Self = Self(8);
    pub const AGAIN: Self = Self(11);
    pub const ACCES: Self = Self(13);
    pub const EXIST: Self = Self(17);
    pub const NOTDIR: Self = Self(20);
    pub const INVAL: Self = Self(22);
    pub const TXTBSY: Self = Self(26);
    pub const LOOP: Self = Self(40);
    pub const BADMSG: Self = Self(74);
}

/// System-call numbers.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
pub mod nr {
    pub const READ: usize = 0; pub const WRITE: usize = 1; pub const CLOSE: usize = 3; pub const MMAP: usize = 9;
    pub const RT_SIGACTION: usize = 13; pub const RT_SIGPROCMASK: usize = 14; pub const IOCTL: usize = 16;
    pub const GETPID: usize = 39; pub const SOCKET: usize = 41; pub const SENDMSG: usize = 46;
    pub const RECVMSG: usize = 47; pub const SOCKETPAIR: usize = 53;
    pub const EXECVE: usize = 59; pub const WAIT4: usize = 61; pub const KILL: usize = 62; pub const FCNTL: usize = 72;
    pub const CHDIR: usize = 80; pub const UMASK: usize = 95; pub const SETSID: usize = 112; pub const SETGROUPS: usize = 116;
    pub const SETRESUID: usize = 117; pub const SETRESGID: usize = 119; pub const SETFSUID: usize = 122;
    pub const SETFSGID: usize = 123; pub const CAPSET: usize = 126; pub const PIVOT_ROOT: usize = 155;
    pub const PRCTL: usize = 157; pub const MOUNT: usize = 165; pub const UMOUNT2: usize = 166;
    pub const SETHOSTNAME: usize = 170; pub const SCHED_SETAFFINITY: usize = 203; pub const EXIT_GROUP: usize = 231;
    pub const OPENAT: usize = 257; pub const MKDIRAT: usize = 258; pub const MKNODAT: usize = 259;
    pub const FCHOWNAT: usize = 260; pub const SYMLINKAT: usize = 266; pub const FCHMODAT: usize = 268; pub const FCHMOD: usize = 91;
    pub const PPOLL: usize = 271; pub const UNSHARE: usize = 272; pub const SIGNALFD4: usize = 289;
    pub const DUP3: usize = 292; pub const PIPE2: usize = 293; pub const PRLIMIT64: usize = 302; pub const SECCOMP: usize = 317;
    pub const SETNS: usize = 308; pub const CLONE: usize = 56; pub const SCHED_GETAFFINITY: usize = 204; pub const UNLINKAT: usize = 263;
    pub const CLOCK_GETTIME: usize = 228; pub const STATX: usize = 332;
}

/// System-call numbers.
#[cfg(target_arch = "aarch64")]
#[rustfmt::skip]
pub mod nr {
    pub const READ: usize = 63; pub const WRITE: usize = 64; pub const CLOSE: usize = 57; pub const MMAP: usize = 222;
    pub const RT_SIGACTION: usize = 134; pub const RT_SIGPROCMASK: usize = 135; pub const IOCTL: usize = 29;
    pub const GETPID: usize = 172; pub const SOCKET: usize = 198; pub const SENDMSG: usize = 211;
    pub const RECVMSG: usize = 212; pub const SOCKETPAIR: usize = 199;
    pub const EXECVE: usize = 221; pub const WAIT4: usize = 260; pub const KILL: usize = 129; pub const FCNTL: usize = 25;
    pub const CHDIR: usize = 49; pub const UMASK: usize = 166; pub const SETSID: usize = 157; pub const SETGROUPS: usize = 159;
    pub const SETRESUID: usize = 147; pub const SETRESGID: usize = 149; pub const SETFSUID: usize = 151;
    pub const SETFSGID: usize = 152; pub const CAPSET: usize = 91; pub const PIVOT_ROOT: usize = 41;
    pub const PRCTL: usize = 167; pub const MOUNT: usize = 40; pub const UMOUNT2: usize = 39;
    pub const SETHOSTNAME: usize = 161; pub const SCHED_SETAFFINITY: usize = 122; pub const EXIT_GROUP: usize = 94;
    pub const OPENAT: usize = 56; pub const MKDIRAT: usize = 34; pub const MKNODAT: usize = 33;
    pub const FCHOWNAT: usize = 54; pub const SYMLINKAT: usize = 36; pub const FCHMODAT: usize = 53; pub const FCHMOD: usize = 52;
    pub const PPOLL: usize = 73; pub const UNSHARE: usize = 97; pub const SIGNALFD4: usize = 74;
    pub const DUP3: usize = 24; pub const PIPE2: usize = 59; pub const PRLIMIT64: usize = 261; pub const SECCOMP: usize = 277;
    pub const SETNS: usize = 268; pub const CLONE: usize = 220; pub const SCHED_GETAFFINITY: usize = 123; pub const UNLINKAT: usize = 35;
    pub const CLOCK_GETTIME: usize = 113; pub const STATX: usize = 291;
}

/// Numbers that are the same on all processors.
#[rustfmt::skip]
pub mod nr_common {
    pub const OPEN_TREE: usize = 428; pub const MOVE_MOUNT: usize = 429; pub const FSOPEN: usize = 430;
    pub const FSCONFIG: usize = 431; pub const FSMOUNT: usize = 432; pub const PIDFD_OPEN: usize = 434;
    pub const CLONE3: usize = 435; pub const CLOSE_RANGE: usize = 436; pub const OPENAT2: usize = 437; pub const MOUNT_SETATTR: usize = 442;
    pub const LANDLOCK_CREATE_RULESET: usize = 444; pub const LANDLOCK_ADD_RULE: usize = 445;
    pub const LANDLOCK_RESTRICT_SELF: usize = 446;
}

use nr_common as nrc;

/// Makes a call and tells its error from its result.
///
/// # Safety
///
/// As for [`syscall`].
pub unsafe fn call(number: usize, a: [usize; 6]) -> Result<usize> {
    // SAFETY: the caller keeps the promise.
    let result = unsafe { syscall(number, a) };
    if result < 0 { Err(Errno(-result as i32)) } else { Ok(result as usize) }
}

/// A call whose arguments are plain numbers, or text that the kernel reads.
macro_rules! plain {
    ($number:expr) => {
        // SAFETY: no arguments, and no call without any breaks memory safety.
        unsafe { call($number, [0; 6]) }
    };
    ($number:expr $(, $a:expr)+) => {{
        let mut list = [0usize; 6];
        let mut _at = 0;
        $( list[_at] = $a as usize; _at += 1; )+
        // SAFETY: numbers cannot break memory safety; pointers come from references that live
        // through the call, and the kernel only reads what they point to.
        unsafe { call($number, list) }
    }};
}

/// Repeats a call that a signal interrupted.
pub fn retry<T>(mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match attempt() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

#[cfg(target_arch = "x86_64")]
const O_DIRECTORY: u32 = 0o200_000;
#[cfg(target_arch = "aarch64")]
const O_DIRECTORY: u32 = 0o40_000;
/// Opens a directory as a place to start from: `O_PATH | O_DIRECTORY | O_CLOEXEC`.
pub const DIRECTORY_PATH: u32 = 0o12_000_000 | O_DIRECTORY;
pub const AT_FDCWD: i32 = -100;
pub const AT_EMPTY_PATH: u32 = 0x1000;
pub const SIGKILL: i32 = 9;
pub const SIGCHLD: i32 = 17;

pub fn exit(code: i32) -> ! {
    loop {
        let _ = plain!(nr::EXIT_GROUP, code);
    }
}

pub fn getpid() -> i32 {
    plain!(nr::GETPID).unwrap_or(0) as i32
}

pub fn close(fd: i32) {
    let _ = plain!(nr::CLOSE, fd);
}

/// Closes every descriptor from `first` on.
pub fn close_from(first: u32) -> Result<()> {
    plain!(nrc::CLOSE_RANGE, first, u32::MAX, 0).map(drop)
}

/// Closes every descriptor from `first` to `last`, both included.
pub fn close_between(first: u32, last: u32) -> Result<()> {
    plain!(nrc::CLOSE_RANGE, first, last, 0).map(drop)
}

pub fn read(fd: i32, into: &mut [u8]) -> Result<usize> {
    // SAFETY: the kernel writes at most the slice's length.
    retry(|| unsafe { call(nr::READ, [fd as usize, into.as_mut_ptr() as usize, into.len(), 0, 0, 0]) })
}

pub fn write(fd: i32, bytes: &[u8]) -> Result<usize> {
    retry(|| plain!(nr::WRITE, fd, bytes.as_ptr(), bytes.len()))
}

pub fn openat(dir: i32, path: &CStr, flags: u32, mode: u32) -> Result<i32> {
    plain!(nr::OPENAT, dir, path.as_ptr(), flags, mode).map(|fd| fd as i32)
}

pub fn mkdirat(dir: i32, path: &CStr, mode: u32) -> Result<()> {
    plain!(nr::MKDIRAT, dir, path.as_ptr(), mode).map(drop)
}

pub fn mknodat(dir: i32, path: &CStr, mode: u32, device: u64) -> Result<()> {
    plain!(nr::MKNODAT, dir, path.as_ptr(), mode, device).map(drop)
}

pub fn symlinkat(target: &CStr, dir: i32, path: &CStr) -> Result<()> {
    plain!(nr::SYMLINKAT, target.as_ptr(), dir, path.as_ptr()).map(drop)
}

pub fn unlinkat(dir: i32, path: &CStr) -> Result<()> {
    plain!(nr::UNLINKAT, dir, path.as_ptr(), 0).map(drop)
}

pub fn fchownat(dir: i32, path: &CStr, uid: u32, gid: u32) -> Result<()> {
    plain!(nr::FCHOWNAT, dir, path.as_ptr(), uid, gid, 0).map(drop)
}

/// Type and mode of a file.
pub fn mode_of(path: &CStr) -> Result<u32> {
    const MODE_AT: usize = 28;
    let mut about = [0u8; 256];
    // SAFETY: the kernel writes one `struct statx` of 256 bytes.
    unsafe {
        call(nr::STATX, [AT_FDCWD as usize, path.as_ptr() as usize, 0, 3, about.as_mut_ptr() as usize, 0])
    }?;
    Ok(u32::from(u16::from_ne_bytes([about[MODE_AT], about[MODE_AT + 1]])))
}

pub fn fchmod(fd: i32, mode: u32) -> Result<()> {
    plain!(nr::FCHMOD, fd, mode).map(drop)
}

pub fn fchmodat(dir: i32, path: &CStr, mode: u32) -> Result<()> {
    plain!(nr::FCHMODAT, dir, path.as_ptr(), mode, 0).map(drop)
}

pub fn chdir(path: &CStr) -> Result<()> {
    plain!(nr::CHDIR, path.as_ptr()).map(drop)
}

pub fn umask(mask: u32) {
    let _ = plain!(nr::UMASK, mask);
}

pub fn dup3(from: i32, to: i32, flags: u32) -> Result<()> {
    plain!(nr::DUP3, from, to, flags).map(drop)
}

/// `fcntl` with a number as its argument.
pub fn fcntl(fd: i32, command: i32, argument: usize) -> Result<usize> {
    plain!(nr::FCNTL, fd, command, argument)
}

/// `ioctl` with a number as its argument.
pub fn ioctl_number(fd: i32, request: u32, argument: usize) -> Result<usize> {
    plain!(nr::IOCTL, fd, request, argument)
}

/// # Safety
///
/// `argument` must be valid for what `request` reads and writes.
pub unsafe fn ioctl(fd: i32, request: u32, argument: *mut u8) -> Result<usize> {
    // SAFETY: the caller keeps the promise.
    unsafe { call(nr::IOCTL, [fd as usize, request as usize, argument as usize, 0, 0, 0]) }
}

pub fn socket(domain: i32, kind: i32, protocol: i32) -> Result<i32> {
    plain!(nr::SOCKET, domain, kind, protocol).map(|fd| fd as i32)
}

pub fn pipe2(flags: u32) -> Result<[i32; 2]> {
    let mut ends = [0i32; 2];
    // SAFETY: the kernel writes two numbers into `ends`.
    unsafe { call(nr::PIPE2, [ends.as_mut_ptr() as usize, flags as usize, 0, 0, 0, 0]) }?;
    Ok(ends)
}

/// Maps a file privately, readable and writable; without a file, fresh zeroed memory.
///
/// The mapping is never unmapped, so the slice lives as long as the process.
pub fn map_private(fd: Option<i32>, len: usize) -> Result<&'static mut [u8]> {
    const READ_WRITE: usize = 3;
    const PRIVATE: usize = 2;
    const ANONYMOUS: usize = 0x20;
    let (fd, flags) = fd.map_or((-1, PRIVATE | ANONYMOUS), |fd| (fd, PRIVATE));
    // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
    let at = unsafe { call(nr::MMAP, [0, len, READ_WRITE, flags, fd as usize, 0]) }?;
    // SAFETY: the mapping is `len` bytes long, private and never unmapped.
    Ok(unsafe { core::slice::from_raw_parts_mut(at as *mut u8, len) })
}

// Processes

/// What [`fork`] returns on each side.
pub enum Fork {
    Child,
    Parent { pid: i32, pidfd: i32 },
}

/// Clones this process with new namespaces as named by `flags` (`CLONE_NEW*`).
///
/// The child is a copy; it shares no memory. The parent gets a pid descriptor.
pub fn fork(flags: usize) -> Result<Fork> {
    const PIDFD: usize = 0x1000;
    let mut pidfd = -1i32;
    let flags = flags | PIDFD | SIGCHLD as usize;
    // SAFETY: without CLONE_VM the child has its own copy of everything; `pidfd` outlives the call.
    match unsafe { call(nr::CLONE, [flags, 0, &raw mut pidfd as usize, 0, 0, 0]) }? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent { pid: pid as i32, pidfd }),
    }
}

/// Like [`fork`] without new namespaces, but the child is born in the cgroup of version 2 whose directory is open
/// as `cgroup`.
pub fn fork_into(cgroup: i32) -> Result<Fork> {
    const PIDFD: u64 = 0x1000;
    const INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut pidfd = -1i32;
    // The kernel's `struct clone_args`: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls,
    // set_tid, set_tid_size, cgroup.
    let mut arguments = [0u64; 11];
    arguments[0] = PIDFD | INTO_CGROUP;
    arguments[1] = &raw mut pidfd as u64;
    arguments[4] = SIGCHLD as u64;
    arguments[10] = cgroup as u64;
    let a = [arguments.as_ptr() as usize, size_of_val(&arguments), 0, 0, 0, 0];
    // SAFETY: without CLONE_VM the child has its own copy of everything; `pidfd` outlives the call.
    match unsafe { call(nrc::CLONE3, a) }? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent { pid: pid as i32, pidfd }),
    }
}

pub fn unshare(flags: usize) -> Result<()> {
    plain!(nr::UNSHARE, flags).map(drop)
}

/// Goes into the namespace that is open as `fd`; `kind` is its `CLONE_NEW*`.
pub fn setns(fd: i32, kind: usize) -> Result<()> {
    plain!(nr::SETNS, fd, kind).map(drop)
}

/// Executes a program. Returns only the error.
///
/// # Safety
///
/// `argv` and `envp` must be lists of valid C strings that end with null.
pub unsafe fn execve(path: *const u8, argv: *const usize, envp: *const usize) -> Errno {
    // SAFETY: the caller keeps the promise.
    match unsafe { call(nr::EXECVE, [path as usize, argv as usize, envp as usize, 0, 0, 0]) } {
        Err(errno) => errno,
        Ok(_) => Errno(0),
    }
}

/// The kernel's `struct rusage`: two times (seconds, microseconds) and fourteen counters.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Rusage(pub [i64; 18]);

pub const WNOHANG: i32 = 1;

/// Waits for `pid` (-1 for any child). With [`WNOHANG`] the pid 0 says that none has ended.
pub fn wait4(pid: i32, options: i32) -> Result<(i32, i32, Rusage)> {
    let (mut status, mut usage) = (0i32, Rusage::default());
    let pid = retry(|| {
        let a = [pid as usize, &raw mut status as usize, options as usize, &raw mut usage as usize, 0, 0];
        // SAFETY: both outputs live through the call and have the kernel's layout.
        unsafe { call(nr::WAIT4, a) }
    })?;
    Ok((pid as i32, status, usage))
}

pub fn kill(pid: i32, signal: i32) -> Result<()> {
    plain!(nr::KILL, pid, signal).map(drop)
}

pub fn pidfd_open(pid: i32) -> Result<i32> {
    plain!(nrc::PIDFD_OPEN, pid, 0).map(|fd| fd as i32)
}

pub fn setsid() -> Result<()> {
    plain!(nr::SETSID).map(drop)
}

/// `prctl` with numbers as arguments.
pub fn prctl(option: i32, a: usize, b: usize) -> Result<usize> {
    plain!(nr::PRCTL, option, a, b, 0, 0)
}

/// Names this process, for people who look at a process list.
pub fn set_name(name: &CStr) {
    const PR_SET_NAME: i32 = 15;
    let _ = plain!(nr::PRCTL, PR_SET_NAME, name.as_ptr());
}

/// Sets a limit of this process, soft and hard alike.
pub fn set_limit(resource: u32, soft: u64, hard: u64) -> Result<()> {
    let limit = [soft, hard];
    plain!(nr::PRLIMIT64, 0, resource, limit.as_ptr(), 0).map(drop)
}

/// The limit of this process: soft and hard.
pub fn get_limit(resource: u32) -> Result<(u64, u64)> {
    let mut limit = [0u64; 2];
    // SAFETY: the kernel writes two numbers into `limit`.
    unsafe { call(nr::PRLIMIT64, [0, resource as usize, 0, limit.as_mut_ptr() as usize, 0, 0]) }?;
    Ok((limit[0], limit[1]))
}

/// Binds this process to the processors of `mask`.
pub fn set_affinity(mask: &[u8]) -> Result<()> {
    plain!(nr::SCHED_SETAFFINITY, 0, mask.len(), mask.as_ptr()).map(drop)
}

// Credentials

pub fn setresuid(uid: u32) -> Result<()> {
    plain!(nr::SETRESUID, uid, uid, uid).map(drop)
}

pub fn setresgid(gid: u32) -> Result<()> {
    plain!(nr::SETRESGID, gid, gid, gid).map(drop)
}

/// Leaves all supplementary groups.
pub fn clear_groups() -> Result<()> {
    plain!(nr::SETGROUPS, 0, 0).map(drop)
}

/// Sets the identity for file access only. The calls never report an error.
pub fn set_fs_ids(uid: u32, gid: u32) {
    let _ = plain!(nr::SETFSGID, gid);
    let _ = plain!(nr::SETFSUID, uid);
}

/// Gives up every capability.
pub fn clear_capabilities() -> Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let (header, data) = ([VERSION_3, 0u32], [0u32; 6]);
    plain!(nr::CAPSET, header.as_ptr(), data.as_ptr()).map(drop)
}

/// Installs a seccomp filter: `filter` holds whole instructions of eight bytes.
pub fn install_filter(filter: &[u8]) -> Result<()> {
    #[repr(C)]
    struct Program {
        len: u16,
        filter: *const u8,
    }
    const SET_MODE_FILTER: usize = 1;
    let program = Program { len: (filter.len() / 8) as u16, filter: filter.as_ptr() };
    plain!(nr::SECCOMP, SET_MODE_FILTER, 0, &raw const program).map(drop)
}

// Signals

/// Sets every signal to its default action.
pub fn reset_signals() {
    let default = [0usize; 4];
    for signal in 1..=64 {
        // Fails for SIGKILL and SIGSTOP, which have only their default.
        let _ = plain!(nr::RT_SIGACTION, signal, default.as_ptr(), 0, 8);
    }
}

/// Ignores a signal.
pub fn ignore_signal(signal: i32) {
    let ignore = [1usize, 0, 0, 0];
    let _ = plain!(nr::RT_SIGACTION, signal, ignore.as_ptr(), 0, 8);
}

/// Gives a signal its default action.
pub fn default_signal(signal: i32) {
    let default = [0usize; 4];
    let _ = plain!(nr::RT_SIGACTION, signal, default.as_ptr(), 0, 8);
}

/// Blocks exactly the signals of `mask` (bit 0 is signal 1).
pub fn set_signal_mask(mask: u64) {
    const SETMASK: usize = 2;
    let _ = plain!(nr::RT_SIGPROCMASK, SETMASK, &raw const mask, 0, 8);
}

/// A descriptor that is readable when a signal of `mask` is pending.
pub fn signalfd(mask: u64) -> Result<i32> {
    const NONBLOCK_CLOEXEC: usize = 0o2_004_000;
    plain!(nr::SIGNALFD4, -1i32, &raw const mask, 8, NONBLOCK_CLOEXEC).map(|fd| fd as i32)
}

/// One entry of a poll list, as the kernel wants it.
#[repr(C)]
pub struct PollFd {
    pub fd: i32,
    pub events: i16,
    pub revents: i16,
}

pub const POLLIN: i16 = 1;

/// Waits until one of `fds` is ready, for at most so many milliseconds (below 1000). Gives how many are.
pub fn poll_for(fds: &mut [PollFd], milliseconds: u64) -> Result<usize> {
    let mut time = [0u64, milliseconds * 1_000_000];
    // SAFETY: the kernel writes only the `revents` of the entries and into `time` what is left of it.
    retry(|| unsafe {
        call(nr::PPOLL, [fds.as_mut_ptr() as usize, fds.len(), time.as_mut_ptr() as usize, 0, 0, 0])
    })
}

/// Waits until one of `fds` is ready.
pub fn poll(fds: &mut [PollFd]) -> Result<usize> {
    // SAFETY: the kernel writes only the `revents` of the entries.
    retry(|| unsafe { call(nr::PPOLL, [fds.as_mut_ptr() as usize, fds.len(), 0, 0, 0, 0]) })
}

/// What a clock shows: seconds and nanoseconds.
pub fn clock(number: i32) -> Result<[u64; 2]> {
    let mut time = [0u64; 2];
    // SAFETY: the kernel writes two numbers into `time`.
    unsafe { call(nr::CLOCK_GETTIME, [number as usize, time.as_mut_ptr() as usize, 0, 0, 0, 0]) }?;
    Ok(time)
}

/// Sleeps for a millisecond.
pub fn sleep_millisecond() {
    let _ = poll_for(&mut [], 1);
}

// Mounts

pub fn mount(source: &CStr, target: &CStr, kind: &CStr, flags: usize, data: &CStr) -> Result<()> {
    plain!(nr::MOUNT, source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data.as_ptr()).map(drop)
}

pub fn umount(target: &CStr) -> Result<()> {
    const DETACH: usize = 2;
    plain!(nr::UMOUNT2, target.as_ptr(), DETACH).map(drop)
}

pub fn pivot_root(new: &CStr, old: &CStr) -> Result<()> {
    plain!(nr::PIVOT_ROOT, new.as_ptr(), old.as_ptr()).map(drop)
}

pub fn sethostname(name: &[u8]) -> Result<()> {
    plain!(nr::SETHOSTNAME, name.as_ptr(), name.len()).map(drop)
}

pub const MOUNT_ATTR_RDONLY: u64 = 1;
pub const MOUNT_ATTR_NOSUID: u64 = 2;
pub const MOUNT_ATTR_NODEV: u64 = 4;
pub const MOUNT_ATTR_NOEXEC: u64 = 8;
pub const MOUNT_ATTR_NOATIME: u64 = 0x10;

/// A detached copy of the mount at `path`.
pub fn open_tree(dir: i32, path: &CStr) -> Result<i32> {
    const CLONE_CLOEXEC: usize = 1 | 0o2_000_000;
    plain!(nrc::OPEN_TREE, dir, path.as_ptr(), CLONE_CLOEXEC | AT_EMPTY_PATH as usize).map(|fd| fd as i32)
}

/// Attaches the detached mount `from` at `path`.
pub fn move_mount(from: i32, dir: i32, path: &CStr) -> Result<()> {
    const FROM_EMPTY_PATH: usize = 4;
    plain!(nrc::MOVE_MOUNT, from, c"".as_ptr(), dir, path.as_ptr(), FROM_EMPTY_PATH).map(drop)
}

/// Makes a detached mount of a new file system. Options are `key=value`, or flags with an empty
/// value.
pub fn new_mount(kind: &CStr, options: &[(&CStr, &CStr)], attributes: u64) -> Result<i32> {
    const CLOEXEC: usize = 1;
    const SET_FLAG: usize = 0;
    const SET_STRING: usize = 1;
    const CREATE: usize = 6;
    let context = plain!(nrc::FSOPEN, kind.as_ptr(), CLOEXEC)? as i32;
    let set = |(key, value): (&CStr, &CStr)| match value.is_empty() {
        true => plain!(nrc::FSCONFIG, context, SET_FLAG, key.as_ptr(), 0, 0),
        false => plain!(nrc::FSCONFIG, context, SET_STRING, key.as_ptr(), value.as_ptr(), 0),
    };
    let made = (|| {
        for &option in options {
            set(option)?;
        }
        plain!(nrc::FSCONFIG, context, CREATE, 0, 0, 0)?;
        plain!(nrc::FSMOUNT, context, CLOEXEC, attributes)
    })();
    close(context);
    made.map(|fd| fd as i32)
}

/// Adds attributes to a mount.
pub fn add_mount_attributes(dir: i32, path: &CStr, attributes: u64) -> Result<()> {
    // The access-time modes exclude each other, so a new one clears the old one.
    const ACCESS_TIME_MODES: u64 = 0x70;
    let cleared = if attributes & ACCESS_TIME_MODES != 0 { ACCESS_TIME_MODES } else { 0 };
    let change = [attributes, cleared, 0, 0];
    plain!(nrc::MOUNT_SETATTR, dir, path.as_ptr(), AT_EMPTY_PATH, change.as_ptr(), 32).map(drop)
}

/// Shows the files of a detached mount under the owners that they have in a user namespace.
pub fn show_owners_of(user_namespace: i32, mount: i32) -> Result<()> {
    const IDMAP: u64 = 0x0010_0000;
    let change = [IDMAP, 0, 0, user_namespace as u64];
    plain!(nrc::MOUNT_SETATTR, mount, c"".as_ptr(), AT_EMPTY_PATH, change.as_ptr(), 32).map(drop)
}

/// Opens `path` below `dir` without following any link, up to the last component included.
pub fn open_beneath(dir: i32, path: &CStr, flags: u32, mode: u32) -> Result<i32> {
    const NO_MAGICLINKS: u64 = 2;
    const NO_SYMLINKS: u64 = 4;
    const BENEATH: u64 = 8;
    let how = [u64::from(flags), u64::from(mode), NO_MAGICLINKS | NO_SYMLINKS | BENEATH];
    plain!(nrc::OPENAT2, dir, path.as_ptr(), how.as_ptr(), 24).map(|fd| fd as i32)
}

// Landlock

/// The version of Landlock that this kernel has.
pub fn landlock_version() -> Result<u32> {
    const VERSION: u32 = 1;
    plain!(nrc::LANDLOCK_CREATE_RULESET, 0, 0, VERSION).map(|version| version as u32)
}

/// A set of rules that allows nothing of what it handles: access to files, use of ports, reach.
pub fn landlock_rules(files: u64, ports: u64, scope: u64) -> Result<i32> {
    let handled = [files, ports, scope];
    plain!(nrc::LANDLOCK_CREATE_RULESET, handled.as_ptr(), size_of_val(&handled), 0).map(|fd| fd as i32)
}

/// Allows `access` to what lies at and below the open file `at`.
pub fn landlock_allow_path(rules: i32, at: i32, access: u64) -> Result<()> {
    #[repr(C, packed)]
    struct Beneath {
        access: u64,
        at: i32,
    }
    const PATH_BENEATH: u32 = 1;
    let rule = Beneath { access, at };
    plain!(nrc::LANDLOCK_ADD_RULE, rules, PATH_BENEATH, &raw const rule, 0).map(drop)
}

/// Allows `access` to a TCP port.
pub fn landlock_allow_port(rules: i32, port: u16, access: u64) -> Result<()> {
    const NET_PORT: u32 = 2;
    let rule = [access, u64::from(port)];
    plain!(nrc::LANDLOCK_ADD_RULE, rules, NET_PORT, rule.as_ptr(), 0).map(drop)
}

/// Puts this process and its children under the rules, for ever.
pub fn landlock_restrict_self(rules: i32) -> Result<()> {
    plain!(nrc::LANDLOCK_RESTRICT_SELF, rules, 0).map(drop)
}
