//! Frames as JSON: translates between text frames and the machines' [`Request`] and [`Frame`].
//!
//! Two codecs translate for the same machines. `runtime/schema` describes their frames, [`schema`] contains those
//! descriptions, and `runtime/asyncapi.yaml` combines them with the close codes.
//!
//! | codec | subprotocol | a frame |
//! | --- | --- | --- |
//! | [`Codec::V1`] | `lockstep.v1` | `{type, …}` |
//! | [`Codec::Legacy`] | `jwt-auth` | `{type, payload, message_id?, thread_id?}` in, `{type, payload, data, …}` out |
//!
//! Decoding is total: any input becomes a request, if necessary [`Request::Invalid`] with the error. If the
//! `message_id` of a refused frame can be read and has at most [`MAX_ECHO`] bytes, the refusal repeats it, with any
//! other error in the frame.
//!
//! | code | when |
//! | --- | --- |
//! | `malformed` | not one well-formed JSON object, see below |
//! | `unknown_type` | the `type` is a string that the codec does not know |
//! | `invalid_field` | a member that the type needs is missing, or a member that it knows has the wrong kind |
//!
//! * A frame is malformed if it is not one JSON object (RFC 8259), nests deeper than [`MAX_DEPTH`], has more than
//!   [`MAX_MEMBERS`] members or a duplicate member, contains a number or an escape without a valid value (RFC 7493 §2),
//!   or a name that is reserved for `serde_json`.
//! * A member that the type does not know is ignored, so that clients newer than the gateway can talk to it.
//! * An optional member that is `null` counts as absent.
//! * The payload of a message is arbitrary JSON. It is validated and passed on exactly as written. Duplicate names
//!   inside it are left to its reader.
//! * Connection and run ids are 16 lower-case hexadecimal digits ([`Hex`]); offsets, epochs and times are integers that
//!   JavaScript can represent exactly ([`MAX_INTEGER`]).
//! * An event is encoded once for all connections of [`Codec::V1`]: its record keeps the frame.

use std::sync::Arc;

use lockstep_model::frame::ReadFrom;
use lockstep_model::run::Kind;
use lockstep_model::{Bounds, Cause, Code, Concurrency, ConnectionId, Control, Entry, Epoch, Frame, Request, Resume};
use serde::Serialize;
use tungstenite::Utf8Bytes;

use crate::payload::{Payload, Record, data_of};

mod conversation;
mod event;
mod legacy;
mod members;
mod message;
mod notice;
mod query;
pub mod schema;
mod v1;

pub use crate::support::hex::{Hex, hex};
pub(crate) use conversation::Answer;
pub use conversation::{MAX_PAGE, MAX_TITLE};
#[doc(hidden)]
pub use conversation::{limit, offset_of, place, title_of};
#[doc(hidden)]
pub use legacy::{MAX_HEARTBEATS, MAX_OPEN, MAX_TEXT, MAX_TOOLS};
pub use members::{MAX_DEPTH, MAX_INTEGER, MAX_MEMBERS};
pub(crate) use message::deleted;
pub use message::{MAX_ECHO, MAX_NAME, MAX_NAMES};
pub(crate) use query::query_of;
pub use query::{InvalidQuery, resume_from_query};
pub(crate) use v1::Past;

use message::Names;
use notice::Notice;

/// How a connection's frames are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// `lockstep.v1`.
    V1,
    /// `jwt-auth`: the envelope of the system that this one replaces.
    Legacy,
}

/// The `type` of an event's frame.
#[must_use]
pub const fn event_type(kind: Kind) -> &'static str {
    event::name(kind)
}

impl Codec {
    /// Returns the codec of an application's subprotocol (RFC 6455 §1.9). A token that travels as a subprotocol has
    /// none.
    #[must_use]
    pub fn of_subprotocol(name: &str) -> Option<Self> {
        [Self::V1, Self::Legacy].into_iter().find(|codec| codec.subprotocol() == name)
    }

    /// The subprotocol that the server answers with.
    #[must_use]
    pub const fn subprotocol(self) -> &'static str {
        match self {
            Self::V1 => "lockstep.v1",
            Self::Legacy => "jwt-auth",
        }
    }

    /// Where reading starts if the URL of the upgrade request says this. A legacy client names its place in its first
    /// frame, so nothing is read before it, unless the URL names a place.
    #[must_use]
    pub fn resume(self, address: &Resume) -> Resume {
        let from = match (self, address.from) {
            (Self::Legacy, ReadFrom::Unread) => ReadFrom::Deferred,
            (Self::V1 | Self::Legacy, from) => from,
        };
        Resume { from, ..*address }
    }

    /// The code and the reason with which a connection of this codec is closed (RFC 6455 §7.4).
    #[must_use]
    pub const fn close(self, cause: Cause) -> (u16, &'static str) {
        match self {
            Self::V1 => (cause.code(), cause.reason()),
            Self::Legacy => (cause.legacy_code(), cause.reason()),
        }
    }
}

/// The `agent_name` of legacy frames unless it is set.
pub const AGENT_NAME: &str = "assistant";

/// The codec state of one connection. Bounded: [`MAX_NAMES`] names of messages, each of at most [`MAX_NAME`]
/// characters, and a few numbers. A legacy connection's also has the text of open runs, up to 512 KiB in all, and the
/// names of their open tools.
#[derive(Debug)]
pub struct CodecState {
    codec: Codec,
    connection: ConnectionId,
    subject: Arc<str>,
    limits: AnnouncedLimits,
    heartbeat_ms: u64,
    reconnect_after_ms: u64,
    names: Names,
    /// The starting place in the URL of the upgrade request.
    address: Resume,
    /// The starting place that the first credential asked for.
    asked: Option<Resume>,
    /// The epoch of the stream that is read, once it is known.
    epoch: Epoch,
    agent_name: Arc<str>,
    legacy: legacy::Memory,
    /// A frame that follows the last encoded one.
    next: Option<Utf8Bytes>,
}

/// The bounds that a client may need to know.
#[derive(Clone, Copy, Debug, Serialize)]
struct AnnouncedLimits {
    connections: usize,
    runs: usize,
    queued: usize,
    concurrency: Concurrency,
    early: usize,
    requests: u16,
    allowance_ms: u64,
    retained: usize,
    /// Bytes of one message, if the socket bounds them.
    #[serde(skip_serializing_if = "Option::is_none")]
    message_bytes: Option<usize>,
}

impl CodecState {
    /// The codec state for a connection that was just accepted.
    #[must_use]
    pub fn new(codec: Codec, connection: ConnectionId, bounds: &Bounds) -> Self {
        let limits = AnnouncedLimits {
            connections: bounds.connections,
            runs: bounds.runs,
            queued: bounds.queued,
            concurrency: bounds.concurrency,
            early: bounds.early,
            requests: bounds.requests,
            allowance_ms: milliseconds(bounds.allowance),
            retained: bounds.retained,
            message_bytes: None,
        };
        Self {
            codec,
            connection,
            subject: Arc::from(""),
            limits,
            heartbeat_ms: milliseconds(bounds.heartbeat),
            reconnect_after_ms: milliseconds(bounds.backoff),
            names: Names::default(),
            address: Resume::default(),
            asked: None,
            epoch: Epoch(0),
            agent_name: Arc::from(AGENT_NAME),
            legacy: legacy::Memory::default(),
            next: None,
        }
    }

    /// Sets the agent's name for legacy frames, [`AGENT_NAME`] until set. Data of an event that has an `agent_name` of
    /// its own takes precedence.
    pub fn names_agent(&mut self, name: Arc<str>) {
        self.agent_name = name;
    }

    /// Returns the connection's codec.
    #[must_use]
    pub const fn codec(&self) -> Codec {
        self.codec
    }

    /// Sets the peer's subject, for `connection_ready`: known once the verifier has answered.
    pub fn identify(&mut self, subject: Arc<str>) {
        self.subject = subject;
    }

    /// Sets the longest message, in bytes, that the connection's socket accepts, for `connection_ready`. Unbounded
    /// until set.
    pub const fn takes(&mut self, bytes: Option<usize>) {
        self.limits.message_bytes = bytes;
    }

    /// Sets the pause, in milliseconds and including jitter, that `going_away` reports if no successor is listening
    /// yet; [`Bounds::backoff`] until it is set. If a successor holds the socket, clients come back at once and wait in
    /// its queue.
    pub const fn reconnect_within(&mut self, ms: u64) {
        self.reconnect_after_ms = ms;
    }

    /// Sets the starting place from the URL of the upgrade request. It applies to the first credential, including one
    /// that comes in a frame, unless that frame names another place.
    pub fn resumes(&mut self, resume: &Resume) {
        self.address = self.codec.resume(resume);
    }

    /// A credential came with the upgrade request. Returns where reading begins: where the request's URL says.
    pub const fn presents(&mut self) -> Resume {
        self.asked = Some(self.address);
        self.address
    }

    /// Where the connection began to read: as the first credential asked, or as the URL of the upgrade request does.
    pub(crate) fn begins(&self) -> Resume {
        self.asked.unwrap_or(self.address)
    }

    /// Decodes a text frame. Total: a frame that cannot be understood becomes [`Request::Invalid`].
    ///
    /// A message gets its run id here, from the system's random number generator. If the system has no randomness,
    /// which is our fault, the frame becomes a [`Request::Violation`].
    pub fn decode(&mut self, text: &str) -> Request<Payload> {
        let decoded = match self.codec {
            Codec::V1 => v1::decode(self, text),
            Codec::Legacy => legacy::decode(self, text),
        };
        decoded.unwrap_or_else(|code| Request::Invalid { code, message: message::refused(self, text) })
    }

    /// Encodes a frame as text. `None` for [`Frame::Close`] and [`Control::Probe`], which are frames of the WebSocket
    /// protocol itself. Some frames of a legacy connection are two: see [`CodecState::following`].
    pub fn encode(&mut self, frame: &Frame<Payload>) -> Option<Utf8Bytes> {
        match frame {
            Frame::Control(Control::Answer(Payload::Answer(answer))) => Some(Utf8Bytes::clone(answer)),
            Frame::Control(Control::Unanswered { query: Payload::Query(query), code }) => Some(query.refused(*code)),
            Frame::Control(control) => {
                self.note(control);
                self.control(control)
            }
            Frame::Event(entry) => Some(self.event(entry)),
            Frame::Close(_) => None,
        }
    }

    /// Returns the frame that follows the one that was encoded last, if there is one. It is sent directly after it.
    pub const fn following(&mut self) -> Option<Utf8Bytes> {
        self.next.take()
    }

    fn control(&mut self, control: &Control<Payload>) -> Option<Utf8Bytes> {
        let (codec, subject) = (self.codec, Arc::clone(&self.subject));
        if codec == Codec::V1 {
            return Notice::of(self, control).map(|notice| v1::notice(&notice));
        }
        let heartbeat = matches!(control, Control::Pong).then(|| self.legacy.answered());
        if let Control::Ready { .. } = control {
            self.next = Some(legacy::handshake(&subject, self.connection.into()));
        }
        Notice::of(self, control).map(|notice| legacy::notice(&subject, heartbeat, &notice))
    }

    fn event(&mut self, entry: &Entry<Payload>) -> Utf8Bytes {
        let record = entry.event.payload.as_ref().and_then(Payload::record);
        let unwritten = || Record::new(None, data_of(entry.event.kind));
        match (self.codec, record) {
            (Codec::V1, Some(record)) => record.frame(entry.previous, || v1::event(entry, record)),
            (Codec::V1, None) => v1::event(entry, &unwritten()),
            (Codec::Legacy, Some(record)) => legacy::event(self, entry, record),
            (Codec::Legacy, None) => legacy::event(self, entry, &unwritten()),
        }
    }

    /// Tracks the place in the stream that the client is told.
    fn note(&mut self, control: &Control<Payload>) {
        match *control {
            Control::Ready { epoch, .. } => self.epoch = epoch,
            Control::StreamReset { .. } => self.legacy.skip(),
            Control::AuthOk
            | Control::AuthExpiring
            | Control::Mode(_)
            | Control::GoingAway(_)
            | Control::Known { .. }
            | Control::Refused { .. }
            | Control::Answer(_)
            | Control::Unanswered { .. }
            | Control::Error(_)
            | Control::Pong
            | Control::Probe
            | Control::Notice(_) => {}
        }
    }
}

/// The result of decoding a frame; the error is the code that the peer is told.
type Decoded = Result<Request<Payload>, Code>;

/// Serializes a frame to text.
fn text(frame: &impl Serialize) -> Utf8Bytes {
    serde_json::to_string(frame).expect("frames have string keys, and writing to memory cannot fail").into()
}

fn milliseconds(duration: core::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
