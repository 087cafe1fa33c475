//! A socket between a manager and its engine, which can make the engine slow, or lose just one thing.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use poolyard_docker::DockerManager;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

/// What the proxy does to connections. A change counts for those that are open, too.
#[derive(Clone, Debug, Default)]
pub(crate) struct Weather {
    /// How long each request waits before the engine gets it.
    pub(crate) delay: Duration,
    /// Requests whose first line contains this are cut off, as if the engine had hung up.
    pub(crate) cut: Option<&'static str>,
    /// The answers to requests whose first line contains this stay here for as long as it is so.
    pub(crate) hold: Option<&'static str>,
}

/// The first line of every request that there was.
type Log = Arc<Mutex<Vec<String>>>;

pub(crate) struct Proxy {
    path: PathBuf,
    weather: Arc<watch::Sender<Weather>>,
    log: Log,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Listens in front of the engine at `host`, which is a `unix://` address.
    pub(crate) fn start(host: &str, name: &str) -> Proxy {
        let engine = PathBuf::from(host.strip_prefix("unix://").expect("a local engine"));
        let path = std::env::temp_dir().join(format!("poolyard-proxy-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let weather = Arc::new(watch::Sender::new(Weather::default()));
        let sky = weather.clone();
        let log = Log::default();
        let notes = log.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, engine.clone(), sky.subscribe(), notes.clone()));
            }
        });
        Proxy { path, weather, log, task }
    }

    /// How many requests there were so far whose first line contains this.
    pub(crate) fn requests(&self, what: &str) -> usize {
        self.log.lock().unwrap().iter().filter(|line| line.contains(what)).count()
    }

    pub(crate) fn manager(&self) -> DockerManager {
        DockerManager::builder().host(format!("unix://{}", self.path.display())).build().unwrap()
    }

    pub(crate) fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.path);
    }
}

/// One connection; ours and bollard's carry several requests at most one after the other.
async fn serve(client: UnixStream, engine: PathBuf, mut sky: watch::Receiver<Weather>, log: Log) {
    let Ok(engine) = UnixStream::connect(engine).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_engine, mut to_engine) = engine.into_split();
    let (line, mut request) = watch::channel(String::new());
    let upwards = {
        let sky = sky.clone();
        async move {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(n @ 1..) = from_client.read(&mut buffer).await {
                note(&line, &log, &buffer[..n]);
                let delay = sky.borrow().delay;
                tokio::time::sleep(delay).await;
                if to_engine.write_all(&buffer[..n]).await.is_err() {
                    return;
                }
            }
            // The end of one direction is not the end of the other.
            let _ = to_engine.shutdown().await;
            std::future::pending::<()>().await;
        }
    };
    let downwards = {
        let (mut sky, request) = (sky.clone(), request.clone());
        async move {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(n @ 1..) = from_engine.read(&mut buffer).await {
                let held = |w: &Weather| w.hold.is_some_and(|what| request.borrow().contains(what));
                drop(sky.wait_for(|w| !held(w)).await);
                if to_client.write_all(&buffer[..n]).await.is_err() {
                    return;
                }
            }
        }
    };
    let cut = async move {
        loop {
            let doomed = sky.borrow_and_update().cut.is_some_and(|what| request.borrow().contains(what));
            if doomed {
                return;
            }
            tokio::select! {
                Ok(()) = sky.changed() => {}
                Ok(()) = request.changed() => {}
                else => std::future::pending().await,
            }
        }
    };
    tokio::select! {
        () = upwards => {}
        () = downwards => {}
        () = cut => {}
    }
}

/// Remembers the first line of a request.
fn note(line: &watch::Sender<String>, log: &Log, piece: &[u8]) {
    let text = String::from_utf8_lossy(&piece[..piece.len().min(400)]);
    let first = text.lines().next().unwrap_or_default();
    if ["GET ", "POST ", "DELETE "].iter().any(|method| first.starts_with(method)) {
        log.lock().unwrap().push(first.to_owned());
        line.send_replace(first.to_owned());
    }
}
