//! The listener: limits a peer's resources until its connection has a machine with its own limits, and identifies the
//! client.
//!
//! A connection takes these steps, each with a time limit: a permit (`permits.rs`), the header of the PROXY protocol if a
//! trusted proxy sends one (`proxy_protocol.rs`), TLS (`tls.rs`), and the head of its first request (`stream.rs`). Only
//! then is the HTTP connection created, which takes several times as much memory. Each request is passed on as its
//! client sent it (`request.rs`, `forwarded.rs`).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use bytes::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use lockstep::manager::Draining;
use metrics::counter;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

use super::config::{BasePath, Config, Limits, Proxies};

pub mod files;
mod forwarded;
mod permits;
mod proxy_protocol;
mod request;
mod stream;
mod tls;

use self::permits::{Limit, Permits};
use self::request::Connection;
use self::stream::{HeadTimer, Phase, Prefixed, Watched, head};
pub use self::tls::{CertificateError, Certificates};

/// The length of the accept queue, if the system allows it. During a hand-over, clients wait here until the successor
/// serves; a client that finds the queue full retries after a second.
const QUEUE: u32 = 4_096;
/// The listener's pause when the process has no file descriptor left to accept with.
pub(crate) const REST: Duration = Duration::from_millis(50);
/// The interval between two log lines with the same message about the listener.
const QUIET: Duration = Duration::from_secs(10);
/// The response to a connection for which there is no permit.
const REFUSAL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n";

lockstep::internal::sentence! {
    /// Why a gateway cannot listen. The cause is the system's error.
    BindError
}

/// Binds the address.
///
/// # Errors
///
/// [`BindError`], which names the address and says what to do.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    listen(address).map_err(|error| {
        let why = if error.kind() == io::ErrorKind::AddrInUse {
            "the port is in use; stop the process that uses it, or choose another port with --listen".to_owned()
        } else if error.kind() == io::ErrorKind::PermissionDenied {
            "not permitted; ports below 1024 need a privilege; choose another port with --listen".to_owned()
        } else {
            error.to_string()
        };
        BindError::because(format!("cannot listen on {address}: {why}"), error)
    })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // As in the standard library, so that the port is free as soon as its listener has ended.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(QUEUE)
}

/// The socket that another process has passed on.
///
/// # Errors
///
/// [`BindError`], with the system's error.
pub fn inherit(listener: std::net::TcpListener) -> Result<TcpListener, BindError> {
    let fail = |error: io::Error| {
        BindError::because(format!("cannot use the listening socket of the previous process: {error}"), error)
    };
    listener.set_nonblocking(true).map_err(fail)?;
    TcpListener::from_std(listener).map_err(fail)
}

/// How a listener serves.
#[derive(Debug)]
pub struct Serving {
    /// The limits on a peer's resources.
    pub limits: Limits,
    /// The trusted proxies.
    pub proxies: Proxies,
    /// The path of the routes, as browsers see it.
    pub base_path: BasePath,
    /// How many seconds browsers use only TLS.
    pub hsts_seconds: u64,
    /// The certificates; `None` for plain HTTP.
    pub certificates: Option<Certificates>,
    /// Tells when the gateway drains: HTTP connections then end with their current request.
    pub draining: Draining,
}

impl Serving {
    /// The settings of the configuration, without TLS.
    #[must_use]
    pub fn new(config: &Config, draining: Draining) -> Self {
        Self {
            limits: config.limits.clone(),
            proxies: config.proxies.clone(),
            base_path: config.base_path.clone(),
            hsts_seconds: config.hsts_seconds,
            certificates: None,
            draining,
        }
    }
}

/// Accepts connections forever.
pub async fn accept(listener: TcpListener, router: Router, serving: Serving) {
    let permits = Arc::new(Permits::new(&serving.limits));
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(serving.limits.idle()).max_buf_size(serving.limits.header_bytes);
    let serving = Arc::new(serving);
    for limit in Limit::ALL {
        counter!("lockstep_sockets_refused_total", "limit" => limit.name()).increment(0);
    }
    let failures = counter!("lockstep_accept_failures_total");
    let (mut failed, mut full) = (Seldom::default(), Seldom::default());
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            // A client that has already gone is no reason to pause.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => {
                failures.increment(1);
                if failed.is_due() {
                    tracing::warn!(%error, "connections cannot be accepted");
                }
                // Most likely out of file descriptors: existing connections may close some.
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        let peer = address.ip().to_canonical();
        let trusted = serving.proxies.trusts(peer);
        let (permit, beyond) = match Permits::take(&permits, (!trusted).then_some(peer)) {
            Ok(taken) => taken,
            Err(limit) => {
                refused(limit);
                if full.is_due() {
                    tracing::warn!(limit = limit.name(), address = %peer, "connections are refused");
                }
                if serving.certificates.is_none() {
                    let _ = stream.try_write(REFUSAL);
                }
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let connection = Connection {
            permits: Arc::clone(&permits),
            peer,
            trusted,
            secure: serving.certificates.is_some(),
            beyond,
            phase: Arc::new(Phase::new()),
            draining: serving.draining.clone(),
            _permit: permit,
            _owner: None,
            claim: Mutex::default(),
            serving: Arc::clone(&serving),
        };
        tokio::spawn(open(stream, connection, builder.clone(), router.clone()));
    }
}

/// Counts a refused connection or upgrade.
fn refused(limit: Limit) {
    counter!("lockstep_sockets_refused_total", "limit" => limit.name()).increment(1);
}

/// Limits how often a message is repeated.
#[derive(Default)]
struct Seldom(Option<Instant>);

impl Seldom {
    fn is_due(&mut self) -> bool {
        let due = self.0.is_none_or(|said| said.elapsed() >= QUIET);
        if due {
            self.0 = Some(Instant::now());
        }
        due
    }
}

/// Takes a connection through the steps before HTTP, and serves it.
async fn open(mut stream: TcpStream, mut connection: Connection, builder: http1::Builder, router: Router) {
    let serving = Arc::clone(&connection.serving);
    let time = serving.limits.header();
    let most = serving.limits.header_bytes;
    if connection.trusted && serving.proxies.proxy_protocol {
        match timeout(time, proxy_protocol::read(&mut stream)).await {
            Ok(Ok(source)) => {
                if let Some(address) = source.address
                    && !own(&mut connection, address)
                {
                    return;
                }
                connection.secure = source.secure.unwrap_or(connection.secure);
            }
            Ok(Err(error)) => {
                return tracing::debug!(%error, proxy = %connection.peer, "no PROXY protocol header");
            }
            Err(_) => return,
        }
    }
    match &serving.certificates {
        None => {
            let Ok(Ok(read)) = timeout(time, head(&mut stream, most)).await else { return };
            serve(stream, read, connection, builder, router).await;
        }
        Some(certificates) => {
            let acceptor = certificates.acceptor();
            // Boxed, so that a plain connection needs no memory for it.
            let secured = async move {
                let Ok(Ok(mut stream)) = timeout(time, acceptor.accept(stream)).await else { return };
                let Ok(Ok(read)) = timeout(time, head(&mut stream, most)).await else { return };
                serve(stream, read, connection, builder, router).await;
            };
            Box::pin(secured).await;
        }
    }
}

/// Assigns the connection to the client that a trusted proxy names. Returns false if that address has no permit left.
fn own(connection: &mut Connection, address: IpAddr) -> bool {
    connection.peer = address;
    // Its client is known for the whole connection, unless it is a trusted proxy too.
    connection.trusted = connection.serving.proxies.trusts(address);
    if connection.trusted {
        return true;
    }
    let claim = Permits::claim(&connection.permits, address);
    let found = claim.is_some();
    if !found {
        refused(Limit::PerAddress);
    }
    connection._owner = claim;
    found
}

/// Serves the requests of a connection. The future is boxed here, so that the task needs no room for it until then.
fn serve<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    read: Bytes,
    connection: Connection,
    mut builder: http1::Builder,
    router: Router,
) -> core::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        // A peer that has closed the connection sends no request.
        if read.is_empty() {
            return;
        }
        let limits = &connection.serving.limits;
        let (phase, most) = (Arc::clone(&connection.phase), limits.request());
        builder.timer(HeadTimer { phase: Arc::clone(&phase), header: limits.header() });
        let draining = connection.draining.clone();
        let is_draining = draining.has_begun();
        builder.keep_alive(!is_draining && connection.beyond.is_none());
        let connection = Arc::new(connection);
        let held = Arc::clone(&connection);
        let io = TokioIo::new(Watched::new(Prefixed::new(read, stream), Arc::clone(&phase), most, held));
        let service = service_fn(move |request| Arc::clone(&connection).answer(router.clone(), request));
        let mut http = core::pin::pin!(builder.serve_connection(io, service).with_upgrades());
        let served = tokio::select! {
            // Biased: a connection that is told to end before it has looked for a request answers none.
            biased;
            served = http.as_mut() => served,
            () = draining.begun(), if !is_draining => {
                http.as_mut().graceful_shutdown();
                http.await
            }
        };
        phase.upgraded();
        if let Err(error) = served {
            tracing::debug!(%error, "an HTTP connection ended");
        }
    })
}
