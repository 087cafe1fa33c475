//! Shows a reverse proxy over kept TCP and TLS connections, beside one that connects each time.
//!
//! `cargo run --release --example proxy` starts its own upstreams, asks through both, and lets the
//! upstreams hang up in between. Beside pingora-pool it is measured in `benches`:
//! `cargo run --profile bench -p poolyard-benches --bin proxy`.

use std::error::Error;

use poolyard::Reason;
use poolyard_examples::proxy::connection::pool;
use poolyard_examples::proxy::load::{HEADING, Site, measure};
use poolyard_examples::proxy::source::{Fresh, Pooled};

const CLIENTS: usize = 16;
const REQUESTS: usize = 200;
/// More than the clients need, so that nobody waits.
const CONNECTIONS: usize = 64;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let site = Site::start().await?;
    let tls = site.authority.client();
    println!("{CLIENTS} clients ask {REQUESTS} times each: 2 upstreams by TCP, 2 names by TLS\n\n{HEADING}");
    println!("{}", measure("nobody", Fresh::new(tls.clone()), &site, CLIENTS, REQUESTS).await?);

    let pool = pool(&site.routes, tls, CONNECTIONS).build()?;
    println!("{}", measure("poolyard", Pooled(pool.clone()), &site, CLIENTS, REQUESTS).await?);
    site.origins.iter().for_each(|origin| origin.hang_up());
    println!("{}", measure("poolyard, hung up", Pooled(pool.clone()), &site, CLIENTS, REQUESTS).await?);

    let gone = pool.snapshot().counters.destroyed_for(Reason::Gone);
    println!("\nkept connections that the upstreams closed, none of them handed out: {gone}");
    Ok(())
}
