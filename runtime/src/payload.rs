//! The data that passes through the machines unread: tokens, messages and the events of agents.

use core::fmt;
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use lockstep_model::{Offset, PartId, Piece, ThreadId, piece};
use serde::Deserialize;
use serde_json::value::RawValue;
use tungstenite::Utf8Bytes;

use crate::support::digest64;

mod data;
mod frames;
mod query;

pub use data::{Data, data_of, data_of_abandoned, data_of_piece};
pub(crate) use data::{Delta, data_of_pause, data_of_queued, data_of_reply};
pub use query::{Query, ThreadPlace, Wanted};

/// The payload type of the production machines. Cloning increments a reference count. Each event that is retained holds
/// one, so a variant is one pointer long.
#[derive(Clone)]
pub enum Payload {
    /// A credential, on its way to the verifier.
    Token(Token),
    /// A message or an event, on its way to the log and to readers.
    Record(Arc<Record>),
    /// A conversation query, on its way to the log.
    Query(Arc<Query>),
    /// The frame that answers a query.
    Answer(Arc<Utf8Bytes>),
}

impl fmt::Debug for Payload {
    /// Omits credentials and content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(token) => token.fmt(f),
            Self::Record(record) => record.fmt(f),
            Self::Query(query) => query.fmt(f),
            Self::Answer(answer) => f.debug_struct("Answer").field("bytes", &answer.len()).finish(),
        }
    }
}

/// A credential as the peer presented it. It is redacted in every log, error and trace.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Arc<Presented>);

#[derive(PartialEq, Eq)]
struct Presented {
    text: Box<str>,
    kind: TokenKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum TokenKind {
    Credential,
    Ticket,
}

impl Token {
    /// Wraps a credential.
    #[must_use]
    pub fn new(token: &str) -> Self {
        Self(Arc::new(Presented { text: Box::from(token), kind: TokenKind::Credential }))
    }

    /// Wraps a ticket, which is redeemed before it is verified.
    pub(crate) fn ticket(ticket: &str) -> Self {
        Self(Arc::new(Presented { text: Box::from(ticket), kind: TokenKind::Ticket }))
    }

    /// The ticket, if it is one.
    pub(crate) fn as_ticket(&self) -> Option<&str> {
        (self.0.kind == TokenKind::Ticket).then_some(&*self.0.text)
    }

    /// The credential itself, for the verifier only.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0.text
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// The content of one event: the part that the machines do not know. It does not change once the log has it, so its
/// frame of v1 is encoded once for all connections that read it at about the same time. Once it is given to the log, a
/// record belongs to one entry of one stream.
pub struct Record {
    /// The run's thread, as its client named it.
    pub thread: Option<Arc<str>>,
    /// See [`Record::at`].
    at: AtomicU64,
    /// The `data` of the frame: a JSON object. It is kept as the text that readers get, never as parsed values.
    pub data: Data,
    /// When it was created in this process, to measure an event's latency to its readers.
    pub(crate) made: Instant,
    /// The place of its frame among those that were encoded recently; zero if it was not.
    frame: AtomicU64,
    number: u64,
    /// Bytes of its text, if it is a piece of a part.
    size: Option<usize>,
    form: Form,
}

/// How the data of a record was written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// In any way.
    Any,
    /// As [`data_of_piece`] writes it.
    Piece,
}

impl Record {
    /// A record that the log does not have yet.
    #[must_use]
    pub fn new(thread: Option<Arc<str>>, data: impl Into<Data>) -> Self {
        Self::written(thread, data, 0)
    }

    /// A record that the log accepted at `at`.
    #[must_use]
    pub fn written(thread: Option<Arc<str>>, data: impl Into<Data>, at: u64) -> Self {
        let data = data.into();
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        let number = piece::number(NUMBERS.fetch_add(1, Ordering::Relaxed), data.get().len());
        Self {
            thread,
            at: AtomicU64::new(at),
            data,
            made: Instant::now(),
            frame: AtomicU64::new(0),
            number,
            size: None,
            form: Form::Any,
        }
    }

    /// A piece of a part that the log does not have yet.
    pub(crate) fn piece(thread: Option<Arc<str>>, part: PartId, kind: &str, text: &str) -> Self {
        Self { form: Form::Piece, ..Self::new(thread, data_of_piece(part, kind, text)).sized(text.len()) }
    }

    /// When it was given to the log, in milliseconds since the Unix epoch; zero before that.
    #[must_use]
    pub fn at(&self) -> u64 {
        self.at.load(Ordering::Relaxed)
    }

    /// Sets the time at which the record is given to the log. Returns false if it was given to one before: then it is
    /// that entry's, and another entry needs a record of its own.
    pub(crate) fn stamp(&self, at: u64) -> bool {
        self.at.compare_exchange(0, at, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn sized(mut self, size: usize) -> Self {
        (self.size, self.number) = (Some(size), piece::number(self.number, size));
        self
    }

    /// Turns the record into a piece; its `data` is that of `agent_delta`. Other data becomes a piece without text.
    pub(crate) fn into_piece(self) -> Self {
        let size = Delta::of(&self.data).map_or(0, |delta| delta.text.len());
        self.sized(size)
    }

    pub(crate) const fn is_piece(&self) -> bool {
        self.size.is_some()
    }

    /// This record as the log keeps it, with the size and the creation time of `said`, the record that was appended.
    pub(crate) fn made_as(self, said: &Self) -> Self {
        let record = match said.size {
            Some(size) => self.sized(size),
            None => self,
        };
        Self { made: said.made, ..record }
    }

    /// This piece with another text, standing for `number`.
    fn with_text(&self, text: impl FnOnce(&str) -> String, number: u64) -> Self {
        let piece = Delta::of(&self.data);
        let text = text(piece.as_ref().map_or("", |piece| &*piece.text));
        let data = match piece {
            Some(Delta { part, kind, .. }) => data_of_piece(PartId(part), &kind, &text).into(),
            None => self.data.clone(),
        };
        let record = Self::written(self.thread.clone(), data, self.at());
        Self { size: Some(text.len()), number, made: self.made, ..record }
    }

    /// The record's number in this process, which stands for it in a trace.
    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    /// The frame of v1, encoded by the first caller. The frame names the entry before it, which differs for a
    /// reader that has read an entry that was deleted since.
    pub(crate) fn frame(&self, previous: Offset, encode: impl FnOnce() -> Utf8Bytes) -> Utf8Bytes {
        let (place, frame) = frames::frame(self.number, self.frame.load(Ordering::Relaxed), previous, encode);
        self.frame.store(place, Ordering::Relaxed);
        frame
    }
}

impl fmt::Debug for Record {
    /// Omits the content, which is the user's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record").field("at", &self.at()).field("bytes", &self.data.get().len()).finish_non_exhaustive()
    }
}

/// Pieces are records of `agent_delta`. A joined piece has the time of its newest piece.
impl Piece for Payload {
    fn size(&self) -> usize {
        self.record().map_or(0, |record| record.size.unwrap_or(record.data.get().len()))
    }

    fn join(&self, next: &Self) -> Self {
        let (Self::Record(first), Self::Record(second)) = (self, next) else { return next.clone() };
        let before = Delta::of(&first.data).map_or_else(Cow::default, |piece| piece.text);
        let number = first.number.join(&second.number);
        Self::Record(Arc::new(second.with_text(|text| [&before, text].concat(), number)))
    }

    fn join_all<'a>(&self, more: impl Iterator<Item = &'a Self>) -> Self {
        let more: Vec<&Self> = more.collect();
        let one_by_one = || more.iter().fold(self.clone(), |whole, next| whole.join(next));
        self.concatenated(&more).unwrap_or_else(one_by_one)
    }

    fn behind(&self, size: usize) -> Self {
        let Self::Record(record) = self else { return self.clone() };
        let rest = |text: &str| text.get(size..).unwrap_or_default().to_owned();
        Self::Record(Arc::new(record.with_text(rest, record.number.behind(size))))
    }
}

impl Payload {
    /// This piece followed by others, if the text of each can be taken as it is written.
    fn concatenated(&self, more: &[&Self]) -> Option<Self> {
        let pieces: Option<Vec<&Record>> =
            core::iter::once(&self).chain(more).map(|piece| piece.record().map(|record| &**record)).collect();
        let pieces = pieces?;
        let last = *pieces.last()?;
        let size = pieces.iter().map(|piece| piece.size).sum::<Option<usize>>()?;
        if !pieces.iter().all(|piece| piece.form == Form::Piece || data::has_form_of_piece(&piece.data)) {
            return None;
        }
        let data = data::concatenated(pieces.iter().map(|piece| &*piece.data))?;
        let number = pieces.iter().map(|piece| piece.number).reduce(|whole, next| whole.join(&next))?;
        let record = Record::written(last.thread.clone(), data, last.at());
        Some(Self::Record(Arc::new(Record { size: Some(size), number, made: last.made, form: Form::Piece, ..record })))
    }

    /// Returns the record, if the payload is one.
    #[must_use]
    pub const fn record(&self) -> Option<&Arc<Record>> {
        match self {
            Self::Record(record) => Some(record),
            Self::Token(_) | Self::Query(_) | Self::Answer(_) => None,
        }
    }
}

/// Returns the id of the thread with this name. Messages without one share the thread with the empty name, which no
/// client can use.
#[must_use]
pub fn thread_id(name: Option<&str>) -> ThreadId {
    ThreadId(digest64(name.unwrap_or_default().as_bytes()))
}

/// Returns the wall clock, in milliseconds since the Unix epoch.
#[must_use]
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The fields of a `message_received`.
#[derive(Deserialize)]
pub(crate) struct Received<'a> {
    pub(crate) message_id: Arc<str>,
    #[serde(borrow)]
    pub(crate) payload: &'a RawValue,
}

/// The text of a payload: a string, or the field `text` or `content` of an object.
pub(crate) fn text_of(said: &RawValue) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(said.get()).ok()?;
    let text = value.as_str().or_else(|| ["text", "content"].iter().find_map(|field| value.get(field)?.as_str()));
    text.map(str::to_owned)
}
