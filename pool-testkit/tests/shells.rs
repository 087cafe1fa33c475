//! A manager of real processes put to the laws. Take it as a template for the harness of your own.
//!
//! The resource is a `sh` with a directory of its own, spoken to over pipes. The key is the text
//! that the shell knows as `$TENANT`.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use poolyard_core::{Context, Manager, Reason};
use poolyard_testkit::availability::Availability;
use poolyard_testkit::census::Scope;
use poolyard_testkit::{Harness, conformance};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// A manager of shells below one directory.
struct Shells {
    root: PathBuf,
}

/// A shell and its directory. Dropping it ends both.
struct Shell {
    directory: PathBuf,
    process: Process,
}

impl Shell {
    /// Runs one line and returns the one line that it prints.
    async fn ask(&mut self, line: &str) -> io::Result<String> {
        self.process.ask(line).await
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.process.kill();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

struct Process {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    group: Pid,
}

impl Process {
    fn start(directory: &Path, tenant: &str) -> io::Result<Self> {
        let mut command = Command::new("sh");
        command.current_dir(directory).env("TENANT", tenant).process_group(0).kill_on_drop(true);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let id = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let group = id.ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { child, input, output: BufReader::new(output).lines(), group })
    }

    async fn ask(&mut self, line: &str) -> io::Result<String> {
        self.input.write_all(format!("{line}\n").as_bytes()).await?;
        self.output.next_line().await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Kills the shell and all that it started. The runtime reaps it if nobody waits.
    fn kill(&mut self) {
        let _ = kill_process_group(self.group, Signal::KILL);
    }

    async fn end(&mut self) {
        self.kill();
        let _ = self.child.wait().await;
    }
}

/// What went wrong with a shell.
#[derive(Debug)]
struct ShellError {
    stage: &'static str,
    source: io::Error,
}

impl ShellError {
    fn at(stage: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self { stage, source }
    }
}

impl fmt::Display for ShellError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the shell failed at {}", self.stage)
    }
}

impl std::error::Error for ShellError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl Manager for Shells {
    type Key = String;
    type Resource = Shell;
    type Error = ShellError;

    async fn create(&self, tenant: &String, cx: &Context) -> Result<Shell, ShellError> {
        let directory = self.root.join(cx.id().as_u64().to_string());
        fs::create_dir(&directory).map_err(ShellError::at("making its directory"))?;
        let process = Process::start(&directory, tenant);
        let process = process.inspect_err(|_| drop(fs::remove_dir(&directory)));
        let mut shell = Shell { directory, process: process.map_err(ShellError::at("its start"))? };
        shell.ask("echo ready").await.map_err(ShellError::at("its first answer"))?;
        Ok(shell)
    }

    /// A shell cannot be trusted to forget: a new one takes its place in an empty directory.
    async fn recycle(&self, tenant: &String, shell: &mut Shell, _: &Context) -> Result<(), ShellError> {
        shell.ask("echo ready").await.map_err(ShellError::at("its last answer"))?;
        shell.process.end().await;
        fs::remove_dir_all(&shell.directory).map_err(ShellError::at("emptying its directory"))?;
        fs::create_dir(&shell.directory).map_err(ShellError::at("making its directory"))?;
        shell.process = Process::start(&shell.directory, tenant).map_err(ShellError::at("its start"))?;
        shell.ask("echo ready").await.map_err(ShellError::at("its first answer"))?;
        Ok(())
    }

    async fn health_check(&self, _: &String, shell: &mut Shell, _: &Context) -> Result<(), ShellError> {
        shell.ask("echo ready").await.map(drop).map_err(ShellError::at("its health check"))
    }

    async fn destroy(&self, _: &String, shell: &mut Shell, _: Reason, _: &Context) {
        shell.process.end().await;
    }
}

/// What the laws need to know: how to use, dirty, break, stop and count shells.
struct ShellHarness {
    root: PathBuf,
}

impl ShellHarness {
    /// The kinds of marks: a line that leaves it, and a line that prints whether it is there.
    fn mark(number: u32) -> (String, String) {
        let name = format!("mark{number}");
        match number % 3 {
            0 => (format!("> {name}; echo"), format!("test -e {name} && echo yes || echo no")),
            1 => (format!("{name}=1; echo"), format!("test \"${name}\" && echo yes || echo no")),
            // A program in the background.
            _ => (format!("sleep 1{number} & echo $! > {name}; echo"), Self::runs(&name)),
        }
    }

    fn runs(name: &str) -> String {
        format!("read pid 2>/dev/null < {name} && kill -0 $pid 2>/dev/null && echo yes || echo no")
    }
}

impl Harness for ShellHarness {
    type Manager = Shells;

    const CASES: u32 = 8;

    async fn availability() -> Availability {
        let found = Command::new("sh").args(["-c", ":"]).status().await;
        Availability::when(found.is_ok_and(|status| status.success()), "there is no `sh` in the PATH")
    }

    async fn new() -> Self {
        static WORLDS: AtomicU64 = AtomicU64::new(0);
        let name = format!("poolyard-shells-{}-{}", std::process::id(), WORLDS.fetch_add(1, Relaxed));
        let root = std::env::temp_dir().join(name);
        fs::create_dir(&root).expect("the temporary directory can be written to");
        Self { root }
    }

    fn manager(&self) -> Shells {
        Shells { root: self.root.clone() }
    }

    fn keys(&self) -> Vec<String> {
        vec!["red".to_owned(), "blue".to_owned()]
    }

    async fn works(&self, tenant: &String, shell: &mut Shell) -> bool {
        shell.ask("echo $TENANT").await.is_ok_and(|answer| answer == *tenant)
    }

    async fn dirty(&self, shell: &mut Shell, mark: u32) {
        shell.ask(&Self::mark(mark).0).await.expect("the shell works");
    }

    async fn is_dirty(&self, shell: &mut Shell, mark: u32) -> bool {
        shell.ask(&Self::mark(mark).1).await.expect("the shell works") == "yes"
    }

    async fn kill(&self, shell: &mut Shell) {
        kill_process_group(shell.process.group, Signal::KILL).expect("the shell runs");
        // The pipe ends when the process has.
        let ended = timeout(Self::CALL_DEADLINE, shell.process.output.next_line()).await;
        assert!(matches!(ended, Ok(Ok(None))), "a killed shell says nothing more: {ended:?}");
    }

    async fn stop(&self, shell: &mut Shell) {
        kill_process_group(shell.process.group, Signal::STOP).expect("the shell runs");
    }

    async fn live(&self) -> usize {
        fs::read_dir(&self.root).map(Iterator::count).unwrap_or(0)
    }

    /// Programs that a shell started are not children of ours once it is dead: they are found by
    /// the directory that they run in.
    fn census(&self) -> Option<Scope> {
        let root = self.root.clone();
        Some(Scope::new().with("programs in the world's directory", move || programs_in(&root)))
    }
}

impl Drop for ShellHarness {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn programs_in(root: &Path) -> Vec<String> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let here = processes.filter(|entry| {
        fs::read_link(entry.path().join("cwd")).is_ok_and(|directory| directory.starts_with(root))
    });
    here.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

conformance!(shells, ShellHarness);
