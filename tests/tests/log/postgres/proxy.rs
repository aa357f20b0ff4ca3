//! A TCP proxy before the engine, which loses answers and delays requests.

use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What happens to the bytes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Forward,
    /// Requests arrive, answers do not.
    Swallow,
    /// Requests wait.
    Hold,
}

/// The proxy; it ends when it is dropped and its connections have ended.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    connections: Arc<Mutex<Vec<Connection>>>,
    accepting: tokio::task::JoinHandle<()>,
}

struct Connection {
    mode: watch::Sender<Mode>,
    ended: tokio::task::JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn before(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let own = listener.local_addr().expect("an address").port();
        let connections: Arc<Mutex<Vec<Connection>>> = Arc::default();
        let opened = Arc::clone(&connections);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (mode, of_connection) = watch::channel(Mode::Forward);
                let ended = tokio::spawn(forward(client, port, of_connection));
                opened.lock().unwrap_or_else(PoisonError::into_inner).push(Connection { mode, ended });
            }
        });
        Self { port: own, connections, accepting }
    }

    fn set(&self, mode: Mode) {
        for connection in &*self.connections.lock().unwrap_or_else(PoisonError::into_inner) {
            connection.mode.send_replace(mode);
        }
    }

    /// From now on, no answer comes over the connections that are open.
    pub(crate) fn swallow(&self) {
        self.set(Mode::Swallow);
    }

    /// From now on, requests over the connections that are open wait.
    pub(crate) fn hold(&self) {
        self.set(Mode::Hold);
    }

    /// Lets the requests through, and waits until the engine has taken those of connections that are closed.
    pub(crate) async fn deliver(&self) {
        let held: Vec<Connection> = {
            let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
            let is_held = |connection: &mut Connection| *connection.mode.borrow() == Mode::Hold;
            connections.extract_if(.., is_held).collect()
        };
        for connection in held {
            connection.mode.send_replace(Mode::Forward);
            connection.ended.await.expect("a connection");
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn forward(client: TcpStream, port: u16, mode: watch::Receiver<Mode>) {
    let Ok(engine) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { return };
    let ((from_client, to_client), (from_engine, to_engine)) = (client.into_split(), engine.into_split());
    let requests = pump(from_client, to_engine, mode.clone(), Mode::Hold);
    let answers = pump(from_engine, to_client, mode, Mode::Swallow);
    let _ = tokio::join!(requests, answers);
}

/// Moves bytes. In mode `against`, requests wait and answers are lost.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut mode: watch::Receiver<Mode>,
    against: Mode,
) -> io::Result<()> {
    let mut bytes = vec![0; 1 << 16];
    loop {
        let size = from.read(&mut bytes).await?;
        if against == Mode::Hold {
            let _ = mode.wait_for(|mode| *mode != Mode::Hold).await;
        } else if *mode.borrow() == against {
            if size == 0 {
                return Ok(());
            }
            continue;
        }
        if size == 0 {
            return to.shutdown().await;
        }
        // A client that has gone does not read its answers.
        if to.write_all(&bytes[..size]).await.is_err() && against == Mode::Hold {
            return Ok(());
        }
    }
}
