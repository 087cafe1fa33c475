use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use poolyard::{Context, Manager, Meta, Reuse};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;

/// Makes sessions with one server.
pub struct Sessions {
    /// Where it listens.
    pub server: SocketAddr,
}

/// A connection that has chosen its database.
pub struct Session {
    stream: BufStream<TcpStream>,
    /// The last question was answered, so the next line is the answer to the next question.
    in_step: bool,
}

impl Session {
    /// Sends a line and awaits the line that answers it.
    pub async fn ask(&mut self, question: &str) -> io::Result<String> {
        self.in_step = false;
        self.stream.write_all(format!("{question}\n").as_bytes()).await?;
        self.stream.flush().await?;
        let mut answer = String::new();
        if self.stream.read_line(&mut answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.in_step = true;
        Ok(answer.trim_end().to_owned())
    }

    /// The port of this end.
    pub fn port(&self) -> io::Result<u16> {
        Ok(self.stream.get_ref().local_addr()?.port())
    }

    async fn expect(&mut self, question: &str, answer: &str) -> io::Result<()> {
        match self.ask(question).await? {
            said if said == answer => Ok(()),
            said => Err(io::Error::other(format!("{question}: the server said {said}"))),
        }
    }
}

impl Manager for Sessions {
    type Key = String; // the database
    type Resource = Session;
    type Error = io::Error;

    async fn create(&self, database: &String, _: &Context) -> io::Result<Session> {
        let stream = BufStream::new(TcpStream::connect(self.server).await?);
        let mut session = Session { stream, in_step: true };
        session.expect(&format!("use {database}"), "ok").await?;
        Ok(session)
    }

    async fn recycle(&self, _: &String, session: &mut Session, _: &Context) -> io::Result<()> {
        session.expect("reset", "ok").await
    }

    async fn health_check(&self, _: &String, session: &mut Session, _: &Context) -> io::Result<()> {
        session.expect("ping", "pong").await
    }

    fn reuse(&self, _: &String, session: &mut Session, _: &Meta) -> Reuse {
        if session.in_step { Reuse::Recycle } else { Reuse::Broken }
    }

    fn retry(&self, error: &io::Error, attempt: u32) -> Option<Duration> {
        let starting = error.kind() == io::ErrorKind::ConnectionRefused && attempt < 6;
        starting.then(|| Duration::from_millis(50) * 2u32.pow(attempt))
    }

    fn describe(&self, session: &Session) -> Cow<'static, str> {
        session.port().map_or("not connected".into(), |port| format!("port {port}").into())
    }
}
