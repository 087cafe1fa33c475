//! The floor: the same worker over the same pipes, with blocking reads and writes and nothing else; and what the
//! runtime alone adds to that. Both over Unix stream sockets, too.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use poolyard_benches::row::FLOOR;
use poolyard_process::worker::wire::{HEADER, Header, Kind};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::runtime::Handle;

use crate::side::{Side, timed};

/// Runs this program as a worker over these descriptors.
fn start(stdin: impl Into<Stdio>, stdout: impl Into<Stdio>) -> Child {
    let exe = std::env::current_exe().expect("an exe");
    let mut command = Command::new(exe);
    command.env(crate::ROLE, "yes").stdin(stdin).stdout(stdout).spawn().expect("a worker")
}

/// A worker that is ready, and both directions of its channel.
struct Started {
    child: Child,
    input: File,
    output: File,
}

impl Started {
    fn over_pipes() -> Self {
        let mut child = start(Stdio::piped(), Stdio::piped());
        let input = OwnedFd::from(child.stdin.take().expect("its input"));
        let output = OwnedFd::from(child.stdout.take().expect("its output"));
        Self { child, input: input.into(), output: output.into() }.ready()
    }

    fn over_socket() -> Self {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        let copy = |socket: &UnixStream| OwnedFd::from(socket.try_clone().expect("a descriptor"));
        let child = start(copy(&theirs), OwnedFd::from(theirs));
        Self { child, input: copy(&ours).into(), output: OwnedFd::from(ours).into() }.ready()
    }

    fn ready(mut self) -> Self {
        self.output.read_exact(&mut [0; HEADER]).expect("a word that it is ready");
        self
    }
}

fn request(payload: &[u8]) -> Vec<u8> {
    let mut request = Header { len: payload.len() as u32, id: 1, kind: Kind::Call }.to_bytes().to_vec();
    request.extend_from_slice(payload);
    request
}

pub(crate) struct Floor {
    name: &'static str,
    child: Child,
    ends: Option<(File, File)>,
    /// Whether large requests are written beside the reading, as anyone must who does not know the worker.
    beside: bool,
}

impl Floor {
    pub(crate) fn new() -> Self {
        let Started { child, input, output } = Started::over_pipes();
        Self { name: FLOOR, child, ends: Some((input, output)), beside: true }
    }

    /// Over a socket and without a second thread: this worker reads all of a request before it answers.
    pub(crate) fn stream() -> Self {
        let Started { child, input, output } = Started::over_socket();
        Self { name: "floor_stream", child, ends: Some((input, output)), beside: false }
    }
}

impl Side for Floor {
    fn name(&self) -> &str {
        self.name
    }

    fn latency(&mut self, payload: &[u8], n: usize) -> Result<Vec<f64>, String> {
        let request = request(payload);
        let mut answer = vec![0; HEADER + payload.len()];
        let (input, output) = self.ends.as_mut().ok_or("no channel")?;
        Ok(timed(n, || {
            if !self.beside || request.len() <= 60_000 {
                input.write_all(&request).expect("written");
                output.read_exact(&mut answer).expect("read");
                return;
            }
            std::thread::scope(|scope| {
                scope.spawn(|| input.write_all(&request).expect("written"));
                output.read_exact(&mut answer).expect("read");
            });
        }))
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.ends = None;
        let _ = self.child.wait();
    }
}

type Ends = (Box<dyn AsyncWrite + Send + Unpin>, Box<dyn AsyncRead + Send + Unpin>);

/// The same with tokio in a task, and nothing of ours: no pool, no deadline, no look at the process.
pub(crate) struct OnRuntime {
    name: &'static str,
    runtime: Handle,
    child: Child,
    ends: Option<Ends>,
}

impl OnRuntime {
    pub(crate) fn new(runtime: &Handle) -> Self {
        let Started { child, input, output } = Started::over_pipes();
        let _inside = runtime.enter();
        let input = pipe::Sender::from_file(input).expect("a pipe");
        let output = pipe::Receiver::from_file(output).expect("a pipe");
        let ends: Ends = (Box::new(input), Box::new(output));
        Self { name: "floor_tokio", runtime: runtime.clone(), child, ends: Some(ends) }
    }

    pub(crate) fn stream(runtime: &Handle) -> Self {
        let Started { child, input, .. } = Started::over_socket();
        let _inside = runtime.enter();
        let stream = UnixStream::from(OwnedFd::from(input));
        stream.set_nonblocking(true).expect("a socket that does not block");
        let stream = tokio::net::UnixStream::from_std(stream).expect("a socket");
        let (output, input) = stream.into_split();
        let ends: Ends = (Box::new(input), Box::new(output));
        Self { name: "floor_tokio_stream", runtime: runtime.clone(), child, ends: Some(ends) }
    }
}

impl Side for OnRuntime {
    fn name(&self) -> &str {
        self.name
    }

    fn latency(&mut self, payload: &[u8], n: usize) -> Result<Vec<f64>, String> {
        let request = request(payload);
        let mut answer = vec![0; HEADER + payload.len()];
        let (mut input, mut output) = self.ends.take().ok_or("no channel")?;
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
