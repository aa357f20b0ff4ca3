//! Sockets: what the driver needs of one, and the WebSocket over any byte stream.
//!
//! The driver pulls a batch of frames only when the one before has left, so that what is buffered here is one batch
//! (and a read buffer of [`Limits::read_buffer`]) a connection, however slow its peer. Text frames share their bytes with
//! every other connection that gets them, up to the copy into the socket's buffer.
//!
//! permessage-deflate (RFC 7692) is not offered: a compressor holds some 300 KiB for each connection, and encoding a
//! frame once for all of them would be over.
//!
//! Why tokio-tungstenite 0.30: as of 2026-11-22 nothing is better at all we need. Frames of 200 bytes over TCP, in frames
//! a second of processor time, medians of 15 interleaved rounds: tokio-websockets 0.13 does 0.83 of ours when it sends 16
//! a flush, 0.88 when one, and 1.4 to 1.5 when it receives, in 7.8 KiB a connection instead of 9.9; but its read buffer
//! cannot be set, and it words the close frame of a violation itself. fastwebsockets 0.10 does 1.58, 1.34 and 1.3 to 1.5,
//! in 14.2 KiB; but it has no bound on a message in fragments, and only futures where the driver polls. Ours takes
//! 0.3 µs for a frame that comes and 0.2 µs for one of 16 that go. What would make us switch: reading frames that shows in
//! a profile of the gateway, an advisory that is not mended, or a library that is faster both ways and has all [`Limits`].

use core::pin::Pin;
use core::task::{Context, Poll};

use futures_util::{Sink, Stream};
use lockstep_model::Cause;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message, Utf8Bytes};

mod accept;

pub use accept::NotAccepted;

/// What a peer may make us buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one message, however many frames it comes in.
    pub message: usize,
    /// Bytes of one frame.
    pub frame: usize,
    /// Bytes that are read from the socket at a time.
    pub read_buffer: usize,
    /// Bytes that are gathered before they are written to the socket.
    pub write_buffer: usize,
}

impl Limits {
    /// What a gateway uses unless it is told otherwise: messages of 64 KiB, buffers of 4 KiB and 16 KiB.
    pub const DEFAULT: Self =
        Self { message: 64 * 1024, frame: 64 * 1024, read_buffer: 4 * 1024, write_buffer: 16 * 1024 };
}

/// Bytes of a pong beside its payload (RFC 6455 §5.5).
const PONG_HEAD: usize = 2;

impl Limits {
    /// Bytes of answers to pings that may wait. One reading brings fewer, so a peer that reads never owes so many.
    const fn owed(&self) -> usize {
        self.read_buffer.saturating_add(self.write_buffer)
    }

    fn config(&self) -> WebSocketConfig {
        WebSocketConfig::default()
            .read_buffer_size(self.read_buffer)
            .write_buffer_size(self.write_buffer)
            .max_message_size(Some(self.message))
            .max_frame_size(Some(self.frame))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What a peer sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A text message.
    Text(Utf8Bytes),
    /// A binary message. The gateway's codecs have no use for one.
    Binary(Bytes),
    /// A sign of life that asks for nothing of the application: a protocol ping or pong.
    Alive,
    /// Something after which the connection cannot go on. The close frame can still be sent.
    Violation(Cause),
    /// The socket is gone. Nothing follows.
    Gone(Cause),
}

/// What a peer is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// A text message.
    Text(Utf8Bytes),
    /// A binary message.
    Binary(Bytes),
    /// A protocol ping.
    Ping,
    /// The close frame, for this cause. Nothing follows.
    Close(Cause),
}

/// The transport failed: what was sent may or may not have arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// A socket that carries messages. Owned by one task.
pub trait Socket: Send + Unpin + 'static {
    /// The next thing that the peer sends. After [`Incoming::Gone`] it is not called again.
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Incoming>;

    /// Buffers a message; called a batch at a time, and only when the batch before is flushed.
    ///
    /// # Errors
    ///
    /// [`Broken`].
    fn send(&mut self, message: Outgoing) -> Result<(), Broken>;

    /// Bytes of the longest message that it takes; `None` if it has no bound. Clients are told in `connection_ready`.
    fn longest(&self) -> Option<usize> {
        None
    }

    /// Ready when all that was sent has left this process.
    ///
    /// # Errors
    ///
    /// [`Broken`].
    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>>;
}

/// A WebSocket (RFC 6455) over a byte stream, after the upgrade.
#[derive(Debug)]
pub struct WebSocket<S> {
    stream: WebSocketStream<S>,
    /// The peer's close frame has come; its answer is on the way.
    closing: bool,
    /// Reading has failed; what is left to be read means nothing.
    failed: bool,
    /// Our close frame was sent, and our side of the stream is open.
    parting: bool,
    /// Bytes of answers to the peer's pings that wait, because it does not read.
    owed: usize,
    /// How many may: the library itself would gather them without bound.
    most_owed: usize,
    /// Bytes of the longest message, which a client may send as one frame.
    longest: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// The server's side of an upgraded connection.
    pub async fn server(io: S, limits: &Limits) -> Self {
        Self::begun(io, Vec::new(), limits).await
    }

    const fn over(stream: WebSocketStream<S>, limits: &Limits) -> Self {
        let longest = if limits.frame < limits.message { limits.frame } else { limits.message };
        Self { stream, closing: false, failed: false, parting: false, owed: 0, most_owed: limits.owed(), longest }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Sends the answer to a ping, which the library has ready.
    fn pinged(&mut self, context: &mut Context<'_>, bytes: usize) -> Incoming {
        // A failure is found by the next reading, too.
        let waits = Pin::new(&mut self.stream).poll_flush(context).is_pending();
        self.owed = if waits { self.owed + bytes } else { 0 };
        if self.owed > self.most_owed {
            self.failed = true;
            return Incoming::Violation(Cause::Slow);
        }
        Incoming::Alive
    }

    /// Reads what still comes and throws it away, until the peer has closed: a socket that is closed with bytes unread
    /// is reset, and the close frame that says why may be lost with it (RFC 6455 §7.1.1). How long that may take is the
    /// machine's to say. The peer's own close frame is not seen here, and a client may wait for the server to close first;
    /// so once our close frame has left, the end of our side follows it.
    fn drain(&mut self, context: &mut Context<'_>) -> Poll<Incoming> {
        if self.parting && self.poll_end(context).is_ready() {
            self.parting = false;
        }
        let mut scratch = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            match core::task::ready!(Pin::new(self.stream.get_mut()).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                Ok(()) | Err(_) => return Poll::Ready(Incoming::Gone(Cause::Lost)),
            }
        }
    }

    /// Ready when all that was sent has left, and the peer is told that nothing follows. A failure is found by reading.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let _ = core::task::ready!(Pin::new(&mut self.stream).poll_flush(context));
        Pin::new(self.stream.get_mut()).poll_shutdown(context).map(|_| ())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Socket for WebSocket<S> {
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Incoming> {
        loop {
            if self.failed {
                return self.drain(context);
            }
            let message = core::task::ready!(Pin::new(&mut self.stream).poll_next(context));
            return Poll::Ready(match message {
                Some(Ok(Message::Text(text))) => Incoming::Text(text),
                Some(Ok(Message::Binary(bytes))) => Incoming::Binary(bytes),
                Some(Ok(Message::Ping(payload))) => self.pinged(context, PONG_HEAD + payload.len()),
                Some(Ok(Message::Pong(_) | Message::Frame(_))) => Incoming::Alive,
                Some(Ok(Message::Close(_))) => {
                    // Read on: that sends our answer, and ends in an error that says that the handshake is complete.
                    self.closing = true;
                    continue;
                }
                None | Some(Err(Error::ConnectionClosed | Error::AlreadyClosed)) => Incoming::Gone(Cause::PeerClosed),
                Some(Err(error)) => {
                    let cause = cause_of(&error);
                    if cause != Cause::Lost {
                        self.failed = true;
                        Incoming::Violation(cause)
                    } else if self.closing {
                        Incoming::Gone(Cause::PeerClosed)
                    } else {
                        Incoming::Gone(Cause::Lost)
                    }
                }
            });
        }
    }

    fn send(&mut self, message: Outgoing) -> Result<(), Broken> {
        self.parting |= matches!(message, Outgoing::Close(_));
        let message = match message {
            Outgoing::Text(text) => Message::Text(text),
            Outgoing::Binary(bytes) => Message::Binary(bytes),
            Outgoing::Ping => Message::Ping(Bytes::new()),
            Outgoing::Close(cause) => Message::Close(Some(CloseFrame {
                code: CloseCode::from(cause.code()),
                reason: Utf8Bytes::from_static(cause.reason()),
            })),
        };
        match Pin::new(&mut self.stream).start_send(message) {
            Ok(()) => Ok(()),
            // The peer's close frame came first, so ours is its answer, which was sent.
            Err(Error::Protocol(_)) if self.closing => Ok(()),
            Err(_) => Err(Broken),
        }
    }

    fn longest(&self) -> Option<usize> {
        Some(self.longest)
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        match core::task::ready!(Pin::new(&mut self.stream).poll_flush(context)) {
            Ok(()) | Err(Error::ConnectionClosed) => Poll::Ready(Ok(())),
            Err(_) => Poll::Ready(Err(Broken)),
        }
    }
}

/// With which cause the connection ends that the peer, or the network, broke in this way.
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "the library may learn to fail in further ways: the transport is lost"
)]
const fn cause_of(error: &Error) -> Cause {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => Cause::TooBig,
        Error::Utf8(_) => Cause::InvalidPayload,
        Error::Protocol(error) => match error {
            tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake => Cause::Lost,
            _ => Cause::ProtocolError,
        },
        _ => Cause::Lost,
    }
}
