//! Starting the program: search, limits, pipes, and the supervisor's thread.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Stdio};
use std::sync::Arc;
use std::time::Instant;

use poolyard_exec::{
    Command, ErrorKind, ExecError, InputWriter, Limit, Limits, OutputReader, Process, ProcessParts, Stage,
    Stdin,
};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::unix::pipe;

use super::dir::PrivateDir;
use super::meter::{InputPipe, Meter, MeteredReader};
use super::supervise::{Job, supervise};
use super::tree::{Control, Tree};

pub(crate) fn start(dir: &Arc<PrivateDir>, command: &Command, limits: Limits) -> Result<Process, ExecError> {
    let rlimits = rlimits(&limits)?;
    let cwd = working_directory(dir, command)?;
    let started = Instant::now();
    let mut child = launch(command, &cwd, &rlimits)?;
    let stdin = child.stdin.take();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    // From here on the tree kills and reaps, whatever fails.
    let tree = Tree::adopt(&child).map_err(internal)?;
    let pipes = || -> io::Result<_> {
        let stdin = stdin.map(|pipe| pipe::Sender::from_owned_fd(OwnedFd::from(pipe))).transpose()?;
        let stdout = Meter::new(stdout.map(OwnedFd::from), limits.output)?;
        let stderr = Meter::new(stderr.map(OwnedFd::from), limits.output)?;
        Ok((stdin, stdout, stderr))
    };
    let (stdin, stdout, stderr) = pipes().map_err(internal)?;
    let job = Job {
        tree: Arc::clone(&tree),
        started,
        limits,
        stdout: Arc::clone(&stdout),
        stderr: Arc::clone(&stderr),
        dir: Arc::clone(dir),
        files_out: command.files_out.clone(),
    };
    let exit = supervise(job).map_err(internal)?;
    Ok(Process::new(ProcessParts {
        stdin: stdin.map(|pipe| InputWriter::new(InputPipe::new(pipe))),
        stdout: OutputReader::new(MeteredReader::new(stdout, Arc::clone(&tree))),
        stderr: OutputReader::new(MeteredReader::new(stderr, Arc::clone(&tree))),
        exit: Box::pin(exit),
        control: Arc::new(Control::new(tree)),
        capture: command.capture,
    }))
}

fn working_directory(dir: &PrivateDir, command: &Command) -> Result<PathBuf, ExecError> {
    let Some(cwd) = &command.cwd else { return Ok(dir.path().to_owned()) };
    let path = Path::new(OsStr::from_bytes(cwd));
    // The child could tell this error from a missing program only by its stage, which std does not give.
    if path.is_dir() {
        return Ok(path.to_owned());
    }
    let message =
        format!("the working directory `{}` is missing or no directory; make it first", path.display());
    Err(ExecError::new(Stage::Start, ErrorKind::NoWorkingDirectory, message))
}

/// Tries one path after the other, as a shell would; a file that cannot be executed counts only if none can.
fn launch(command: &Command, cwd: &Path, rlimits: &[(Resource, u64)]) -> Result<process::Child, ExecError> {
    let mut refused = None;
    for candidate in command.candidates() {
        let path = cwd.join(OsStr::from_bytes(&candidate));
        match launch_one(command, &path, cwd, rlimits) {
            Ok(child) => return Ok(child),
            Err(error) if is_missing(&error) && !path.exists() => {}
            Err(error) => refused = refused.or(Some((path, error))),
        }
    }
    let program = String::from_utf8_lossy(&command.argv[0]).into_owned();
    Err(match refused {
        Some((path, error)) => start_error(&path, error),
        None => ExecError::new(
            Stage::Start,
            ErrorKind::ProgramNotFound,
            format!("there is no program `{program}`; give its path, or set PATH"),
        ),
    })
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn start_error(path: &Path, error: io::Error) -> ExecError {
    let path = path.display();
    let (kind, message) = match Errno::from_io_error(&error) {
        Some(Errno::NOENT | Errno::NOTDIR) => (
            ErrorKind::NotExecutable,
            format!("the interpreter of `{path}` is missing; look at its first line"),
        ),
        Some(Errno::ACCESS | Errno::PERM | Errno::ISDIR | Errno::NOEXEC) => {
            (ErrorKind::NotExecutable, format!("`{path}` cannot be executed; look at its kind and mode"))
        }
        Some(Errno::TOOBIG) => {
            let field = ErrorKind::InvalidCommand { field: "argv" };
            (field, "the argument list is too long; pass the rest by stdin or in a file".to_owned())
        }
        _ => (ErrorKind::Internal, format!("`{path}` could not be started")),
    };
    ExecError::new(Stage::Start, kind, message).with_source(error)
}

fn launch_one(
    command: &Command,
    path: &Path,
    cwd: &Path,
    rlimits: &[(Resource, u64)],
) -> io::Result<process::Child> {
    refuse_unknown_format(path)?;
    let mut program = process::Command::new(path);
    program.arg0(OsStr::from_bytes(&command.argv[0]));
    program.args(command.argv[1..].iter().map(|argument| OsStr::from_bytes(argument)));
    if !command.inherit_env {
        program.env_clear();
    }
    program.envs(command.env.iter().map(|(name, value)| (OsStr::from_bytes(name), OsStr::from_bytes(value))));
    program.current_dir(cwd).process_group(0);
    program.stdin(stdin(&command.stdin)?).stdout(Stdio::piped()).stderr(Stdio::piped());
    limit(&mut program, rlimits.to_vec());
    program.spawn()
}

/// What the kernel would not execute, the C library hands to a shell; nobody asked for that.
fn refuse_unknown_format(path: &Path) -> io::Result<()> {
    let mut start = Vec::new();
    if !path.is_file() {
        // Missing, or a directory: the attempt tells.
        return Ok(());
    }
    // A program that may be executed but not read is left to the kernel.
    let Ok(file) = File::open(path) else { return Ok(()) };
    file.take(4).read_to_end(&mut start)?;
    let known = start.starts_with(b"#!") || start.starts_with(b"\x7fELF");
    if known { Ok(()) } else { Err(Errno::NOEXEC.into()) }
}

/// A file in memory instead of a pipe: nobody has to write while the program reads.
fn stdin(stdin: &Stdin) -> io::Result<Stdio> {
    match stdin {
        Stdin::Empty => Ok(Stdio::null()),
        Stdin::Piped => Ok(Stdio::piped()),
        Stdin::Bytes(bytes) => {
            let mut file = File::from(memfd_create("stdin", MemfdFlags::CLOEXEC)?);
            file.write_all(bytes)?;
            file.rewind()?;
            Ok(file.into())
        }
    }
}

/// What `setrlimit` can do, or a refusal where the host's own hard limit is lower.
fn rlimits(limits: &Limits) -> Result<Vec<(Resource, u64)>, ExecError> {
    // A backstop for the sampled limit: each process by itself, in whole seconds.
    let cpu = limits.cpu_time.map(|time| time.as_secs() + 2);
    let wanted = [
        (Limit::CpuTime, Resource::Cpu, cpu),
        (Limit::FileSize, Resource::Fsize, limits.file_size),
        (Limit::OpenFiles, Resource::Nofile, limits.open_files),
        (Limit::Stack, Resource::Stack, limits.stack),
    ];
    let mut rlimits = vec![(Resource::Core, 0)];
    for (limit, resource, value) in wanted {
        let Some(value) = value else { continue };
        if let Some(hard) = getrlimit(resource).maximum.filter(|hard| *hard < value) {
            let message =
                format!("limit `{limit}` of {value} is above this host's hard limit of {hard}; ask for less");
            return Err(ExecError::new(Stage::Check, ErrorKind::UnsupportedLimit(limit), message));
        }
        rlimits.push((resource, value));
    }
    Ok(rlimits)
}

#[expect(unsafe_code, reason = "std has no safe way to set limits in the child")]
fn limit(program: &mut process::Command, rlimits: Vec<(Resource, u64)>) {
    let apply = move || {
        for (resource, value) in &rlimits {
            setrlimit(*resource, Rlimit { current: Some(*value), maximum: Some(*value) })?;
        }
        Ok(())
    };
    // SAFETY: the closure runs between fork and exec. It makes only the system call prlimit64, which is
    // async-signal-safe, allocates nothing, takes no lock, and reads memory that it owns.
    unsafe { program.pre_exec(apply) };
}

fn internal(error: io::Error) -> ExecError {
    ExecError::new(Stage::Start, ErrorKind::Internal, "the program's pipes or watcher could not be made")
        .with_source(error)
}
