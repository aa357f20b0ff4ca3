//! Sockets: the interface that the driver needs, and the WebSocket over any byte stream.
//!
//! The driver pulls a batch of frames only after the previous one has left. So even with a slow peer, a connection
//! buffers one batch here, and [`BufferLimits::read_buffer`] while it has unread messages. All connections that get a
//! text frame share its bytes, up to the copy into the socket's buffer.
//!
//! A message is [`Utf8Bytes`] or [`Bytes`], the library's own types, because any other text would be validated or copied
//! once more for each connection. They are re-exported here for sockets of another kind.
//!
//! permessage-deflate (RFC 7692) is not offered: a compressor holds some 300 KiB for each connection, and a frame could
//! no longer be encoded once for all connections.
//!
//! Why tungstenite 0.30: as of 2026-11-22 no other library is better at everything that we need. Measured with frames
//! of 200 bytes over TCP, in frames per second of processor time, medians of 15 interleaved rounds.
//! tokio-websockets 0.13 reaches 0.83 of tungstenite's rate sending 16 frames per flush, 0.88 sending one, and 1.4 to
//! 1.5 receiving, in 7.8 KiB per connection instead of 9.9; but its read buffer cannot be set, and it chooses the close
//! frame after a violation itself. fastwebsockets 0.10 reaches 1.58, 1.34 and 1.3 to 1.5, in 14.2 KiB; but it does not
//! bound a fragmented message, and it offers only futures where the driver polls. tungstenite takes 0.3 µs to receive a
//! frame and 0.2 µs to send one of 16. We would switch if receiving showed in a profile of the gateway, if an advisory
//! stayed unfixed, or if a library were faster in both directions and had all [`BufferLimits`].

use core::task::{Context, Poll, ready};
use std::io::ErrorKind;

use lockstep_model::Cause;
use tokio::io::{AsyncRead, AsyncWrite};
use tungstenite::error::CapacityError;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tungstenite::{Error, Message};

use self::stream::Stream;
use crate::wire::Codec;

mod accept;
mod connect;
pub(crate) mod handshake;
#[cfg(any(feature = "agui", feature = "testing"))]
pub(crate) mod memory;
mod stream;

pub use accept::NotAccepted;
pub(crate) use connect::NotConnected;
pub use tungstenite::{Bytes, Utf8Bytes};

/// The bounds on the data that this process buffers for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BufferLimits {
    /// Bytes of one message, in any number of frames.
    pub message: usize,
    /// Bytes of one frame.
    pub frame: usize,
    /// The most bytes that are read from the socket before the messages in them are handled.
    pub read_buffer: usize,
    /// Bytes collected before they are written to the socket.
    pub write_buffer: usize,
}

impl BufferLimits {
    /// The gateway's defaults: messages of 64 KiB, buffers of 4 KiB and 16 KiB.
    pub const DEFAULT: Self =
        Self { message: 64 * 1024, frame: 64 * 1024, read_buffer: 4 * 1024, write_buffer: 16 * 1024 };
}

/// Bytes of a pong besides its payload (RFC 6455 §5.5).
const PONG_HEAD: usize = 2;

/// The size in bytes of the buffer in which the library puts frames together. It grows with the frame that arrives.
const FRAME_BUFFER: usize = 256;

impl BufferLimits {
    /// Bytes of pongs that may be queued. One read brings fewer, so a peer that reads never has this many queued.
    const fn owed(&self) -> usize {
        self.read_buffer.saturating_add(self.write_buffer)
    }

    fn config(&self) -> WebSocketConfig {
        WebSocketConfig::default()
            .read_buffer_size(FRAME_BUFFER)
            .write_buffer_size(self.write_buffer)
            .max_message_size(Some(self.message))
            .max_frame_size(Some(self.frame))
    }
}

impl Default for BufferLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A message or an event from a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A text message.
    Text(Utf8Bytes),
    /// A binary message. The gateway's codecs do not use binary messages.
    Binary(Bytes),
    /// A sign of life that the application need not answer: a protocol ping or pong.
    Alive,
    /// A violation that ends the connection. The close frame can still be sent.
    Violation(Cause),
    /// The socket is gone. Nothing follows.
    Gone(Cause),
}

/// A message to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// A text message.
    Text(Utf8Bytes),
    /// A binary message.
    Binary(Bytes),
    /// A protocol ping.
    Ping,
    /// The close frame for this cause. Nothing follows.
    Close(Cause),
    /// The close frame for this cause with the code and the reason that legacy clients know. Nothing follows.
    LegacyClose(Cause),
}

/// The transport failed: data that was sent may or may not have arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// A socket that carries messages. One task owns it.
pub trait Socket: Send + Unpin + 'static {
    /// Polls for the peer's next message. Not called again after [`Incoming::Gone`].
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Incoming>;

    /// Buffers a message. Called one batch at a time, and only after the previous batch is flushed.
    ///
    /// # Errors
    ///
    /// [`Broken`].
    fn send(&mut self, message: Outgoing) -> Result<(), Broken>;

    /// Bytes of the longest message that the socket accepts; `None` if unbounded. `connection_ready` tells the client.
    fn longest(&self) -> Option<usize> {
        None
    }

    /// Ready when everything sent has left this process.
    ///
    /// # Errors
    ///
    /// [`Broken`].
    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>>;
}

/// A WebSocket (RFC 6455) over a byte stream, after the upgrade.
#[derive(Debug)]
pub struct WebSocket<S> {
    socket: tungstenite::WebSocket<Stream<S>>,
    /// The library has seen all bytes that have arrived, and waits for more.
    starved: bool,
    /// The peer's close frame has arrived, and our answer is on its way.
    closing: bool,
    /// The code of that frame.
    closed: Option<u16>,
    /// Reading has failed; any remaining input is discarded.
    failed: bool,
    /// Our close frame was sent, and our side of the stream is still open.
    parting: bool,
    /// Bytes of queued answers to the peer's pings, because it does not read.
    owed: usize,
    /// The bound of `owed`: the library itself queues pongs without bound.
    most_owed: usize,
    /// Bytes of the longest message that a client may send as one frame.
    longest: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// The server side of an upgraded connection.
    pub async fn server(io: S, limits: &BufferLimits) -> Self {
        Self::begun(io, Vec::new(), limits)
    }

    fn over(stream: Stream<S>, role: Role, limits: &BufferLimits) -> Self {
        let socket = tungstenite::WebSocket::from_raw_socket(stream, role, Some(limits.config()));
        Self {
            socket,
            starved: false,
            closing: false,
            closed: None,
            failed: false,
            parting: false,
            owed: 0,
            most_owed: limits.owed(),
            longest: limits.frame.min(limits.message),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// The cause that the peer's close frame names by its code, once it has arrived; `None` if it names none.
    pub(crate) fn closed_with(&self) -> Option<Cause> {
        let code = self.closed?;
        Cause::ALL.iter().copied().find(|cause| cause.code() == code)
    }

    /// Sends the pong that the library has prepared.
    fn pinged(&mut self, bytes: usize) -> Incoming {
        self.owed += bytes;
        self.settle();
        if self.owed > self.most_owed {
            self.failed = true;
            return Incoming::Violation(Cause::Slow);
        }
        Incoming::Alive
    }

    /// Sends queued pongs. The next read reports a failure, too.
    fn settle(&mut self) {
        if self.owed > 0 && self.flushed().is_ready() {
            self.owed = 0;
        }
    }

    /// Ready when the stream has taken everything sent, or has failed.
    fn flushed(&mut self) -> Poll<Result<(), Error>> {
        match self.socket.flush() {
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => Poll::Pending,
            flushed => Poll::Ready(flushed),
        }
    }

    /// Reads and discards input until the peer has closed. A socket that is closed with unread bytes is reset, which
    /// may lose the close frame that tells the cause (RFC 6455 §7.1.1). The machine bounds how long this may take. The
    /// peer's own close frame is not recognised here, and a client may wait for the server to close first; so once our
    /// close frame has left, our side of the stream is shut down.
    fn drain(&mut self, context: &mut Context<'_>) -> Poll<Incoming> {
        if self.parting && self.poll_end(context).is_ready() {
            self.parting = false;
        }
        ready!(self.socket.get_mut().poll_discard(context));
        Poll::Ready(Incoming::Gone(Cause::Lost))
    }

    /// Ready when everything sent has left and our side is shut down. The next read reports a failure.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let _ = ready!(self.flushed());
        self.socket.get_mut().poll_shutdown(context)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Socket for WebSocket<S> {
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Incoming> {
        self.socket.get_mut().wakes(context);
        loop {
            if self.failed {
                return self.drain(context);
            }
            // Without new bytes, the library would only clear its buffer again.
            if self.starved && !self.closing {
                self.settle();
                ready!(self.socket.get_mut().poll_fill(context));
                self.starved = false;
            }
            let message = match self.socket.read() {
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                    self.starved = true;
                    if self.closing {
                        ready!(self.socket.get_mut().poll_fill(context));
                    }
                    continue;
                }
                message => message,
            };
            return Poll::Ready(match message {
                Ok(Message::Text(text)) => Incoming::Text(text),
                Ok(Message::Binary(bytes)) => Incoming::Binary(bytes),
                Ok(Message::Ping(payload)) => self.pinged(PONG_HEAD + payload.len()),
                Ok(Message::Pong(_) | Message::Frame(_)) => Incoming::Alive,
                Ok(Message::Close(frame)) => {
                    self.closed = frame.map(|frame| frame.code.into());
                    // Keep reading: this sends our answer, and ends with an error that reports a complete close
                    // handshake.
                    self.closing = true;
                    continue;
                }
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => Incoming::Gone(Cause::PeerClosed),
                Err(error) => {
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
        self.parting |= matches!(message, Outgoing::Close(_) | Outgoing::LegacyClose(_));
        let message = match message {
            Outgoing::Text(text) => Message::Text(text),
            Outgoing::Binary(bytes) => Message::Binary(bytes),
            Outgoing::Ping => Message::Ping(Bytes::new()),
            Outgoing::Close(cause) => close(Codec::V1.close(cause)),
            Outgoing::LegacyClose(cause) => close(Codec::Legacy.close(cause)),
        };
        match self.socket.write(message) {
            Ok(()) => Ok(()),
            // The message is buffered.
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            // The peer's close frame came first, so ours is the answer, which was already sent.
            Err(Error::Protocol(_)) if self.closing => Ok(()),
            Err(_) => Err(Broken),
        }
    }

    fn longest(&self) -> Option<usize> {
        Some(self.longest)
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.socket.get_mut().wakes(context);
        match ready!(self.flushed()) {
            Ok(()) | Err(Error::ConnectionClosed) => Poll::Ready(Ok(())),
            Err(_) => Poll::Ready(Err(Broken)),
        }
    }
}

fn close((code, reason): (u16, &'static str)) -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::from(code), reason: Utf8Bytes::from_static(reason) }))
}

/// Maps an error of the peer or the network to the cause that closes the connection.
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "the library may learn to fail in further ways: the transport is lost"
)]
const fn cause_of(error: &Error) -> Cause {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => Cause::TooBig,
        Error::Utf8(_) => Cause::InvalidPayload,
        Error::Protocol(error) => match error {
            tungstenite::error::ProtocolError::ResetWithoutClosingHandshake => Cause::Lost,
            _ => Cause::ProtocolError,
        },
        _ => Cause::Lost,
    }
}
