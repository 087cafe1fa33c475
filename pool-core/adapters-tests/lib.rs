//! Real database servers for the tests of the adapters: started in a directory of their own, on a Unix
//! socket, and gone with the test.

use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use poolyard_testkit::availability::{Availability, require};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// PostgreSQL refuses to run as root; this user owns nothing else.
const NOBODY: u32 = 65534;

/// A server of a test's own. It ends when it is dropped.
pub struct Server {
    kind: Kind,
    program: PathBuf,
    directory: TempDir,
    child: Option<Child>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Redis,
    Postgres,
}

impl Server {
    /// A Redis without persistence. `None`: the test is skipped, loudly.
    pub fn redis() -> Option<Server> {
        Server::find(Kind::Redis, "redis", "redis-server", "redis-server")
    }

    /// A PostgreSQL with one superuser, `tests`, and no passwords. `None`: the test is skipped, loudly.
    pub fn postgres() -> Option<Server> {
        Server::find(Kind::Postgres, "postgres", "postgres", "postgresql")
    }

    fn find(kind: Kind, name: &str, program: &str, package: &str) -> Option<Server> {
        let found = find_program(program);
        let hint = format!("no {program} is installed; Debian has it in the package {package}");
        if !require(name, &Availability::when(found.is_some(), hint)) {
            return None;
        }
        let directory = TempDir::with_prefix("poolyard-").expect("a directory for the server");
        let mut server = Server { kind, program: found?, directory, child: None };
        if kind == Kind::Postgres {
            server.init_postgres();
        }
        server.start();
        Some(server)
    }

    /// Where clients find it: `redis+unix:` and a path, or what `tokio-postgres` reads.
    pub fn url(&self) -> String {
        let directory = self.directory.path().display();
        match self.kind {
            Kind::Redis => format!("redis+unix://{directory}/socket"),
            Kind::Postgres => format!("host={directory} user=tests dbname=postgres"),
        }
    }

    /// Ends it at once, with all its connections.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let signal = match self.kind {
            Kind::Redis => Signal::KILL,
            // Killed, it would leave its own children to a race with the next start.
            Kind::Postgres => Signal::QUIT,
        };
        let pid = Pid::from_child(&child);
        kill_process(pid, signal).expect("a child that was not waited for can be signalled");
        child.wait().expect("a child can be waited for");
    }

    /// Starts it again, over the same data, and waits until it serves.
    pub fn start(&mut self) {
        let directory = self.directory.path();
        let mut command = self.command(&self.program);
        match self.kind {
            Kind::Redis => command
                .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
                .arg(directory.join("socket")),
            Kind::Postgres => command
                .args(["-c", "listen_addresses=", "-c", "fsync=off", "-D"])
                .arg(directory.join("data"))
                .arg("-k")
                .arg(directory),
        };
        let (reader, writer) = io::pipe().expect("a pipe");
        command.stdin(Stdio::null()).stdout(writer.try_clone().expect("a pipe")).stderr(writer);
        self.child = Some(command.spawn().expect("the server starts"));
        drop(command);
        wait_until_ready(BufReader::new(reader));
    }

    fn init_postgres(&mut self) {
        if rustix::process::geteuid().is_root() {
            chown(self.directory.path(), Some(NOBODY), Some(NOBODY)).expect("root may chown");
        }
        let initdb = self.program.with_file_name("initdb");
        let output = self
            .command(&initdb)
            .args(["-U", "tests", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"])
            .arg(self.directory.path().join("data"))
            .output()
            .expect("initdb runs");
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// The program in the server's directory, as a user that it accepts.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.directory.path());
        if self.kind == Kind::Postgres && rustix::process::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Both servers say so on their logs. What they log afterwards is read and forgotten.
fn wait_until_ready(log: impl BufRead + Send + 'static) {
    let mut lines = log.lines().map_while(Result::ok);
    let mut seen = Vec::new();
    let ready = lines.by_ref().any(|line| {
        seen.push(line.clone());
        line.to_lowercase().contains("ready to accept connections")
    });
    assert!(ready, "the server did not start:\n{}", seen.join("\n"));
    std::thread::spawn(move || lines.for_each(drop));
}

/// In the path, or where Debian keeps the programs of each version of PostgreSQL.
fn find_program(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let versions = versions.map(|version| version.path().join("bin"));
    let mut places = std::env::split_paths(&path).chain(versions);
    places.find_map(|place| Some(place.join(program)).filter(|file| file.is_file()))
}
