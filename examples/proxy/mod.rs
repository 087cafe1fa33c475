//! A reverse proxy over kept connections, by TCP and TLS. The key of the pool is where a connection
//! leads: address and server name.
//!
//! - `upstream`: the key; `socket`, `connection`: what is pooled, and how its end is noticed
//! - `source`: where the proxy gets connections from: a pool, or each time a new one
//! - `message`: as much of HTTP/1.1 as is needed; `front`: the proxy
//! - `origin`: upstreams for demonstrations and tests; `load`: what is measured

pub mod connection;
pub mod front;
pub mod load;
pub mod message;
pub mod origin;
mod socket;
pub mod source;
pub mod upstream;
