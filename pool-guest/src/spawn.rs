#![allow(unsafe_code)] // Every block says why it is sound.

//! Starts a guest from memory.
//!
//! The image is written once into a sealed memory file. Starting it is one `vfork`-like clone: the
//! child borrows the host's memory for the few system calls up to `execveat`, so the cost does not
//! grow with the host's size, and no lock of the host can be left held in a copy.

use std::ffi::{CStr, c_int, c_void};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// An executable that lies in memory.
#[derive(Debug)]
pub struct Image {
    file: OwnedFd,
}

impl Image {
    /// Makes `program` executable from memory.
    ///
    /// Where the system forbids executable memory files (`vm.memfd_noexec=2`), an unnamed file in
    /// the directory for temporary files takes its place.
    ///
    /// # Errors
    ///
    /// Whatever the system says; an empty `program` is `InvalidInput`.
    pub fn new(program: &[u8]) -> io::Result<Self> {
        if program.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "this build carries no guest program"));
        }
        let file = match memory_file(program) {
            Err(e) if e.raw_os_error() == Some(libc::EACCES) => unnamed_file(program)?,
            other => other?,
        };
        Ok(Self { file })
    }
}

const MFD_EXEC: libc::c_uint = 0x10;

fn memory_file(program: &[u8]) -> io::Result<OwnedFd> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    let created = memfd(flags | MFD_EXEC).or_else(|e| match e.raw_os_error() {
        // Kernels before 6.3 do not know the flag, and need none.
        Some(libc::EINVAL) => memfd(flags),
        _ => Err(e),
    })?;
    let mut file = File::from(created);
    file.write_all(program)?;
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    // SAFETY: the call takes numbers only.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) })?;
    Ok(file.into())
}

fn memfd(flags: libc::c_uint) -> io::Result<OwnedFd> {
    // SAFETY: the name is a C string; a result that is not negative is a new descriptor.
    let fd = check(unsafe { libc::memfd_create(c"poolyard".as_ptr(), flags) })?;
    // SAFETY: as above, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A file without a name, opened again for reading only: a file that is open for writing cannot be
/// executed.
fn unnamed_file(program: &[u8]) -> io::Result<OwnedFd> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    let mut file =
        options.read(true).write(true).mode(0o500).custom_flags(libc::O_TMPFILE).open(std::env::temp_dir())?;
    file.write_all(program)?;
    let reader = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    Ok(reader.into())
}

/// A started guest.
#[derive(Debug)]
pub struct Guest {
    /// Its process id.
    pub pid: libc::pid_t,
    /// Names the process even after its id was given to another one.
    pub pidfd: OwnedFd,
}

/// Where the first descriptor of a guest lies; 0 to 2 are `/dev/null`.
pub const FIRST_FD: RawFd = 3;

/// Starts `image` with `name` as its only argument, an empty environment, and exactly the
/// descriptors `fds`, from [`FIRST_FD`] on. The calling thread waits until the guest is running.
///
/// The guest is a child of this process, and the caller reaps it.
///
/// # Errors
///
/// What the failing system call said.
pub fn spawn(image: &Image, name: &CStr, fds: &[BorrowedFd<'_>]) -> io::Result<Guest> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let mut plan = Plan {
        image: image.file.as_raw_fd(),
        null: null.as_raw_fd(),
        argv: [name.as_ptr(), std::ptr::null()],
        fds: [-1; MAX_FDS],
        fd_count: fds.len(),
        error: 0,
    };
    let slots = plan.fds.get_mut(..fds.len()).ok_or(io::ErrorKind::InvalidInput)?;
    for (slot, fd) in slots.iter_mut().zip(fds) {
        *slot = fd.as_raw_fd();
    }
    let guest = with_signals_blocked(|| clone(&mut plan))?;
    if plan.error != 0 {
        reap(guest.pid);
        return Err(io::Error::from_raw_os_error(plan.error));
    }
    Ok(guest)
}

const MAX_FDS: usize = 8;

/// Everything the child needs, made before it exists: it must not allocate.
struct Plan {
    image: RawFd,
    null: RawFd,
    argv: [*const libc::c_char; 2],
    fds: [RawFd; MAX_FDS],
    fd_count: usize,
    error: c_int,
}

fn clone(plan: &mut Plan) -> io::Result<Guest> {
    let mut stack = vec![0u128; 1024];
    let mut pidfd: c_int = -1;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    let argument: *mut Plan = plan;
    // SAFETY: the stack is 16 KiB, aligned, and outlives the child's use of it, because CLONE_VFORK
    // suspends this thread until the child has called execve or exited; so does the plan.
    let pid = check(unsafe {
        let top = stack.as_mut_ptr().add(stack.len());
        libc::clone(child, top.cast(), flags, argument.cast(), &raw mut pidfd)
    })?;
    // SAFETY: CLONE_PIDFD stored a new descriptor that nobody else owns.
    Ok(Guest { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
}

/// Runs in the child, in the parent's memory: system calls and its own stack, nothing else.
extern "C" fn child(argument: *mut c_void) -> c_int {
    // SAFETY: `clone` passes a plan that outlives this function.
    let plan = unsafe { &mut *argument.cast::<Plan>() };
    // SAFETY: raw system calls on descriptors and on memory of the plan; all are allowed between
    // vfork and exec. `errno` is the suspended parent's, which reads it only after a failed clone.
    plan.error = unsafe { become_guest(plan) };
    1
}

unsafe fn become_guest(plan: &mut Plan) -> c_int {
    // SAFETY: see `child`.
    unsafe {
        let fail = || *libc::__errno_location();
        // First out of the way of the final numbers, then to them.
        for fd in &mut plan.fds[..plan.fd_count] {
            *fd = libc::fcntl(*fd, libc::F_DUPFD_CLOEXEC, 64);
            if *fd < 0 {
                return fail();
            }
        }
        let image = libc::fcntl(plan.image, libc::F_DUPFD_CLOEXEC, 64);
        for (number, &fd) in (FIRST_FD..).zip(&plan.fds[..plan.fd_count]) {
            if libc::dup2(fd, number) < 0 {
                return fail();
            }
        }
        for number in 0..FIRST_FD {
            if libc::dup2(plan.null, number) < 0 {
                return fail();
            }
        }
        const CLOSE_RANGE_CLOEXEC: c_int = 4;
        let first_unused = FIRST_FD + plan.fd_count as RawFd;
        if libc::syscall(libc::SYS_close_range, first_unused, c_int::MAX, CLOSE_RANGE_CLOEXEC) < 0 {
            return fail();
        }
        let environment = [std::ptr::null::<libc::c_char>()];
        libc::syscall(
            libc::SYS_execveat,
            image,
            c"".as_ptr(),
            plan.argv.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
        fail()
    }
}

/// A signal handler that ran in the child would run in the parent's memory.
fn with_signals_blocked<T>(run: impl FnOnce() -> T) -> T {
    // SAFETY: both sets are initialised by the calls before they are read.
    unsafe {
        let (mut all, mut old) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut old);
        let result = run();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const old, std::ptr::null_mut());
        result
    }
}

fn reap(pid: libc::pid_t) {
    // SAFETY: waits for our own child, without any output.
    while unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) } < 0
        && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
    {}
}

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
