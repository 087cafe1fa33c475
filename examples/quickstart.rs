//! Shows a pool over a manager of fifteen lines: connections to a server, made once and used again.

use std::io;
use std::net::SocketAddr;

use poolyard::{Context, Manager, Pool, Reuse};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

struct Connections;

impl Manager for Connections {
    type Key = SocketAddr;
    type Resource = TcpStream;
    type Error = io::Error;

    async fn create(&self, server: &SocketAddr, _: &Context) -> io::Result<TcpStream> {
        TcpStream::connect(server).await
    }

    /// Bytes that nobody asked for, or the end of the stream: such a connection is not used again.
    fn reuse(&self, _: &SocketAddr, connection: &mut TcpStream, _: &poolyard::Meta) -> Reuse {
        match connection.try_read(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Reuse::Now,
            _ => Reuse::Broken,
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = start_server().await?;
    let pool = Pool::builder(Connections).max_total(4).build()?;

    for round in 1..=5 {
        let mut connection = pool.acquire(&server).await?;
        connection.write_all(b"ping").await?;
        let mut answer = [0; 4];
        connection.read_exact(&mut answer).await?;
        println!("round {round}: {} from {}", String::from_utf8_lossy(&answer), connection.local_addr()?);
    } // the connection goes back here, at the end of each round

    let counters = pool.snapshot().counters;
    println!("{} connection was made for {} rounds", counters.created, counters.returned);
    Ok(())
}

/// An echo server on the loopback interface.
async fn start_server() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = client.split();
                tokio::io::copy(&mut reader, &mut writer).await
            });
        }
    });
    Ok(address)
}
