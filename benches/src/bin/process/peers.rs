//! The peers in Rust, Python and Node.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::side::{Side, timed};

/// To be called early: procspawn's workers are this program, executed again.
pub(crate) fn init_procspawn() {
    procspawn::init();
}

pub(crate) struct Procspawn(procspawn::Pool);

impl Procspawn {
    pub(crate) fn new() -> Self {
        Self(procspawn::Pool::new(2).expect("a pool"))
    }
}

impl Side for Procspawn {
    fn name(&self) -> &str {
        "procspawn"
    }

    fn latency(&mut self, payload: &[u8], n: usize) -> Result<Vec<f64>, String> {
        Ok(timed(n, || {
            let handle = procspawn::spawn!(in self.0, (payload.to_vec() => payload) || payload);
            handle.join().expect("an answer");
        }))
    }

    fn in_flight(&mut self, n: usize) -> Option<f64> {
        let begun = Instant::now();
        let mut open = std::collections::VecDeque::new();
        for _ in 0..n {
            open.push_back(procspawn::spawn!(in self.0, (1_u8 => payload) || payload));
            if open.len() >= 64 {
                open.pop_front().map(|handle| handle.join().expect("an answer"));
            }
        }
        for handle in open {
            handle.join().expect("an answer");
        }
        Some(n as f64 / begun.elapsed().as_secs_f64())
    }
}

/// A program that runs the pools of its language and measures them when told to. A line `subject what size n`
/// goes in, a line of numbers comes out, or `missing: ...`.
struct Program {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Program {
    fn start(program: &str, script: &str) -> Option<Arc<Mutex<Self>>> {
        let path = format!("{}/src/bin/process/{script}", env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new(program);
        let mut child = command.arg(path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
        let (input, output) = (child.stdin.take()?, BufReader::new(child.stdout.take()?));
        Some(Arc::new(Mutex::new(Self { child, input, output })))
    }

    fn ask(&mut self, question: &str) -> Result<Vec<f64>, String> {
        let mut line = String::new();
        let said = writeln!(self.input, "{question}").and_then(|()| self.output.read_line(&mut line));
        said.map_err(|error| error.to_string())?;
        let numbers: Result<Vec<f64>, _> = line.split_whitespace().map(str::parse).collect();
        numbers.ok().filter(|numbers| !numbers.is_empty()).ok_or_else(|| line.trim().to_owned())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = writeln!(self.input, "end").and_then(|()| self.input.flush());
        let _ = self.child.wait();
    }
}

/// One pool of a program.
pub(crate) struct Script {
    name: &'static str,
    program: Option<Arc<Mutex<Program>>>,
}

impl Script {
    pub(crate) fn python() -> Vec<Self> {
        let names = ["ProcessPoolExecutor", "multiprocessing.Pool", "loky"];
        Self::all(Program::start("python3", "peers.py"), &names)
    }

    pub(crate) fn node() -> Vec<Self> {
        Self::all(Program::start("node", "peers.js"), &["jest-worker", "workerpool"])
    }

    fn all(program: Option<Arc<Mutex<Program>>>, names: &[&'static str]) -> Vec<Self> {
        names.iter().map(|name| Self { name, program: program.clone() }).collect()
    }

    fn ask(&self, what: &str, size: usize, n: usize) -> Result<Vec<f64>, String> {
        let program = self.program.as_ref().ok_or("its interpreter is not installed")?;
        let question = format!("{} {what} {size} {n}", self.name);
        program.lock().map_err(|error| error.to_string())?.ask(&question)
    }
}

impl Side for Script {
    fn name(&self) -> &str {
        self.name
    }

    fn latency(&mut self, payload: &[u8], n: usize) -> Result<Vec<f64>, String> {
        self.ask("latency", payload.len(), n)
    }

    fn in_flight(&mut self, n: usize) -> Option<f64> {
        self.ask("in_flight", 1, n).ok()?.first().copied()
    }
}
