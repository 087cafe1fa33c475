//! The launcher: clones keepers, outside all namespaces, with the privileges of the host process.

use core::ffi::CStr;

use poolyard_rt::frame::{self, Header, Writer};
use poolyard_rt::socket;
use poolyard_rt::sys::{self, Errno, Fork};

use crate::decode::Plan;
use crate::failure::{At, Failure, Result, reply};
use crate::keeper;
use crate::networks::Networks;
use crate::protocol::{Kind, MAX_FRAME, MAX_PARTS, MapMode, Part, Stage, network};
use crate::text::{Decimal, Text};

/// The host's end is the first descriptor that a guest gets.
const HOST: i32 = 3;
const PR_SET_PDEATHSIG: i32 = 1;

impl Plan<'_> {
    /// Calls `each` for every part, with its number.
    pub fn each_part(&self, mut each: impl FnMut(usize, Part, &CStr, &[u8]) -> Result<()>) -> Result<()> {
        let mut rest = self.parts.clone();
        for index in 0..self.part_count as usize {
            let kind = Part::from_number(rest.u8().at(Stage::Protocol)?);
            let kind = kind.ok_or(Failure::new(Stage::Protocol, Errno::BADMSG))?;
            let target = rest.cstr().at(Stage::Protocol)?;
            each(index, kind, target, rest.bytes().at(Stage::Protocol)?)?;
        }
        Ok(())
    }
}

/// What the launcher opens for a keeper that may not; -1 where there is nothing.
pub struct Opened {
    /// Detached copies of base directories, by the number of their part.
    pub trees: Trees,
    /// A detached /dev.
    pub devices: i32,
    /// A detached copy of the cgroup that runners are born in, from which no way leads to its parents.
    pub cgroup: i32,
}

pub type Trees = [i32; MAX_PARTS];

impl Opened {
    fn close(&self) {
        let all = self.trees.iter().chain([&self.devices, &self.cgroup]);
        all.filter(|&&fd| fd >= 0).for_each(|&fd| sys::close(fd));
    }
}

pub fn main() -> ! {
    sys::set_name(c"poolyard-launch");
    sys::reset_signals();
    sys::set_signal_mask(0);
    // Dead keepers are reaped by the kernel; nobody asks for their status.
    sys::ignore_signal(sys::SIGCHLD);
    sys::umask(0);
    let _ = sys::prctl(PR_SET_PDEATHSIG, sys::SIGKILL as usize, 0);
    hello();
    let Ok(buffer) = sys::map_private(None, MAX_FRAME) else { sys::exit(1) };
    let mut networks = Networks::new();
    loop {
        if networks.are_wanted() && is_idle() {
            networks.prepare();
        }
        match socket::receive(HOST, buffer) {
            Ok(received) if received.len > 0 => {
                serve(&buffer[..received.len], received.fds(), &mut networks);
                received.fds().iter().for_each(|&fd| sys::close(fd));
            }
            // The host is gone. The keepers get their own signal when this process ends.
            _ => sys::exit(0),
        }
    }
}

/// Whether nothing is asked for within some milliseconds. Whoever asks for several sandboxes has his processors busy,
/// and is not to wait for what only the one after them needs.
fn is_idle() -> bool {
    const MILLISECONDS: u64 = 10;
    let host = sys::PollFd { fd: HOST, events: sys::POLLIN, revents: 0 };
    sys::poll_for(&mut [host], MILLISECONDS) == Ok(0)
}

fn hello() {
    let mut buffer = [0; 64];
    let mut writer = Writer::new(&mut buffer, Header { kind: Kind::Hello as u16, flags: 0, seq: 0 });
    let landlock = sys::landlock_version().map_or_else(|errno| -errno.0, |version| version as i32);
    if let Ok(frame) = writer.bytes(env!("POOLYARD_BUILD_ID").as_bytes()).i32(landlock).finish() {
        let _ = socket::send(HOST, frame, &[]);
    }
}

/// Everything about a creation is said on the new keeper's socket, so that the host waits in one
/// place and creations do not wait for each other.
fn serve(datagram: &[u8], fds: &[i32], networks: &mut Networks) {
    let &[keeper] = fds else { return };
    let created = match frame::parse(datagram) {
        Ok((header, body)) if header.kind == Kind::Create as u16 => Plan::parse(header.flags, body)
            .at(Stage::Protocol)
            .and_then(|plan| create_keeper(&plan, keeper, networks)),
        _ => Err(Failure::new(Stage::Protocol, Errno::BADMSG)),
    };
    if let Err(failure) = created {
        failure.report(keeper, 0);
    }
}

fn create_keeper(plan: &Plan<'_>, socket: i32, networks: &mut Networks) -> Result<()> {
    if plan.part_count as usize > MAX_PARTS {
        return Err(Failure::new(Stage::Protocol, Errno::BADMSG));
    }
    let mut opened = Opened { trees: [-1; MAX_PARTS], devices: -1, cgroup: -1 };
    let is_open = if plan.map == MapMode::Block { open_as_root(plan, &mut opened) } else { Ok(()) };
    let created = is_open.and_then(|()| clone_keeper(plan, &opened, socket, networks));
    opened.close();
    created
}

fn clone_keeper(plan: &Plan<'_>, opened: &Opened, socket: i32, networks: &mut Networks) -> Result<()> {
    let [go_read, go_write] = sys::pipe2(0o2_000_000).at(Stage::CloneKeeper)?;
    // Only what root made outside can be given to whoever has no rights out there.
    let has_network = plan.network == network::OFF && plan.map == MapMode::Block && networks.enter();
    let forked = sys::fork(keeper_namespaces(plan, has_network));
    if let Ok(Fork::Child) = forked {
        sys::close(HOST);
        networks.close();
        sys::close(go_write);
        keeper::run(plan, opened, socket, go_read)
    }
    if has_network {
        networks.go_home();
    }
    let created = match forked.at(Stage::CloneKeeper) {
        Ok(Fork::Parent { pid, pidfd }) => introduce(plan, pid, pidfd, socket, go_write),
        Ok(Fork::Child) => sys::exit(1),
        Err(failure) => Err(failure),
    };
    // Not before: the host may have killed the keeper already, and to write where nobody reads is deadly.
    sys::close(go_read);
    sys::close(go_write);
    created
}

/// Maps the ids of a new keeper, tells the host about it, and lets it go on.
fn introduce(plan: &Plan<'_>, pid: i32, pidfd: i32, socket: i32, go: i32) -> Result<()> {
    let mapped = map_ids(plan, pid);
    match mapped {
        Ok(()) => {
            reply(socket, Kind::Created, 0, &[pid as u32], &[pidfd]);
            let _ = sys::write(go, b"!");
        }
        Err(_) => drop(sys::kill(pid, sys::SIGKILL)),
    }
    sys::close(pidfd);
    mapped
}

fn keeper_namespaces(plan: &Plan<'_>, has_network: bool) -> usize {
    use crate::keeper::ns;
    let all = ns::USER | ns::PID | ns::MOUNT | ns::IPC | ns::UTS;
    // With a loopback interface each lease has a network of its own, made by its init.
    if plan.network == network::OFF && !has_network { all | ns::NET } else { all }
}

/// Only root outside may pass through directories that are closed to the sandbox's ids, and make
/// device nodes that work inside. Without nodes or births it goes on.
fn open_as_root(plan: &Plan<'_>, opened: &mut Opened) -> Result<()> {
    let owners = if plan.writable_root { root_alone(plan)? } else { -1 };
    let trees = plan.each_part(|index, kind, _, source| {
        if matches!(kind, Part::Tree | Part::Root) {
            let path = CStr::from_bytes_until_nul(source).unwrap_or(c"");
            let tree = sys::open_tree(sys::AT_FDCWD, path).at_index(Stage::OpenBase, index)?;
            opened.trees[index] = tree;
            if owners >= 0 {
                // Not every file system can; what root owns there stays nobody's.
                let _ = sys::show_owners_of(owners, tree);
            }
        }
        Ok(())
    });
    sys::close(owners);
    trees?;
    opened.devices = crate::rootfs::private_devices().unwrap_or(-1);
    opened.cgroup = open_cgroup(plan);
    Ok(())
}

/// A detached copy of the cgroup that runners are born in, or -1.
pub fn open_cgroup(plan: &Plan<'_>) -> i32 {
    match plan.cgroup.is_empty() {
        true => -1,
        false => sys::open_tree(sys::AT_FDCWD, plan.cgroup).unwrap_or(-1),
    }
}

/// A user namespace that knows only root, which is the sandbox's own. Base directories are shown through it under a
/// writable root, since the kernel copies nothing whose owner the sandbox has no number for. It opens nothing:
/// commands are not root, and files of other users stay nobody's.
fn root_alone(plan: &Plan<'_>) -> Result<i32> {
    let [end, alive] = sys::pipe2(0o2_000_000).at(Stage::MapIds)?;
    let forked = sys::fork(keeper::ns::USER).at(Stage::MapIds);
    match forked.inspect_err(|_| [end, alive].into_iter().for_each(sys::close))? {
        Fork::Child => {
            sys::close(alive);
            let _ = sys::read(end, &mut [0]);
            sys::exit(0)
        }
        Fork::Parent { pid, pidfd } => {
            let pid = Decimal::of(pid as u64);
            let mapped = write_map(&pid, b"uid_map", 0, plan.ids.uid, 1)
                .and_then(|()| write_map(&pid, b"gid_map", 0, plan.ids.gid, 1));
            let namespace = mapped.and_then(|()| user_namespace_of(&pid));
            [pidfd, end, alive].into_iter().for_each(sys::close);
            namespace
        }
    }
}

fn user_namespace_of(pid: &Decimal) -> Result<i32> {
    const READ_CLOEXEC: u32 = 0o2_000_000;
    let path = Text::<64>::of(&[b"/proc/", pid.as_bytes(), b"/ns/user"]).at(Stage::MapIds)?;
    sys::openat(sys::AT_FDCWD, path.as_cstr(), READ_CLOEXEC, 0).at(Stage::MapIds)
}

fn map_ids(plan: &Plan<'_>, pid: i32) -> Result<()> {
    let ids = &plan.ids;
    let pid_text = Decimal::of(pid as u64);
    match plan.map {
        MapMode::Block => {
            write_map(&pid_text, b"uid_map", 0, ids.uid, ids.count)?;
            write_map(&pid_text, b"gid_map", 0, ids.gid, ids.count)
        }
        MapMode::Single => {
            // Without privilege a group map needs setgroups forbidden first.
            write_proc(&pid_text, b"setgroups", &[b"deny"])?;
            write_map(&pid_text, b"uid_map", plan.uid, ids.uid, 1)?;
            write_map(&pid_text, b"gid_map", plan.gid, ids.gid, 1)
        }
        MapMode::Tools => {
            run_tool(c"/usr/bin/newuidmap", &pid_text, [ids.uid, ids.sub_uid, ids.count])?;
            run_tool(c"/usr/bin/newgidmap", &pid_text, [ids.gid, ids.sub_gid, ids.count])
        }
    }
}

fn write_map(pid: &Decimal, file: &[u8], inside: u32, outside: u32, count: u32) -> Result<()> {
    let [inside, outside, count] = [inside, outside, count].map(|n| Decimal::of(n.into()));
    write_proc(pid, file, &[inside.as_bytes(), b" ", outside.as_bytes(), b" ", count.as_bytes()])
}

fn write_proc(pid: &Decimal, file: &[u8], text: &[&[u8]]) -> Result<()> {
    let path = Text::<64>::of(&[b"/proc/", pid.as_bytes(), b"/", file]).at(Stage::MapIds)?;
    let text = Text::<64>::of(text).at(Stage::MapIds)?;
    const WRITE_CLOEXEC: u32 = 1 | 0o2_000_000;
    let fd = sys::openat(sys::AT_FDCWD, path.as_cstr(), WRITE_CLOEXEC, 0).at(Stage::MapIds)?;
    let written = sys::write(fd, text.as_bytes());
    sys::close(fd);
    written.map(drop).at(Stage::MapIds)
}

/// Runs `tool pid 0 outside 1 1 sub count` and waits for its success.
fn run_tool(tool: &CStr, pid: &Decimal, [outside, sub, count]: [u32; 3]) -> Result<()> {
    let text = |n: u32| Text::<24>::of(&[Decimal::of(n.into()).as_bytes()]).at(Stage::MapIds);
    let pid = Text::<24>::of(&[pid.as_bytes()]).at(Stage::MapIds)?;
    let (outside, sub, count) = (text(outside)?, text(sub)?, text(count)?);
    let words = [tool, pid.as_cstr(), c"0", outside.as_cstr(), c"1", c"1", sub.as_cstr(), count.as_cstr()];
    // While the kernel reaps for us, nobody learns a status.
    sys::default_signal(sys::SIGCHLD);
    let status = execute_and_wait(words);
    sys::ignore_signal(sys::SIGCHLD);
    while matches!(sys::wait4(-1, sys::WNOHANG), Ok((pid, ..)) if pid > 0) {}
    match status.at(Stage::MapIds)? {
        0 => Ok(()),
        _ => Err(Failure::new(Stage::MapIds, Errno::PERM)),
    }
}

fn execute_and_wait(words: [&CStr; 8]) -> sys::Result<i32> {
    let mut argv = [0; 9];
    for (slot, word) in argv.iter_mut().zip(words) {
        *slot = word.as_ptr() as usize;
    }
    match sys::fork(0)? {
        Fork::Child => {
            // SAFETY: `argv` holds C strings and ends with null; the environment is empty.
            unsafe { sys::execve(words[0].as_ptr().cast(), argv.as_ptr(), [0].as_ptr()) };
            sys::exit(127)
        }
        Fork::Parent { pid, pidfd } => {
            sys::close(pidfd);
            sys::wait4(pid, 0).map(|(_, status, _)| status)
        }
    }
}
