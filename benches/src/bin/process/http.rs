//! `http_prefork`: two workers that answer "ok" on a connection each, under the load of `wrk`.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use poolyard_benches::row::{FLOOR, OURS, Row};
use poolyard_process::worker::{Next, Server};
use poolyard_process::{Accept, PreforkServer, ServerConfig, WorkerSpec};
use tokio::runtime::Runtime;

use crate::side::tell;

const BENCH: &str = "http_prefork";
/// Tells workers to keep connections open.
const KEEPS: &str = "HTTP_KEEPS";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
const APP: &str =
    "def app(environ, start):\n    start('200 OK', [('Content-Length', '2')])\n    return [b'ok']\n";

fn answer(mut stream: TcpStream) {
    let (mut request, mut piece) = (Vec::new(), [0; 4096]);
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut piece) {
            Ok(count) if count > 0 => request.extend_from_slice(&piece[..count]),
            _ => return,
        }
    }
    let _ = stream.write_all(ANSWER);
}

pub(crate) fn worker() -> std::io::Result<()> {
    if std::env::var_os(KEEPS).is_none() {
        return Server::connect()?.serve(|connection| answer(connection.into()));
    }
    Server::connect()?.serve_requests(|connection, read| match answer_one(connection, read) {
        Some(()) => Next::Keep,
        None => Next::Close,
    })
}

/// Answers the next request on a connection that is kept open; `None` at its end.
fn answer_one(mut connection: impl Read + Write, read: &mut Vec<u8>) -> Option<()> {
    let mut piece = [0; 4096];
    while !read.ends_with(b"\r\n\r\n") {
        match connection.read(&mut piece) {
            Ok(count) if count > 0 => read.extend_from_slice(&piece[..count]),
            _ => return None,
        }
    }
    read.clear();
    connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").ok()
}

/// 64 connections that are kept open, and two workers.
fn kept_open(runtime: &Runtime) -> Vec<Row> {
    let ours = runtime.block_on(async {
        let config = ServerConfig::workers(2).accept(Accept::PerRequest);
        let spec = WorkerSpec::entry("http").env(KEEPS, "yes");
        let server = PreforkServer::tcp((Ipv4Addr::LOCALHOST, 0).into(), spec, config).expect("a server");
        server.ready().await;
        let address = server.address().expect("an address");
        let row = tokio::task::spawn_blocking(move || kept_row(OURS, address)).await.expect("no panic");
        server.stop().await;
        row
    });
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut read = Vec::new();
                while answer_one(&stream, &mut read).is_some() {}
            });
        }
    });
    vec![kept_row("floor_threads", address), ours]
}

pub(crate) fn rows(runtime: &Runtime) -> Vec<Row> {
    if !crate::is_wanted(BENCH) {
        return Vec::new();
    }
    let modes = [
        (OURS, Accept::Inherit),
        ("poolyard_reuse_port", Accept::ReusePort),
        ("poolyard_notify", Accept::Notify),
        ("poolyard_pass", Accept::Pass),
    ];
    let mut rows = vec![floor()];
    for (name, accept) in modes {
        rows.push(runtime.block_on(async {
            let config = ServerConfig::workers(2).accept(accept);
            let spec = WorkerSpec::entry("http");
            let server = PreforkServer::tcp((Ipv4Addr::LOCALHOST, 0).into(), spec, config).expect("a server");
            server.ready().await;
            let address = server.address().expect("an address");
            let row = tokio::task::spawn_blocking(move || row(name, address)).await.expect("no panic");
            server.stop().await;
            row
        }));
    }
    rows.push(gunicorn());
    rows.extend(kept_open(runtime));
    rows.iter().for_each(tell);
    rows
}

/// Two threads of this program that accept, and nobody who watches them.
fn floor() -> Row {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let address = listener.local_addr().expect("an address");
    for _ in 0..2 {
        let listener = listener.try_clone().expect("a listener");
        std::thread::spawn(move || listener.incoming().flatten().for_each(answer));
    }
    row(FLOOR, address)
}

fn gunicorn() -> Row {
    struct Running(Child);
    impl Drop for Running {
        fn drop(&mut self) {
            let _ = Command::new("kill").arg(self.0.id().to_string()).status();
            let _ = self.0.wait();
        }
    }
    let dir = std::env::temp_dir().join(format!("poolyard-gunicorn-{}", std::process::id()));
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|l| l.local_addr()).map(|a| a.port());
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.expect("a port")));
    let written = std::fs::create_dir_all(&dir).and_then(|()| std::fs::write(dir.join("app.py"), APP));
    let mut command = Command::new("python3");
    command.args(["-m", "gunicorn", "-w2", "--log-level", "critical", "-b", &address.to_string(), "app:app"]);
    let child = command.current_dir(&dir).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let (Ok(()), Ok(child)) = (written, child) else { return Row::missing(BENCH, "gunicorn", "no python3") };
    let mut running = Running(child);
    let begun = Instant::now();
    while TcpStream::connect(address).is_err() {
        let over = running.0.try_wait().is_ok_and(|status| status.is_some());
        if over || begun.elapsed() > Duration::from_secs(20) {
            return Row::missing(BENCH, "gunicorn", "not installed");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let row = row("gunicorn", address);
    let _ = std::fs::remove_dir_all(&dir);
    row
}

fn row(name: &str, address: SocketAddr) -> Row {
    loaded(BENCH, name, address, "-c16", "a connection for each request")
}

fn kept_row(name: &str, address: SocketAddr) -> Row {
    loaded("http_prefork/kept_open", name, address, "-c64", "64 connections that are kept open")
}

fn loaded(bench: &str, name: &str, address: SocketAddr, connections: &str, note: &str) -> Row {
    let rounds = if poolyard_benches::is_quick() { 1 } else { 5 };
    let samples: Option<Vec<f64>> = (0..rounds).map(|_| wrk(address, connections)).collect();
    match samples {
        Some(samples) => Row::new(bench, name, "requests/s", &samples, note),
        None => Row::missing(bench, name, "wrk is not installed"),
    }
}

fn wrk(address: SocketAddr, connections: &str) -> Option<f64> {
    let mut wrk = Command::new("wrk");
    let output = wrk.args(["-t1", connections, "-d1s"]).arg(format!("http://{address}/")).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Requests/sec:"))?;
    line.trim().parse().ok()
}
