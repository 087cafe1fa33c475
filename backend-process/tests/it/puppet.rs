//! A worker that does what it is told, good or bad.

use std::io::{self, Write};
use std::os::fd::{BorrowedFd, RawFd};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use poolyard_process::worker::{Call, Connection, Next, Server, Worker};

/// Says which worker this program is to be.
pub(crate) const ROLE: &str = "PUPPET_ROLE";

static PRELOADED: OnceLock<u32> = OnceLock::new();

pub(crate) fn preload() {
    let _ = PRELOADED.set(std::process::id());
}

pub(crate) fn play(role: &str) -> i32 {
    match role {
        "frames" => i32::from(frames().is_err()),
        "dies_at_start" => {
            eprintln!("no such module: frobnicate");
            3
        }
        "doomed_host" => crate::lifecycle::doomed_host(),
        "activated_host" => crate::server::activated_host(),
        "never_ready" => forever(),
        "server" => i32::from(server().is_err()),
        "json" => json_lines(),
        "bazel_json" => bazel_json(),
        "bazel_off_by_one" => bazel_off_by_one(),
        "fills_stderr" => {
            let line = [b'e'; 1024];
            for _ in 0..4096 {
                let _ = io::stderr().write_all(&line);
            }
            i32::from(frames().is_err())
        }
        _ => 64,
    }
}

/// Answers a line with this process's number and version, after what the line asks for.
pub(crate) fn server() -> io::Result<()> {
    use std::io::{BufRead, BufReader};
    use std::net::TcpStream;
    let version = std::env::var("VERSION").unwrap_or_default();
    match std::env::var("SERVES").as_deref() {
        Ok("http") => return http(),
        Ok("http_requests") => return http_requests(),
        Ok("lines") => return lines(&version),
        _ => {}
    }
    Server::connect()?.serve(|connection| {
        let mut stream = TcpStream::from(connection);
        let mut line = String::new();
        if BufReader::new(&stream).read_line(&mut line).is_err() {
            return;
        }
        let (word, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        match word {
            "slow" => std::thread::sleep(Duration::from_millis(rest.parse().unwrap_or(0))),
            "exit" => std::process::exit(3),
            "hang" => forever(),
            _ => {}
        }
        let _ = write!(stream, "{} {version}", std::process::id());
    })
}

/// Answers one request of HTTP on each connection.
fn http() -> io::Result<()> {
    use std::io::Read;
    use std::net::TcpStream;
    Server::connect()?.serve(|connection| {
        let mut stream = TcpStream::from(connection);
        let (mut request, mut piece) = (Vec::new(), [0; 4096]);
        while !request.ends_with(b"\r\n\r\n") {
            match stream.read(&mut piece) {
                Ok(count) if count > 0 => request.extend_from_slice(&piece[..count]),
                _ => return,
            }
        }
        std::thread::sleep(Duration::from_millis(1));
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
    })
}

/// Answers every line with this process's number and version, after what the line asks for.
fn lines(version: &str) -> io::Result<()> {
    Server::connect()?.serve_requests(|mut connection, read| {
        let Some(line) = read_until(connection, read, b"\n") else { return Next::Close };
        let line = String::from_utf8_lossy(&line).into_owned();
        let (word, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        match word {
            "slow" => std::thread::sleep(Duration::from_millis(rest.parse().unwrap_or(0))),
            "exit" => std::process::exit(3),
            "bye" => return Next::Close,
            "wait" => drop(read_until(connection, read, b"\n")),
            _ => {}
        }
        match writeln!(connection, "{} {version} {}", std::process::id(), line.trim()) {
            Ok(()) => Next::Keep,
            Err(_) => Next::Close,
        }
    })
}

/// Takes what comes up to and with `end`; `None` if the client goes away before.
fn read_until(mut connection: &Connection, read: &mut Vec<u8>, end: &[u8]) -> Option<Vec<u8>> {
    use std::io::Read;
    let mut piece = [0; 4096];
    loop {
        if let Some(at) = read.windows(end.len()).position(|window| window == end) {
            return Some(read.drain(..at + end.len()).collect());
        }
        match connection.read(&mut piece) {
            Ok(count) if count > 0 => read.extend_from_slice(&piece[..count]),
            _ => return None,
        }
    }
}

/// Answers HTTP on connections that are kept open.
fn http_requests() -> io::Result<()> {
    Server::connect()?.serve_requests(|mut connection, read| {
        if read_until(connection, read, b"\r\n\r\n").is_none() {
            return Next::Close;
        }
        std::thread::sleep(Duration::from_millis(1));
        match connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") {
            Ok(()) => Next::Keep,
            Err(_) => Next::Close,
        }
    })
}

fn forever() -> ! {
    loop {
        std::thread::park();
    }
}

pub(crate) fn frames() -> io::Result<()> {
    let mut secret = String::new();
    let reset_secret = std::rc::Rc::new(std::cell::Cell::new(false));
    let seen = reset_secret.clone();
    Worker::connect()?.on_reset(move || seen.set(true)).serve(move |call| {
        if reset_secret.take() {
            secret.clear();
        }
        obey(call, &mut secret)
    })
}

fn obey(call: &mut Call<'_>, secret: &mut String) -> Result<Vec<u8>, String> {
    let text = String::from_utf8_lossy(&call[..call.len().min(64)]).into_owned();
    let (word, rest) = text.split_once(' ').unwrap_or((&text, ""));
    match word {
        "pid" => Ok(std::process::id().to_string().into()),
        "preloaded" => Ok(format!("{:?}", PRELOADED.get()).into()),
        "remember" => {
            *secret = rest.into();
            Ok(Vec::new())
        }
        "recall" => Ok(secret.clone().into()),
        "fail" => Err(rest.into()),
        "panic" => panic!("told to panic"),
        "print" => {
            println!("{rest}");
            Ok(Vec::new())
        }
        "complain" => {
            eprintln!("{rest}");
            Ok(Vec::new())
        }
        "parts" => {
            for part in 0..rest.parse().unwrap_or(3) {
                call.part(format!("{part},").as_bytes()).map_err(|e| e.to_string())?;
            }
            Ok(b"end".to_vec())
        }
        "size" => Ok(vec![b'x'; rest.parse().unwrap_or(0)]),
        "extend" => {
            let millis: u64 = rest.parse().unwrap_or(0);
            for _ in 0..5 {
                call.extend_deadline(Duration::from_millis(millis)).map_err(|e| e.to_string())?;
                std::thread::sleep(Duration::from_millis(millis / 4));
            }
            Ok(b"extended".to_vec())
        }
        "retire" => {
            call.retire();
            Ok(Vec::new())
        }
        "sh" => shell(&String::from_utf8_lossy(&call[3..])),
        "exit" => std::process::exit(rest.parse().unwrap_or(1)),
        "signal" => {
            kill_self(rest);
            Ok(Vec::new())
        }
        "hang" => forever(),
        "block" => signals().thread_block().map(|()| Vec::new()).map_err(|e| e.to_string()),
        "await_signal" => signals().wait().map(|signal| signal.as_str().into()).map_err(|e| e.to_string()),
        "await_signal_and_exit" => std::process::exit(signals().wait().map_or(1, |signal| signal as i32)),
        "raw" => misbehave(rest),
        _ => Ok(call.to_vec()),
    }
}

/// Those that a puppet can wait for, once it has blocked them.
fn signals() -> SigSet {
    [Signal::SIGUSR1, Signal::SIGTERM].into_iter().collect()
}

fn shell(script: &str) -> Result<Vec<u8>, String> {
    let output = Command::new("sh").arg("-c").arg(script).output().map_err(|e| e.to_string())?;
    Ok(output.stdout)
}

fn kill_self(signal: &str) {
    let _ = Command::new("kill").arg(format!("-{signal}")).arg(std::process::id().to_string()).status();
    forever();
}

/// Writes around the worker kit, straight into the channel.
fn misbehave(how: &str) -> Result<Vec<u8>, String> {
    let mut out = channel();
    let mut frame = vec![0; 12];
    frame[8] = 17;
    match how {
        "text" => drop(out.write_all(b"hello, this is print debugging\n")),
        "half_header" => drop(out.write_all(&frame[..5])),
        "half_frame" => {
            frame[0] = 100;
            drop(out.write_all(&frame));
        }
        "half_then_exit" => {
            frame[0] = 100;
            drop(out.write_all(&frame));
            std::process::exit(9);
        }
        "giant" => {
            frame[..4].copy_from_slice(&u32::MAX.to_le_bytes());
            drop(out.write_all(&frame));
        }
        "wrong_id" => {
            frame[4] = 77;
            drop(out.write_all(&frame));
        }
        "endless" => loop {
            if out.write_all(&[b'z'; 4096]).is_err() {
                return Err("closed".into());
            }
        },
        "endless_parts" => {
            frame[8] = 18;
            // The id of the first call of a worker.
            frame[4] = 1;
            loop {
                if out.write_all(&frame).is_err() {
                    return Err("closed".into());
                }
            }
        }
        _ => return Err(format!("no such misbehaviour: {how}")),
    }
    forever()
}

/// The worker's output, which the kit has moved: found as the writable pipe that is not standard error.
fn channel() -> std::fs::File {
    let number = std::env::var("POOLYARD_CHANNEL").ok();
    let number = number.and_then(|pair| pair.split_once(',')?.1.parse().ok());
    let is_channel = |n: &RawFd| {
        let link = std::fs::read_link(format!("/proc/self/fd/{n}")).unwrap_or_default();
        let flags = std::fs::read_to_string(format!("/proc/self/fdinfo/{n}")).unwrap_or_default();
        let writable = flags.lines().any(|line| line.starts_with("flags:") && line.ends_with('1'));
        writable && link.to_string_lossy().starts_with("pipe:")
            || link.to_string_lossy().starts_with("socket:")
    };
    // The worker kit has copied both ends, the input first.
    let found = number.or_else(|| (3..32).rfind(is_channel)).expect("the channel");
    // SAFETY: open for as long as this process lives.
    let found = unsafe { BorrowedFd::borrow_raw(found) };
    found.try_clone_to_owned().expect("the channel").into()
}

fn json_lines() -> i32 {
    for line in io::stdin().lines().map_while(Result::ok) {
        match line.trim_matches('"') {
            "pollute" => println!("debug: here"),
            "double" => println!("1\n2"),
            "silent" => forever(),
            _ => println!("{line}"),
        }
    }
    0
}

/// Answers as Bazel's own library does: without line feeds, default fields included.
fn bazel_json() -> i32 {
    for line in io::stdin().lines().map_while(Result::ok) {
        let id = number_after(&line, "\"requestId\":");
        print!(
            "{{\"exitCode\":0,\"output\":\"got {}\",\"requestId\":{id},\"wasCancelled\":false}}",
            line.len()
        );
        let _ = io::stdout().flush();
    }
    0
}

/// Answers each request with the id of the one before it.
fn bazel_off_by_one() -> i32 {
    for line in io::stdin().lines().map_while(Result::ok) {
        let id = number_after(&line, "\"requestId\":") - 1;
        println!("{{\"exitCode\":0,\"output\":\"late\",\"requestId\":{id}}}");
    }
    0
}

fn number_after(text: &str, name: &str) -> i64 {
    let rest = text.split_once(name).map_or("", |(_, rest)| rest);
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0)
}
