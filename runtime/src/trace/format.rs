//! The format of a trace. The gateway writes it and `prove replay` reads it, both with this source file.
//!
//! A trace is a sequence of *records*, divided into numbered files of one process: `trace-<process>-<number>.lockstep`.
//! Numbers are little-endian.
//!
//! | what | bytes |
//! | --- | --- |
//! | [`MAGIC`] | 8, at the beginning of each file |
//! | [`VERSION`] | 2 |
//! | records, each in a frame: length of the body | 4 |
//! | the record's sequence number, from 0 over all files of a process | 8 |
//! | a check of these two | 4 |
//! | [`link`]: a running checksum over all records up to this one | 8 |
//! | the body: a [`Record`] as postcard, the first of each file a [`Header`], the last a [`Record::End`] | the rest |
//!
//! A truncated file therefore lacks its end record; a changed record does not match its link; a moved record has the
//! wrong number; and a missing record leaves a gap in the numbers. The checksum has no key: it detects accidents and
//! careless edits, not an attacker who recomputes every link.
//!
//! **Payloads.** No machine reads a payload, so a trace does not contain any: a [`Tag`] stands for each. It is the
//! number of the record in its process, and the same for every credential. A replay with tags is exact.
//!
//! **Digests.** A machine and its outputs are hashed through `derive(Hash)` by [`Digest`]. A small machine is digested
//! as a whole at each step. A session that retains much is digested as a whole at about every [`WHOLE_EVERY`]th step,
//! and in between by its cheap parts: everything except the bodies of entries between the newest and the oldest
//! ([`sketch`]).
//!
//! **Checkpoints.** The first file begins with the process, and is exact from its first record. The oldest files of a
//! long trace are removed, and when the writer falls behind, records are dropped and a [`Record::Hole`] counts them. At
//! their first step after either, a session and the node write their whole state into the trace. A connection outside a
//! session does not, because it soon joins one or closes.

use core::fmt;
use core::hash::{Hash, Hasher};

use lockstep_model::{
    Bounds, ConnectionId, Generation, Mode, Node, Piece, Session, UserId, connection, node, session, stream,
};
use serde::{Deserialize, Serialize};

/// The first bytes of each file.
pub const MAGIC: [u8; 8] = *b"LOCKSTEP";

/// The version of the format.
pub const VERSION: u16 = 10;

/// Bytes before the first frame of a file.
pub const PREFIX: usize = 10;

/// Bytes of a frame before its body.
pub const HEAD: usize = 24;

/// The greatest length of a body: a session that retains the maximum is far below it.
pub const MAX_BODY: usize = 64 << 20;

/// The extension of a file's name.
pub const EXTENSION: &str = "lockstep";

/// A session with more entries and messages than this is not digested as a whole at each step.
pub const SMALL: usize = 16;

/// About one in this many steps of large sessions is digested as a whole, which reads every retained record. The frames
/// for readers are compared in any case, because they are among the outputs.
pub const WHOLE_EVERY: u32 = 1_024;

/// Stands for a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tag(pub u64);

impl Piece for Tag {
    fn size(&self) -> usize {
        self.0.size()
    }

    fn join(&self, next: &Self) -> Self {
        Self(self.0.join(&next.0))
    }

    fn behind(&self, size: usize) -> Self {
        Self(self.0.behind(size))
    }
}

/// The first record of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The version of the crate that wrote the file.
    pub release: String,
    /// The process: 64 random bits.
    pub process: u64,
    /// The file's number in its process, from 0.
    pub file: u32,
    /// When the process's trace began, in milliseconds since the Unix epoch.
    pub began: u64,
    /// The [`link`] of the record before this one; zero in the first file.
    pub previous: u64,
    /// The bounds that the machines were given at each step.
    pub bounds: Bounds,
}

/// The digested result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The digest of the answer and the outputs.
    pub outputs: u64,
    /// The digest of the machine after the step.
    pub state: u64,
    /// Whether `state` digests the whole machine; otherwise it is a [`sketch`].
    pub whole: bool,
}

/// One record. `at` is in microseconds since the trace began.
///
/// The writer assembles a record from its fields in order, after the number of its variant; this equals its postcard
/// encoding. Variants and fields must therefore not be reordered without a new [`VERSION`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each field is what its type says")]
#[allow(clippy::large_enum_variant, reason = "there is one at a time")]
pub enum Record {
    /// A file begins.
    Header(Header),
    /// A step of the node.
    Node { at: u64, input: node::Input, outcome: Outcome },
    /// A checkpoint: the node's state before its next step.
    NodeState { at: u64, node: Node },
    /// A connection was accepted.
    Accepted { at: u64, connection: ConnectionId, outcome: Outcome },
    /// A step of a connection outside a session.
    Connection { at: u64, connection: ConnectionId, input: connection::Input<Tag>, outcome: Outcome },
    /// Frames were taken from a connection outside a session.
    Pulled { at: u64, connection: ConnectionId, frames: u32, outcome: Outcome },
    /// A session was opened.
    Opened { at: u64, user: UserId, generation: Generation, mode: Mode, outcome: Outcome },
    /// A step of a session.
    Session { at: u64, user: UserId, generation: Generation, input: session::Input<Tag>, outcome: Outcome },
    /// A checkpoint: a session's state before its next step.
    SessionState { at: u64, user: UserId, generation: Generation, session: Box<Session<Tag>> },
    /// This many records were dropped here, because the writer was behind.
    Hole { records: u64 },
    /// The gateway abandoned a session that broke an invariant or panicked.
    Fault { at: u64, user: UserId, generation: Generation },
    /// The file ends: with the process if `last`, or because it is full.
    End { last: bool },
}

/// The numbers of the variants of [`Record`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "each is documented at its variant of Record")]
pub enum Kind {
    Header,
    Node,
    NodeState,
    Accepted,
    Connection,
    Pulled,
    Opened,
    Session,
    SessionState,
    Hole,
    Fault,
    End,
}

/// A fixed 64-bit hash function that mixes in each word by one widening multiplication. It detects accidents, not
/// attacks.
#[derive(Clone, Copy, Debug)]
pub struct Digest(u64);

impl Digest {
    /// The digest of no input.
    #[must_use]
    pub const fn new() -> Self {
        Self(0x243F_6A88_85A3_08D3)
    }

    #[inline]
    fn word(&mut self, word: u64) {
        let mixed = u128::from((self.0 ^ word).wrapping_add(0x9E37_79B9_7F4A_7C15)) * 0xA076_1D64_78BD_642F_u128;
        #[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
        let folded = mixed as u64 ^ (mixed >> 64) as u64;
        self.0 = folded;
    }
}

impl Default for Digest {
    fn default() -> Self {
        Self::new()
    }
}

impl Hasher for Digest {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.word(u64::from_le_bytes(last));
        }
        self.word(bytes.len() as u64);
    }

    #[inline]
    fn write_u8(&mut self, number: u8) {
        self.word(number.into());
    }

    #[inline]
    fn write_u16(&mut self, number: u16) {
        self.word(number.into());
    }

    #[inline]
    fn write_u32(&mut self, number: u32) {
        self.word(number.into());
    }

    #[inline]
    fn write_u64(&mut self, number: u64) {
        self.word(number);
    }

    #[inline]
    fn write_usize(&mut self, number: usize) {
        self.word(number as u64);
    }

    #[inline]
    #[expect(clippy::cast_sign_loss, reason = "the discriminant of an enum")]
    fn write_isize(&mut self, number: isize) {
        self.word(number as u64);
    }

    #[inline]
    fn finish(&self) -> u64 {
        let mut last = *self;
        last.word(0);
        last.0
    }
}

/// Digests a value.
#[must_use]
pub fn digest<T: Hash + ?Sized>(value: &T) -> u64 {
    let mut digest = Digest::new();
    value.hash(&mut digest);
    digest.finish()
}

/// Whether a session is digested as a whole at each step.
#[must_use]
pub fn is_small<P: Piece>(session: &Session<P>) -> bool {
    let stream = session.stream().map_or(0, |stream| stream.entries().len() + stream.pending().len());
    stream + session.known().len() + session.past().len() <= SMALL
}

/// Digests the parts of a session that are cheap to read: all but the inside of its stream and its known messages.
#[must_use]
pub fn sketch<P: Piece + Hash>(session: &Session<P>) -> u64 {
    let mut digest = Digest::new();
    (session.user(), session.state(), session.ownership(), session.mode(), session.members(), session.runs())
        .hash(&mut digest);
    (session.queue(), session.unsettled(), session.breaker(), session.fence()).hash(&mut digest);
    (session.known().len(), session.past().len()).hash(&mut digest);
    if let Some(stream) = session.stream() {
        let (entries, pending) = (stream.entries(), stream.pending());
        (stream.epoch(), stream.tail(), stream.writer(), stream.batch()).hash(&mut digest);
        (entries.len(), entries.back(), pending.len(), pending.back()).hash(&mut digest);
    }
    digest.finish()
}

/// The running checksum over a body, its sequence number, and everything before.
#[must_use]
pub fn link(previous: u64, sequence: u64, body: &[u8]) -> u64 {
    let mut digest = Digest::new();
    digest.word(previous);
    digest.word(sequence);
    digest.write(body);
    digest.finish()
}

/// The check of a frame's length and sequence number.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "half of a digest")]
pub fn check(length: u32, sequence: u64) -> u32 {
    let mut digest = Digest::new();
    digest.word(length.into());
    digest.word(sequence);
    digest.finish() as u32
}

/// Writes one frame and returns its link, which the next frame needs. Bodies are shorter than [`MAX_BODY`].
pub fn frame(out: &mut Vec<u8>, previous: u64, sequence: u64, body: &[u8]) -> u64 {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let link = link(previous, sequence, body);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(&check(length, sequence).to_le_bytes());
    out.extend_from_slice(&link.to_le_bytes());
    out.extend_from_slice(body);
    link
}

/// Returns a file's name.
#[must_use]
pub fn name(process: u64, file: u32) -> String {
    format!("trace-{process:016x}-{file:08}.{EXTENSION}")
}

impl fmt::Display for Record {
    /// One human-readable line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(header) => write!(f, "file {} of process {:016x}", header.file, header.process),
            Self::Node { at, input, .. } => write!(f, "{at} µs  node  {input:?}"),
            Self::NodeState { at, .. } => write!(f, "{at} µs  node  checkpoint"),
            Self::Accepted { at, connection, .. } => write!(f, "{at} µs  connection {:016x}  accepted", connection.0),
            Self::Connection { at, connection, input, .. } => {
                write!(f, "{at} µs  connection {:016x}  {input:?}", connection.0)
            }
            Self::Pulled { at, connection, frames, .. } => {
                write!(f, "{at} µs  connection {:016x}  {frames} frames pulled", connection.0)
            }
            Self::Opened { at, user, generation, mode, .. } => {
                write!(f, "{at} µs  session {}/{}  opened, {mode:?}", user.0, generation.0)
            }
            Self::Session { at, user, generation, input, .. } => {
                write!(f, "{at} µs  session {}/{}  ", user.0, generation.0)?;
                match input {
                    session::Input::Restored { attempt, snapshot } => {
                        let stream::Snapshot { tenure, trimmed, read, past, entries, keeps: _ } = snapshot;
                        let (entries, past) = (entries.len(), past.len());
                        write!(f, "Restored {attempt:?}: {tenure:?}, {entries} entries after {trimmed:?}, ")?;
                        write!(f, "{past} messages before, read through {read:?}")
                    }
                    session::Input::Join { connection, mode } => {
                        write!(f, "Join of connection {:016x}, {mode:?}", connection.id().0)
                    }
                    session::Input::Found { connection, attempt, found: session::Found::Page(page) } => {
                        let stream::Page { trimmed, entries, through } = page;
                        write!(f, "Found {attempt:?} for connection {:016x}: ", connection.0)?;
                        write!(f, "{} entries after {trimmed:?}, through {through:?}", entries.len())
                    }
                    session::Input::Found { .. }
                    | session::Input::NotFound { .. }
                    | session::Input::NotRestored { .. }
                    | session::Input::Connection { .. }
                    | session::Input::Pull { .. }
                    | session::Input::Run { .. }
                    | session::Input::Notice { .. }
                    | session::Input::Delete { .. }
                    | session::Input::Persisted { .. }
                    | session::Input::Failed { .. }
                    | session::Input::Elsewhere { .. }
                    | session::Input::Fenced
                    | session::Input::Lost
                    | session::Input::Broken
                    | session::Input::Revoke(_)
                    | session::Input::Verified(_)
                    | session::Input::Mode(_)
                    | session::Input::Leave(_)
                    | session::Input::Stop
                    | session::Input::Expired(..) => write!(f, "{input:?}"),
                }
            }
            Self::SessionState { at, user, generation, .. } => {
                write!(f, "{at} µs  session {}/{}  checkpoint", user.0, generation.0)
            }
            Self::Hole { records } => write!(f, "{records} records were dropped"),
            Self::Fault { at, user, generation } => {
                write!(
                    f,
                    "{at} µs  session {}/{}  ABANDONED by the gateway: a broken invariant or a panic",
                    user.0, generation.0
                )
            }
            Self::End { last } => f.write_str(if *last { "the trace ends" } else { "the file ends" }),
        }
    }
}
