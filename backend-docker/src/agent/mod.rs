//! The library's side of the resident agent: what is sent, what comes back, and to whom it goes.
//!
//! Everything that a user's task calls works from any runtime: requests are written at once by
//! whoever makes them, replies arrive through channels. Only the two tasks that wait for the socket
//! belong to the runtime that made the container.

mod link;
mod request;
mod streams;
#[allow(unreachable_pub, missing_docs)] // Compiled into the agent as well.
#[path = "../../agent/wire.rs"]
pub(crate) mod wire;

use std::time::Duration;

pub(crate) use link::Link;
pub(crate) use request::{Exit, Killer, Request};
pub(crate) use streams::OutStream;

use crate::error::{Error, ErrorKind, Stage};

/// The program itself, for one kind of machine, as the build script made it.
pub(crate) struct Program {
    /// The engines' word for the kind of machine.
    pub(crate) architecture: &'static str,
    /// Empty where there is none.
    pub(crate) image: &'static [u8],
    /// Why there is none, if so.
    missing: &'static str,
}

static PROGRAMS: [Program; 2] = [
    Program {
        architecture: "amd64",
        image: include_bytes!(concat!(env!("OUT_DIR"), "/agent-x86_64")),
        missing: env!("POOLYARD_GUEST_AGENT_MISSING_X86_64"),
    },
    Program {
        architecture: "arm64",
        image: include_bytes!(concat!(env!("OUT_DIR"), "/agent-aarch64")),
        missing: env!("POOLYARD_GUEST_AGENT_MISSING_AARCH64"),
    },
];

/// The program for containers of this image.
pub(crate) fn program(os: &str, architecture: &str) -> Result<&'static Program, Error> {
    let ours = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    // An imported image may say nothing.
    let wanted = if architecture.is_empty() { ours } else { architecture };
    let found = PROGRAMS.iter().find(|program| os == "linux" && program.architecture == wanted);
    let missing = match found {
        Some(program) if !program.image.is_empty() => return Ok(program),
        Some(program) => program.missing,
        None => "there is none",
    };
    let message = format!(
        "the image is for {os}/{wanted}, for which this build carries no agent: {missing}; or use \
         without_agent(), where commands go through the engine"
    );
    Err(Error::new(Stage::Agent, ErrorKind::Unsupported, message))
}

/// What to start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spawn {
    pub(crate) flags: u32,
    pub(crate) timeout: Option<Duration>,
    pub(crate) user: String,
    pub(crate) directory: Vec<u8>,
    pub(crate) capabilities: u64,
    pub(crate) argv: Vec<Vec<u8>>,
    pub(crate) env: Vec<Vec<u8>>,
    /// Resource, in the kernel's numbers, and its soft and hard value.
    pub(crate) limits: Vec<(u32, u64)>,
    /// Of its terminal, if the flags ask for one.
    pub(crate) size: (u16, u16),
}

impl Spawn {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        wire::put_u32(&mut out, self.flags);
        // Rounded up: a limit that is not zero must not become none.
        wire::put_u64(&mut out, self.timeout.map_or(0, |t| t.as_micros().div_ceil(1000).max(1) as u64));
        wire::put_bytes(&mut out, self.user.as_bytes());
        wire::put_bytes(&mut out, &self.directory);
        wire::put_u64(&mut out, self.capabilities);
        wire::put_list(&mut out, self.argv.iter().map(Vec::as_slice));
        wire::put_list(&mut out, self.env.iter().map(Vec::as_slice));
        let limits: Vec<Vec<u8>> = self.limits.iter().map(limit).collect();
        wire::put_list(&mut out, limits.iter().map(Vec::as_slice));
        out.extend_from_slice(&size(self.size));
        out
    }
}

/// Rows and columns, as the protocol has them.
fn size((rows, columns): (u16, u16)) -> [u8; 4] {
    (u32::from(rows) << 16 | u32::from(columns)).to_le_bytes()
}

fn limit((resource, value): &(u32, u64)) -> Vec<u8> {
    let mut out = Vec::with_capacity(20);
    wire::put_u32(&mut out, *resource);
    wire::put_u64(&mut out, *value);
    wire::put_u64(&mut out, *value);
    out
}

/// What was found of a file.
#[derive(Debug, Default)]
pub(crate) struct FileContent {
    pub(crate) bytes: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) truncated: bool,
}

/// What a probe waits for.
pub(crate) enum Probe<'a> {
    Port(u16),
    Path(&'a str),
}

impl Link {
    pub(crate) async fn ping(&self) -> Result<(), Error> {
        self.request(wire::PING, 0, &[], Stage::Agent)?.done().await.map(drop)
    }

    /// Kills everything but the service and empties directories.
    pub(crate) fn reset(&self, directories: &[String], keep: &[String]) -> Result<Request, Error> {
        let mut payload = Vec::new();
        wire::put_list(&mut payload, directories.iter().map(|d| d.as_bytes()));
        wire::put_list(&mut payload, keep.iter().map(|k| k.as_bytes()));
        self.request(wire::RESET, 0, &payload, Stage::Reset)
    }

    /// Asks for a description of everything that could hold a trace.
    pub(crate) fn survey(&self) -> Result<Request, Error> {
        self.request(wire::SURVEY, 0, &[], Stage::Verify)
    }

    /// Waits inside the container for a port or a path.
    pub(crate) async fn probe(&self, probe: Probe<'_>, limit: Duration) -> Result<(), Error> {
        let mut payload = Vec::new();
        wire::put_u64(&mut payload, limit.as_millis() as u64);
        let what = match probe {
            Probe::Port(port) => {
                wire::put_bytes(&mut payload, &port.to_le_bytes());
                wire::PROBE_PORT
            }
            Probe::Path(path) => {
                wire::put_bytes(&mut payload, path.as_bytes());
                wire::PROBE_PATH
            }
        };
        match self.request(wire::PROBE, what, &payload, Stage::Ready)?.done().await? {
            0 => Ok(()),
            _ => {
                Err(Error::new(Stage::Ready, ErrorKind::NotReady, "the time for it to become ready is over"))
            }
        }
    }

    /// A file, cut off after `max` bytes.
    pub(crate) async fn read_file(&self, path: &[u8], max: u64) -> Result<FileContent, Error> {
        let mut payload = Vec::new();
        wire::put_bytes(&mut payload, path);
        let mut request = self.request(wire::GET, 0, &payload, Stage::Files)?;
        let mut stream = request.take_output(1);
        let mut content = FileContent::default();
        while let Some(piece) = stream.next().await {
            let room = (max - content.bytes.len() as u64).min(piece.len() as u64) as usize;
            content.bytes.extend_from_slice(&piece[..room]);
            content.truncated |= room < piece.len();
        }
        match request.answer().await? {
            (0, mode) => Ok(FileContent { mode, ..content }),
            (errno, _) => Err(file_error(path, errno)),
        }
    }

    /// Takes the last network interface away.
    pub(crate) async fn loopback_down(&self) -> Result<(), Error> {
        match self.request(wire::LOOPBACK_DOWN, 0, &[], Stage::Agent)?.done().await? {
            0 => Ok(()),
            errno => {
                let message = "the loopback interface cannot be taken down; use Network::Loopback";
                Err(Error::new(Stage::Agent, ErrorKind::Unsupported, message)
                    .with_source(std::io::Error::from_raw_os_error(errno)))
            }
        }
    }

    /// Writes a whole file, making the directories above it.
    pub(crate) async fn write_file(
        &self,
        path: &[u8],
        bytes: &[u8],
        mode: u32,
        owner: &str,
    ) -> Result<(), Error> {
        use tokio::io::AsyncWriteExt;
        let mut payload = Vec::new();
        wire::put_u32(&mut payload, mode);
        wire::put_bytes(&mut payload, owner.as_bytes());
        wire::put_bytes(&mut payload, path);
        let mut request = self.request(wire::PUT, 0, &payload, Stage::Files)?;
        let mut stream = request.take_input();
        // A failure shows in the answer, which says more than a broken stream.
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        match request.done().await? {
            0 => Ok(()),
            errno => Err(file_error(path, errno)),
        }
    }
}

fn file_error(path: &[u8], errno: i32) -> Error {
    let message = format!("{} cannot be read or written", String::from_utf8_lossy(path));
    Error::new(Stage::Files, ErrorKind::File(errno), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kind of machine that the head of a program names.
    fn machine(program: &Program) -> u16 {
        assert_eq!(program.image[..4], *b"\x7fELF");
        u16::from_le_bytes([program.image[18], program.image[19]])
    }

    #[test]
    fn a_container_gets_the_agent_of_its_architecture_or_a_word_why_not() {
        for (architecture, number) in [("amd64", 62), ("arm64", 183)] {
            match program("linux", architecture) {
                Ok(program) => assert_eq!(machine(program), number),
                Err(e) => assert!(e.to_string().contains("rustup target add"), "{e}"),
            }
        }
        assert!(program("linux", "").is_ok(), "our own");
        for (os, architecture) in [("linux", "s390x"), ("windows", "amd64")] {
            let error = program(os, architecture).map(|p| p.architecture).unwrap_err();
            assert!(error.to_string().contains("without_agent"), "{error}");
        }
    }
}
