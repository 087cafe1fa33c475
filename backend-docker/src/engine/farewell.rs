//! The one call that is made without a runtime: the removal of a container whose owner's has ended.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::http::escape;
use super::{Address, REMOVE};

impl Address {
    /// Nobody waits for the end of it. A process that ends first leaves the container to a sweep.
    pub(crate) fn remove_from_a_thread(&self, container: String) {
        let address = self.clone();
        let call = move || {
            if let Err(error) = address.remove(&container) {
                tracing::warn!(%error, container, "a container could not be removed");
            }
        };
        let thread = std::thread::Builder::new().name("poolyard-farewell".into()).spawn(call);
        if let Err(error) = thread {
            tracing::warn!(%error, "no thread to remove a container");
        }
    }

    fn remove(&self, container: &str) -> io::Result<()> {
        let path = format!("/containers/{}?force=1&v=1", escape(container));
        let request = format!("DELETE {path} HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n");
        match self {
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(REMOVE))?;
                ask(stream, &request)
            }
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_read_timeout(Some(REMOVE))?;
                stream.set_write_timeout(Some(Duration::from_secs(5)))?;
                ask(stream, &request)
            }
        }
    }
}

/// 404 and 409 say that it is gone or going.
fn ask(mut stream: impl Read + Write, request: &str) -> io::Result<()> {
    stream.write_all(request.as_bytes())?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    match &head[9..] {
        b"204" | b"200" | b"404" | b"409" => Ok(()),
        status => Err(io::Error::other(format!("the engine answered {}", String::from_utf8_lossy(status)))),
    }
}
