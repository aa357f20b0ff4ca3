//! What goes through the machines without their looking into it: tokens, messages and what agents say.

use core::fmt;
use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use lockstep_model::{Offset, PartId, Piece, ThreadId, piece};
use serde_json::value::RawValue;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::verify::digest64;
use crate::wire::{self, Delta, Query};

/// The payload of the production machines. A clone is a reference count.
#[derive(Clone)]
pub enum Payload {
    /// A credential, on its way to the verifier.
    Token(Token),
    /// A message or an event, on its way to the log and to readers.
    Record(Arc<Record>),
    /// What a client wants of conversations, on its way to the log.
    Query(Arc<Query>),
    /// The frame that answers it.
    Answer(Utf8Bytes),
}

impl fmt::Debug for Payload {
    /// Without credentials and content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(token) => token.fmt(f),
            Self::Record(record) => record.fmt(f),
            Self::Query(query) => query.fmt(f),
            Self::Answer(answer) => f.debug_struct("Answer").field("bytes", &answer.len()).finish(),
        }
    }
}

/// A credential as the peer presented it. It shows itself to nobody: no log, no error, no trace.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Arc<str>);

impl Token {
    /// Wraps a credential.
    #[must_use]
    pub fn new(token: &str) -> Self {
        Self(Arc::from(token))
    }

    /// The credential itself, for the verifier alone.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// The content of one event: what the machines do not know of it. Once the log has it, it does not change, so a frame
/// that was encoded from it is kept here, and encoded once however many connections get it.
pub struct Record {
    /// The thread of the run, as its client named it.
    pub thread: Option<Arc<str>>,
    /// When the log took it, in milliseconds since the Unix epoch; zero before that.
    pub at: u64,
    /// `data` of the frame: a JSON object.
    pub data: Box<RawValue>,
    /// When it was made in this process, for the measure of how long an event takes to its readers.
    pub(crate) made: Instant,
    frames: [OnceLock<(Offset, Utf8Bytes)>; 2],
    number: u64,
    /// Bytes of its text, if it is a piece of a part.
    size: Option<usize>,
}

impl Record {
    /// A record that the log does not have yet.
    #[must_use]
    pub fn new(thread: Option<Arc<str>>, data: Box<RawValue>) -> Self {
        Self::written(thread, data, 0)
    }

    /// A record that the log took at `at`.
    #[must_use]
    pub fn written(thread: Option<Arc<str>>, data: Box<RawValue>, at: u64) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        let number = piece::number(NUMBERS.fetch_add(1, Ordering::Relaxed), data.get().len());
        Self { thread, at, data, made: Instant::now(), frames: [const { OnceLock::new() }; 2], number, size: None }
    }

    /// A piece of a part that the log does not have yet.
    pub(crate) fn piece(thread: Option<Arc<str>>, part: PartId, kind: &str, text: &str) -> Self {
        Self::new(thread, wire::data_of_piece(part, kind, text)).sized(text.len())
    }

    fn sized(mut self, size: usize) -> Self {
        (self.size, self.number) = (Some(size), piece::number(self.number, size));
        self
    }

    /// The same as a piece: `data` is that of `agent_delta`. Anything else is a piece without text.
    pub(crate) fn into_piece(self) -> Self {
        let size = Delta::of(&self.data).map_or(0, |delta| delta.text.len());
        self.sized(size)
    }

    pub(crate) const fn is_piece(&self) -> bool {
        self.size.is_some()
    }

    /// This record, of which the log keeps what was said with it.
    pub(crate) fn made_as(self, said: &Self) -> Self {
        let record = match said.size {
            Some(size) => self.sized(size),
            None => self,
        };
        Self { made: said.made, ..record }
    }

    /// The piece that has this text instead of its own, and stands for `number`.
    fn with_text(&self, text: impl FnOnce(&str) -> String, number: u64) -> Self {
        let piece = Delta::of(&self.data);
        let text = text(piece.as_ref().map_or("", |piece| &*piece.text));
        let data = match piece {
            Some(Delta { part, kind, .. }) => wire::data_of_piece(PartId(part), &kind, &text),
            None => self.data.clone(),
        };
        let record = Self::written(self.thread.clone(), data, self.at);
        Self { size: Some(text.len()), number, made: self.made, ..record }
    }

    /// Its number in this process: what stands for it in a trace.
    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    /// The frame of that codec, encoded by the first who asks. It names the entry before it, which is another one for a
    /// reader who has read what was deleted since.
    pub(crate) fn frame(&self, codec: usize, previous: Offset, encode: impl Fn() -> Utf8Bytes) -> Utf8Bytes {
        let (of, frame) = self.frames[codec].get_or_init(|| (previous, encode()));
        if *of == previous { frame.clone() } else { encode() }
    }
}

impl fmt::Debug for Record {
    /// Without the content, which is the user's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record").field("at", &self.at).field("bytes", &self.data.get().len()).finish_non_exhaustive()
    }
}

/// Pieces are records of `agent_delta`. What grows has the time of its newest piece.
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

    fn behind(&self, size: usize) -> Self {
        let Self::Record(record) = self else { return self.clone() };
        let rest = |text: &str| text.get(size..).unwrap_or_default().to_owned();
        Self::Record(Arc::new(record.with_text(rest, record.number.behind(size))))
    }
}

impl Payload {
    /// The record, if it is one.
    #[must_use]
    pub const fn record(&self) -> Option<&Arc<Record>> {
        match self {
            Self::Record(record) => Some(record),
            Self::Token(_) | Self::Query(_) | Self::Answer(_) => None,
        }
    }
}

/// The thread of that name. Messages without one share the thread whose name is empty, which no client can name.
#[must_use]
pub fn thread_id(name: Option<&str>) -> ThreadId {
    ThreadId(digest64(name.unwrap_or_default().as_bytes()))
}

/// The wall clock, in milliseconds since the Unix epoch.
#[must_use]
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
