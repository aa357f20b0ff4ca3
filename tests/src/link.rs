//! A TCP link of one's own that can be cut, and whose far end may change.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the link does with its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Line {
    /// Bytes pass.
    #[default]
    Whole,
    /// Bytes wait, also those of new connections, and pass once the line is whole again.
    Silent,
    /// Connections are closed, and new ones too.
    Broken,
}

/// A port of this process whose connections end at one of several others. It ends when it is dropped.
#[derive(Debug)]
pub struct Link {
    /// Where it listens.
    pub address: SocketAddr,
    line: watch::Sender<Line>,
    ends: watch::Sender<Vec<u16>>,
    accepting: JoinHandle<()>,
}

impl Link {
    /// A link to these ports of this machine. Each connection goes to another one, in no order that its clients could
    /// rely on; ports that refuse are passed over.
    ///
    /// # Errors
    ///
    /// If there is no port.
    pub async fn to(ends: Vec<u16>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (line, of_connections) = watch::channel(Line::Whole);
        let (ends, known) = watch::channel(ends);
        let accepting = tokio::spawn(async move {
            let number = Arc::new(AtomicUsize::new(0));
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connection(client, known.clone(), of_connections.clone(), Arc::clone(&number)));
            }
        });
        Ok(Self { address, line, ends, accepting })
    }

    /// Changes what the link does with all of its connections.
    pub fn set(&self, line: Line) {
        self.line.send_replace(line);
    }

    /// New connections end there.
    pub fn lead_to(&self, ends: Vec<u16>) {
        self.ends.send_replace(ends);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Waits until the line may be used, and returns whether it is whole.
async fn passes(line: &mut watch::Receiver<Line>) -> bool {
    line.wait_for(|line| *line != Line::Silent).await.is_ok_and(|line| *line == Line::Whole)
}

async fn connection(
    client: TcpStream,
    ends: watch::Receiver<Vec<u16>>,
    mut line: watch::Receiver<Line>,
    number: Arc<AtomicUsize>,
) {
    if !passes(&mut line).await {
        return;
    }
    let ends = ends.borrow().clone();
    // A sequence without a pattern (Knuth's multiplicative hash).
    let first = number.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b1) >> 7;
    for turn in 0..ends.len() {
        let end = ends[(first + turn) % ends.len()];
        if let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, end)).await {
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
            let mut until = line.clone();
            let requests = async {
                let _ = pump(from_client, to_server, line.clone()).await;
                // The answers may still be on their way.
                core::future::pending::<()>().await;
            };
            tokio::select! {
                _ = pump(from_server, to_client, line.clone()) => {}
                () = requests => {}
                _ = until.wait_for(|line| *line == Line::Broken) => {}
            }
            return;
        }
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut line: watch::Receiver<Line>) -> io::Result<()> {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let size = from.read(&mut bytes).await?;
        if !passes(&mut line).await {
            return Ok(());
        }
        if size == 0 {
            return to.shutdown().await;
        }
        to.write_all(&bytes[..size]).await?;
    }
}
