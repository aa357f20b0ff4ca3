//! What connections say, decoded: requests of the client, frames of the gateway.
//!
//! `P` is the payload, which no machine looks into: encoded JSON in production, a small tag in a proof.

use crate::close::Cause;
use crate::id::{ConnectionId, Epoch, MessageId, Offset, Position, RunId, ThreadId, UserId};
use crate::node::{Mode, Successor};
use crate::stream::Entry;

/// Where a connection wants to begin reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Resume {
    /// Where reading goes on.
    pub from: From,
    /// The same client's earlier connection, which this one replaces if it is still there.
    pub replaces: Option<ConnectionId>,
}

/// The place at which a cursor is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum From {
    /// Behind what any reader of the user has read: what nobody has read yet, and what happens from now on.
    #[default]
    Unread,
    /// What happens from now on.
    Latest,
    /// All that is retained.
    Earliest,
    /// After the last entry that the client has seen.
    After(Position),
}

/// A decoded request of the client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Request<P> {
    /// `auth`, or a credential that came with the upgrade: verify it. `resume` counts only the first time.
    Auth {
        /// The credential, for the verifier alone.
        token: P,
        /// Where to begin reading.
        resume: Resume,
    },
    /// `user_message`: start a run, once.
    Message {
        /// The client's name for the message.
        message: MessageId,
        /// The thread to which it belongs: in it, one run follows another (RUN-4).
        thread: ThreadId,
        /// A fresh id, made at the edge, for the run that the message starts if it is new.
        run: RunId,
        /// What the agent is asked.
        payload: P,
        /// Whether the client wrote it to an earlier connection and had no answer.
        repeat: bool,
        /// The turn of the thread that it replaces with all that followed: the place of its `message_received`.
        replaces: Option<Offset>,
    },
    /// `cancel`: end a run of this user.
    Cancel {
        /// The run.
        run: RunId,
    },
    /// `delete_thread`: end its runs, and let nothing of it be read again (RET-1).
    Delete {
        /// The thread.
        thread: ThreadId,
        /// A fresh id, made at the edge: the run id of `thread_deleted`.
        deletion: RunId,
        /// What goes with `thread_deleted`.
        payload: P,
    },
    /// `list_threads`, `read_turns` or `rename_thread`: something of conversations, which no machine looks into.
    Query {
        /// What is wanted.
        query: P,
    },
    /// `ping`: the client's heartbeat, answered with `pong`.
    Ping,
    /// Any sign of life that asks for nothing, such as a protocol pong.
    Pong,
    /// A frame that is no request. It is answered with an error, never with a polite acknowledgement.
    Invalid {
        /// What is wrong with it.
        code: Code,
        /// The message that it names, if that could be read: the refusal names it too.
        message: Option<MessageId>,
    },
    /// A frame after which the connection cannot go on.
    Violation(Cause),
}

listed! {
    /// What is wrong, for the `code` of an `error` frame.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
    #[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
    pub enum Code {
        /// Not a JSON object, or nested too deeply.
        Malformed,
        /// The `type` is not known.
        UnknownType,
        /// A field is missing, or has the wrong type.
        InvalidField,
        /// The node does not take new runs in its present mode.
        Degraded,
        /// The node is draining.
        Draining,
        /// The user has as many open runs as allowed.
        TooManyRuns,
        /// The thread has an open run, and as many messages wait as may.
        QueueFull,
        /// The thread has an open run, and takes one message at a time.
        ThreadBusy,
        /// The user's breaker is open after failed runs.
        BreakerOpen,
        /// The log is behind.
        Busy,
        /// The message is a repetition, and whether it ran is not known any more.
        Forgotten,
        /// No open run of this user has that id.
        UnknownRun,
        /// The user has no thread of that name.
        UnknownThread,
        /// The log keeps no conversations.
        NotKept,
        /// The verifier could not be reached for a refresh; the credential stays as it was.
        VerifierUnavailable,
    }
}

/// A frame of the gateway that is not part of the stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Control<P> {
    /// `connection_ready`: requests are handled and the stream is read from here.
    Ready {
        /// Whose stream is read and whose messages are taken: the user of the verdict that the connection relies on.
        user: UserId,
        /// The epoch of the stream.
        epoch: Epoch,
        /// Reading goes on after this offset.
        offset: Offset,
        /// The newest entry that there is to be read now.
        head: Offset,
        /// Whether that is the place that the client asked for.
        resumed: bool,
        /// What the node admits now.
        mode: Mode,
    },
    /// `auth_ok`: a refresh was accepted.
    AuthOk,
    /// `auth_expiring`: refresh soon.
    AuthExpiring,
    /// `stream_reset`: what lay between is gone; reading goes on after `to`.
    StreamReset {
        /// The last offset before the gap.
        from: Offset,
        /// The last offset of the gap.
        to: Offset,
    },
    /// `mode`: what the node admits has changed.
    Mode(Mode),
    /// `going_away`: reconnect. The driver makes a pause of what is there to come back to.
    GoingAway(Successor),
    /// `message_known`: the message ran before; this was the answer.
    Known {
        /// The repeated message.
        message: MessageId,
        /// The run that it started.
        run: RunId,
        /// Where its `message_received` is in the stream.
        offset: Offset,
    },
    /// `error` about one message, which was not accepted. It may be sent again, mended if the code says what is wrong.
    Refused {
        /// The message.
        message: MessageId,
        /// Why.
        code: Code,
    },
    /// `threads`, `turns` or `thread_renamed`: what a query has come to.
    Answer(P),
    /// `error` about a query, which has no answer. It may be sent again.
    Unanswered {
        /// What was wanted.
        query: P,
        /// Why.
        code: Code,
    },
    /// `error` about a request that is no message.
    Error(Code),
    /// `pong`.
    Pong,
    /// A protocol ping, to hear whether the peer is there.
    Probe,
    /// `connection_notice`: for whoever is on this connection now. It has no place in the stream.
    Notice(P),
}

/// One frame that leaves on a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Frame<P> {
    /// A control frame.
    Control(Control<P>),
    /// An entry of the user's stream.
    Event(Entry<P>),
    /// The close frame, always the last.
    Close(Cause),
}

impl<P> Frame<P> {
    /// Whether AUTH-1 covers the frame: everything but the close.
    #[must_use]
    pub const fn is_application(&self) -> bool {
        match self {
            Self::Control(_) | Self::Event(_) => true,
            Self::Close(_) => false,
        }
    }
}
