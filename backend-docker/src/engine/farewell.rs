//! The one call that is made without a runtime: the removal of a container whose owner's has ended.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::http::escape;
use super::{Address, REMOVE};

const AGAIN: Duration = Duration::from_millis(50);

impl Address {
    /// Nobody waits for the end of it. A process that ends first leaves the container to a sweep. One that is
    /// not there yet is asked for until `patience` is over.
    pub(crate) fn remove_from_a_thread(&self, container: String, patience: Duration) {
        let address = self.clone();
        let call = move || {
            let begun = Instant::now();
            loop {
                match address.remove(&container) {
                    Ok(false) if begun.elapsed() < patience => std::thread::sleep(AGAIN),
                    Ok(_) => return,
                    Err(error) => {
                        return tracing::warn!(%error, container, "a container could not be removed");
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("poolyard-farewell".into()).spawn(call);
        if let Err(error) = thread {
            tracing::warn!(%error, "no thread to remove a container");
        }
    }

    /// Whether it was there.
    fn remove(&self, container: &str) -> io::Result<bool> {
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

/// 404 says that it is gone, 409 that it is going.
fn ask(mut stream: impl Read + Write, request: &str) -> io::Result<bool> {
    stream.write_all(request.as_bytes())?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    match &head[9..] {
        b"204" | b"200" | b"409" => Ok(true),
        b"404" => Ok(false),
        status => Err(io::Error::other(format!("the engine answered {}", String::from_utf8_lossy(status)))),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_container_that_is_not_there_yet_is_asked_for_again() {
        let path = std::env::temp_dir().join(format!("poolyard-farewell-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        Address::Unix(path.clone()).remove_from_a_thread("late".into(), Duration::from_secs(60));
        for status in ["404 Not Found", "404 Not Found", "204 No Content"] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            let n = stream.read(&mut request).unwrap();
            assert!(request[..n].starts_with(b"DELETE /containers/late?force=1&v=1 HTTP/1.1\r\n"));
            stream.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes()).unwrap();
        }
        // Nobody asks any more: longer than between two questions.
        listener.set_nonblocking(true).unwrap();
        std::thread::sleep(4 * AGAIN);
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        std::fs::remove_file(path).unwrap();
    }
}
