//! Upstreams for demonstrations and tests, on the loopback interface.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::message::Message;
use super::upstream::Upstream;

/// A certificate of our own for a number of names, and those who trust it.
pub struct Authority {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Authority {
    /// A new certificate for `names`.
    pub fn new(names: &[&str]) -> Result<Authority, Box<dyn Error + Send + Sync>> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names)?;
        let key = PrivateKeyDer::try_from(signing_key.serialize_der())?;
        let provider = Arc::new(default_provider());
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)?;
        // A ticket would come when nobody has asked, and a proxy that keeps connections needs none.
        server.send_tls13_tickets = 0;
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone())?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Authority { server: Arc::new(server), client: Arc::new(client) })
    }

    /// For those who connect.
    pub fn client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.client)
    }
}

/// An upstream that answers every request with the number of the connection it came over.
pub struct Origin {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    accepted: AtomicU64,
    open: AtomicU64,
    hang_up: Notify,
}

impl Origin {
    /// Starts one; with an authority it speaks TLS.
    pub async fn start(authority: Option<&Authority>) -> io::Result<Origin> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::default());
        let tls = authority.map(|authority| TlsAcceptor::from(Arc::clone(&authority.server)));
        tokio::spawn(accept(listener, tls, Arc::clone(&state)));
        Ok(Origin { address, state })
    }

    /// The key under which it is reached.
    pub fn upstream(&self, server_name: Option<&str>) -> Upstream {
        Upstream { address: self.address, server_name: server_name.map(str::to_owned) }
    }

    /// How many connections it has accepted.
    pub fn accepted(&self) -> u64 {
        self.state.accepted.load(Ordering::Relaxed)
    }

    /// How many connections are open.
    pub fn open(&self) -> u64 {
        self.state.open.load(Ordering::Relaxed)
    }

    /// Closes all connections on which nobody has asked anything.
    pub fn hang_up(&self) {
        self.state.hang_up.notify_waiters();
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<State>) {
    while let Ok((client, _)) = listener.accept().await {
        let (tls, state) = (tls.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            client.set_nodelay(true)?;
            match tls {
                None => answer(client, &state).await,
                Some(tls) => answer(tls.accept(client).await?, &state).await,
            }
        });
    }
}

async fn answer(mut client: impl AsyncRead + AsyncWrite + Unpin, state: &State) -> io::Result<()> {
    let number = state.accepted.fetch_add(1, Ordering::Relaxed) + 1;
    state.open.fetch_add(1, Ordering::Relaxed);
    let talked = talk(&mut client, number, state).await;
    state.open.fetch_sub(1, Ordering::Relaxed);
    _ = client.shutdown().await;
    talked
}

async fn talk(
    client: &mut (impl AsyncRead + AsyncWrite + Unpin),
    number: u64,
    state: &State,
) -> io::Result<()> {
    loop {
        let request = tokio::select! {
            request = Message::read(client) => request?,
            () = state.hang_up.notified() => None,
        };
        let Some(request) = request else { return Ok(()) };
        let body = format!("connection {number} for {}\n", request.path());
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        client.write_all(answer.as_bytes()).await?;
        client.flush().await?;
    }
}
