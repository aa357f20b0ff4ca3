//! The byte format of the log's files.
//!
//! A segment is a header and groups. A group is the result of one commit: a head with checksums of itself and of what
//! follows, then records, each with its own checksum, so that a single record can be read. The checksums of headers and
//! groups start from the log's id and the segment's number, so bytes that another file or log has left on the disk are
//! not mistaken for this one's. Numbers are little-endian, or of variable length (7 bits per byte).

use std::sync::Arc;

use lockstep_model::run::{Kind, Reason, Received, Schedule, ToolEnd};
use lockstep_model::{FencingToken, MessageId, Offset, PartId, PauseId, RunId, ThreadId, ToolId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::entries::Entries;
use crate::log::Written;
use crate::payload::{Record as Content, thread_id};

/// The version of the whole format. Earlier versions are read, and later ones refused.
pub(super) const VERSION: u32 = 4;

/// The version of a segment's header and its groups.
const SEGMENT_VERSION: u32 = 1;

/// Bytes of a segment's header.
pub(super) const HEADER: usize = 32;

/// Bytes of a group's head.
pub(super) const HEAD: usize = 24;

const SEGMENT_MAGIC: &[u8; 8] = b"lockstep";

/// Begins a group. UTF-8 text never contains these bytes, and in packed content a matching checksum of this log would
/// follow them only by chance, so no user's content is taken for a group.
const GROUP_MAGIC: [u8; 4] = [0xf5, b'L', b'S', 0xff];

fn checksum(id: u64, segment: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&id.to_le_bytes());
    hasher.update(&segment.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// The header of a segment.
pub(super) fn header(id: u64, segment: u32) -> Vec<u8> {
    let mut bytes = SEGMENT_MAGIC.to_vec();
    bytes.extend_from_slice(&SEGMENT_VERSION.to_le_bytes());
    bytes.extend_from_slice(&segment.to_le_bytes());
    bytes.extend_from_slice(&id.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&checksum(id, segment, &bytes).to_le_bytes());
    bytes
}

/// Whether the bytes begin with the header of this log's segment of that number.
pub(super) fn is_header(bytes: &[u8], id: u64, segment: u32) -> bool {
    bytes.get(..HEADER) == Some(&header(id, segment))
}

/// Writes the head of a group in front of its records. `bytes` begins with [`HEAD`] reserved bytes.
pub(super) fn seal(bytes: &mut [u8], id: u64, segment: u32, sequence: u64) {
    let length = u32::try_from(bytes.len() - HEAD).expect("a group is bounded");
    let sum = checksum(id, segment, &bytes[HEAD..]);
    bytes[..4].copy_from_slice(&GROUP_MAGIC);
    bytes[4..8].copy_from_slice(&length.to_le_bytes());
    bytes[8..16].copy_from_slice(&sequence.to_le_bytes());
    bytes[16..20].copy_from_slice(&sum.to_le_bytes());
    let check = checksum(id, segment, &bytes[..20]);
    bytes[20..24].copy_from_slice(&check.to_le_bytes());
}

/// A group as its head describes it.
pub(super) struct Group<'a> {
    pub(super) sequence: u64,
    /// Its records; `None` if they are truncated or damaged.
    pub(super) records: Option<&'a [u8]>,
}

/// Parses the group that begins there; `None` if there is none.
pub(super) fn group(bytes: &[u8], id: u64, segment: u32) -> Option<Group<'_>> {
    let head = bytes.get(..HEAD)?;
    if head[..4] != GROUP_MAGIC || checksum(id, segment, &head[..20]) != word(head, 20)? {
        return None;
    }
    let length = usize::try_from(word(head, 4)?).ok()?;
    let records =
        bytes.get(HEAD..HEAD + length).filter(|records| Some(checksum(id, segment, records)) == word(head, 16));
    Some(Group { sequence: long(head, 8)?, records })
}

/// Whether any group of this segment begins within these bytes.
pub(super) fn any_group(bytes: &[u8], id: u64, segment: u32) -> bool {
    let mut starts = bytes.windows(GROUP_MAGIC.len()).enumerate().filter(|(_, window)| *window == GROUP_MAGIC);
    starts.any(|(at, _)| group(&bytes[at..], id, segment).is_some())
}

/// Appends a number of variable length.
pub(in crate::log) fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Removes and returns the number at the front.
pub(in crate::log) fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

pub(super) fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take(bytes)?).ok()?;
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

/// A record of a segment. Records may be read in any order: each number only grows, and an erased user stays erased.
#[derive(Clone, Copy)]
pub(super) enum Record<'a> {
    State(State<'a>),
    Entries(Entries<'a>),
    /// The user is erased. Its content in segments up to `at` is void.
    Erased {
        user: UserId,
        at: u32,
    },
    /// The user has deleted a thread, and the content that is gone with it is before `through`. Segments up to `at` may
    /// hold it.
    Deleted {
        user: UserId,
        through: Offset,
        at: u32,
    },
}

/// A user's state, without its entries.
#[derive(Clone, Copy)]
pub(super) struct State<'a> {
    pub(super) user: UserId,
    pub(super) subject: &'a str,
    pub(super) generation: FencingToken,
    pub(super) trimmed: Offset,
    pub(super) read: Offset,
    pub(super) head: Offset,
}

const STATE: u8 = 1;
pub(super) const ENTRIES: u8 = 2;
const ERASED: u8 = 3;
pub(super) const PACKED: u8 = 4;
const DELETED: u8 = 5;

/// Appends a record with its checksum.
pub(super) fn frame(bytes: &mut Vec<u8>, kind: u8, body: &[u8]) {
    bytes.push(kind);
    put(bytes, body.len() as u64);
    bytes.extend_from_slice(body);
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[kind]);
    hasher.update(body);
    bytes.extend_from_slice(&hasher.finalize().to_le_bytes());
}

pub(super) fn put_state(bytes: &mut Vec<u8>, state: &State<'_>) {
    let State { user, subject, generation, trimmed, read, head } = *state;
    let mut body = Vec::with_capacity(subject.len() + 24);
    for number in [user.0, generation.0.into(), trimmed.0, read.0, head.0] {
        put(&mut body, number);
    }
    put(&mut body, subject.len() as u64);
    body.extend_from_slice(subject.as_bytes());
    frame(bytes, STATE, &body);
}

pub(super) fn put_erased(bytes: &mut Vec<u8>, user: UserId, at: u32) {
    let mut body = Vec::new();
    put(&mut body, user.0);
    put(&mut body, u64::from(at));
    frame(bytes, ERASED, &body);
}

pub(super) fn put_deleted(bytes: &mut Vec<u8>, user: UserId, through: Offset, at: u32) {
    let mut body = Vec::new();
    for number in [user.0, through.0, u64::from(at)] {
        put(&mut body, number);
    }
    frame(bytes, DELETED, &body);
}

/// Parses the record at the front, and returns it with its size: `Ok(None)` if these bytes may be only its beginning.
///
/// # Errors
///
/// If it is not a record: damaged, or of a later version.
pub(super) fn record(bytes: &[u8]) -> Result<Option<(Record<'_>, usize)>, ()> {
    let Some((kind, mut rest)) = bytes.split_first() else { return Ok(None) };
    let before = rest.len();
    let Some(length) = take(&mut rest) else { return if before < 10 { Ok(None) } else { Err(()) } };
    let length = usize::try_from(length).map_err(|_| ())?;
    let Some((body, rest)) = rest.split_at_checked(length) else { return Ok(None) };
    let Some(sum) = word(rest, 0) else { return Ok(None) };
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[*kind]);
    hasher.update(body);
    if hasher.finalize() != sum {
        return Err(());
    }
    let size = bytes.len() - rest.len() + 4;
    Ok(Some((parse(*kind, body).ok_or(())?, size)))
}

/// The size of the record at the front, according to its first bytes.
pub(super) fn size(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes.get(1..)?;
    let length = usize::try_from(take(&mut rest)?).ok()?;
    length.checked_add(bytes.len() - rest.len() + 4)
}

fn parse(kind: u8, mut body: &[u8]) -> Option<Record<'_>> {
    let body = &mut body;
    match kind {
        STATE => Some(Record::State(State {
            user: UserId(take(body)?),
            generation: FencingToken(u32::try_from(take(body)?).ok()?),
            trimmed: Offset(take(body)?),
            read: Offset(take(body)?),
            head: Offset(take(body)?),
            subject: core::str::from_utf8(take_bytes(body)?).ok()?,
        })),
        ENTRIES | PACKED => Entries::parse(body, kind == PACKED).map(Record::Entries),
        ERASED => Some(Record::Erased { user: UserId(take(body)?), at: u32::try_from(take(body)?).ok()? }),
        DELETED => Some(Record::Deleted {
            user: UserId(take(body)?),
            through: Offset(take(body)?),
            at: u32::try_from(take(body)?).ok()?,
        }),
        _ => None,
    }
}

/// A [`Kind`] as the log stores it. Variants must keep their places, because existing logs contain them.
#[derive(Serialize, Deserialize)]
enum Kept {
    /// A run that begins at once, in the entry's thread.
    Received(MessageId),
    Started,
    Thinking,
    ToolExecuting(ToolId),
    ToolCompleted(ToolId, ToolEnd),
    Completed,
    Error(Reason),
    Notice,
    Delta(PartId),
    /// A run that is queued, or in another thread.
    ReceivedAs(MessageId, ThreadId, Schedule),
    Deleted,
    /// An entry that is gone with its thread: its message id, if it was a message. It may also stand for entries before
    /// it that are gone.
    Gone(Option<MessageId>),
    /// A run whose message replaces its thread's content from an offset on.
    Replacing(MessageId, ThreadId, Schedule, Offset),
    Paused(PauseId),
    Resumed(PauseId),
}

/// What a stored entry decodes to.
pub(in crate::log) enum Decoded<T> {
    There(T),
    /// Gone with its thread; it may have been a message.
    Gone(Option<MessageId>),
}

impl Kept {
    fn of(kind: Kind, thread: Option<&str>) -> Self {
        match kind {
            Kind::Received(received) => {
                let Received { message, thread: of, schedule, replaces } = received;
                if received == immediate(message, thread) {
                    Self::Received(message)
                } else if let Some(from) = replaces {
                    Self::Replacing(message, of, schedule, from)
                } else {
                    Self::ReceivedAs(message, of, schedule)
                }
            }
            Kind::Started => Self::Started,
            Kind::Thinking => Self::Thinking,
            Kind::Delta(part) => Self::Delta(part),
            Kind::ToolExecuting(tool) => Self::ToolExecuting(tool),
            Kind::ToolCompleted(tool, end) => Self::ToolCompleted(tool, end),
            Kind::Paused(pause) => Self::Paused(pause),
            Kind::Resumed(pause) => Self::Resumed(pause),
            Kind::Completed => Self::Completed,
            Kind::Error(reason) => Self::Error(reason),
            Kind::Notice => Self::Notice,
            Kind::Deleted => Self::Deleted,
        }
    }

    fn kind(self, thread: Option<&str>) -> Decoded<Kind> {
        Decoded::There(match self {
            Self::Gone(message) => return Decoded::Gone(message),
            Self::Received(message) => Kind::Received(immediate(message, thread)),
            Self::ReceivedAs(message, thread, schedule) => {
                Kind::Received(Received { message, thread, schedule, replaces: None })
            }
            Self::Replacing(message, thread, schedule, from) => {
                Kind::Received(Received { message, thread, schedule, replaces: Some(from) })
            }
            Self::Started => Kind::Started,
            Self::Thinking => Kind::Thinking,
            Self::Delta(part) => Kind::Delta(part),
            Self::ToolExecuting(tool) => Kind::ToolExecuting(tool),
            Self::ToolCompleted(tool, end) => Kind::ToolCompleted(tool, end),
            Self::Paused(pause) => Kind::Paused(pause),
            Self::Resumed(pause) => Kind::Resumed(pause),
            Self::Completed => Kind::Completed,
            Self::Error(reason) => Kind::Error(reason),
            Self::Notice => Kind::Notice,
            Self::Deleted => Kind::Deleted,
        })
    }
}

fn immediate(message: MessageId, thread: Option<&str>) -> Received {
    Received::immediate(message, thread_id(thread))
}

/// The stored fields of an entry, apart from its data, which follows.
#[derive(Serialize, Deserialize)]
struct About<'a> {
    run: u64,
    at: u64,
    kind: Kept,
    thread: Option<&'a str>,
}

/// Encodes the content of an entry.
pub(in crate::log) fn content(entry: &Written) -> Result<Vec<u8>, String> {
    let Content { thread, data, .. } = &*entry.record;
    let (kind, at) = (Kept::of(entry.kind, thread.as_deref()), entry.record.at());
    let about = About { run: entry.run.0, at, kind, thread: thread.as_deref() };
    let mut bytes = postcard::to_allocvec(&about).map_err(|error| error.to_string())?;
    bytes.extend_from_slice(data.get().as_bytes());
    Ok(bytes)
}

/// Encodes the content of an entry that is gone.
pub(super) fn gone(message: Option<MessageId>) -> Vec<u8> {
    let about = About { run: 0, at: 0, kind: Kept::Gone(message), thread: None };
    postcard::to_allocvec(&about).expect("numbers have an encoding")
}

/// Decodes the kind of an entry, and its thread.
pub(super) fn kind(content: &[u8]) -> Option<(Decoded<Kind>, Option<&str>)> {
    let (about, _) = postcard::take_from_bytes::<About<'_>>(content).ok()?;
    Some((about.kind.kind(about.thread), about.thread))
}

/// Decodes an entry.
pub(super) fn entry(content: &[u8]) -> Option<Decoded<Written>> {
    let (about, data) = postcard::take_from_bytes::<About<'_>>(content).ok()?;
    let kind = match about.kind.kind(about.thread) {
        Decoded::There(kind) => kind,
        Decoded::Gone(message) => return Some(Decoded::Gone(message)),
    };
    let data = RawValue::from_string(String::from_utf8(data.to_vec()).ok()?).ok()?;
    let record = Content::written(about.thread.map(Arc::from), data, about.at);
    Some(Decoded::There(Written { run: RunId(about.run), kind, record: Arc::new(record) }))
}

/// Decodes an entry that is not gone.
pub(in crate::log) fn written(content: &[u8]) -> Option<Written> {
    match entry(content)? {
        Decoded::There(written) => Some(written),
        Decoded::Gone(_) => None,
    }
}

/// The file `manifest`: the segments, and how the log last ended, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) version: u32,
    pub(super) id: u64,
    pub(super) epoch: u64,
    /// The highest user number that was assigned so far.
    pub(super) users: u64,
    /// The boot id at which the log was last opened.
    pub(super) boot: Option<String>,
    /// Whether each answer was given after a sync.
    pub(super) synced: bool,
    /// Whether the log was closed, with everything synced.
    pub(super) closed: bool,
    /// In order. The last one is active, and its length is that of a closed log.
    pub(super) segments: Vec<Listed>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Listed {
    pub(super) number: u32,
    pub(super) length: u64,
    /// The sequence number of its first group.
    pub(super) first: u64,
}

impl Manifest {
    pub(super) fn encode(&self) -> Vec<u8> {
        let text = serde_json::to_string_pretty(self).expect("numbers and strings are JSON");
        format!("lockstep log, checksum {:08x}\n{text}\n", crc32fast::hash(text.as_bytes())).into_bytes()
    }

    /// `Err` if the manifest is damaged; `Ok(Err)` if it has another version.
    pub(super) fn decode(bytes: &[u8]) -> Result<Result<Self, String>, String> {
        let damaged = || "the file `manifest` is damaged".to_owned();
        let text = core::str::from_utf8(bytes).map_err(|_| damaged())?;
        let (first, text) = text.split_once('\n').ok_or_else(damaged)?;
        let (sum, text) = (first.strip_prefix("lockstep log, checksum ").ok_or_else(damaged)?, text.trim_end());
        if u32::from_str_radix(sum, 16) != Ok(crc32fast::hash(text.as_bytes())) {
            return Err(damaged());
        }
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } = serde_json::from_str(text).map_err(|_| damaged())?;
        if !(1..=VERSION).contains(&version) {
            return Ok(Err(format!("it has format {version}, but this program reads only up to format {VERSION}")));
        }
        let manifest: Self = serde_json::from_str(text).map_err(|_| damaged())?;
        Ok(Ok(Self { version: VERSION, ..manifest }))
    }
}

/// The file `mark`: how far the active segment is known to be good. It is written after each commit and never synced.
/// It has two copies, written in turn, so that one is whole if a write is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    pub(super) segment: u32,
    /// Everything that was acknowledged is before this.
    pub(super) answered: u64,
    /// Everything before this was synced.
    pub(super) synced: u64,
}

impl Mark {
    pub(super) fn encode(&self, id: u64) -> [u8; MARK_BYTES] {
        let mut bytes = [0; MARK_BYTES];
        bytes[..4].copy_from_slice(&self.segment.to_le_bytes());
        bytes[4..12].copy_from_slice(&self.answered.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.synced.to_le_bytes());
        let sum = checksum(id, self.segment, &bytes[..20]);
        bytes[20..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// The newest mark of the file.
    pub(super) fn newest(bytes: &[u8], id: u64) -> Option<Self> {
        bytes.chunks(MARK_BYTES).filter_map(|bytes| Self::decode(bytes, id)).max()
    }

    fn decode(bytes: &[u8], id: u64) -> Option<Self> {
        let segment = word(bytes, 0)?;
        let good = bytes.len() == MARK_BYTES && word(bytes, 20)? == checksum(id, segment, &bytes[..20]);
        good.then_some(Self { segment, answered: long(bytes, 4)?, synced: long(bytes, 12)? })
    }
}

/// Bytes of one copy.
pub(super) const MARK_BYTES: usize = 24;
