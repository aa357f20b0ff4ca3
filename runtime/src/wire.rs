//! Frames as JSON: between text frames and the machines' [`Request`] and [`Frame`].
//!
//! Two codecs speak to the same machines. `runtime/schema` describes their frames, [`schema`] holds those descriptions,
//! and `runtime/asyncapi.yaml` puts them together with the close codes.
//!
//! | codec | subprotocol | a frame |
//! | --- | --- | --- |
//! | [`Codec::V1`] | `lockstep.v1` | `{type, …}` |
//! | [`Codec::Legacy`] | `jwt-auth` | `{type, payload, message_id?, thread_id?}` in, `{type, data, timestamp, …}` out |
//!
//! Decoding is total: whatever a peer sends becomes a request, if need be [`Request::Invalid`] with what is wrong. A frame
//! whose `message_id` can be read is refused by that name, whatever else is wrong with it: up to [`MAX_ECHO`] bytes.
//!
//! | code | when |
//! | --- | --- |
//! | `malformed` | not one JSON object (RFC 8259), deeper than [`MAX_DEPTH`], more than [`MAX_MEMBERS`] members or one of them twice, a number or an escape that stands for nothing (RFC 7493 §2), a name that only `serde_json` may use |
//! | `unknown_type` | the `type` is a string, and none that the codec knows |
//! | `invalid_field` | a member that the type needs is missing, or one that it knows is of the wrong kind |
//!
//! * A member that the type does not know is ignored, so that clients newer than the gateway can talk to it.
//! * An optional member that is `null` is absent.
//! * The payload of a message is anybody's JSON. It is checked and passed on as it was written, never taken apart: a name
//!   that is used twice in it is for its reader to judge.
//! * Connection and run ids are 16 lower-case hexadecimal digits ([`Hex`]); offsets, epochs and times are integers that
//!   JavaScript can hold ([`MAX_INTEGER`]).
//! * An event is encoded once for each codec, however many connections get it: its record keeps the frame.

use std::sync::Arc;

use lockstep_model::run::Kind;
use lockstep_model::{
    Bounds, Code, Concurrency, ConnectionId, Control, Entry, Epoch, Frame, Offset, Position, Request, Resume, frame,
};
use serde::Serialize;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::payload::{Payload, Record};

mod conversation;
mod event;
mod hex;
mod legacy;
mod members;
mod message;
mod notice;
mod query;
pub mod schema;
mod v1;

#[cfg(feature = "gateway")]
pub(crate) use conversation::{Answer, limit, offset_of, place, title_of};
pub use conversation::{MAX_PAGE, MAX_TITLE, Query, Wanted};
pub(crate) use event::Delta;
pub use event::{data_of, data_of_abandoned, data_of_piece};
pub use hex::{Hex, hex};
pub use members::{MAX_DEPTH, MAX_INTEGER, MAX_MEMBERS};
pub(crate) use message::deleted;
pub use message::{MAX_ECHO, MAX_NAME, MAX_NAMES};
pub use query::resume_from_query;
pub(crate) use v1::Past;

use message::Names;
use notice::Notice;

/// How a connection's frames are written.
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
    /// The codec of an application's subprotocol (RFC 6455 §1.9). A token, which travels as a subprotocol, is none.
    #[must_use]
    pub fn of_subprotocol(name: &str) -> Option<Self> {
        [Self::V1, Self::Legacy].into_iter().find(|codec| codec.subprotocol() == name)
    }

    /// The subprotocol that the server answers.
    #[must_use]
    pub const fn subprotocol(self) -> &'static str {
        match self {
            Self::V1 => "lockstep.v1",
            Self::Legacy => "jwt-auth",
        }
    }

    /// Which of a record's encoded frames is this codec's.
    const fn index(self) -> usize {
        match self {
            Self::V1 => 0,
            Self::Legacy => 1,
        }
    }
}

/// What the codec of one connection remembers. Bounded: [`MAX_NAMES`] names of messages, each at most [`MAX_NAME`] long,
/// and a few numbers.
#[derive(Debug)]
pub struct Peer {
    codec: Codec,
    connection: ConnectionId,
    subject: Arc<str>,
    limits: Limits,
    heartbeat_ms: u64,
    reconnect_after_ms: u64,
    names: Names,
    /// Where the address of the upgrade request says that reading begins.
    address: Resume,
    /// Where the first credential has asked to begin.
    asked: Option<Resume>,
    place: Place,
}

/// The bounds that a client may want to know.
#[derive(Clone, Copy, Debug, Serialize)]
struct Limits {
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

/// Which part of the stream this connection carries.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// Not known yet: it asked for this.
    Asked(Option<Position>),
    /// All that is behind `from`; what is at or before `sent` has left.
    Reading { epoch: Epoch, from: Offset, sent: Offset },
}

impl Peer {
    /// The codec's state for a connection that was just accepted.
    #[must_use]
    pub fn new(codec: Codec, connection: ConnectionId, bounds: &Bounds) -> Self {
        let limits = Limits {
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
            place: Place::Asked(None),
        }
    }

    /// The codec.
    #[must_use]
    pub const fn codec(&self) -> Codec {
        self.codec
    }

    /// Who the peer is, for `connection_ready`: known once the verifier has answered.
    pub fn identify(&mut self, subject: Arc<str>) {
        self.subject = subject;
    }

    /// The longest message, in bytes, that the connection's socket takes, for `connection_ready`. Unbounded until told.
    pub const fn takes(&mut self, bytes: Option<usize>) {
        self.limits.message_bytes = bytes;
    }

    /// The pause, in milliseconds and with its jitter, that `going_away` tells where nothing listens yet; [`Bounds::backoff`]
    /// until it is known. Where a successor holds the socket, clients come back at once and wait in its queue.
    pub const fn reconnect_within(&mut self, ms: u64) {
        self.reconnect_after_ms = ms;
    }

    /// Where the address of the upgrade request says that reading begins. It counts for the first credential, also for one that
    /// comes in a frame, unless that frame says something else.
    pub const fn resumes(&mut self, resume: &Resume) {
        self.address = *resume;
        self.place = Place::Asked(match resume.from {
            frame::From::After(position) => Some(position),
            frame::From::Unread | frame::From::Latest | frame::From::Earliest => None,
        });
    }

    /// A credential came with the upgrade request: reading begins where its address says.
    pub const fn presents(&mut self) {
        self.asked = Some(self.address);
    }

    /// What a text frame asks for. Total: what cannot be understood is [`Request::Invalid`].
    ///
    /// A message gets the id of its run here, from the system's randomness; if there is none, which is our fault, the
    /// frame is a [`Request::Violation`].
    pub fn decode(&mut self, text: &str) -> Request<Payload> {
        let decoded = match self.codec {
            Codec::V1 => v1::decode(self, text),
            Codec::Legacy => legacy::decode(self, text),
        };
        decoded.unwrap_or_else(|code| Request::Invalid { code, message: message::refused(self, text) })
    }

    /// The text of a frame; `None` for what is no text frame: [`Frame::Close`] and [`Control::Probe`], which are frames of
    /// the protocol itself.
    pub fn encode(&mut self, frame: &Frame<Payload>) -> Option<Utf8Bytes> {
        match frame {
            Frame::Control(Control::Answer(Payload::Answer(answer))) => Some(answer.clone()),
            Frame::Control(Control::Unanswered { query: Payload::Query(query), code }) => Some(query.refused(*code)),
            Frame::Control(control) => {
                self.note(control);
                let codec = self.codec;
                let notice = Notice::of(self, control)?;
                Some(match codec {
                    Codec::V1 => v1::notice(&notice),
                    Codec::Legacy => legacy::notice(&notice),
                })
            }
            Frame::Event(entry) => {
                self.sent(entry.offset);
                Some(self.event(entry))
            }
            Frame::Close(_) => None,
        }
    }

    fn event(&self, entry: &Entry<Payload>) -> Utf8Bytes {
        let encode = |record: &Record| match self.codec {
            Codec::V1 => v1::event(entry, record),
            Codec::Legacy => legacy::event(self.epoch(), entry, record),
        };
        match entry.event.payload.as_ref().and_then(Payload::record) {
            Some(record) => record.frame(self.codec.index(), entry.previous, || encode(record)),
            None => encode(&Record::new(None, data_of(entry.event.kind))),
        }
    }

    const fn epoch(&self) -> Epoch {
        match self.place {
            Place::Asked(_) => Epoch(0),
            Place::Reading { epoch, .. } => epoch,
        }
    }

    /// Keeps up with where the client is told that it reads.
    fn note(&mut self, control: &Control<Payload>) {
        match *control {
            Control::Ready { epoch, offset, .. } => self.place = Place::Reading { epoch, from: offset, sent: offset },
            Control::StreamReset { to, .. } => {
                if let Place::Reading { from, sent, .. } = &mut self.place {
                    *from = to;
                    *sent = to.max(*sent);
                }
            }
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

    fn sent(&mut self, offset: Offset) {
        if let Place::Reading { sent, .. } = &mut self.place {
            *sent = offset.max(*sent);
        }
    }

    /// Whether this connection carries, or has carried, all that is behind a place.
    fn carries_from(&self, position: Position) -> bool {
        match self.place {
            Place::Asked(asked) => asked == Some(position),
            Place::Reading { epoch, from, sent } => {
                position.epoch == epoch && from <= position.offset && position.offset <= sent
            }
        }
    }
}

/// What decoding a frame comes to; the error is what the peer is told.
type Decoded = Result<Request<Payload>, Code>;

/// A frame's text.
fn text(frame: &impl Serialize) -> Utf8Bytes {
    serde_json::to_string(frame).expect("frames have string keys, and writing to memory cannot fail").into()
}

fn milliseconds(duration: core::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
