//! The agent's one loop: requests in, programs watched, answers out.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::connection::{Closed, Connection};
use crate::counters::Counters;
use crate::files::{self, Outgoing};
use crate::process::{Order, Process, Record};
use crate::runner::{Origin, Runner};
use crate::survey;
use crate::terminal;
use crate::sys::{self, EINVAL, EPOLLIN, EPOLLOUT, Epoll, Errno, Fd, SIGCHLD, SIGKILL, SIGTERM, bit};
use crate::wipe;
use crate::wire::{self, Header, Reader};

/// What an epoll event speaks of: the kind in the upper half of its token, the id in the lower.
const CONNECTION: u64 = 0;
const SIGNAL: u64 = 1 << 32;
const STDIN: u64 = 2;
const STDOUT: u64 = 3;
const STDERR: u64 = 4;
const STATUS: u64 = 5;

const fn token(kind: u64, id: u32) -> u64 {
    kind << 32 | id as u64
}

/// The kernel lets no pipe grow beyond this without privileges.
const MAX_PIPE: usize = 1 << 20;

/// So long after the last request the agent has time for itself.
const QUIET_MS: i32 = 1;

/// A wait for a port or a path.
struct Probe {
    port: u16,
    path: Vec<u8>,
    next_us: u64,
    step_us: u64,
    deadline_us: u64,
}

pub struct Agent {
    origin: Origin,
    epoll: Epoll,
    connection: Connection,
    signals: Fd,
    counters: Counters,
    processes: BTreeMap<u32, Process>,
    incoming: BTreeMap<u32, Fd>,
    outgoing: BTreeMap<u32, Outgoing>,
    probes: BTreeMap<u32, Probe>,
    /// The next program's runner.
    spare: Option<Runner>,
    /// What was read last, and has been sent.
    piece: Vec<u8>,
    /// A runner was killed from inside: its orphans are ours and must go.
    strays: bool,
    /// The service ended, or the library says so: our own exit code.
    end: Option<i32>,
}

impl Agent {
    pub fn new(socket: Fd, environment: Vec<Vec<u8>>) -> Result<Agent, Errno> {
        let epoll = Epoll::new()?;
        let mut connection = Connection::new(socket, &epoll, CONNECTION)?;
        let signals = sys::signal_fd(bit(SIGCHLD) | bit(SIGTERM))?;
        epoll.add(signals.0, EPOLLIN, SIGNAL)?;
        connection.send(wire::HELLO, 0, 0, &wire::VERSION.to_le_bytes());
        Ok(Agent {
            origin: Origin::new(environment),
            epoll,
            connection,
            signals,
            counters: Counters::open(),
            processes: BTreeMap::new(),
            incoming: BTreeMap::new(),
            outgoing: BTreeMap::new(),
            probes: BTreeMap::new(),
            spare: None,
            piece: Vec::new(),
            strays: false,
            end: None,
        })
    }

    /// Until the library goes, the service ends or the engine says stop: our exit code.
    pub fn serve(&mut self) -> i32 {
        loop {
            if self.connection.flush(&self.epoll, CONNECTION).is_err() {
                return 0;
            }
            if let Some(code) = self.end {
                self.connection.flush_blocking();
                return code;
            }
            let mut events = [sys::Event::default(); 32];
            let n = self.wait(&mut events);
            for event in &events[..n] {
                if self.handle(*event).is_err() {
                    return 0;
                }
            }
            self.timers();
        }
    }

    /// In a quiet moment, makes a runner for the next program if there is none.
    fn wait(&mut self, events: &mut [sys::Event]) -> usize {
        let timer_ms = self.next_timer_ms();
        if self.spare.is_none() && self.runs_nothing() && timer_ms != 0 {
            match self.epoll.wait(events, QUIET_MS) {
                0 => self.spare = Runner::spare(&self.origin).ok(),
                n => return n,
            }
        }
        self.epoll.wait(events, timer_ms)
    }

    /// But the service.
    fn runs_nothing(&self) -> bool {
        self.processes.values().all(|process| process.service)
    }

    fn handle(&mut self, event: sys::Event) -> Result<(), Closed> {
        let (kind, id) = (event.data >> 32, event.data as u32);
        match kind {
            0 => {
                if { event.events } & EPOLLIN != 0 || { event.events } & !EPOLLOUT != 0 {
                    for (head, payload) in self.connection.receive()? {
                        self.request(head, &payload)?;
                    }
                }
            }
            1 => self.signal(),
            STDIN => self.feed(id),
            STDOUT => self.pump(id, 0),
            STDERR => self.pump(id, 1),
            _ => self.status(id),
        }
        Ok(())
    }

    fn request(&mut self, head: Header, payload: &[u8]) -> Result<(), Closed> {
        let id = head.id;
        match head.kind {
            wire::SPAWN => self.spawn(id, payload),
            wire::STDIN => self.input(id, payload)?,
            wire::STDIN_EOF => self.input_ends(id),
            wire::CREDIT => self.credit(id, head.flags, payload)?,
            wire::KILL => self.kill(id, head.flags),
            wire::RESIZE => self.resize(id, payload)?,
            wire::PUT => self.open(id, files::create(payload), |agent, file| {
                agent.incoming.insert(id, file);
            }),
            wire::GET => self.open(id, files::open(payload), |agent, file| {
                agent.outgoing.insert(id, file);
                agent.pump_file(id);
            }),
            wire::RESET => {
                let result = self.reset(payload);
                self.done(id, result);
            }
            wire::SURVEY => self.survey(id),
            wire::PROBE => self.probe(id, head.flags, payload)?,
            wire::PING => self.done(id, Ok(())),
            wire::LOOPBACK_DOWN => self.done(id, sys::loopback_down()),
            wire::QUIT => self.end = Some(0),
            _ => return Err(Closed),
        }
        Ok(())
    }

    fn done(&mut self, id: u32, result: Result<(), Errno>) {
        let errno = result.err().unwrap_or(0);
        self.connection.send(wire::DONE, 0, id, &errno.to_le_bytes());
    }

    fn open<T>(&mut self, id: u32, file: Result<T, Errno>, go_on: impl FnOnce(&mut Self, T)) {
        match file {
            Ok(file) => go_on(self, file),
            Err(e) => self.done(id, Err(e)),
        }
    }

    // Programs

    fn spawn(&mut self, id: u32, payload: &[u8]) {
        let process = match self.start(payload) {
            Ok(process) => process,
            Err((stage, errno)) => {
                return self.connection.send(wire::FAILED, stage, id, &errno.to_le_bytes());
            }
        };
        let _ = self.epoll.add(process.status.0, EPOLLIN, token(STATUS, id));
        self.processes.insert(id, process);
        for stream in 0..2 {
            match self.processes[&id].outputs[stream] {
                Some(_) => self.watch_output(id, stream),
                None => self.connection.send(wire::EOF, stream as u8 + 1, id, &[]),
            }
        }
    }

    fn start(&mut self, payload: &[u8]) -> Result<Process, (u8, Errno)> {
        let order = Order::read(payload)?;
        let (before, started_us) = (self.counters.read(), sys::now_us());
        let spare = self.spare.take().filter(|_| !order.has(wire::TERMINAL));
        let Runner { pid, status, streams, .. } = match spare.filter(|spare| spare.tell(payload)) {
            Some(told) => told,
            None => Runner::told(&self.origin, &order)?,
        };
        // While the program is on its way, and before it can fill what the container may have of processes.
        // Beside another one it would be one more than is reckoned with, and a refusal be counted as theirs.
        if self.runs_nothing() {
            self.spare = Runner::spare(&self.origin).ok();
        }
        Ok(Process::of(&order, pid, status, streams, started_us, before))
    }

    fn watch_output(&mut self, id: u32, stream: usize) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        let Some(output) = &mut process.outputs[stream] else { return };
        // Unwatched without credit: a hung-up pipe would wake us for ever.
        let wanted = output.credit > 0;
        if wanted == output.watched {
            return;
        }
        output.watched = wanted;
        match wanted {
            true => drop(self.epoll.add(output.fd.0, EPOLLIN, token(STDOUT + stream as u64, id))),
            false => self.epoll.remove(output.fd.0),
        }
    }

    /// Sends one piece of a program's output, as far as there is credit.
    fn pump(&mut self, id: u32, stream: usize) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        let Some(output) = &mut process.outputs[stream] else { return };
        let room = wire::CHUNK.min(output.credit as usize);
        self.piece.clear();
        match sys::append(&mut self.piece, output.fd.0, room) {
            Ok(n) if n > 0 => {
                output.credit -= n as u32;
                self.connection.send(wire::OUT, stream as u8 + 1, id, &self.piece);
                self.watch_output(id, stream);
            }
            Err(sys::EAGAIN | sys::EINTR) => {}
            _ if room == 0 => {}
            _ => self.close_output(id, stream),
        }
    }

    fn close_output(&mut self, id: u32, stream: usize) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        if let Some(output) = process.outputs[stream].take() {
            // A terminal stays open by its other descriptors, and would wake us for ever.
            self.epoll.remove(output.fd.0);
        }
        self.connection.send(wire::EOF, stream as u8 + 1, id, &[]);
    }

    fn credit(&mut self, id: u32, stream: u8, payload: &[u8]) -> Result<(), Closed> {
        let more = Reader(payload).u32().ok_or(Closed)?;
        if let Some(outgoing) = self.outgoing.get_mut(&id) {
            outgoing.credit = outgoing.credit.saturating_add(more);
            self.pump_file(id);
            return Ok(());
        }
        let stream = (stream as usize).checked_sub(1).filter(|s| *s < 2).ok_or(Closed)?;
        if let Some(Process { outputs, .. }) = self.processes.get_mut(&id) {
            if let Some(output) = &mut outputs[stream] {
                output.credit = output.credit.saturating_add(more);
            }
            self.watch_output(id, stream);
        }
        Ok(())
    }

    fn input(&mut self, id: u32, payload: &[u8]) -> Result<(), Closed> {
        if self.incoming.contains_key(&id) {
            self.write_file(id, payload);
        } else if let Some(process) = self.processes.get_mut(&id) {
            process.pending.extend_from_slice(payload);
            process.at_line_start = payload.last().map_or(process.at_line_start, |last| *last == b'\n');
            if process.pending.len() > 2 * wire::STDIN_WINDOW as usize {
                return Err(Closed);
            }
            self.feed(id);
        }
        Ok(())
    }

    fn input_ends(&mut self, id: u32) {
        if self.incoming.remove(&id).is_some() {
            return self.done(id, Ok(()));
        }
        if let Some(process) = self.processes.get_mut(&id).filter(|process| !process.stdin_ends) {
            process.stdin_ends = true;
            process.type_end_of_input();
            self.feed(id);
        }
    }

    /// Gives a program as much of its input as it takes.
    fn feed(&mut self, id: u32) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        let Some(stdin) = &process.stdin else {
            // Nobody reads it any more; the sender still gets its room back.
            let dropped = core::mem::take(&mut process.pending).len() as u32;
            if dropped > 0 {
                self.connection.send(wire::ROOM, 0, id, &dropped.to_le_bytes());
            }
            return;
        };
        let fd = stdin.0;
        let mut taken = 0;
        let mut gone = false;
        while taken < process.pending.len() && !gone {
            match sys::write(fd, &process.pending[taken..]) {
                Ok(0) | Err(sys::EAGAIN) => break,
                Ok(n) => taken += n,
                Err(sys::EINTR) => {}
                Err(_) => gone = true,
            }
        }
        process.pending.drain(..taken);
        if gone || (process.stdin_ends && process.pending.is_empty()) {
            if process.stdin_watched {
                self.epoll.remove(fd);
            }
            process.stdin = None;
            self.connection.send(wire::EOF, 0, id, &[]);
            taken += core::mem::take(&mut process.pending).len();
        } else if !process.pending.is_empty() != process.stdin_watched {
            process.stdin_watched = !process.stdin_watched;
            match process.stdin_watched {
                true => drop(self.epoll.add(fd, EPOLLOUT, token(STDIN, id))),
                false => self.epoll.remove(fd),
            }
        }
        if taken > 0 {
            self.connection.send(wire::ROOM, 0, id, &(taken as u32).to_le_bytes());
        }
    }

    fn kill(&mut self, id: u32, signal: u8) {
        if self.probes.remove(&id).is_some() {
            return self.done(id, Err(sys::ECANCELED));
        }
        let Some(process) = self.processes.get_mut(&id) else { return };
        let alive = process.root > 0 && process.ended.is_none();
        match signal as i32 {
            SIGKILL => process.end_tree(),
            _ if signal == wire::KILL_ROOT && alive => drop(sys::kill(process.root, SIGKILL)),
            signal if alive => drop(sys::kill(process.root, signal)),
            _ => {}
        }
    }

    fn resize(&mut self, id: u32, payload: &[u8]) -> Result<(), Closed> {
        let size = terminal::Size(Reader(payload).u32().ok_or(Closed)?);
        if let Some(terminal) = self.processes.get(&id).and_then(|process| process.terminal.as_ref()) {
            let _ = terminal::resize(terminal.0, size);
        }
        Ok(())
    }

    /// Reads all that a runner has to say: of a short program the start and the end at once.
    fn status(&mut self, id: u32) {
        while let Some(process) = self.processes.get_mut(&id) {
            match Record::read(process.status.0) {
                Ok(record) => self.record(id, record),
                Err(sys::EINTR) => {}
                Err(sys::EAGAIN) => return,
                Err(_) => self.record(id, None),
            }
        }
    }

    fn record(&mut self, id: u32, record: Option<Record>) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        match record {
            Some(r) if r.kind == Record::STARTED => {
                process.root = r.status;
                self.connection.send(wire::STARTED, 0, id, &r.status.to_le_bytes());
            }
            Some(r) if r.kind == Record::FAILED => {
                self.processes.remove(&id);
                self.connection.send(wire::FAILED, r.maxrss_kib as u8, id, &r.status.to_le_bytes());
            }
            Some(r) => self.ended(id, r),
            None => {
                // Killed from inside; a program that could do that gets no better record.
                let runner = process.runner;
                self.end_orphans_of(runner);
                let killed = Record { kind: Record::ENDED, status: SIGKILL, ..Record::default() };
                self.ended(id, killed);
            }
        }
    }

    fn ended(&mut self, id: u32, record: Record) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        if process.root == 0 {
            // Its runner was killed before it could say so.
            self.connection.send(wire::STARTED, 0, id, &0i32.to_le_bytes());
        }
        self.epoll.remove(process.status.0);
        process.ended = Some(record);
        for stream in 0..2 {
            self.drain(id, stream);
        }
        self.finish(id);
    }

    /// What an ended program left in a pipe is sent whatever the credit: it is little, and its end
    /// must not wait for a reader. A descriptor that it gave to somebody else does not count.
    fn drain(&mut self, id: u32, stream: usize) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        let Some(output) = process.outputs[stream].take() else { return };
        self.epoll.remove(output.fd.0);
        let mut left = MAX_PIPE;
        while left > 0 {
            self.piece.clear();
            match sys::append(&mut self.piece, output.fd.0, wire::CHUNK) {
                Ok(n) if n > 0 => {
                    self.connection.send(wire::OUT, stream as u8 + 1, id, &self.piece);
                    left = left.saturating_sub(n); // A terminal gives little at a time.
                }
                Err(sys::EINTR) => {}
                _ => break,
            }
        }
        self.connection.send(wire::EOF, stream as u8 + 1, id, &[]);
    }

    /// Reports a program's end; all its output is on its way.
    fn finish(&mut self, id: u32) {
        let Some(process) = self.processes.remove(&id) else { return };
        let Some(end) = process.ended else { return };
        let mut payload = Vec::with_capacity(52);
        payload.extend_from_slice(&end.status.to_le_bytes());
        let hits = self.counters.read();
        let hits = [0, 1].map(|i| hits[i].saturating_sub(process.before[i]));
        let wall_us = sys::now_us() - process.started_us;
        for number in [end.user_us, end.system_us, end.maxrss_kib, wall_us, hits[0], hits[1]] {
            wire::put_u64(&mut payload, number);
        }
        let flags = if process.timed_out { wire::TIMED_OUT } else { 0 };
        self.connection.send(wire::EXIT, flags, id, &payload);
        if process.service {
            self.end = Some(exit_code(end.status));
        }
    }

    fn signal(&mut self) {
        let mut info = [0u8; 128];
        while let Ok(128) = sys::read(self.signals.0, &mut info) {
            if u32::from_ne_bytes([info[0], info[1], info[2], info[3]]) as i32 == SIGTERM {
                self.end = Some(143);
            }
        }
        self.reap();
        if self.strays {
            self.strays = self.kill_strays();
        }
    }

    fn reap(&mut self) {
        while let Ok((pid, _)) = sys::wait_any(sys::WNOHANG) {
            if pid == 0 {
                break;
            }
            if self.is_spare(pid) {
                self.spare = None;
            }
        }
    }

    /// Ends what a dying runner leaves us, so that nothing of a program is there when its end is told. What
    /// forks faster than that is hunted on by every signal.
    fn end_orphans_of(&mut self, runner: i32) {
        // It has closed its pipe; its children become ours when it has ended.
        let _ = sys::wait_for(runner);
        for _ in 0..100 {
            self.reap();
            self.strays = self.kill_strays();
            if !self.strays {
                return;
            }
            sys::pause_us(200);
        }
    }

    fn is_spare(&self, pid: i32) -> bool {
        self.spare.as_ref().is_some_and(|spare| spare.pid == pid)
    }

    /// Kills our children that are no runners. Theirs become ours, and their end calls us again.
    fn kill_strays(&self) -> bool {
        let mut found = false;
        let _ = survey::each_process(&mut |pid, parent, _, _| {
            let runs = self.is_spare(pid) || self.processes.values().any(|p| p.runner == pid);
            if parent == 1 && !runs {
                found = true;
                let _ = sys::kill(pid, SIGKILL);
            }
        });
        found
    }

    // Reset

    fn reset(&mut self, payload: &[u8]) -> Result<(), Errno> {
        let order = wipe::Order::read(payload).ok_or(EINVAL)?;
        self.spare = None;
        match self.processes.values().find(|p| p.service).map(|p| p.runner) {
            None => kill_all(),
            Some(service) => kill_all_but(service)?,
        }
        self.drop_programs();
        self.incoming.clear();
        self.outgoing.clear();
        self.strays = false;
        order.carry_out()
    }

    /// Every request gets its end, also those whose programs were just killed.
    fn drop_programs(&mut self) {
        let ids: Vec<u32> = self.processes.iter().filter(|(_, p)| !p.service).map(|(id, _)| *id).collect();
        for id in ids {
            let killed = Record { kind: Record::ENDED, status: SIGKILL, ..Record::default() };
            let process = self.processes.get_mut(&id).expect("listed above");
            let record = *process.ended.get_or_insert(killed);
            self.ended(id, record);
        }
    }

    fn survey(&mut self, id: u32) {
        let spare = self.spare.as_ref().map(|spare| spare.pid);
        let result = survey::take(spare).map(|text| {
            for piece in text.chunks(wire::CHUNK) {
                self.connection.send(wire::OUT, 1, id, piece);
            }
        });
        self.done(id, result);
    }

    // Files

    fn write_file(&mut self, id: u32, payload: &[u8]) {
        let result = sys::write_all(self.incoming[&id].0, payload);
        self.connection.send(wire::ROOM, 0, id, &(payload.len() as u32).to_le_bytes());
        if result.is_err() {
            self.incoming.remove(&id);
            self.done(id, result);
        }
    }

    fn pump_file(&mut self, id: u32) {
        while let Some(outgoing) = self.outgoing.get_mut(&id).filter(|o| o.credit > 0) {
            let room = wire::CHUNK.min(outgoing.credit as usize);
            self.piece.clear();
            match sys::append(&mut self.piece, outgoing.file.0, room) {
                Ok(n) if n > 0 => {
                    outgoing.credit -= n as u32;
                    self.connection.send(wire::OUT, 1, id, &self.piece);
                }
                Err(sys::EINTR) => {}
                end => {
                    let outgoing = self.outgoing.remove(&id).expect("looked up above");
                    let mut payload = end.err().unwrap_or(0).to_le_bytes().to_vec();
                    wire::put_u32(&mut payload, outgoing.mode);
                    self.connection.send(wire::DONE, 0, id, &payload);
                }
            }
        }
    }

    // Probes and time

    fn probe(&mut self, id: u32, what: u8, payload: &[u8]) -> Result<(), Closed> {
        let mut reader = Reader(payload);
        let timeout_ms = reader.u64().ok_or(Closed)?;
        let argument = reader.bytes().ok_or(Closed)?;
        let mut probe = Probe {
            port: 0,
            path: Vec::new(),
            next_us: 0,
            step_us: 1000,
            deadline_us: sys::now_us().saturating_add(timeout_ms.saturating_mul(1000)),
        };
        match what {
            wire::PROBE_PORT => probe.port = u16::from_le_bytes(argument.try_into().map_err(|_| Closed)?),
            wire::PROBE_PATH => probe.path = argument.to_vec(),
            _ => return Err(Closed),
        }
        self.probes.insert(id, probe);
        self.timers();
        Ok(())
    }

    fn next_timer_ms(&self) -> i32 {
        let programs = self.processes.values().filter_map(Process::next_us);
        let Some(next) = programs.chain(self.probes.values().map(|p| p.next_us)).min() else { return -1 };
        next.saturating_sub(sys::now_us()).div_ceil(1000).min(60_000) as i32
    }

    fn timers(&mut self) {
        if self.probes.is_empty() && self.processes.values().all(|p| p.next_us().is_none()) {
            return;
        }
        let now = sys::now_us();
        for process in self.processes.values_mut() {
            if process.deadline_us.is_some_and(|at| at <= now) {
                process.deadline_us = None;
                process.timed_out = process.ended.is_none();
                process.end_tree();
            }
            if process.runner_deadline_us.is_some_and(|at| at <= now) {
                process.end_runner();
            }
        }
        let due: Vec<u32> = self.probes.iter().filter(|(_, p)| p.next_us <= now).map(|(id, _)| *id).collect();
        for id in due {
            self.try_probe(id, now);
        }
    }

    fn try_probe(&mut self, id: u32, now: u64) {
        let Some(probe) = self.probes.get_mut(&id) else { return };
        let found = match probe.port {
            0 => sys::lstat_at(sys::AT_FDCWD as i32, &sys::CStr::new(&probe.path)).is_ok(),
            port => sys::port_accepts(port),
        };
        let result = match found {
            true => Ok(()),
            false if now >= probe.deadline_us => Err(sys::ETIMEDOUT),
            false => {
                probe.step_us = (probe.step_us * 5 / 4).min(25_000);
                probe.next_us = now + probe.step_us;
                return;
            }
        };
        self.probes.remove(&id);
        self.done(id, result);
    }
}

/// Kills everything in the container but us, at one stroke: the kernel lets nobody fork meanwhile.
fn kill_all() {
    let _ = sys::kill(-1, SIGKILL);
    while sys::wait_any(0).is_ok() {}
}

/// Kills everything but the service and its descendants. Not at one stroke, so until nothing is
/// found; a program that forks faster than that costs the container its place in the pool.
fn kill_all_but(service: i32) -> Result<(), Errno> {
    for _ in 0..1000 {
        let mut all: Vec<(i32, i32)> = Vec::new();
        survey::each_process(&mut |pid, parent, _, _| all.push((pid, parent)))?;
        let doomed: Vec<i32> = all.iter().map(|p| p.0).filter(|pid| !descends(*pid, service, &all)).collect();
        if doomed.is_empty() {
            return Ok(());
        }
        for pid in doomed {
            let _ = sys::kill(pid, SIGKILL);
        }
        while matches!(sys::wait_any(sys::WNOHANG), Ok((pid, _)) if pid > 0) {}
        sys::pause_us(200);
    }
    Err(sys::EAGAIN)
}

fn descends(mut pid: i32, from: i32, all: &[(i32, i32)]) -> bool {
    while pid != from {
        match all.iter().find(|p| p.0 == pid) {
            Some((_, parent)) if *parent > 1 => pid = *parent,
            _ => return false,
        }
    }
    true
}

fn exit_code(status: i32) -> i32 {
    match status & 0x7f {
        0 => status >> 8 & 0xff,
        signal => 128 + signal,
    }
}
