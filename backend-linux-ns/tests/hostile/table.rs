//! The same corpus in other sandboxes, as a table. Not a test: it says what others stop, and fails never.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use poolyard_linux_ns::LinuxNs;

use crate::corpus::{Attempts, try_case};
use crate::outside::Outside;
use crate::place::{HOME, Seen, text_of};
use crate::programs::Programs;
use crate::vectors::{Case, Special, VECTORS};

/// Someone else's sandbox.
#[derive(Clone, Copy)]
enum Peer {
    Bubblewrap,
    Unshare,
}

impl Peer {
    /// The command that runs a program there. Both as their manuals recommend: everything unshared.
    fn command(self, outside: &Outside, words: &[&str]) -> Command {
        let programs = outside.programs.display().to_string();
        match self {
            Self::Bubblewrap => {
                let mut command = Command::new("bwrap");
                command.args([
                    "--unshare-all",
                    "--die-with-parent",
                    "--new-session",
                    "--cap-drop",
                    "ALL",
                    "--ro-bind",
                    "/usr",
                    "/usr",
                ]);
                command.args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--dir", "/box"]);
                command.args(["--ro-bind", &programs, HOME, "--chdir", "/box", "/hostile/hostile"]);
                command.args(outside.fill(words, HOME));
                command
            }
            Self::Unshare => {
                let mut command = Command::new("unshare");
                command.args(["--user", "--map-root-user", "-m", "-p", "-i", "-u", "-n", "-C", "--fork"]);
                command.args(["--kill-child", "--mount-proc", "sh", "-c"]);
                let prepare = "mount -t tmpfs tmpfs /tmp; mkdir /tmp/box; cd /tmp/box; exec \"$0\" \"$@\"";
                command.arg(prepare).arg(format!("{programs}/hostile")).args(outside.fill(words, &programs));
                command
            }
        }
    }

    fn run(self, outside: &Outside, words: &[&str]) -> Seen {
        Seen::parse(&text_of(self.command(outside, words)))
    }

    fn try_case(self, outside: &Outside, case: &Case) -> Option<Attempts> {
        let of = |seen: &Seen| Attempts {
            succeeded: seen.successes().into_iter().map(String::from).collect(),
            made: seen.attempts.len(),
            ..Attempts::default()
        };
        match *case {
            Case::Alone(words, _) => Some(of(&self.run(outside, words))),
            Case::Heritage(leave, find, _) => {
                self.run(outside, leave);
                Some(of(&self.run(outside, find)))
            }
            Case::Neighbours(hold, probe) => Some(self.neighbours(outside, hold, probe)),
            Case::Bounded(words, _) => {
                Some(Attempts::one(words[0], !self.run(outside, words).successes().is_empty()))
            }
            Case::Special(Special::ForgeReport) => Some(of(&self.run(outside, &["forge-report"]))),
            Case::Special(Special::ForgeVerdict) => {
                // In a group of its own: the program may kill its group, whoever else is in it.
                let mut command = self.command(outside, &["forge-verdict"]);
                let status = command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).status();
                Some(Attempts::one("another verdict", status.ok()?.code() != Some(42)))
            }
            // These are about a pool, or about limits that a command line has not.
            Case::Special(_) => None,
        }
    }

    fn neighbours(self, outside: &Outside, hold: &[&str], probe: &[&str]) -> Attempts {
        use std::io::{BufRead, BufReader};
        let mut holder = self.command(outside, hold);
        let mut holder =
            holder.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines().map_while(Result::ok);
        lines.by_ref().find(|line| line == "ready");
        let mut text = self.run(outside, probe).text;
        drop(holder.stdin.take());
        lines.for_each(|line| text = format!("{text}{line}\n"));
        let _ = holder.wait();
        let seen = Seen::parse(&text);
        Attempts {
            succeeded: seen.successes().into_iter().map(String::from).collect(),
            made: 2,
            ..Attempts::default()
        }
    }
}

fn cell(attempts: &[Option<Attempts>]) -> String {
    let tried: Vec<&Attempts> =
        attempts.iter().flatten().filter(|attempts| attempts.skipped.is_none()).collect();
    if tried.is_empty() {
        return "-".into();
    }
    let made: usize = tried.iter().map(|attempts| attempts.made).sum();
    let succeeded: Vec<&str> =
        tried.iter().flat_map(|attempts| attempts.succeeded.iter().map(String::as_str)).collect();
    match (made, succeeded.len()) {
        (0, _) => "did not run".into(),
        (_, 0) => "stopped".into(),
        (made, open) => format!("{open} of {made} open"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints a table: cargo test -p poolyard-linux-ns --test hostile -- --ignored --nocapture table"]
async fn table() {
    let Some(programs) = Programs::build() else { return };
    let outside = Outside::new(&programs.dir);
    let ns = LinuxNs::new().unwrap();
    let peers = [("bwrap", Peer::Bubblewrap), ("unshare", Peer::Unshare)];
    let peers =
        peers.map(|(program, peer)| Command::new(program).arg("--version").output().ok().map(|_| peer));
    println!("\n{:<4}{:<36}{:<16}{:<16}{:<16}", "", "", "poolyard", "bubblewrap", "unshare");
    for vector in VECTORS.iter().filter(|vector| !vector.cases.is_empty()) {
        let mut ours = Vec::new();
        for case in vector.cases {
            ours.push(Some(try_case(&ns, &outside, case).await));
        }
        let theirs = peers.map(|peer| match peer {
            Some(peer) => {
                cell(&vector.cases.iter().map(|case| peer.try_case(&outside, case)).collect::<Vec<_>>())
            }
            None => "not installed".into(),
        });
        println!(
            "{:<4}{:<36}{:<16}{:<16}{:<16}",
            vector.number,
            vector.name,
            cell(&ours),
            theirs[0],
            theirs[1]
        );
    }
}
