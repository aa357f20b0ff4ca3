//! A relayed connection: the frames of a client, passed on to the process that owns the user, and back.
//!
//! Until a connection is live, its user may turn out to have another owner. Its frames are therefore kept as they came,
//! at most [`Bounds::early`](lockstep_model::Bounds::early) of them. Then they are dropped, or are the first that the
//! owner gets. A frame is passed on only when the one before it has left, so neither side buffers more than a batch for
//! the other.

use core::task::{Context, Poll};
use std::net::IpAddr;
use std::sync::Arc;

use lockstep_model::{Cause, Incarnation, Resume};
use metrics::Gauge;
use tokio::net::TcpStream;
use tungstenite::Utf8Bytes;

use crate::BoxFuture;
use crate::cluster::{self, Cluster};
use crate::log::guarded::Guarded;
use crate::log::{LogError, Members};
use crate::payload::Token;
use crate::transport::{BufferLimits, Incoming, NotConnected, Outgoing, Socket, WebSocket};
use crate::wire::{Codec, query_of};

/// The part of a connection's task that relays.
pub(super) struct Relay {
    relays: Gauge,
    /// The client's frames so far, except credentials.
    early: Vec<Utf8Bytes>,
    state: State,
}

enum State {
    /// The connection is served here, as far as is known.
    Local,
    /// The owner's process is asked.
    Opening(BoxFuture<'static, Result<WebSocket<TcpStream>, NotRelayed>>),
    /// Frames pass.
    Open { owner: Box<WebSocket<TcpStream>>, sent: Sent, _counted: Counted },
}

/// How much of what was passed on has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    All,
    Partly,
}

impl Sent {
    /// Sends what has not left yet.
    fn poll(&mut self, owner: &mut WebSocket<TcpStream>, context: &mut Context<'_>) {
        if *self == Self::Partly && owner.poll_flush(context).is_ready() {
            *self = Self::All;
        }
    }
}

/// Counts an open relay while it exists.
struct Counted(Gauge);

impl Counted {
    fn new(relays: Gauge) -> Self {
        relays.increment(1.0);
        Self(relays)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// The result of a relay's step.
pub(super) enum Progress {
    /// Nothing now. The task is woken when there is something.
    None,
    /// The owner's process has accepted the connection.
    Opened,
    /// The owner's process has sent something.
    Heard,
    /// The owner's process has closed the connection with this cause, or is gone.
    Ended(Cause),
}

/// Why a connection cannot be relayed.
#[derive(Debug)]
pub(super) enum NotRelayed {
    /// No valid credential is known.
    NoCredential,
    /// The log does not tell the owner's address.
    NoAddress(Option<LogError>),
    /// The owner's process does not accept the connection.
    Refused(NotConnected),
}

impl core::fmt::Display for NotRelayed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NoCredential => f.write_str("its credential is no longer known"),
            Self::NoAddress(None) => f.write_str("its owner is no longer a member"),
            Self::NoAddress(Some(error)) => write!(f, "the address of its owner is not known: {error}"),
            Self::Refused(why) => write!(f, "its owner's process does not accept it: {why}"),
        }
    }
}

impl Relay {
    pub(super) const fn new(relays: Gauge) -> Self {
        Self { relays, early: Vec::new(), state: State::Local }
    }

    /// Keeps a frame of a connection that is not live.
    pub(super) fn keep(&mut self, text: Utf8Bytes) {
        self.early.push(text);
    }

    /// Whether the connection is relayed.
    pub(super) const fn is_begun(&self) -> bool {
        !matches!(self.state, State::Local)
    }

    /// Asks the owner's process to accept the connection.
    pub(super) fn begin(
        &mut self,
        opening: impl Future<Output = Result<WebSocket<TcpStream>, NotRelayed>> + Send + 'static,
    ) {
        self.state = State::Opening(Box::pin(opening));
    }

    /// Whether the owner's process can take a frame of the client now. If not, the task is woken when it can.
    pub(super) fn poll_ready(&mut self, context: &mut Context<'_>) -> bool {
        let State::Open { owner, sent, .. } = &mut self.state else { return false };
        sent.poll(owner, context);
        *sent == Sent::All
    }

    /// Passes a message on to the owner's process. A failure shows in the next read.
    pub(super) fn send(&mut self, message: Outgoing) {
        if let State::Open { owner, sent, .. } = &mut self.state {
            let _ = owner.send(message);
            *sent = Sent::Partly;
        }
    }

    /// Takes the next frames from the owner's process, at most `most` of them.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, most: usize, frames: &mut Vec<Utf8Bytes>) -> Progress {
        match &mut self.state {
            State::Local => Progress::None,
            State::Opening(opening) => {
                let Poll::Ready(opened) = opening.as_mut().poll(context) else { return Progress::None };
                match opened {
                    Ok(owner) => {
                        let counted = Counted::new(self.relays.clone());
                        self.state = State::Open { owner: Box::new(owner), sent: Sent::All, _counted: counted };
                        for frame in core::mem::take(&mut self.early) {
                            self.send(Outgoing::Text(frame));
                        }
                        let _ = self.poll_ready(context);
                        Progress::Opened
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection cannot be relayed");
                        Progress::Ended(Cause::Moved)
                    }
                }
            }
            State::Open { owner, sent, .. } => {
                sent.poll(owner, context);
                let mut heard = false;
                while frames.len() < most {
                    match owner.poll_receive(context) {
                        Poll::Ready(Incoming::Text(text)) => frames.push(text),
                        Poll::Ready(Incoming::Alive | Incoming::Binary(_)) => heard = true,
                        Poll::Ready(Incoming::Gone(_) | Incoming::Violation(_)) if !frames.is_empty() => break,
                        Poll::Ready(Incoming::Gone(_) | Incoming::Violation(_)) => {
                            return Progress::Ended(owner.closed_with().unwrap_or(Cause::Moved));
                        }
                        Poll::Pending => break,
                    }
                }
                if heard || !frames.is_empty() { Progress::Heard } else { Progress::None }
            }
        }
    }
}

/// Bytes of the longest message of an owner's process, which is trusted: a page of a conversation.
const MAX_RELAYED: usize = 64 * 1024 * 1024;

/// How a connection is relayed.
pub(super) struct Target {
    pub(super) owner: Incarnation,
    pub(super) codec: Codec,
    pub(super) resume: Resume,
    pub(super) credential: Option<Token>,
    /// The client's address, if it is known.
    pub(super) client: Option<IpAddr>,
}

/// Opens a WebSocket to the owner's process. The machine bounds how long that may take.
pub(super) async fn open(
    cluster: Cluster,
    log: Arc<Guarded>,
    limits: BufferLimits,
    target: Target,
) -> Result<WebSocket<TcpStream>, NotRelayed> {
    let Target { owner, codec, resume, credential, client } = target;
    let credential = credential.ok_or(NotRelayed::NoCredential)?;
    let address = log.address(owner).await.map_err(|error| NotRelayed::NoAddress(Some(error)))?;
    let address = address.ok_or(NotRelayed::NoAddress(None))?;
    let head = format!(
        "GET {path}?{query} HTTP/1.1\r\nHost: {address}\r\nSec-WebSocket-Protocol: {protocol}\r\n{key_name}: {key}\r\n\
         {credential_name}: {credential}\r\n{client}",
        client = client.map_or_else(String::new, |client| format!("{}: {client}\r\n", cluster::CLIENT)),
        path = cluster::PATH,
        query = query_of(&resume),
        protocol = codec.subprotocol(),
        key_name = cluster::KEY,
        key = cluster.key(),
        credential_name = cluster::CREDENTIAL,
        credential = cluster::encoded(&credential),
    );
    let connect = async {
        let stream = TcpStream::connect(&*address).await.map_err(NotConnected::from)?;
        stream.set_nodelay(true).map_err(NotConnected::from)?;
        WebSocket::connect(stream, &head, &BufferLimits { message: MAX_RELAYED, frame: MAX_RELAYED, ..limits }).await
    };
    connect.await.map_err(NotRelayed::Refused)
}
