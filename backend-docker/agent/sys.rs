//! The system calls that the agent needs, on top of the runtime's one instruction.

use core::mem::MaybeUninit;

#[cfg(target_arch = "x86_64")]
pub mod nr {
    pub const READ: usize = 0;
    pub const WRITE: usize = 1;
    pub const CLOSE: usize = 3;
    pub const FSTAT: usize = 5;
    pub const MMAP: usize = 9;
    pub const RT_SIGPROCMASK: usize = 14;
    pub const IOCTL: usize = 16;
    pub const PREAD64: usize = 17;
    pub const SOCKET: usize = 41;
    pub const CONNECT: usize = 42;
    pub const CLONE: usize = 56;
    pub const EXECVE: usize = 59;
    pub const WAIT4: usize = 61;
    pub const KILL: usize = 62;
    pub const FCNTL: usize = 72;
    pub const CHDIR: usize = 80;
    pub const FCHMOD: usize = 91;
    pub const FCHOWN: usize = 93;
    pub const GETRUSAGE: usize = 98;
    pub const SETSID: usize = 112;
    pub const SETGROUPS: usize = 116;
    pub const SETRESUID: usize = 117;
    pub const SETRESGID: usize = 119;
    pub const CAPGET: usize = 125;
    pub const CAPSET: usize = 126;
    pub const RT_SIGTIMEDWAIT: usize = 128;
    pub const PRCTL: usize = 157;
    pub const GETDENTS64: usize = 217;
    pub const CLOCK_GETTIME: usize = 228;
    pub const EXIT_GROUP: usize = 231;
    pub const EPOLL_CTL: usize = 233;
    pub const OPENAT: usize = 257;
    pub const MKDIRAT: usize = 258;
    pub const NEWFSTATAT: usize = 262;
    pub const UNLINKAT: usize = 263;
    pub const PPOLL: usize = 271;
    pub const EPOLL_PWAIT: usize = 281;
    pub const SIGNALFD4: usize = 289;
    pub const EPOLL_CREATE1: usize = 291;
    pub const DUP3: usize = 292;
    pub const PIPE2: usize = 293;
    pub const PRLIMIT64: usize = 302;
    pub const CLOSE_RANGE: usize = 436;
}

#[cfg(target_arch = "aarch64")]
pub mod nr {
    pub const EPOLL_CREATE1: usize = 20;
    pub const EPOLL_CTL: usize = 21;
    pub const EPOLL_PWAIT: usize = 22;
    pub const DUP3: usize = 24;
    pub const FCNTL: usize = 25;
    pub const IOCTL: usize = 29;
    pub const MKDIRAT: usize = 34;
    pub const UNLINKAT: usize = 35;
    pub const CHDIR: usize = 49;
    pub const FCHMOD: usize = 52;
    pub const FCHOWN: usize = 55;
    pub const OPENAT: usize = 56;
    pub const CLOSE: usize = 57;
    pub const PIPE2: usize = 59;
    pub const GETDENTS64: usize = 61;
    pub const READ: usize = 63;
    pub const WRITE: usize = 64;
    pub const PREAD64: usize = 67;
    pub const PPOLL: usize = 73;
    pub const SIGNALFD4: usize = 74;
    pub const NEWFSTATAT: usize = 79;
    pub const FSTAT: usize = 80;
    pub const CAPGET: usize = 90;
    pub const CAPSET: usize = 91;
    pub const EXIT_GROUP: usize = 94;
    pub const CLOCK_GETTIME: usize = 113;
    pub const KILL: usize = 129;
    pub const RT_SIGPROCMASK: usize = 135;
    pub const RT_SIGTIMEDWAIT: usize = 137;
    pub const SETRESUID: usize = 147;
    pub const SETRESGID: usize = 149;
    pub const SETSID: usize = 157;
    pub const SETGROUPS: usize = 159;
    pub const GETRUSAGE: usize = 165;
    pub const PRCTL: usize = 167;
    pub const SOCKET: usize = 198;
    pub const CONNECT: usize = 203;
    pub const CLONE: usize = 220;
    pub const EXECVE: usize = 221;
    pub const MMAP: usize = 222;
    pub const WAIT4: usize = 260;
    pub const PRLIMIT64: usize = 261;
    pub const CLOSE_RANGE: usize = 436;
}

pub type Errno = i32;

/// A raw call. The error is a positive error number.
///
/// # Safety
///
/// What the call reads or writes through its arguments must be valid for that.
pub unsafe fn sys(n: usize, args: &[usize]) -> Result<usize, Errno> {
    let mut a = [0; 6];
    a[..args.len()].copy_from_slice(args);
    // SAFETY: passed on.
    let out = unsafe { poolyard_rt::syscall(n, a) };
    if out < 0 { Err(-out as Errno) } else { Ok(out as usize) }
}

pub const EINTR: Errno = 4;
pub const ENOENT: Errno = 2;
pub const EIO: Errno = 5;
pub const ENOEXEC: Errno = 8;
pub const EAGAIN: Errno = 11;
pub const ENOTDIR: Errno = 20;
pub const EINVAL: Errno = 22;
pub const EINPROGRESS: Errno = 115;
pub const ECANCELED: Errno = 125;
pub const ETIMEDOUT: Errno = 110;

pub const O_WRONLY: usize = 1;
pub const O_CREAT: usize = 0o100;
pub const O_EXCL: usize = 0o200;
pub const O_NONBLOCK: usize = 0o4000;
pub const O_CLOEXEC: usize = 0o2000000;
#[cfg(target_arch = "x86_64")]
pub const O_DIRECTORY: usize = 0o200000;
#[cfg(target_arch = "x86_64")]
pub const O_NOFOLLOW: usize = 0o400000;
#[cfg(target_arch = "aarch64")]
pub const O_DIRECTORY: usize = 0o40000;
#[cfg(target_arch = "aarch64")]
pub const O_NOFOLLOW: usize = 0o100000;
pub const AT_FDCWD: usize = -100isize as usize;
pub const AT_REMOVEDIR: usize = 0x200;
pub const AT_SYMLINK_NOFOLLOW: usize = 0x100;

pub const SIGKILL: i32 = 9;
pub const SIGTERM: i32 = 15;
pub const SIGCHLD: i32 = 17;
pub const SIGCONT: i32 = 18;

/// A descriptor that closes itself.
pub struct Fd(pub i32);

impl Drop for Fd {
    fn drop(&mut self) {
        // SAFETY: we own the descriptor.
        let _ = unsafe { sys(nr::CLOSE, &[self.0 as usize]) };
    }
}

/// A path or text with its final zero byte.
pub struct CStr(alloc::vec::Vec<u8>);

impl CStr {
    pub fn new(bytes: &[u8]) -> CStr {
        let mut v = alloc::vec::Vec::with_capacity(bytes.len() + 1);
        v.extend_from_slice(bytes);
        v.push(0);
        CStr(v)
    }

    pub fn ptr(&self) -> usize {
        self.0.as_ptr() as usize
    }
}

pub fn read(fd: i32, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the buffer is ours and as long as we say.
    unsafe { sys(nr::READ, &[fd as usize, buffer.as_mut_ptr() as usize, buffer.len()]) }
}

/// Appends at most `max` bytes to `out`, and says how many. No memory is touched that is not read: after a
/// fork every page costs a copy.
pub fn append(out: &mut alloc::vec::Vec<u8>, fd: i32, max: usize) -> Result<usize, Errno> {
    out.reserve(max);
    let room = out.spare_capacity_mut().as_mut_ptr();
    // SAFETY: the room is ours and at least that long.
    let n = unsafe { sys(nr::READ, &[fd as usize, room as usize, max]) }?;
    // SAFETY: the kernel has written that many bytes.
    unsafe { out.set_len(out.len() + n) };
    Ok(n)
}

pub fn write(fd: i32, bytes: &[u8]) -> Result<usize, Errno> {
    // SAFETY: the bytes are readable for their length.
    unsafe { sys(nr::WRITE, &[fd as usize, bytes.as_ptr() as usize, bytes.len()]) }
}

pub fn write_all(fd: i32, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match write(fd, bytes) {
            Ok(0) => return Err(EIO),
            Ok(n) => bytes = &bytes[n..],
            Err(EINTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

pub fn open(path: &[u8], flags: usize, mode: usize) -> Result<Fd, Errno> {
    open_at(AT_FDCWD, &CStr::new(path), flags, mode)
}

pub fn open_at(dir: usize, path: &CStr, flags: usize, mode: usize) -> Result<Fd, Errno> {
    // SAFETY: the path ends with a zero byte.
    let fd = unsafe { sys(nr::OPENAT, &[dir, path.ptr(), flags | O_CLOEXEC, mode]) }?;
    Ok(Fd(fd as i32))
}

/// A whole file, of at most `max` bytes.
pub fn slurp(path: &[u8], max: usize) -> Result<alloc::vec::Vec<u8>, Errno> {
    let fd = open(path, 0, 0)?;
    let mut out = alloc::vec::Vec::new();
    while out.len() < max {
        match append(&mut out, fd.0, 4096) {
            Ok(0) => break,
            Ok(_) => {}
            Err(EINTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(out)
}

pub fn mkdir(path: &[u8], mode: usize) -> Result<(), Errno> {
    let path = CStr::new(path);
    // SAFETY: the path ends with a zero byte.
    unsafe { sys(nr::MKDIRAT, &[AT_FDCWD, path.ptr(), mode]) }.map(drop)
}

pub fn unlink_at(dir: i32, name: &CStr, flags: usize) -> Result<(), Errno> {
    // SAFETY: the name ends with a zero byte.
    unsafe { sys(nr::UNLINKAT, &[dir as usize, name.ptr(), flags]) }.map(drop)
}

/// The kernel's `struct stat`, of which both architectures agree on what we read.
#[derive(Clone, Copy, Default)]
pub struct Stat {
    pub dev: u64,
    pub ino: u64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub mtime_ns: u64,
    pub ctime_ns: u64,
}

impl Stat {
    pub fn is_dir(&self) -> bool {
        self.mode & 0o170000 == 0o040000
    }

    pub fn is_file(&self) -> bool {
        self.mode & 0o170000 == 0o100000
    }

    fn from_raw(raw: &[u64; 18]) -> Stat {
        let low = |v: u64| v as u32;
        let high = |v: u64| (v >> 32) as u32;
        let time = |i: usize| raw[i].wrapping_mul(1_000_000_000).wrapping_add(raw[i + 1]);
        let mut s = Stat { dev: raw[0], ino: raw[1], size: raw[6], ..Stat::default() };
        // x86_64: dev ino nlink mode|uid gid|pad rdev size blksize blocks atime mtime ctime
        // aarch64: dev ino mode|nlink uid|gid rdev pad size blksize|pad blocks atime mtime ctime
        if cfg!(target_arch = "x86_64") {
            (s.mode, s.uid, s.gid) = (low(raw[3]), high(raw[3]), low(raw[4]));
        } else {
            (s.mode, s.uid, s.gid) = (low(raw[2]), low(raw[3]), high(raw[3]));
        }
        (s.mtime_ns, s.ctime_ns) = (time(11), time(13));
        s
    }
}

pub fn fstat(fd: i32) -> Result<Stat, Errno> {
    let mut raw = [0u64; 18];
    // SAFETY: `struct stat` has 144 bytes on x86_64 and 128 on aarch64.
    unsafe { sys(nr::FSTAT, &[fd as usize, raw.as_mut_ptr() as usize]) }?;
    Ok(Stat::from_raw(&raw))
}

pub fn lstat_at(dir: i32, name: &CStr) -> Result<Stat, Errno> {
    let mut raw = [0u64; 18];
    // SAFETY: the name ends with a zero byte, and `raw` holds a `struct stat`.
    unsafe {
        sys(nr::NEWFSTATAT, &[dir as usize, name.ptr(), raw.as_mut_ptr() as usize, AT_SYMLINK_NOFOLLOW])
    }?;
    Ok(Stat::from_raw(&raw))
}

/// Calls `f` with every name in an open directory, until it fails.
pub fn each_name(fd: i32, f: &mut dyn FnMut(&[u8]) -> Result<(), Errno>) -> Result<(), Errno> {
    let mut buffer = [0u64; 512];
    loop {
        // SAFETY: the buffer is ours, aligned for `linux_dirent64`, and as long as we say.
        let n = unsafe { sys(nr::GETDENTS64, &[fd as usize, buffer.as_mut_ptr() as usize, 4096]) }?;
        if n == 0 {
            return Ok(());
        }
        // SAFETY: the kernel wrote `n` bytes there.
        let bytes = unsafe { core::slice::from_raw_parts(buffer.as_ptr().cast::<u8>(), n) };
        let mut at = 0;
        while at + 19 < n {
            let len = u16::from_ne_bytes([bytes[at + 16], bytes[at + 17]]) as usize;
            let name = &bytes[at + 19..at + len];
            let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
            if &name[..end] != b"." && &name[..end] != b".." {
                f(&name[..end])?;
            }
            at += len;
        }
    }
}

pub fn pipe(flags: usize) -> Result<(Fd, Fd), Errno> {
    let mut fds = [0i32; 2];
    // SAFETY: the kernel writes two descriptors.
    unsafe { sys(nr::PIPE2, &[fds.as_mut_ptr() as usize, flags | O_CLOEXEC]) }?;
    Ok((Fd(fds[0]), Fd(fds[1])))
}

pub fn set_nonblocking(fd: i32) {
    const F_SETFL: usize = 4;
    // SAFETY: changes a flag of a descriptor that we own.
    let _ = unsafe { sys(nr::FCNTL, &[fd as usize, F_SETFL, O_NONBLOCK]) };
}

/// Another descriptor of the same file, numbered `lowest` or higher.
pub fn duplicate(fd: i32, lowest: usize) -> Result<i32, Errno> {
    const F_DUPFD_CLOEXEC: usize = 1030;
    // SAFETY: no memory is involved.
    unsafe { sys(nr::FCNTL, &[fd as usize, F_DUPFD_CLOEXEC, lowest]) }.map(|fd| fd as i32)
}

pub fn kill(pid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: no memory is involved.
    unsafe { sys(nr::KILL, &[pid as usize, signal as usize]) }.map(drop)
}

pub const WNOHANG: usize = 1;

/// Seconds and microseconds of user and system time, and peak memory in KiB.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Rusage {
    pub utime: [i64; 2],
    pub stime: [i64; 2],
    pub maxrss: i64,
    rest: [i64; 13],
}

impl Rusage {
    pub fn user_us(&self) -> u64 {
        (self.utime[0] * 1_000_000 + self.utime[1]) as u64
    }

    pub fn system_us(&self) -> u64 {
        (self.stime[0] * 1_000_000 + self.stime[1]) as u64
    }
}

/// Reaps any child: its process id and wait status. Process id 0: none is ready.
pub fn wait_any(options: usize) -> Result<(i32, i32), Errno> {
    wait(usize::MAX, options)
}

/// Waits until this child has ended, and reaps it.
pub fn wait_for(pid: i32) -> Result<(i32, i32), Errno> {
    wait(pid as usize, 0)
}

fn wait(whom: usize, options: usize) -> Result<(i32, i32), Errno> {
    let mut status = 0i32;
    loop {
        // SAFETY: the kernel writes one status.
        let got = unsafe { sys(nr::WAIT4, &[whom, &raw mut status as usize, options, 0]) };
        match got {
            Err(EINTR) => {}
            other => return other.map(|pid| (pid as i32, status)),
        }
    }
}

pub fn children_rusage() -> Rusage {
    let mut usage = Rusage::default();
    // SAFETY: `Rusage` has the kernel's layout; -1 is RUSAGE_CHILDREN.
    let _ = unsafe { sys(nr::GETRUSAGE, &[usize::MAX, &raw mut usage as usize]) };
    usage
}

/// # Safety
///
/// The process must have one thread only.
pub unsafe fn fork() -> Result<i32, Errno> {
    // SAFETY: memory is copied, not shared, so parent and child cannot disturb each other.
    unsafe { sys(nr::CLONE, &[SIGCHLD as usize, 0, 0, 0, 0]) }.map(|pid| pid as i32)
}

/// Runs `life` in a child that shares our memory, and sleeps until it executes a program or ends.
///
/// # Safety
///
/// The process must have one thread only. `life` must neither return nor panic, and leave our memory so that
/// we can go on.
pub unsafe fn vfork<F: FnMut()>(mut life: F) -> Result<i32, Errno> {
    extern "C" fn live<F: FnMut()>(life: *mut ()) -> ! {
        // SAFETY: our parent lent it to us and sleeps.
        unsafe { (*life.cast::<F>())() };
        exit(127)
    }
    let mut stack = MaybeUninit::<Stack>::uninit();
    // SAFETY: one past the end of our own; as the caller promises.
    let pid = unsafe {
        poolyard_rt::vfork(
            SIGCHLD as usize,
            stack.as_mut_ptr().add(1).cast(),
            live::<F>,
            (&raw mut life).cast(),
        )
    };
    if pid < 0 { Err(-pid as Errno) } else { Ok(pid as i32) }
}

#[repr(align(16))]
struct Stack(#[allow(dead_code, reason = "room")] [u8; 16 << 10]);

pub fn exit(code: i32) -> ! {
    loop {
        // SAFETY: ends the process.
        let _ = unsafe { sys(nr::EXIT_GROUP, &[code as usize]) };
    }
}

/// Milliseconds of a clock that never jumps.
pub fn now_us() -> u64 {
    let mut t = [0u64; 2];
    // SAFETY: the kernel writes one timespec; 1 is CLOCK_MONOTONIC.
    let _ = unsafe { sys(nr::CLOCK_GETTIME, &[1, t.as_mut_ptr() as usize]) };
    t[0] * 1_000_000 + t[1] / 1000
}

pub fn block_signals(mask: u64) {
    // SAFETY: the kernel reads eight bytes; 2 is SIG_SETMASK.
    let _ = unsafe { sys(nr::RT_SIGPROCMASK, &[2, &raw const mask as usize, 0, 8]) };
}

pub const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// Waits for one of the blocked signals.
pub fn wait_signal(mask: u64) -> Result<i32, Errno> {
    // SAFETY: the kernel reads eight bytes.
    unsafe { sys(nr::RT_SIGTIMEDWAIT, &[&raw const mask as usize, 0, 0, 8]) }.map(|s| s as i32)
}

pub fn signal_fd(mask: u64) -> Result<Fd, Errno> {
    let flags = O_NONBLOCK | O_CLOEXEC;
    // SAFETY: the kernel reads eight bytes.
    let fd = unsafe { sys(nr::SIGNALFD4, &[usize::MAX, &raw const mask as usize, 8, flags]) }?;
    Ok(Fd(fd as i32))
}

pub fn prctl(option: usize, a: usize) -> Result<usize, Errno> {
    // SAFETY: only options without pointers are used.
    unsafe { sys(nr::PRCTL, &[option, a, 0, 0, 0]) }
}

pub const EPOLLIN: u32 = 1;
pub const EPOLLOUT: u32 = 4;

#[derive(Clone, Copy, Default)]
#[cfg_attr(target_arch = "x86_64", repr(C, packed))]
#[cfg_attr(not(target_arch = "x86_64"), repr(C))]
pub struct Event {
    pub events: u32,
    pub data: u64,
}

pub struct Epoll(Fd);

impl Epoll {
    pub fn new() -> Result<Epoll, Errno> {
        // SAFETY: no memory is involved.
        let fd = unsafe { sys(nr::EPOLL_CREATE1, &[O_CLOEXEC]) }?;
        Ok(Epoll(Fd(fd as i32)))
    }

    fn control(&self, op: usize, fd: i32, events: u32, data: u64) -> Result<(), Errno> {
        let event = Event { events, data };
        // SAFETY: the kernel reads one event.
        unsafe { sys(nr::EPOLL_CTL, &[self.0.0 as usize, op, fd as usize, &raw const event as usize]) }
            .map(drop)
    }

    pub fn add(&self, fd: i32, events: u32, data: u64) -> Result<(), Errno> {
        self.control(1, fd, events, data)
    }

    pub fn change(&self, fd: i32, events: u32, data: u64) -> Result<(), Errno> {
        self.control(3, fd, events, data)
    }

    pub fn remove(&self, fd: i32) {
        let _ = self.control(2, fd, 0, 0);
    }

    /// Waits for at most `timeout_ms`, -1 for ever. No events after a signal.
    pub fn wait(&self, events: &mut [Event], timeout_ms: i32) -> usize {
        let args = [self.0.0 as usize, events.as_mut_ptr() as usize, events.len(), timeout_ms as usize, 0, 8];
        // SAFETY: the kernel writes at most as many events as there is room for.
        unsafe { sys(nr::EPOLL_PWAIT, &args) }.unwrap_or(0)
    }
}

pub fn connect_unix(path: &[u8]) -> Result<Fd, Errno> {
    let mut address = [0u8; 110];
    address[0] = 1;
    address[2..2 + path.len()].copy_from_slice(path);
    // SAFETY: no memory is involved; AF_UNIX, SOCK_STREAM.
    let fd = Fd(unsafe { sys(nr::SOCKET, &[1, 1 | O_CLOEXEC, 0]) }? as i32);
    // SAFETY: the address is readable for its length.
    unsafe { sys(nr::CONNECT, &[fd.0 as usize, address.as_ptr() as usize, 110]) }?;
    Ok(fd)
}

/// Whether something accepts connections at a local port, right now.
pub fn port_accepts(port: u16) -> bool {
    let [high, low] = port.to_be_bytes();
    let mut v4 = [0u8; 16];
    (v4[0], v4[2], v4[3], v4[4], v4[7]) = (2, high, low, 127, 1);
    let mut v6 = [0u8; 28];
    (v6[0], v6[2], v6[3], v6[23]) = (10, high, low, 1);
    accepts(2, &v4) || accepts(10, &v6)
}

fn accepts(family: usize, address: &[u8]) -> bool {
    // SAFETY: no memory is involved; SOCK_STREAM.
    let Ok(fd) = (unsafe { sys(nr::SOCKET, &[family, 1 | O_CLOEXEC | O_NONBLOCK, 0]) }) else { return false };
    let fd = Fd(fd as i32);
    // SAFETY: the address is readable for its length.
    match unsafe { sys(nr::CONNECT, &[fd.0 as usize, address.as_ptr() as usize, address.len()]) } {
        Ok(_) => true,
        Err(EINPROGRESS) => connected_soon(&fd),
        Err(_) => false,
    }
}

/// A local connection stands at once, or the listener's queue is full: then it is not ready.
fn connected_soon(fd: &Fd) -> bool {
    let mut poll = [fd.0, 4]; // POLLOUT
    let millisecond = [0u64, 1_000_000];
    // SAFETY: one pollfd (eight bytes) and one timespec.
    let n = unsafe { sys(nr::PPOLL, &[poll.as_mut_ptr() as usize, 1, millisecond.as_ptr() as usize, 0, 8]) };
    n == Ok(1) && (poll[1] >> 16) & 0x18 == 0 // neither POLLERR nor POLLHUP
}

/// Sleeps for a moment, where there is nothing to wait for.
pub fn pause_us(us: u64) {
    let time = [0u64, us * 1000];
    // SAFETY: no pollfd, one timespec.
    let _ = unsafe { sys(nr::PPOLL, &[0, 0, time.as_ptr() as usize, 0, 8]) };
}

/// Takes the loopback interface down. Needs the right to administer the network.
pub fn loopback_down() -> Result<(), Errno> {
    const SIOCSIFFLAGS: usize = 0x8914;
    // `struct ifreq`: sixteen bytes of name, then the flags, all of them cleared.
    let mut request = [0u8; 40];
    request[..2].copy_from_slice(b"lo");
    // SAFETY: no memory is involved; AF_INET, SOCK_DGRAM.
    let socket = Fd(unsafe { sys(nr::SOCKET, &[2, 2 | O_CLOEXEC, 0]) }? as i32);
    // SAFETY: the kernel reads one `ifreq`.
    unsafe { sys(nr::IOCTL, &[socket.0 as usize, SIOCSIFFLAGS, request.as_ptr() as usize]) }.map(drop)
}
