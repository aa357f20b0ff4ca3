//! Embedding servers, as in the examples: an accepted socket has `TCP_NODELAY` set, whichever server accepted it.

use core::convert::Infallible;
use std::net::{SocketAddr, TcpStream as StdStream};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use lockstep::Manager;
use lockstep::testing::{AnyToken, Echo};
use tokio::net::{TcpListener, TcpStream};

use crate::hostile::client::Client;

/// Duplicated handles of the accepted sockets.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<StdStream>>>);

impl Kept {
    /// The stream as it was accepted, without `TCP_NODELAY`.
    fn keep(&self, stream: TcpStream) -> TcpStream {
        let stream = stream.into_std().expect("a socket");
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(stream.try_clone().expect("a handle"));
        TcpStream::from_std(stream).expect("a socket")
    }

    fn send_at_once(&self) -> Vec<bool> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().map(|stream| stream.nodelay().expect("a socket")).collect()
    }
}

struct Keeping(TcpListener, Kept);

impl axum::serve::Listener for Keeping {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        let (stream, address) = self.0.accept().await.expect("a connection");
        (self.1.keep(stream), address)
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

async fn sends_at_once(address: SocketAddr, kept: &Kept) {
    let mut client = Client::connect(address).await;
    client.upgrade(&[]).await;
    client.authenticate("ada").await;
    assert_eq!(kept.send_at_once(), [true]);
    client.exchange("m").await;
}

#[tokio::test]
async fn a_socket_of_axum_sends_at_once() {
    let manager = Manager::builder().verifier(AnyToken).agent(Echo).build().expect("a manager");
    let socket = async move |request: Request| manager.upgrade(request).map(Body::from);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (address, kept) = (listener.local_addr().expect("an address"), Kept::default());
    let router = Router::new().route("/ws", get(socket));
    let server = tokio::spawn(axum::serve(Keeping(listener, kept.clone()), router).into_future());
    sends_at_once(address, &kept).await;
    server.abort();
}

#[tokio::test]
async fn a_socket_of_hyper_sends_at_once() {
    let manager = Manager::builder().verifier(AnyToken).agent(Echo).build().expect("a manager");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (address, kept) = (listener.local_addr().expect("an address"), Kept::default());
    let keeping = kept.clone();
    let server = tokio::spawn(async move {
        let stream = keeping.keep(listener.accept().await.expect("a connection").0);
        let service = service_fn(|request| {
            let response = manager.upgrade(request);
            async move { Ok::<_, Infallible>(response) }
        });
        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
    });
    sends_at_once(address, &kept).await;
    server.abort();
}
