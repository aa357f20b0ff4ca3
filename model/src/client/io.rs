//! The states, inputs and outputs of a client.

use core::time::Duration;

use crate::frame::{Code, Frame, Request};
use crate::id::{ConnectionId, MessageId, Offset, RunId, SocketId, TokenRequestId};
use crate::stream::Entry;
use crate::timer::Timer;

/// The states of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum State {
    /// The user has not asked to connect.
    Idle,
    /// Pausing before the next attempt.
    Backoff,
    /// The socket is being opened.
    Connecting,
    /// The credential was sent; `connection_ready` is awaited.
    Authenticating,
    /// Ready.
    Live {
        /// Whether a heartbeat is unanswered.
        heartbeat: Heartbeat,
    },
    /// Ready, but the gateway takes no messages because it is about to go away. Messages wait for the next connection.
    Holding {
        /// Whether a heartbeat is unanswered.
        heartbeat: Heartbeat,
    },
    /// Ready, but the gateway is going away. Its frames are still read, and nothing new is requested from it.
    Leaving {
        /// Whether a heartbeat is unanswered.
        heartbeat: Heartbeat,
    },
    /// The gateway has told the client not to reconnect as before.
    Stopped {
        /// The close code.
        code: u16,
    },
}

/// The last heartbeat of a connection that is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Heartbeat {
    /// It was answered, or none was sent.
    Answered,
    /// The gateway has not answered it yet.
    Awaited,
}

/// A message that is not settled yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Outgoing<P> {
    /// The message id.
    pub message: MessageId,
    /// The payload.
    pub payload: P,
    /// The length in bytes of its frame when written as a repetition.
    pub size: u32,
    /// The newest socket that it was written to, unless the gateway refused it there for draining; zero otherwise.
    pub socket: SocketId,
    /// The number of sockets that it was written to, without those that refused it for draining.
    pub writes: u8,
}

/// The inputs of a client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Input<P> {
    /// The user wants to be connected.
    Connect,
    /// The user does not want to be connected any longer.
    Disconnect,
    /// The user sends a message.
    Send {
        /// A fresh id.
        message: MessageId,
        /// The payload.
        payload: P,
        /// The length in bytes of its frame when written as a repetition, which is the longest form.
        size: u32,
    },
    /// The user withdraws a message that was not written to any socket.
    Withdraw {
        /// The message.
        message: MessageId,
    },
    /// A credential that was not requested, for example after a new login. It makes every request for one stale.
    Present {
        /// The credential.
        token: P,
    },
    /// A credential: the first, or the answer to [`Output::NeedToken`].
    Token {
        /// The request that it answers.
        asked: TokenRequestId,
        /// The credential.
        token: P,
    },
    /// The socket is open.
    Opened {
        /// The socket.
        socket: SocketId,
    },
    /// The limits in `connection_ready`, ahead of the frame itself.
    Limits {
        /// The socket.
        socket: SocketId,
        /// The length in bytes of the longest message that the gateway takes; [`u32::MAX`] if it does not say.
        longest: u32,
    },
    /// The gateway sent a frame.
    Frame {
        /// The socket.
        socket: SocketId,
        /// The connection's id from `connection_ready`.
        connection: ConnectionId,
        /// The frame.
        frame: Frame<P>,
    },
    /// The socket is closed or lost.
    Closed {
        /// The socket.
        socket: SocketId,
        /// The close code; 1006 if there was none.
        code: u16,
    },
    /// A timer fired: one of [`TIMERS`](super::TIMERS).
    Expired(Timer),
}

/// The outputs of a client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Output<P> {
    /// Open a socket.
    Open {
        /// The socket's generation.
        socket: SocketId,
    },
    /// Drop the socket.
    Close {
        /// The socket's generation.
        socket: SocketId,
    },
    /// Write a request. The edge fills in an arbitrary run id, because the gateway makes its own, and a message's
    /// thread and replaced turn.
    Write(Request<P>),
    /// Get a new credential, and answer with [`Input::Token`].
    NeedToken {
        /// The request's generation, which the answer must carry.
        asked: TokenRequestId,
    },
    /// Show an event.
    Deliver(Entry<P>),
    /// Show a notice from the service for this connection alone.
    Notice(P),
    /// Show that the entries in between are gone.
    Reset {
        /// The last offset before the gap.
        from: Offset,
        /// The last offset of the gap.
        to: Offset,
    },
    /// The message runs or ran before.
    Accepted {
        /// The message.
        message: MessageId,
        /// Its run.
        run: RunId,
    },
    /// The message was not accepted. It may be sent again with a new id.
    Refused {
        /// The message.
        message: MessageId,
        /// The cause.
        code: Code,
    },
    /// The message is longer than the gateway takes, so it was not written. The user may shorten it.
    TooLong {
        /// The message.
        message: MessageId,
    },
    /// It is unknown whether the message ran.
    Unknown {
        /// The message.
        message: MessageId,
    },
    /// The gateway did not understand or did not allow a frame of ours.
    Error(Code),
    /// Set a timer. For [`Timer::Leave`] the edge uses the time announced by `going_away`, if there was one.
    Arm(Timer, Duration),
    /// Set [`Timer::Backoff`] to a duration drawn between half of this and this.
    Pause(Duration),
    /// Cancel a timer.
    Disarm(Timer),
}
