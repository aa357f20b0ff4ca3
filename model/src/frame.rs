//! Decoded frames of a connection: the client's requests and the gateway's frames.
//!
//! `P` is the payload, which no machine inspects: encoded JSON in production, a small tag in a proof.

pub use crate::code::Code;

use crate::close::Cause;
use crate::event::Entry;
use crate::id::{ConnectionId, Epoch, MessageId, Offset, PauseId, Position, RunId, ThreadId, UserId};
use crate::mode::{Mode, Successor};

/// Where a connection wants to start reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Resume {
    /// The position after which reading starts.
    pub from: ReadFrom,
    /// An earlier connection of the same client. This connection replaces it, if it is still there.
    pub replaces: Option<ConnectionId>,
}

/// The position at which a cursor starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum ReadFrom {
    /// After the furthest entry that any of the user's readers has read: the unread entries and all later ones.
    #[default]
    Unread,
    /// After the head: later entries only.
    Latest,
    /// Before the first retained entry.
    Earliest,
    /// After the last entry that the client has seen.
    After(Position),
    /// Where the first request says, if it is a [`Request::Seek`]; else as [`ReadFrom::Unread`]. Nothing is read before
    /// the first request that is handled, or before [`Timer::Seek`](crate::Timer::Seek) has fired.
    Deferred,
}

/// The open runs that a `cancel` ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Cancel {
    /// This run.
    Run(RunId),
    /// Every run of this thread.
    Thread(ThreadId),
    /// Every run of the user.
    All,
}

/// A decoded request of the client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Request<P> {
    /// `auth`, or a credential that came with the upgrade: verify it. `resume` counts only in the first one.
    Auth {
        /// The credential, for the verifier alone.
        token: P,
        /// Where to start reading.
        resume: Resume,
    },
    /// `user_message`: start a run, at most once.
    Message {
        /// The message's id.
        message: MessageId,
        /// The message's thread, in which one run follows another (RUN-4).
        thread: ThreadId,
        /// A new id, created at the edge, for the run that the message starts if it is new.
        run: RunId,
        /// The content for the agent.
        payload: P,
        /// Whether the client wrote the message to an earlier connection and received no answer.
        repeat: bool,
        /// The turn that the message replaces, with all that followed in the thread: the offset of the turn's
        /// `message_received`.
        replaces: Option<Offset>,
    },
    /// `cancel`: end runs of this user. A single run that is not open is answered with [`Code::UnknownRun`].
    Cancel {
        /// The runs.
        runs: Cancel,
    },
    /// `reply`: resume a paused run with the user's answer. The first reply to a pause counts. A reply to a run that is
    /// not open is answered with [`Code::UnknownRun`], and any other with [`Code::NotPaused`].
    Reply {
        /// The run.
        run: RunId,
        /// The pause.
        pause: PauseId,
        /// The content of `agent_resumed`.
        payload: P,
    },
    /// Read on after this position, wherever the connection was reading. Entries that were sent before may be sent
    /// again; if the position is gone, a `stream_reset` says so.
    Seek {
        /// The last entry that the client has seen.
        from: Position,
    },
    /// `delete_thread`: end the thread's runs, and make its content unreadable (RET-1).
    Delete {
        /// The thread.
        thread: ThreadId,
        /// A new id, created at the edge: the run id of `thread_deleted`.
        deletion: RunId,
        /// The payload of `thread_deleted`.
        payload: P,
    },
    /// `list_threads`, `read_turns` or `rename_thread`: a query about conversations, which no machine inspects.
    Query {
        /// The query.
        query: P,
    },
    /// `ping`: the client's heartbeat, answered with `pong`.
    Ping,
    /// A sign of life that requests nothing, such as a protocol pong.
    Pong,
    /// An invalid frame. It is answered with an error, never with an acknowledgement.
    Invalid {
        /// The error.
        code: Code,
        /// The message id in the frame, if it could be read. The refusal names it too.
        message: Option<MessageId>,
    },
    /// A frame after which the connection cannot continue.
    Violation(Cause),
}

/// A frame of the gateway that is not part of the stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Control<P> {
    /// `connection_ready`: requests are handled, and the stream is read, from here on.
    Ready {
        /// The user whose stream is read and whose messages are accepted: the user of the connection's verdict.
        user: UserId,
        /// The epoch of the stream.
        epoch: Epoch,
        /// Reading starts after this offset.
        offset: Offset,
        /// The newest readable offset.
        head: Offset,
        /// Whether reading starts at the position that the client requested.
        resumed: bool,
        /// What the node admits now.
        mode: Mode,
    },
    /// `auth_ok`: a refresh was accepted.
    AuthOk,
    /// `auth_expiring`: refresh soon.
    AuthExpiring,
    /// `stream_reset`: the entries in between are gone; reading continues after `to`.
    StreamReset {
        /// The last offset before the gap.
        from: Offset,
        /// The last offset of the gap.
        to: Offset,
    },
    /// `mode`: what the node admits has changed.
    Mode(Mode),
    /// `going_away`: reconnect. The driver derives the announced pause from the successor.
    GoingAway(Successor),
    /// `message_known`: the message ran before, with this answer.
    Known {
        /// The repeated message.
        message: MessageId,
        /// The run that the message started.
        run: RunId,
        /// The offset of its `message_received`.
        offset: Offset,
    },
    /// `error` about one message, which was not accepted. It may be sent again, after a correction if the code names a
    /// mistake.
    Refused {
        /// The message.
        message: MessageId,
        /// The error.
        code: Code,
    },
    /// `threads`, `turns` or `thread_renamed`: the answer to a query.
    Answer(P),
    /// `error` about a query, which has no answer. The query may be sent again.
    Unanswered {
        /// The query.
        query: P,
        /// The error.
        code: Code,
    },
    /// `error` about a request other than a message.
    Error(Code),
    /// `pong`.
    Pong,
    /// A protocol ping, to check that the peer is alive.
    Probe,
    /// `connection_notice`: a notice for this connection alone. It has no offset in the stream.
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
    /// Whether AUTH-1 covers the frame: everything but the close, and the ping that probes a peer and tells it nothing.
    #[must_use]
    pub const fn is_application(&self) -> bool {
        match self {
            Self::Control(Control::Probe) | Self::Close(_) => false,
            Self::Control(_) | Self::Event(_) => true,
        }
    }
}
