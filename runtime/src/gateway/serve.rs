//! The listener: bounds what a peer may hold before there is a machine that does, and ends with the process's signals.

use core::future::Future;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, ready};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;

use super::config::{Limits, Tls};
use super::login::Peer;
use crate::sync::lock;

/// How long the listener rests when the process has no file to accept with.
const REST: Duration = Duration::from_millis(50);

/// Binds the address.
///
/// # Errors
///
/// A sentence that names it and says what to do.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| {
        let why = if error.kind() == io::ErrorKind::AddrInUse {
            "the port is in use; stop who uses it, or choose another with --listen".to_owned()
        } else if error.kind() == io::ErrorKind::PermissionDenied {
            "not permitted; ports below 1024 need a privilege, choose another".to_owned()
        } else {
            error.to_string()
        };
        format!("cannot listen on {address}: {why}")
    })
}

/// Reads the certificates.
///
/// # Errors
///
/// A sentence that names the file.
pub fn acceptor(tls: &Tls) -> Result<TlsAcceptor, String> {
    let chain = CertificateDer::pem_file_iter(&tls.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| format!("cannot read the certificate {}: {error}", tls.certificate.display()))?;
    let key = PrivateKeyDer::from_pem_file(&tls.key)
        .map_err(|error| format!("cannot read the key {}: {error}", tls.key.display()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| format!("cannot use the certificate {}: {error}", tls.certificate.display()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Accepts connections for ever.
pub async fn accept(listener: TcpListener, router: Router, limits: &Limits, tls: Option<TlsAcceptor>) {
    let seats = Arc::new(Seats::new(limits));
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(limits.header_ms))
        .max_buf_size(limits.header_bytes);
    let handshake = Duration::from_millis(limits.header_ms);
    let most = Duration::from_millis(limits.request_ms);
    let router = router.layer(middleware::from_fn_with_state(most, in_time));
    let refused = metrics::counter!("lockstep_sockets_refused_total");
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of files, most likely: those who are here may close some.
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        let Some(seat) = Seats::take(&seats, address.ip()) else {
            refused.increment(1);
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (builder, service) =
            (builder.clone(), TowerToHyperService::new(router.clone().layer(Extension(Peer(address.ip())))));
        let tls = tls.clone();
        tokio::spawn(async move {
            let http = Arc::new(AtomicBool::new(true));
            let patience = Patience { most, http: Arc::clone(&http), deadline: None };
            let served = match tls {
                None => {
                    let io = TokioIo::new(Seated::<TcpStream> { io: stream, patience, _seat: seat });
                    builder.serve_connection(io, service).with_upgrades().await
                }
                Some(tls) => {
                    let Ok(Ok(io)) = tokio::time::timeout(handshake, tls.accept(stream)).await else { return };
                    let io = TokioIo::new(Seated { io, patience, _seat: seat });
                    builder.serve_connection(io, service).with_upgrades().await
                }
            };
            http.store(false, Ordering::Relaxed);
            if let Err(error) = served {
                tracing::debug!(%error, "an HTTP connection ended");
            }
        });
    }
}

/// Answers in time, whatever the peer does: one that never sends the body that it announced would hold its place for ever.
async fn in_time(State(most): State<Duration>, request: Request, next: Next) -> Response {
    let late = |_| {
        (StatusCode::REQUEST_TIMEOUT, [(header::CONNECTION, "close")], "the request took too long\n").into_response()
    };
    tokio::time::timeout(most, next.run(request)).await.unwrap_or_else(late)
}

/// Waits for the first signal that asks the process to end.
pub async fn signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}

/// How many sockets there may be, in all and of one address.
struct Seats {
    most: u32,
    per_address: u32,
    taken: Mutex<(u32, HashMap<IpAddr, u32>)>,
}

impl Seats {
    fn new(limits: &Limits) -> Self {
        Self { most: limits.sockets, per_address: limits.per_address, taken: Mutex::default() }
    }

    fn take(seats: &Arc<Self>, address: IpAddr) -> Option<Seat> {
        let (all, of_address) = &mut *lock(&seats.taken);
        let count = of_address.entry(address).or_default();
        if *all >= seats.most || *count >= seats.per_address {
            if *count == 0 {
                of_address.remove(&address);
            }
            return None;
        }
        *all += 1;
        *count += 1;
        Some(Seat { seats: Arc::clone(seats), address })
    }
}

/// One socket's place; given back when it is dropped.
struct Seat {
    seats: Arc<Seats>,
    address: IpAddr,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let (all, of_address) = &mut *lock(&self.seats.taken);
        *all -= 1;
        if let Some(count) = of_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                of_address.remove(&self.address);
            }
        }
    }
}

/// How long a peer may let a response wait. Once the connection is upgraded its machine has deadlines for that.
struct Patience {
    most: Duration,
    /// Until the upgrade.
    http: Arc<AtomicBool>,
    /// From the first write that had to wait until nothing waits any more, however little the peer takes meanwhile.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    /// What writing came to, or an error if it waits for too long.
    fn within<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() || !self.http.load(Ordering::Relaxed) {
            return written;
        }
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.most)));
        ready!(deadline.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read the response")))
    }
}

/// A byte stream that holds its place, also after an upgrade.
struct Seated<S> {
    io: S,
    patience: Patience,
    _seat: Seat,
}

impl<S: AsyncRead + Unpin> AsyncRead for Seated<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Seated<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.patience.within(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(context);
        if flushed.is_ready() {
            self.patience.deadline = None;
        }
        self.patience.within(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.io).poll_shutdown(context);
        self.patience.within(context, shut)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, bytes);
        self.patience.within(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
