//! Where a connection leads.

use std::net::SocketAddr;
use std::time::Duration;

/// Where a connection leads: the key of the pool. Two names behind one address do not share
/// connections, since a TLS connection was made for one of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its name, which its certificate must carry. `None`: plain TCP.
    pub server_name: Option<String>,
}

/// One upstream of a proxy, with its own option.
#[derive(Clone, Debug)]
pub struct Route {
    /// Requests whose path begins with this go there.
    pub prefix: String,
    /// Where.
    pub upstream: Upstream,
    /// How long a connection may be idle: a little less than the upstream itself allows.
    pub idle_timeout: Duration,
}
