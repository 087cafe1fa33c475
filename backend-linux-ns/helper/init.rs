//! The init: pid 1 of a lease. Mounts what the lease writes to, forks its runners, reaps, reports.
//!
//! It stands outside the lease's cgroup, so that no limit of a command keeps it from reporting,
//! and it is invisible and unkillable for the commands.

use poolyard_rt::frame::{self, Header, Reader, Writer};
use poolyard_rt::socket;
use poolyard_rt::sys::{self, Errno, Fork, PollFd, Rusage};

use crate::decode::Plan;
use crate::failure::{At, Failure, Result, reply};
use crate::layers;
use crate::protocol::{Kind, MAX_RUNNERS, Stage, network, open, proc_view};
use crate::runner::{self, WayIn};

const CHILD_SIGNAL: u64 = 1 << (sys::SIGCHLD - 1);
const BIND: usize = 4096;

/// Prepares the lease, forks the armed runner, and serves until the host closes the socket.
pub fn run(plan: &Plan<'_>, host: i32, runner: i32, way_in: WayIn<'_>) -> ! {
    sys::set_name(c"poolyard-init");
    let mut init = match Init::prepare(plan, way_in.cgroup, host) {
        Ok(init) => init,
        Err(failure) => failure.die(host),
    };
    let pidfd = match sys::pidfd_open(sys::getpid()) {
        Ok(pidfd) => pidfd,
        Err(errno) => Failure::new(Stage::CloneRunner, errno).die(host),
    };
    if let Err(failure) = init.fork_runner(0, runner, way_in.entries, Some(pidfd)) {
        failure.die(host)
    }
    [runner, pidfd].iter().chain(way_in.entries).for_each(|&fd| sys::close(fd));
    init.serve()
}

/// A command that was started and has not been reported.
#[derive(Clone, Copy)]
struct Running {
    index: u32,
    pid: i32,
}

struct Init<'a> {
    plan: &'a Plan<'a>,
    /// The one that runners are born in, or -1.
    cgroup: i32,
    host: i32,
    signals: i32,
    work: i32,
    tmp: i32,
    running: [Option<Running>; MAX_RUNNERS],
}

impl<'a> Init<'a> {
    fn prepare(plan: &'a Plan<'a>, cgroup: i32, host: i32) -> Result<Self> {
        let writable = make_writable(plan).at(Stage::MountWritable)?;
        show_writable(plan)?;
        mount_proc(plan).at(Stage::MountProc)?;
        mount_terminals().at(Stage::MountWritable)?;
        if plan.network == network::LOOPBACK {
            loopback_up().at(Stage::Loopback)?;
        }
        let area = |name| sys::open_beneath(writable, name, sys::DIRECTORY_PATH, 0).at(Stage::MountWritable);
        let (work, tmp) = (area(c"box")?, area(c"tmp")?);
        sys::close(writable);
        sys::set_signal_mask(CHILD_SIGNAL);
        let signals = sys::signalfd(CHILD_SIGNAL).at(Stage::CloneRunner)?;
        Ok(Self { plan, cgroup, host, signals, work, tmp, running: [None; MAX_RUNNERS] })
    }

    fn fork_runner(&mut self, index: u32, runner: i32, entries: &[i32], pidfd: Option<i32>) -> Result<()> {
        let failure = Failure { stage: Stage::CloneRunner, errno: Errno::INVAL, index };
        let slot = self.running.iter_mut().find(|slot| slot.is_none()).ok_or(failure)?;
        let way_in = WayIn { cgroup: self.cgroup, entries };
        let (forked, entered) = way_in.fork().at_index(Stage::CloneRunner, index as usize)?;
        match forked {
            Fork::Child => runner::run(self.plan, runner, entries, entered, pidfd),
            Fork::Parent { pid, pidfd } => {
                sys::close(pidfd);
                *slot = Some(Running { index, pid });
                Ok(())
            }
        }
    }

    fn serve(&mut self) -> ! {
        let mut buffer = [0; 4096 + 256];
        loop {
            let entry = |fd| PollFd { fd, events: sys::POLLIN, revents: 0 };
            let mut ready = [entry(self.signals), entry(self.host)];
            let _ = sys::poll(&mut ready);
            if ready[0].revents != 0 {
                self.collect();
            }
            if ready[1].revents != 0 {
                self.answer(&mut buffer);
            }
        }
    }

    /// Reaps whatever has ended and reports the commands among it.
    fn collect(&mut self) {
        let _ = sys::read(self.signals, &mut [0; 128]);
        while let Ok((pid, status, usage)) = sys::wait4(-1, sys::WNOHANG) {
            if pid == 0 {
                break;
            }
            let ended = self.running.iter_mut().find(|slot| slot.is_some_and(|running| running.pid == pid));
            if let Some(running) = ended.and_then(Option::take) {
                let alone = self.finish();
                report_exit(self.host, running.index, status, &usage);
                if alone {
                    break;
                }
            }
        }
    }

    /// After the last command nothing keeps running, unless it was asked for. Says whether nobody is left.
    fn finish(&self) -> bool {
        if self.plan.keep_background || self.running.iter().any(Option::is_some) {
            return false;
        }
        // Whoever loses its parent here becomes a child of this process, so without children it is alone. To
        // signal everybody the kernel would look at every process of the machine.
        loop {
            match sys::wait4(-1, sys::WNOHANG) {
                Err(_) => return true,
                Ok((0, ..)) => break,
                Ok(_) => {}
            }
        }
        // In a pid namespace -1 is everything but its init.
        let _ = sys::kill(-1, sys::SIGKILL);
        while sys::wait4(-1, 0).is_ok() {}
        true
    }

    fn answer(&mut self, buffer: &mut [u8]) {
        let received = match socket::receive(self.host, buffer) {
            Ok(received) if received.len > 0 => received,
            // The lease is over; the kernel ends what is left of it.
            _ => sys::exit(0),
        };
        let Ok((header, body)) = frame::parse(&buffer[..received.len]) else { sys::exit(1) };
        let answered = self.dispatch(header, body, received.fds());
        received.fds().iter().for_each(|&fd| sys::close(fd));
        if let Err(failure) = answered {
            failure.report(self.host, header.seq);
        }
    }

    fn dispatch(&mut self, header: Header, mut body: Reader<'_>, fds: &[i32]) -> Result<()> {
        match (Kind::from_number(header.kind), fds) {
            (Some(Kind::Spawn), &[runner, ref entries @ ..]) => {
                let index = body.u32().at(Stage::Protocol)?;
                self.fork_runner(index, runner, entries, None)
            }
            (Some(Kind::Signal), []) => self.signal(body).at(Stage::Protocol),
            (Some(Kind::Open), []) => {
                let fd = self.open(body)?;
                reply(self.host, Kind::Opened, header.seq, &[], &[fd]);
                sys::close(fd);
                Ok(())
            }
            _ => Err(Failure::new(Stage::Protocol, Errno::BADMSG)),
        }
    }

    /// Signals a command; a kill is for its whole process group. One that has just ended needs no signal
    /// any more.
    fn signal(&self, mut body: Reader<'_>) -> core::result::Result<(), frame::BadFrame> {
        let (index, signal) = (body.u32()?, body.u32()?);
        if let Some(running) = self.running.iter().flatten().find(|running| running.index == index) {
            let whom = if signal == sys::SIGKILL as u32 { -running.pid } else { running.pid };
            let _ = sys::kill(whom, signal as i32);
        }
        Ok(())
    }

    fn open(&self, mut body: Reader<'_>) -> Result<i32> {
        let area = if body.u8().at(Stage::Protocol)? == open::TMP { self.tmp } else { self.work };
        let how = body.u8().at(Stage::Protocol)?;
        let mode = body.u32().at(Stage::Protocol)?;
        let path = body.cstr().at(Stage::Protocol)?;
        if how == open::READ {
            return crate::files::read(area, path).at(Stage::Files);
        }
        // New files belong to the commands, and are made with their rights, not with the init's.
        sys::set_fs_ids(self.plan.uid, self.plan.gid);
        let made = match how {
            open::DIRECTORY => crate::files::make_directory(area, path, mode),
            open::TERMINAL => crate::files::terminal(),
            _ => crate::files::write(area, path, mode),
        };
        if self.plan.map != crate::protocol::MapMode::Single {
            sys::set_fs_ids(0, 0);
        }
        made.at(Stage::Files)
    }
}

fn report_exit(host: i32, index: u32, status: i32, usage: &Rusage) {
    let mut buffer = [0; 256];
    let mut writer = Writer::new(&mut buffer, Header { kind: Kind::Exited as u16, flags: 0, seq: index });
    writer.u32(index).i32(status);
    for number in usage.0 {
        writer.u64(number as u64);
    }
    if let Ok(frame) = writer.finish() {
        let _ = socket::send(host, frame, &[]);
    }
}

/// One file system for everything the lease may write, so that one limit bounds it all. It is gone with the
/// lease's mount namespace.
fn make_writable(plan: &Plan<'_>) -> sys::Result<i32> {
    let options = [(c"mode", c"0755"), (c"size", plan.bytes), (c"nr_inodes", plan.inodes)];
    let tree = sys::new_mount(c"tmpfs", &options, sys::MOUNT_ATTR_NOSUID | sys::MOUNT_ATTR_NODEV)?;
    for (name, mode) in [(c"tmp", 0o1777), (c"shm", 0o1777), (c"box", 0o755)] {
        sys::mkdirat(tree, name, mode)?;
    }
    sys::fchownat(tree, c"box", plan.uid, plan.gid)?;
    // Its own root ends up below the view of `tmp`, where nobody reaches it.
    sys::move_mount(tree, sys::AT_FDCWD, c"/tmp")?;
    Ok(tree)
}

/// Shows it in three places, of the root that is there or of a new one.
fn show_writable(plan: &Plan<'_>) -> Result<()> {
    let here = [(c"/tmp/box", c"/box"), (c"/tmp/shm", c"/dev/shm"), (c"/tmp/tmp", c"/tmp")];
    let layered = [
        (c"/tmp/box", c"/tmp/new/box"),
        (c"/tmp/shm", c"/tmp/new/dev/shm"),
        (c"/tmp/tmp", c"/tmp/new/tmp"),
    ];
    if plan.writable_root {
        layers::mount(plan)?;
    }
    for (from, to) in if plan.writable_root { layered } else { here } {
        sys::mount(from, to, c"", BIND, c"").at(Stage::MountWritable)?;
    }
    if plan.writable_root { layers::enter() } else { Ok(()) }
}

/// Files that tell about the host or other users, or that act on the kernel.
const MASKED_FILES: [&core::ffi::CStr; 7] = [
    c"/proc/kcore",
    c"/proc/keys",
    c"/proc/key-users",
    c"/proc/kallsyms",
    c"/proc/sysrq-trigger",
    c"/proc/timer_list",
    c"/proc/sched_debug",
];
const MASKED_DIRS: [&core::ffi::CStr; 2] = [c"/proc/acpi", c"/proc/scsi"];

/// The masks are there before any command is.
fn mount_proc(plan: &Plan<'_>) -> sys::Result<()> {
    let attributes =
        sys::MOUNT_ATTR_RDONLY | sys::MOUNT_ATTR_NOSUID | sys::MOUNT_ATTR_NODEV | sys::MOUNT_ATTR_NOEXEC;
    let minimal = plan.proc_view == proc_view::MINIMAL;
    let options = [(c"hidepid", c"2"), (c"subset", c"pid")];
    let tree = sys::new_mount(c"proc", &options[..if minimal { 2 } else { 1 }], attributes)?;
    sys::move_mount(tree, sys::AT_FDCWD, c"/proc")?;
    sys::close(tree);
    if minimal {
        return Ok(());
    }
    let masks = MASKED_FILES.iter().map(|file| (c"/dev/null", *file));
    for (cover, place) in masks.chain(MASKED_DIRS.iter().map(|dir| (c"/dev/pts", *dir))) {
        match sys::mount(cover, place, c"", BIND, c"") {
            // Not every kernel has every file.
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Terminals of the lease's own.
fn mount_terminals() -> sys::Result<()> {
    let options = [(c"newinstance", c""), (c"ptmxmode", c"0666"), (c"mode", c"0620"), (c"max", c"64")];
    let tree = sys::new_mount(c"devpts", &options, sys::MOUNT_ATTR_NOSUID | sys::MOUNT_ATTR_NOEXEC)?;
    sys::move_mount(tree, sys::AT_FDCWD, c"/dev/pts")?;
    sys::close(tree);
    Ok(())
}

fn loopback_up() -> sys::Result<()> {
    const GET_FLAGS: u32 = 0x8913;
    const SET_FLAGS: u32 = 0x8914;
    const INET: i32 = 2;
    const DATAGRAM_CLOEXEC: i32 = 2 | 0o2_000_000;
    const UP: u8 = 1;
    let socket = sys::socket(INET, DATAGRAM_CLOEXEC, 0)?;
    let mut request = [0u8; 40];
    request[..2].copy_from_slice(b"lo");
    // SAFETY: both requests read and write one `struct ifreq` of 40 bytes.
    let result = unsafe { sys::ioctl(socket, GET_FLAGS, request.as_mut_ptr()) }.and_then(|_| {
        request[16] |= UP;
        // SAFETY: as above.
        unsafe { sys::ioctl(socket, SET_FLAGS, request.as_mut_ptr()) }
    });
    sys::close(socket);
    result.map(drop)
}
