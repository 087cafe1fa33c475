//! The engine: the few calls that we make of its API, each with a deadline and an error that can
//! be branched on.
//!
//! `bollard` makes, starts and ends things. What would break as a whole on one odd reply (lists,
//! inspection, events) or is a raw stream (attach, exec) goes over [`http`].

mod classify;
mod containers;
pub(crate) mod events;
mod farewell;
pub(crate) mod http;
mod images;
mod resources;
mod stream;
pub(crate) mod types;

use std::collections::HashMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use parking_lot::Mutex;
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

pub(crate) use classify::classify;
pub(crate) use http::{Address, Http};
pub(crate) use stream::{Stdio, StdioReader, StdioWriter};

use crate::error::{Error, ErrorKind, Stage};

pub(crate) const PING: Duration = Duration::from_secs(2);
pub(crate) const INSPECT: Duration = Duration::from_secs(10);
pub(crate) const CREATE: Duration = Duration::from_secs(30);
pub(crate) const START: Duration = Duration::from_secs(60);
pub(crate) const REMOVE: Duration = Duration::from_secs(30);

/// Starting a container is work for the engine's processors: more at once only waits longer.
const CREATIONS_PER_CORE: usize = 2;

#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) http: Http,
    docker: bollard::Docker,
    permits: OnceCell<Semaphore>,
    /// One lock per image being fetched, so that it is fetched once.
    pulls: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Engine {
    /// Does not talk to the engine yet.
    pub(crate) fn new(address: Address) -> Result<Engine, Error> {
        // Longer than any of ours: deadlines are set per call.
        let timeout_seconds = 3600;
        let version = bollard::API_DEFAULT_VERSION;
        let docker = match &address {
            Address::Unix(path) => {
                bollard::Docker::connect_with_unix(&path.to_string_lossy(), timeout_seconds, version)
            }
            Address::Tcp(address) => bollard::Docker::connect_with_http(address, timeout_seconds, version),
        };
        let docker = docker.map_err(|e| {
            let message = format!("no engine at {address}; start one or set DOCKER_HOST");
            Error::new(Stage::Connect, ErrorKind::Unreachable, message).with_source(e)
        })?;
        let pulls = Mutex::default();
        Ok(Engine { http: Http { address }, docker, permits: OnceCell::new(), pulls })
    }

    pub(crate) async fn ping(&self) -> Result<(), Error> {
        self.http.bytes(Stage::Connect, Method::GET, "/_ping", None, PING).await.map(drop)
    }

    pub(crate) async fn info(&self) -> Result<types::Info, Error> {
        self.http.json(Stage::Connect, Method::GET, "/info", INSPECT).await
    }

    /// Waits for one of the few places among the creations under way.
    pub(crate) async fn permit(&self) -> Result<SemaphorePermit<'_>, Error> {
        let permits = self.permits.get_or_try_init(|| async {
            let cores = self.info().await?.ncpu.max(1);
            Ok(Semaphore::new(cores * CREATIONS_PER_CORE))
        });
        Ok(permits.await?.acquire().await.expect("never closed"))
    }

    /// A call through bollard under our deadline.
    async fn call<T>(
        &self,
        stage: Stage,
        limit: Duration,
        call: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(limit, call).await {
            Ok(result) => result.map_err(|e| classify::bollard(stage, e)),
            Err(_) => Err(Error::timeout(stage, limit)),
        }
    }
}

impl Address {
    /// The engine that `DOCKER_HOST` names, or else the first of the usual sockets that exists.
    pub(crate) fn from_environment() -> Result<Address, Error> {
        match std::env::var("DOCKER_HOST") {
            Ok(host) if !host.is_empty() => Self::parse(&host),
            _ => Ok(Self::usual()),
        }
    }

    pub(crate) fn parse(host: &str) -> Result<Address, Error> {
        match host.split_once("://") {
            Some(("unix", path)) => Ok(Address::Unix(path.into())),
            Some(("tcp" | "http", address)) => Ok(Address::Tcp(address.trim_end_matches('/').into())),
            _ => {
                let message = format!("{host:?} is no engine address: use unix:///path or tcp://host:port");
                Err(Error::new(Stage::Connect, ErrorKind::BadSpec, message))
            }
        }
    }

    /// Whether the engine runs on this machine, as far as its address says: a tunnel may pretend.
    pub(crate) fn is_local(&self) -> bool {
        let Address::Tcp(address) = self else { return true };
        let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
        let ip = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
    }

    fn usual() -> Address {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let own = |name: &str| runtime.as_ref().map(|dir| dir.join(name));
        let mut paths = vec![PathBuf::from("/var/run/docker.sock")];
        paths.extend(own("docker.sock"));
        paths.extend(own("podman/podman.sock"));
        paths.push("/run/podman/podman.sock".into());
        let found = paths.iter().find(|p| p.exists()).unwrap_or(&paths[0]);
        Address::Unix(found.clone())
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix://{}", path.display()),
            Address::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_elsewhere_is_told_from_one_of_this_machine() {
        let local = |text| Address::parse(text).unwrap().is_local();
        assert!(local("unix:///run/docker.sock"));
        assert!(local("tcp://127.0.0.1:2375") && local("tcp://localhost:2375") && local("tcp://[::1]:2375"));
        assert!(!local("tcp://10.0.0.7:2375") && !local("tcp://engines.example:2375"));
        assert!(Address::parse("ssh://somewhere").is_err());
    }
}
