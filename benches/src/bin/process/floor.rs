//! The floor: the same worker over the same pipes, with blocking reads and writes and nothing else.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use poolyard_benches::row::FLOOR;
use poolyard_process::worker::wire::{HEADER, Header, Kind};

use crate::side::{Side, timed};

pub(crate) struct Floor {
    child: Child,
    input: Option<ChildStdin>,
    output: ChildStdout,
}

impl Floor {
    pub(crate) fn new() -> Self {
        let exe = std::env::current_exe().expect("an exe");
        let mut command = Command::new(exe);
        command.env(crate::ROLE, "yes").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("a worker");
        let (input, mut output) = (child.stdin.take(), child.stdout.take().expect("its output"));
        output.read_exact(&mut [0; HEADER]).expect("a word that it is ready");
        Self { child, input, output }
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
