//! Puts the manager of sessions to the laws.

#[expect(unreachable_pub, reason = "as in a crate of its own")]
#[path = "sessions.rs"]
mod sessions;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use poolyard_testkit::{Harness, conformance};
use sessions::{Session, Sessions}; // use my_crate::sessions::{..}
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// One connection as the server sees it.
#[derive(Clone, Default)]
struct Connection {
    cut: Arc<tokio::sync::Notify>,
    silent: Arc<AtomicBool>,
}

type Connections = Arc<Mutex<HashMap<u16, Connection>>>;

/// A server of its own for each law, and what it knows of its clients, by their ports.
struct World {
    server: SocketAddr,
    connections: Connections,
    /// Ends with the world.
    _listens: JoinSet<()>,
}

impl World {
    fn connection(&self, session: &Session) -> Connection {
        let port = session.port().expect("it is connected");
        self.connections.lock().unwrap()[&port].clone()
    }
}

impl Harness for World {
    type Manager = Sessions;

    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let server = listener.local_addr().expect("it is bound");
        let connections = Connections::default();
        let mut listens = JoinSet::new();
        listens.spawn(accept(listener, connections.clone()));
        World { server, connections, _listens: listens }
    }
    fn manager(&self) -> Sessions {
        Sessions { server: self.server }
    }
    fn keys(&self) -> Vec<String> {
        vec!["red".into(), "blue".into()]
    }
    async fn works(&self, database: &String, session: &mut Session) -> bool {
        session.ask("database").await.is_ok_and(|answer| answer == *database)
    }
    async fn dirty(&self, session: &mut Session, mark: u32) {
        session.ask(&format!("set {mark}")).await.expect("it is healthy");
    }
    async fn is_dirty(&self, session: &mut Session, mark: u32) -> bool {
        session.ask(&format!("is set {mark}")).await.expect("it is healthy") == "yes"
    }
    async fn kill(&self, session: &mut Session) {
        self.connection(session).cut.notify_one();
        // One more answer may be on its way. After that the session is dead for certain.
        while session.ask("ping").await.is_ok() {}
    }
    async fn stop(&self, session: &mut Session) {
        self.connection(session).silent.store(true, Relaxed);
    }
    async fn live(&self) -> usize {
        self.connections.lock().unwrap().len()
    }
}

async fn accept(listener: TcpListener, connections: Connections) {
    while let Ok((stream, client)) = listener.accept().await {
        let (connection, all) = (Connection::default(), connections.clone());
        all.lock().unwrap().insert(client.port(), connection.clone());
        tokio::spawn(async move {
            tokio::select! {
                _ = serve(BufStream::new(stream), &connection) => {}
                () = connection.cut.notified() => {}
            }
            all.lock().unwrap().remove(&client.port());
        });
    }
}

/// The server: a database is chosen, marks are set, `reset` takes them away.
async fn serve(mut stream: BufStream<TcpStream>, connection: &Connection) -> io::Result<()> {
    let (mut database, mut marks) = (String::new(), Vec::new());
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 {
        let answer = match line.trim_end() {
            "database" => &database,
            "ping" => "pong",
            "reset" => {
                marks.clear();
                "ok"
            }
            question => match question.rsplit_once(' ') {
                Some(("use", name)) => {
                    database = name.to_owned();
                    "ok"
                }
                Some(("set", mark)) => {
                    marks.push(mark.to_owned());
                    "ok"
                }
                Some(("is set", mark)) if marks.iter().any(|set| set == mark) => "yes",
                Some(("is set", _)) => "no",
                _ => "what?",
            },
        };
        if !connection.silent.load(Relaxed) {
            stream.write_all(format!("{answer}\n").as_bytes()).await?;
            stream.flush().await?;
        }
        line.clear();
    }
    Ok(())
}

conformance!(laws_of_sessions, World);
