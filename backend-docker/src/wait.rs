//! [`Wait`]: when a container is ready.

use std::fmt;
use std::future::Future;
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::agent::Probe;
use crate::container::Container;
use crate::error::{Error, ErrorKind, Stage};

/// How soon something that cannot tell us is asked again.
const PAUSE: Duration = Duration::from_millis(25);

/// When a container is ready to be used.
///
/// Whatever is waited for: a container that dies meanwhile fails at once, with its exit code, whether
/// memory ran out, and its last lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Wait {
    /// As soon as it runs.
    #[default]
    None,
    /// When so many lines of its output contained this text.
    Log {
        /// What the line contains.
        text: String,
        /// How often.
        times: u32,
    },
    /// When something inside accepts connections at this port. Asked inside the container: outside,
    /// the engine's proxy accepts long before.
    Port(u16),
    /// When a request to a published port is answered with this status.
    Http {
        /// The container's port.
        port: u16,
        /// The path to ask for.
        path: String,
        /// The status that means ready.
        status: u16,
    },
    /// When its image's health check says healthy.
    Health,
    /// When this command succeeds.
    Exec(Vec<String>),
    /// When this path exists.
    File(String),
    /// When its program has ended with this code; the container lives on, for commands.
    Exit(i32),
    /// When this check succeeds; it is called once.
    Custom(Check),
    /// When all of these are true.
    All(Vec<Wait>),
    /// When one of these is true.
    Any(Vec<Wait>),
}

impl Wait {
    /// A line of output that contains `text`.
    pub fn log(text: impl Into<String>) -> Self {
        Wait::Log { text: text.into(), times: 1 }
    }

    /// A request for `path` at container port `port` that is answered with 200.
    pub fn http(port: u16, path: impl Into<String>) -> Self {
        Wait::Http { port, path: path.into(), status: 200 }
    }

    /// A command that succeeds.
    pub fn exec<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Wait::Exec(argv.into_iter().map(Into::into).collect())
    }

    /// Whether the service's end is what is waited for.
    pub(crate) fn is_for_exit(&self) -> bool {
        match self {
            Wait::Exit(_) => true,
            Wait::All(all) | Wait::Any(all) => all.iter().any(Wait::is_for_exit),
            _ => false,
        }
    }
}

type Checked<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>>;

/// Something of the user's own that is done with a container. Equal names are taken for equal.
#[derive(Clone)]
pub struct Check {
    name: String,
    call: Arc<dyn for<'a> Fn(&'a Container) -> Checked<'a> + Send + Sync>,
}

impl Check {
    /// `name` is what makes two of them equal, since functions cannot be compared.
    pub fn new<F>(name: impl Into<String>, call: F) -> Self
    where
        F: for<'a> Fn(&'a Container) -> Checked<'a> + Send + Sync + 'static,
    {
        Self { name: name.into(), call: Arc::new(call) }
    }

    pub(crate) fn run<'a>(&self, container: &'a Container) -> Checked<'a> {
        (self.call)(container)
    }
}

impl PartialEq for Check {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Check {}

impl Hash for Check {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Check").field(&self.name).finish()
    }
}

/// Waits until a container is ready, it has died, or the time is over.
pub(crate) async fn until_ready(container: &Container, wait: &Wait, limit: Duration) -> Result<(), Error> {
    let deadline = Instant::now() + limit;
    let ready = tokio::time::timeout(limit, reached(container, wait, deadline));
    let result = tokio::select! {
        // A death first: what it caused is less telling.
        biased;
        () = container.lifeline().death() => return Err(container.crashed(Stage::Ready).await),
        result = ready => result,
    };
    match result {
        Ok(Ok(())) => Ok(()),
        // The agent's silence comes before the engine's word about it.
        Ok(Err(e)) if *e.kind() == ErrorKind::Missing => Err(container.crashed(Stage::Ready).await),
        Ok(Err(e)) if *e.kind() != ErrorKind::NotReady => Err(e),
        _ => Err(not_ready(container, wait, limit)),
    }
}

fn not_ready(container: &Container, wait: &Wait, limit: Duration) -> Error {
    let lines = container.last_lines(20).join("\n");
    let message = format!("waited {limit:?} for {wait:?}; its last lines:\n{lines}");
    Error::new(Stage::Ready, ErrorKind::NotReady, message)
}

type Reached<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>>;

/// Boxed because conditions contain conditions.
fn reached<'a>(container: &'a Container, wait: &'a Wait, deadline: Instant) -> Reached<'a> {
    let left = move || deadline.saturating_duration_since(Instant::now());
    Box::pin(async move {
        match wait {
            Wait::None => Ok(()),
            Wait::Log { text, times } => {
                container.logs().wait_for(text, *times).await;
                Ok(())
            }
            Wait::Port(port) => match container.link() {
                Some(link) => link.probe(Probe::Port(*port), left()).await,
                None => open_from_outside(container, *port).await,
            },
            Wait::Http { port, path, status } => answered(container, *port, path, *status).await,
            Wait::Health => healthy(container).await,
            Wait::Exec(argv) => succeeded(container, argv).await,
            Wait::File(path) => match container.link() {
                Some(link) => link.probe(Probe::Path(path), left()).await,
                None => succeeded(container, &["test".into(), "-e".into(), path.clone()]).await,
            },
            Wait::Exit(code) => ended_with(container, *code).await,
            Wait::Custom(check) => check.run(container).await,
            Wait::All(all) => {
                for each in all {
                    reached(container, each, deadline).await?;
                }
                Ok(())
            }
            Wait::Any(any) => {
                first(any.iter().map(|each| reached(container, each, deadline)).collect()).await
            }
        }
    })
}

/// The first success; the last failure if there is none.
async fn first(mut waits: Vec<Reached<'_>>) -> Result<(), Error> {
    std::future::poll_fn(|cx| {
        let mut end = None;
        waits.retain_mut(|wait| match wait.as_mut().poll(cx) {
            Poll::Pending => true,
            Poll::Ready(result) => {
                if !matches!(end, Some(Ok(()))) {
                    end = Some(result);
                }
                false
            }
        });
        match end {
            Some(Ok(())) => Poll::Ready(Ok(())),
            Some(Err(e)) if waits.is_empty() => Poll::Ready(Err(e)),
            _ => Poll::Pending,
        }
    })
    .await
}

fn address(container: &Container, port: u16) -> Result<std::net::SocketAddr, Error> {
    let own = container.ip().map(|ip| (ip, port).into());
    container.addr(port).or(own).ok_or_else(|| {
        let message = format!("port {port} cannot be reached: publish it, or connect the container");
        Error::new(Stage::Ready, ErrorKind::BadSpec, message)
    })
}

/// A connection that the proxy does not drop again at once.
async fn open_from_outside(container: &Container, port: u16) -> Result<(), Error> {
    let address = address(container, port)?;
    loop {
        if let Ok(stream) = TcpStream::connect(address).await {
            let dropped = tokio::time::timeout(PAUSE, stream.readable()).await;
            let mut byte = [0];
            if dropped.is_err() || stream.try_read(&mut byte).is_ok_and(|n| n > 0) {
                return Ok(());
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn answered(container: &Container, port: u16, path: &str, status: u16) -> Result<(), Error> {
    let address = address(container, port)?;
    loop {
        if ask(address, path).await.is_some_and(|got| got == status) {
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn ask(address: std::net::SocketAddr, path: &str) -> Option<u16> {
    let stream = TcpStream::connect(address).await.ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    let request = hyper::Request::get(path).header("host", address.to_string());
    let request = request.body(Empty::<Bytes>::new()).ok()?;
    tokio::select! {
        reply = sender.send_request(request) => Some(reply.ok()?.status().as_u16()),
        _ = connection => None,
    }
}

async fn healthy(container: &Container) -> Result<(), Error> {
    let mut life = container.lifeline().watch();
    let healthy = life.wait_for(|l| l.health.as_deref() == Some("healthy")).await.map(drop);
    healthy.map_err(|_| Error::new(Stage::Ready, ErrorKind::NotReady, "nobody tells of its health"))
}

async fn succeeded(container: &Container, argv: &[String]) -> Result<(), Error> {
    loop {
        if container.succeeds(argv).await? {
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn ended_with(container: &Container, code: i32) -> Result<(), Error> {
    match container.service_exit().await {
        Some(got) if got == code => Ok(()),
        got => {
            let message = format!("its program should end with {code}, but ended with {got:?}");
            Err(Error::new(Stage::Ready, ErrorKind::BadSpec, message))
        }
    }
}
