//! Shows a prefork HTTP server: workers are forked from this very program, share what was loaded before,
//! and are rolled to a new version under load without a lost request.
//!
//! ```text
//! cargo run --release -p poolyard-examples --example process_http -- 127.0.0.1:8080
//! wrk -c 64 -d 5 http://127.0.0.1:8080/
//! ```
//!
//! Without an address it serves its own client for a moment and ends.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::OnceLock;
use std::time::Duration;

use poolyard::process::worker::Server;
use poolyard::process::{PreforkServer, ServerConfig, WorkerSpec};

static GREETINGS: OnceLock<Vec<String>> = OnceLock::new();

fn main() -> Result<(), Box<dyn Error>> {
    // The first line: in the zygote and in its workers it does not return.
    poolyard::process::init(|zygote| {
        zygote.preload(|| drop(GREETINGS.set(["hello", "good day"].map(String::from).to_vec())));
        zygote.entry("http", || Server::connect()?.serve(|connection| drop(answer(connection.into()))));
    });
    let address = std::env::args().nth(1);
    tokio::runtime::Runtime::new()?.block_on(async {
        match address {
            Some(address) => serve(address.parse()?).await,
            None => demonstrate().await,
        }
    })
}

/// One request per connection.
fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let greeting = &GREETINGS.get().map_or(&[][..], Vec::as_slice)[0];
    let version = std::env::var("VERSION").unwrap_or_default();
    let body = format!("{greeting} from process {}, version {version}\n", std::process::id());
    let length = body.len();
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

fn version(version: &str) -> WorkerSpec {
    WorkerSpec::entry("http").env("VERSION", version).max_calls(100_000)
}

async fn serve(address: SocketAddr) -> Result<(), Box<dyn Error>> {
    let server = PreforkServer::tcp(address, version("1"), ServerConfig::workers(4))?;
    server.ready().await;
    println!("serving at http://{address}/; SIGINT ends it");
    loop {
        tokio::time::sleep(Duration::from_secs(10)).await;
        for worker in server.scoreboard() {
            println!("{worker:?}");
        }
    }
}

async fn demonstrate() -> Result<(), Box<dyn Error>> {
    let server = PreforkServer::tcp(([127, 0, 0, 1], 0).into(), version("1"), ServerConfig::workers(4))?;
    server.ready().await;
    let address = server.address().ok_or("no address")?;
    let client = std::thread::spawn(move || (0..500).map(|_| get(address)).collect::<Vec<_>>());
    server.roll(version("2")).await;
    let answers = client.join().map_err(|_| "the client panicked")?;
    let lost = answers.iter().filter(|answer| answer.is_err()).count();
    println!("500 requests during a roll, {lost} lost; {}", get(address)?.lines().last().unwrap_or_default());
    for worker in server.scoreboard() {
        println!("{worker:?}");
    }
    server.stop().await;
    Ok(())
}

fn get(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1.1 200") { Ok(answer) } else { Err(std::io::ErrorKind::InvalidData.into()) }
}
