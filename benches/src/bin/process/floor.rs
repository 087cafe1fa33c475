//! The floor: the same worker over the same pipes, with blocking reads and writes and nothing else; and what the
//! runtime alone adds to that.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use poolyard_benches::row::FLOOR;
use poolyard_process::worker::wire::{HEADER, Header, Kind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::runtime::Handle;

use crate::side::{Side, timed};

pub(crate) struct Floor {
    child: Child,
    input: Option<ChildStdin>,
    output: ChildStdout,
}

/// A worker that is ready, with its pipes.
fn start() -> (Child, ChildStdin, ChildStdout) {
    let exe = std::env::current_exe().expect("an exe");
    let mut command = Command::new(exe);
    command.env(crate::ROLE, "yes").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("a worker");
    let input = child.stdin.take().expect("its input");
    let mut output = child.stdout.take().expect("its output");
    output.read_exact(&mut [0; HEADER]).expect("a word that it is ready");
    (child, input, output)
}

impl Floor {
    pub(crate) fn new() -> Self {
        let (child, input, output) = start();
        Self { child, input: Some(input), output }
    }
}

impl Side for Floor {
    fn name(&self) -> &str {
        FLOOR
    }

    fn latency(&mut self, payload: &[u8], n: usize) -> Result<Vec<f64>, String> {
        let mut request = Header { len: payload.len() as u32, id: 1, kind: Kind::Call }.to_bytes().to_vec();
        request.extend_from_slice(payload);
        let mut answer = vec![0; HEADER + payload.len()];
        let (input, output) = (self.input.as_mut().expect("its input"), &mut self.output);
        Ok(timed(n, || {
            if request.len() <= 60_000 {
                input.write_all(&request).expect("written");
                output.read_exact(&mut answer).expect("read");
                return;
            }
            // More than a pipe holds: written beside the reading, as anyone must.
            std::thread::scope(|scope| {
                scope.spawn(|| input.write_all(&request).expect("written"));
                output.read_exact(&mut answer).expect("read");
            });
        }))
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// The same with tokio's pipes in a task, and nothing of ours: no pool, no deadline, no look at the process.
pub(crate) struct OnRuntime {
    runtime: Handle,
    child: Child,
    ends: Option<(pipe::Sender, pipe::Receiver)>,
}

impl OnRuntime {
    pub(crate) fn new(runtime: &Handle) -> Self {
        let (child, input, output) = start();
        let _inside = runtime.enter();
        let input = pipe::Sender::from_owned_fd(input.into()).expect("a pipe");
        let output = pipe::Receiver::from_owned_fd(output.into()).expect("a pipe");
        let ends = Some((input, output));
        Self { runtime: runtime.clone(), child, ends }
    }
}

impl Side for OnRuntime {
    fn name(&self) -> &str {
        "floor_tokio"
    }

    fn latency(&mut self, payload: &[u8], n: usize) -> Result<Vec<f64>, String> {
        let mut request = Header { len: payload.len() as u32, id: 1, kind: Kind::Call }.to_bytes().to_vec();
        request.extend_from_slice(payload);
        let mut answer = vec![0; HEADER + payload.len()];
        let (mut input, mut output) = self.ends.take().ok_or("no pipes")?;
        let calls = async move {
            let mut samples = Vec::with_capacity(n);
            for _ in 0..n {
                let begun = Instant::now();
                let (written, read) = tokio::join!(input.write_all(&request), output.read_exact(&mut answer));
                written.and(read.map(drop)).expect("a round trip");
                samples.push(begun.elapsed().as_nanos() as f64 / 1000.0);
            }
            (samples, (input, output))
        };
        let task = self.runtime.spawn(calls);
        let (samples, ends) = self.runtime.block_on(task).map_err(|error| error.to_string())?;
        self.ends = Some(ends);
        Ok(samples)
    }
}

impl Drop for OnRuntime {
    fn drop(&mut self) {
        self.ends = None;
        let _ = self.child.wait();
    }
}
