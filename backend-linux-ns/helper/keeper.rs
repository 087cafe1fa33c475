//! The keeper: pid 1 of a sandbox. Builds what is slow to make, once, and clones an init per lease.

use poolyard_rt::frame;
use poolyard_rt::socket;
use poolyard_rt::sys::{self, Errno, Fork};

use crate::decode::Plan;
use crate::failure::{At, Failure, Result, reply};
use crate::init;
use crate::launcher::{Opened, open_cgroup};
use crate::protocol::{Kind, MapMode, Stage, network};
use crate::rootfs;
use crate::runner::WayIn;
use crate::text::{Decimal, Text};

/// Flags of `clone` and `unshare`.
pub mod ns {
    pub const TIME: usize = 0x80;
    pub const MOUNT: usize = 0x0002_0000;
    pub const CGROUP: usize = 0x0200_0000;
    pub const UTS: usize = 0x0400_0000;
    pub const IPC: usize = 0x0800_0000;
    pub const USER: usize = 0x1000_0000;
    pub const PID: usize = 0x2000_0000;
    pub const NET: usize = 0x4000_0000;
}

/// Builds the sandbox, says so, and serves until the host closes the socket.
pub fn run(plan: &Plan<'_>, opened: &Opened, host: i32, go: i32) -> ! {
    sys::set_name(c"poolyard-keep");
    sys::default_signal(sys::SIGCHLD);
    wait_for_ids(go);
    let cgroup = match build(plan, opened) {
        Ok(cgroup) => cgroup,
        Err(failure) => failure.die(host),
    };
    reply(host, Kind::Ready, 0, &[], &[]);
    serve(plan, cgroup, host)
}

/// The launcher writes one byte when the ids are mapped; if it cannot, it closes the pipe.
fn wait_for_ids(go: i32) {
    if sys::read(go, &mut [0]) != Ok(1) {
        sys::exit(1)
    }
    sys::close(go);
}

/// Gives the open cgroup that runners are born in, or -1.
fn build(plan: &Plan<'_>, opened: &Opened) -> Result<i32> {
    take_identity(plan).at(Stage::BecomeRoot)?;
    // The old root, by which it is found, goes away.
    let cgroup = if opened.cgroup >= 0 { opened.cgroup } else { open_cgroup(plan) };
    rootfs::build(plan, &opened.trees, opened.devices)?;
    forbid_nesting().at(Stage::ForbidNesting)?;
    sys::sethostname(plan.hostname).at(Stage::HostName)?;
    lock_down().at(Stage::LockDown)?;
    sys::install_filter(plan.coarse_filter).at(Stage::Filter)?;
    Ok(cgroup)
}

fn take_identity(plan: &Plan<'_>) -> sys::Result<()> {
    const PR_SET_PDEATHSIG: i32 = 1;
    const PR_SET_DUMPABLE: i32 = 4;
    if plan.map != MapMode::Single {
        sys::clear_groups()?;
        sys::setresgid(0)?;
        sys::setresuid(0)?;
    }
    // After the change of identity, which would clear it.
    sys::prctl(PR_SET_PDEATHSIG, sys::SIGKILL as usize, 0)?;
    sys::prctl(PR_SET_DUMPABLE, 0, 0).map(drop)
}

/// A second wall behind the filter: nobody below makes user namespaces.
fn forbid_nesting() -> sys::Result<()> {
    const WRITE_CLOEXEC: u32 = 1 | 0o2_000_000;
    let fd = sys::openat(sys::AT_FDCWD, c"/proc/sys/user/max_user_namespaces", WRITE_CLOEXEC, 0)?;
    let written = sys::write(fd, b"0");
    sys::close(fd);
    written.map(drop)
}

/// What is given up here is given up for every process of the sandbox. The keeper and the inits
/// keep their capabilities in the sandbox's own user namespace; nothing they execute can get any.
fn lock_down() -> sys::Result<()> {
    const PR_CAPBSET_DROP: i32 = 24;
    const PR_SET_SECUREBITS: i32 = 28;
    const PR_SET_NO_NEW_PRIVS: i32 = 38;
    const PR_CAP_AMBIENT: i32 = 47;
    const AMBIENT_CLEAR_ALL: usize = 4;
    const CORE: u32 = 4;
    // Root without capabilities, no set-id fix-ups kept aside, no ambient set; all of it locked.
    const NOROOT_AND_NO_AMBIENT_LOCKED: usize = 0b1100_0011;
    for capability in 0..64 {
        match sys::prctl(PR_CAPBSET_DROP, capability, 0) {
            Ok(_) => {}
            // One past the last that this kernel knows.
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    sys::prctl(PR_CAP_AMBIENT, AMBIENT_CLEAR_ALL, 0)?;
    sys::prctl(PR_SET_SECUREBITS, NOROOT_AND_NO_AMBIENT_LOCKED, 0)?;
    sys::prctl(PR_SET_NO_NEW_PRIVS, 1, 0)?;
    sys::set_limit(CORE, 0, 0)
}

fn serve(plan: &Plan<'_>, cgroup: i32, host: i32) -> ! {
    let mut lease = None;
    let mut buffer = [0; 64];
    loop {
        let received = match socket::receive(host, &mut buffer) {
            Ok(received) if received.len > 0 => received,
            // The host is gone or speaks nonsense; with pid 1 everything in here ends.
            _ => sys::exit(0),
        };
        let is_arm = frame::parse(&buffer[..received.len]).is_ok_and(|(h, _)| h.kind == Kind::Arm as u16);
        let armed = match received.fds() {
            &[init, runner, ref entries @ ..] if is_arm => {
                let way_in = WayIn { cgroup, entries };
                arm(plan, &mut lease, host, init, runner, way_in)
            }
            _ => Err(Failure::new(Stage::Protocol, Errno::BADMSG)),
        };
        received.fds().iter().for_each(|&fd| sys::close(fd));
        if let Err(failure) = armed {
            failure.report(host, 0);
        }
    }
}

/// Ends the last lease, waits until nothing of it is left, and clones the next one's init.
fn arm(
    plan: &Plan<'_>,
    lease: &mut Option<i32>,
    host: i32,
    init: i32,
    runner: i32,
    way_in: WayIn<'_>,
) -> Result<()> {
    if let Some(pid) = lease.take() {
        let _ = sys::kill(pid, sys::SIGKILL);
        // Returns when the kernel has ended every process of its pid namespace.
        sys::wait4(pid, 0).at(Stage::CloneInit)?;
    }
    new_clocks().at(Stage::Clocks)?;
    let own_network = if plan.network == network::LOOPBACK { ns::NET } else { 0 };
    match sys::fork(ns::PID | ns::MOUNT | ns::IPC | ns::UTS | own_network).at(Stage::CloneInit)? {
        Fork::Child => {
            sys::close(host);
            init::run(plan, init, runner, way_in)
        }
        Fork::Parent { pid, pidfd } => {
            sys::close(pidfd);
            *lease = Some(pid);
            Ok(())
        }
    }
}

/// A time namespace for the next init, whose clocks begin now: how long the machine or the sandbox has been
/// running is nobody's affair. Only children can be in a new one.
fn new_clocks() -> sys::Result<()> {
    const MONOTONIC: i32 = 1;
    const BOOT: i32 = 7;
    const WRITE_CLOEXEC: u32 = 1 | 0o2_000_000;
    const PR_SET_DUMPABLE: i32 = 4;
    sys::unshare(ns::TIME)?;
    let (monotonic, boot) = (back_to_zero(MONOTONIC)?, back_to_zero(BOOT)?);
    let offsets = Text::<128>::of(&[monotonic.as_bytes(), boot.as_bytes()])?;
    // The file is this process's own only while it could be traced. Nobody is in here to do so, since the last
    // lease has ended.
    sys::prctl(PR_SET_DUMPABLE, 1, 0)?;
    let file = sys::openat(sys::AT_FDCWD, c"/proc/self/timens_offsets", WRITE_CLOEXEC, 0);
    sys::prctl(PR_SET_DUMPABLE, 0, 0)?;
    let file = file?;
    let written = sys::write(file, offsets.as_bytes());
    sys::close(file);
    written.map(drop)
}

/// The line that sets a clock back by what it shows. Nanoseconds count forwards from the second before.
fn back_to_zero(clock: i32) -> sys::Result<Text<64>> {
    const SECOND: u64 = 1_000_000_000;
    let [seconds, nanoseconds] = sys::clock(clock)?;
    let decimal = Decimal::of;
    let (clock, seconds, forwards) =
        (decimal(clock as u64), decimal(seconds + 1), decimal(SECOND - nanoseconds.max(1)));
    Text::of(&[clock.as_bytes(), b" -", seconds.as_bytes(), b" ", forwards.as_bytes(), b"\n"])
}
