//! What goes into a client and what comes out of it.

use core::time::Duration;

use crate::frame::{Code, Frame, Request};
use crate::id::{ConnectionId, Generation, MessageId, Offset, RunId};
use crate::stream::Entry;
use crate::timer::Timer;

/// Where the client is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum State {
    /// Not asked to connect.
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
        waiting: bool,
    },
    /// Ready, and the gateway takes no message, because it is about to go away: messages wait for the next connection.
    Holding {
        /// Whether a heartbeat is unanswered.
        waiting: bool,
    },
    /// Ready, and the gateway is about to go away: what it still says is read, and nothing new is asked of it.
    Leaving {
        /// Whether a heartbeat is unanswered.
        waiting: bool,
    },
    /// The gateway said not to come back as before.
    Stopped {
        /// Its close code.
        code: u16,
    },
}

/// A message that is not settled yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Outgoing<P> {
    /// The client's name for it.
    pub message: MessageId,
    /// The message.
    pub payload: P,
    /// Bytes of its frame, written as a repetition.
    pub size: u32,
    /// The newest socket that it was written to, unless the gateway has sent it back there; else zero.
    pub socket: Generation,
    /// To how many sockets it was written and not sent back.
    pub writes: u8,
}

/// What happens to a client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Input<P> {
    /// The user wants to be connected.
    Connect,
    /// The user does not.
    Disconnect,
    /// The user sends a message.
    Send {
        /// A fresh id.
        message: MessageId,
        /// The message.
        payload: P,
        /// Bytes of its frame, written as a repetition: as long as it can get.
        size: u32,
    },
    /// The user takes a message back that no socket has carried.
    Withdraw {
        /// The message.
        message: MessageId,
    },
    /// A credential that was not asked for, as after a new login. It outdates every asking.
    Present {
        /// The credential.
        token: P,
    },
    /// A credential: the first, or the answer to [`Output::NeedToken`].
    Token {
        /// Which asking it answers.
        asked: Generation,
        /// The credential.
        token: P,
    },
    /// The socket is open.
    Opened {
        /// Which socket.
        socket: Generation,
    },
    /// What `connection_ready` says of limits, before the frame itself.
    Limits {
        /// On which socket.
        socket: Generation,
        /// Bytes of the longest message that the gateway takes; [`u32::MAX`] if it does not say.
        longest: u32,
    },
    /// The gateway sent a frame.
    Frame {
        /// On which socket.
        socket: Generation,
        /// The connection's id, as `connection_ready` tells it.
        connection: ConnectionId,
        /// The frame.
        frame: Frame<P>,
    },
    /// The socket is closed or lost.
    Closed {
        /// Which socket.
        socket: Generation,
        /// The close code; 1006 when there was none.
        code: u16,
    },
    /// A timer fired: one of [`TIMERS`](super::TIMERS).
    Expired(Timer),
}

/// What must be done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Output<P> {
    /// Open a socket.
    Open {
        /// Its generation.
        socket: Generation,
    },
    /// Drop the socket.
    Close {
        /// Its generation.
        socket: Generation,
    },
    /// Write a request. The edge fills in a run id of no meaning, for the gateway makes its own, and in a message what is of
    /// its thread.
    Write(Request<P>),
    /// Get a new credential, and answer with [`Input::Token`].
    NeedToken {
        /// To be quoted with the answer.
        asked: Generation,
    },
    /// Show an event.
    Deliver(Entry<P>),
    /// Show what the service has for this connection alone.
    Notice(P),
    /// Show that what lay between is gone.
    Reset {
        /// The last offset before the gap.
        from: Offset,
        /// The last offset of the gap.
        to: Offset,
    },
    /// The message runs, or ran before.
    Accepted {
        /// The message.
        message: MessageId,
        /// Its run.
        run: RunId,
    },
    /// The message was not accepted. It may be sent again, with a new id.
    Refused {
        /// The message.
        message: MessageId,
        /// Why.
        code: Code,
    },
    /// The message is longer than the gateway takes, so it was not written. Its user may shorten it.
    TooLong {
        /// The message.
        message: MessageId,
    },
    /// It cannot be known whether the message ran.
    Unknown {
        /// The message.
        message: MessageId,
    },
    /// Something of ours was not understood, or not allowed.
    Error(Code),
    /// Set a timer. For [`Timer::Leave`] the edge takes the time that `going_away` told, if it told one.
    Arm(Timer, Duration),
    /// Set [`Timer::Backoff`] to a moment drawn between half of this and this.
    Pause(Duration),
    /// Call a timer off.
    Disarm(Timer),
}
