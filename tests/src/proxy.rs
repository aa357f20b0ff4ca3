//! A proxy in front of any gateway that records the traffic as a [`History`].
//!
//! ```text
//! client ──bytes──▶ proxy ──bytes──▶ gateway
//!                     │ a copy
//!                     ▼
//!            decoder ─▶ history
//! ```
//!
//! After the upgrade each byte is forwarded unchanged in both directions: messages, fragments, pings, pongs, close
//! frames, and protocol violations. The recorder decodes a copy ([`tap`]). A fact is written before its bytes are
//! forwarded, so that no fact precedes its cause.
//!
//! | what | handling |
//! | --- | --- |
//! | the request | forwarded with the gateway's `Host` and without `Sec-WebSocket-Extensions`, for readable frames |
//! | the answer | forwarded; one that is not an upgrade ends the connection |
//! | a text frame | recorded as a fact, without credentials |
//! | a binary frame | not recorded |
//! | any other request | forwarded with the gateway's `Host` and `Connection: close`; not recorded, nor is its answer |
//! | a connection with a subprotocol other than `lockstep.v1` and those of the older protocol | not recorded |
//!
//! A direction buffers at most [`BUFFER`] bytes and one message: a slow reader slows down its writer. Clients see the
//! gateway's limits, except that limits per address count the proxy's address for all clients.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::history::History;

mod head;
pub mod tap;

use self::head::{Answer, Request};
use self::tap::{Side, Tap};

/// Bytes in flight in one direction.
pub const BUFFER: usize = 16 * 1024;
/// Concurrent sockets; more wait to be accepted.
pub const MAX_SOCKETS: usize = 10_000;
/// How long a client may take to send its request.
const ASKS: Duration = Duration::from_secs(10);
/// How long connecting to the gateway, and its answer, may take.
const ANSWERS: Duration = Duration::from_secs(30);
/// How long a client may stay after its gateway has gone.
const LEAVES: Duration = Duration::from_secs(10);
/// How often the history is flushed.
const FLUSHES: Duration = Duration::from_millis(100);

/// A listener and its upstream.
#[derive(Debug)]
pub struct Proxy {
    listener: TcpListener,
    upstream: Arc<str>,
}

impl Proxy {
    /// Listens on `listen` for clients of the gateway at `upstream`: `HOST:PORT`.
    ///
    /// # Errors
    ///
    /// If the address cannot be bound.
    pub async fn bind(listen: SocketAddr, upstream: &str) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(listen).await?, upstream: Arc::from(upstream) })
    }

    /// The address on which it listens.
    ///
    /// # Errors
    ///
    /// The error of the operating system.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves and records until `end` completes, then cuts all sockets and flushes the history.
    ///
    /// # Errors
    ///
    /// If the history cannot be written. The proxy then stops: a history with holes proves nothing.
    pub async fn serve(self, history: History, end: impl Future<Output = ()>) -> io::Result<()> {
        let mut end = core::pin::pin!(end);
        let mut tick = tokio::time::interval(FLUSHES);
        let room = Arc::new(Semaphore::new(MAX_SOCKETS));
        let mut sockets = JoinSet::new();
        let mut number = 0;
        let ended = loop {
            let arrives = async {
                let place = Arc::clone(&room).acquire_owned().await;
                (self.listener.accept().await, place)
            };
            tokio::select! {
                () = &mut end => break Ok(()),
                _ = tick.tick() => if let Err(error) = history.flush() {
                    break Err(error);
                },
                Some(left) = sockets.join_next() => if let Ok(Err(error)) = left {
                    break Err(error);
                },
                (arrived, place) = arrives => match arrived {
                    Ok((client, _)) => {
                        number += 1;
                        let (upstream, history) = (Arc::clone(&self.upstream), history.clone());
                        sockets.spawn(async move {
                            let _place = place;
                            attend(client, &upstream, Tap::new(history, number)).await
                        });
                    }
                    // Out of files, or the client is already gone. Other connections may close meanwhile.
                    Err(_) => { tick.tick().await; }
                },
            }
        };
        sockets.shutdown().await;
        ended.and(history.flush())
    }
}

/// Serves one client. An error is the history's.
async fn attend(mut client: TcpStream, upstream: &str, tap: Tap) -> io::Result<()> {
    let _ = client.set_nodelay(true);
    let request = match timeout(ASKS, Request::read(&mut client)).await {
        Ok(Ok(request)) => request,
        Ok(Err(refusal)) => return refuse(client, refusal.status, &refusal.reason).await,
        Err(_) => return refuse(client, "408 Request Timeout", "the request took too long").await,
    };
    let unreachable = |why: &dyn core::fmt::Display| format!("the gateway at {upstream} cannot be reached: {why}");
    let asked = async {
        let mut gateway = TcpStream::connect(upstream).await?;
        let _ = gateway.set_nodelay(true);
        gateway.write_all(&request.to(upstream)).await?;
        let answer = if request.upgrades { Some(Answer::read(&mut gateway).await?) } else { None };
        io::Result::Ok((gateway, answer))
    };
    let (gateway, answer) = match timeout(ANSWERS, asked).await {
        Ok(Ok(answered)) => answered,
        Ok(Err(why)) => return refuse(client, "502 Bad Gateway", &unreachable(&why)).await,
        Err(_) => return refuse(client, "504 Gateway Timeout", &unreachable(&"it does not answer")).await,
    };
    let (tap, rest) = match answer {
        None => (Tap::blind(), Vec::new()),
        Some(answer) => {
            if client.write_all(&answer.bytes).await.is_err() {
                return Ok(());
            }
            if !answer.upgrades {
                let mut body = gateway.take(answer.body);
                let _ = timeout(ANSWERS, copy(&mut body, &mut client)).await;
                return Ok(());
            }
            (if answer.is_recorded { tap } else { Tap::blind() }, answer.rest)
        }
    };
    tap.opened()?;
    let (from_client, to_client) = client.into_split();
    let (from_gateway, to_gateway) = gateway.into_split();
    let up = pump(from_client, to_gateway, request.rest, tap.side(Side::Client));
    let down = pump(from_gateway, to_client, rest, tap.side(Side::Gateway));
    let (mut up, mut down) = (core::pin::pin!(up), core::pin::pin!(down));
    let ended = tokio::select! {
        ended = &mut up => match ended {
            Ok(true) => down.await,
            Ok(false) | Err(_) => ended,
        },
        ended = &mut down => match ended {
            Ok(true) => timeout(LEAVES, up).await.unwrap_or(Ok(false)),
            Ok(false) | Err(_) => ended,
        },
    };
    tap.closed()?;
    ended.map(drop)
}

/// Forwards one direction to its end. Returns whether it ended in order. An error is the history's.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    first: Vec<u8>,
    mut record: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<bool> {
    let mut buffer = first;
    loop {
        if !buffer.is_empty() {
            record(&buffer)?;
            if to.write_all(&buffer).await.is_err() {
                return Ok(false);
            }
            buffer.clear();
        }
        buffer.reserve(BUFFER);
        match (&mut from).take(BUFFER as u64).read_buf(&mut buffer).await {
            Ok(0) => return Ok(to.shutdown().await.is_ok()),
            Ok(_) => {}
            Err(_) => return Ok(false),
        }
    }
}

/// Answers a request that cannot be forwarded.
async fn refuse(mut client: TcpStream, status: &str, reason: &str) -> io::Result<()> {
    let length = reason.len() + 1;
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{reason}\n"
    );
    // A client that is gone needs no answer.
    if client.write_all(answer.as_bytes()).await.is_ok() && client.shutdown().await.is_ok() {
        let _ = timeout(ASKS, copy(&mut client.take(BUFFER as u64), &mut tokio::io::sink())).await;
    }
    Ok(())
}
