//! Where the proxy gets its connections from.

use std::io;
use std::ops::DerefMut;
use std::sync::Arc;

use poolyard::{Lease, Pool};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;

use super::connection::{Connection, Connections};
use super::upstream::Upstream;

/// Gives connections out and takes them back when what it gave is dropped.
pub trait Source: Send + Sync + 'static {
    /// A connection in use.
    type Held: DerefMut<Target = Connection> + Send;

    /// A connection to `upstream`, and whether it has been used before.
    fn take(&self, upstream: &Upstream) -> impl Future<Output = io::Result<(Self::Held, bool)>> + Send;
}

/// Kept connections, by poolyard.
pub struct Pooled(pub Pool<Connections>);

impl Source for Pooled {
    type Held = Lease<Connections>;

    async fn take(&self, upstream: &Upstream) -> io::Result<(Self::Held, bool)> {
        let lease = self.0.acquire(upstream).await.map_err(io::Error::other)?;
        let used = Lease::meta(&lease).uses > 1;
        Ok((lease, used))
    }
}

/// A new connection each time.
pub struct Fresh(TlsConnector);

impl Fresh {
    /// `tls`: whom to trust.
    pub fn new(tls: Arc<ClientConfig>) -> Fresh {
        Fresh(TlsConnector::from(tls))
    }
}

impl Source for Fresh {
    type Held = Box<Connection>;

    async fn take(&self, upstream: &Upstream) -> io::Result<(Self::Held, bool)> {
        Ok((Box::new(Connection::open(upstream, &self.0).await?), false))
    }
}
