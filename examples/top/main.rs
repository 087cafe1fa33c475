//! Shows a live pool of another process: what it holds, who waits, how often nobody had to wait, how
//! long its manager's calls take, what ended and why.
//!
//! - `cargo run --release --example top`: the pools of this user's processes that are served by
//!   `poolyard_examples::live::serve`; if there is none, a load of its own, in a process of its own
//! - `... -- SOCKET`: the pool behind this socket
//! - `... -- --frames 3`: as many pictures, then the end
//!
//! On a terminal the picture is drawn anew each second; elsewhere pictures follow each other.

mod draw;

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use poolyard::Pool;
use poolyard_examples::live::{self, Latencies, Picture};
use poolyard_examples::load;
use tokio::io::AsyncReadExt;
use tokio::time::{sleep, timeout};

const EVERY: Duration = Duration::from_secs(1);
/// The argument that makes a process of this program the load.
const LOAD: &str = "--load";

#[derive(Default)]
struct Wish {
    socket: Option<PathBuf>,
    frames: Option<u64>,
    load: bool,
}

fn wish() -> Result<Wish, String> {
    let mut wish = Wish::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            LOAD => wish.load = true,
            "--frames" => {
                let number = words.next().and_then(|number| number.parse().ok());
                wish.frames = Some(number.ok_or("--frames wants a number")?);
            }
            socket if !socket.starts_with('-') => wish.socket = Some(socket.into()),
            other => {
                return Err(format!("{other} is not known; see the first lines of examples/top/main.rs"));
            }
        }
    }
    Ok(wish)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let wish = wish()?;
    if wish.load {
        return Ok(load_and_serve().await?);
    }
    let (socket, _load) = match wish.socket {
        Some(socket) => (socket, None),
        None => match live::find().await.into_iter().next() {
            Some(socket) => (socket, None),
            None => Load::start().await?,
        },
    };
    Ok(watch(&socket, wish.frames).await?)
}

async fn watch(socket: &Path, frames: Option<u64>) -> io::Result<()> {
    let terminal = io::stdout().is_terminal();
    let mut before: Option<(Instant, Picture)> = None;
    for _ in 0..frames.unwrap_or(u64::MAX) {
        let Ok(picture) = live::ask(socket).await else {
            println!("{} answers no more: its process has ended", socket.display());
            return Ok(());
        };
        let (now, age) = (Instant::now(), before.as_ref().map_or(EVERY, |(at, _)| at.elapsed()));
        let last = before.as_ref().map(|(_, picture)| picture);
        show(&draw::picture(&picture, last, age), terminal)?;
        before = Some((now, picture));
        sleep(EVERY).await;
    }
    Ok(())
}

fn show(lines: &[String], terminal: bool) -> io::Result<()> {
    let mut text = String::new();
    if terminal {
        text.push_str("\x1b[H"); // home, without the flicker of a cleared screen
    }
    for line in lines.iter().take(if terminal { rows() - 1 } else { usize::MAX }) {
        text.push_str(line);
        text.push_str(if terminal { "\x1b[K\n" } else { "\n" });
    }
    text.push_str(if terminal { "\x1b[J" } else { "\n" });
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// The height of the terminal.
fn rows() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stdout());
    size.map_or(24, |size| usize::from(size.ws_row)).max(10)
}

/// The load, as a process that ends with this one.
struct Load(Child);

impl Load {
    /// Starts it and waits until it is served.
    async fn start() -> io::Result<(PathBuf, Option<Load>)> {
        eprintln!("no pool is served in {}; starting a load to watch", live::directory().display());
        let mut command = std::process::Command::new(std::env::current_exe()?);
        // It ends when its standard input does, so also when this process is killed.
        let child = command.arg(LOAD).stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        let ending = format!("-{}.sock", child.id());
        let load = Load(child);
        let socket = timeout(Duration::from_secs(10), async {
            loop {
                let mut found = live::find().await.into_iter();
                match found.find(|path| path.to_string_lossy().ends_with(&ending)) {
                    Some(socket) => return socket,
                    None => sleep(Duration::from_millis(20)).await,
                }
            }
        });
        Ok((socket.await.map_err(|_| io::Error::other("the load did not start within 10 s"))?, Some(load)))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // It removes its socket and ends; only a broken one would be waited for.
        let _ = self.0.wait();
    }
}

async fn load_and_serve() -> io::Result<()> {
    let pool = Pool::builder(load::Workshops::default())
        .name("workshops")
        .max_total(12)
        .max_per_key(6)
        .max_uses(50)
        .idle_timeout(Duration::from_secs(5))
        .check_after(Duration::from_secs(1))
        .wait_timeout(Duration::from_millis(500))
        .observer(Latencies::default())
        .build()
        .map_err(io::Error::other)?;
    tokio::spawn(load::run(pool.clone()));
    let (mut stdin, mut end) = (tokio::io::stdin(), Vec::new());
    tokio::select! {
        served = live::serve(pool, |_| {}) => served,
        ended = stdin.read_to_end(&mut end) => ended.map(drop),
    }
}
