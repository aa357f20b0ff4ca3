//! What stands in the files of the log, byte by byte.
//!
//! A segment is a header and groups. A group is what one commit has written: a head with checksums of itself and of what
//! follows, then records, each with a checksum of its own, so that one record can be read alone. Checksums start from the
//! log's id and the segment's number: what another file or another log has left on the disk is no part of this one.
//! Numbers are little-endian, or variable in length (7 bits a byte).

use std::sync::Arc;

use lockstep_model::run::{Kind, Reason, Received, Schedule, ToolEnd};
use lockstep_model::{Generation, MessageId, Offset, PartId, RunId, ThreadId, ToolId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::entries::Entries;
use crate::log::Written;
use crate::payload::{Record as Content, thread_id};

/// The version of all of this. An earlier one is read, and a later one refused.
pub(super) const VERSION: u32 = 3;

/// The version of a segment's header and its groups.
const SEGMENT_VERSION: u32 = 1;

/// Bytes of a segment's header.
pub(super) const HEADER: usize = 32;

/// Bytes of a group's head.
pub(super) const HEAD: usize = 24;

const SEGMENT_MAGIC: &[u8; 8] = b"lockstep";

/// Begins a group. No text in UTF-8 has these bytes, and what is packed could have no checksum of this log's after them but by
/// chance, so no content of a user is taken for a group.
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

/// Whether the segment begins as this log's segment of that number does.
pub(super) fn is_header(bytes: &[u8], id: u64, segment: u32) -> bool {
    bytes.get(..HEADER) == Some(&header(id, segment))
}

/// Writes the head of a group in front of its records. `bytes` begins with [`HEAD`] bytes of room.
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
    /// Its records; `None` if they are cut or damaged.
    pub(super) records: Option<&'a [u8]>,
}

/// The group that begins there; `None` if none does.
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

/// Whether any group of this segment begins in these bytes.
pub(super) fn any_group(bytes: &[u8], id: u64, segment: u32) -> bool {
    let mut starts = bytes.windows(GROUP_MAGIC.len()).enumerate().filter(|(_, window)| *window == GROUP_MAGIC);
    starts.any(|(at, _)| group(&bytes[at..], id, segment).is_some())
}

/// A number of variable length.
pub(in crate::log) fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// The number at the front, which is taken off.
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

/// What a segment says. Records may be read in any order: each number only grows, and an erased user stays erased.
#[derive(Clone, Copy)]
pub(super) enum Record<'a> {
    State(State<'a>),
    Entries(Entries<'a>),
    /// The user is erased. What segments up to `at` hold of it is void.
    Erased {
        user: UserId,
        at: u32,
    },
    /// The user has deleted a thread, and what is gone with that is before `through`. Segments up to `at` may hold it.
    Deleted {
        user: UserId,
        through: Offset,
        at: u32,
    },
}

/// All there is to know of a user beside its entries.
#[derive(Clone, Copy)]
pub(super) struct State<'a> {
    pub(super) user: UserId,
    pub(super) subject: &'a str,
    pub(super) generation: Generation,
    pub(super) trimmed: Offset,
    pub(super) read: Offset,
    pub(super) head: Offset,
}

const STATE: u8 = 1;
pub(super) const ENTRIES: u8 = 2;
const ERASED: u8 = 3;
pub(super) const PACKED: u8 = 4;
const DELETED: u8 = 5;

/// Puts a record behind `bytes`, which then ends with its checksum.
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

/// The record at the front, and how many bytes it takes: `Ok(None)` if there may be more of it behind these bytes.
///
/// # Errors
///
/// If it is none: damaged, or of a later version.
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

/// How many bytes the record at the front takes, as far as its first bytes say.
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
            generation: Generation(u32::try_from(take(body)?).ok()?),
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

/// A [`Kind`] as the log keeps it. What is here keeps its place: logs that were written before have it.
#[derive(Serialize, Deserialize)]
enum Kept {
    /// A run that begins at once, in the thread that the entry names.
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
    /// What is gone with its thread: the message, if it was one. Of other entries that are gone, and were appended before it,
    /// it may be all that is left.
    Gone(Option<MessageId>),
    /// A run whose message replaces what its thread had from a place on.
    Replacing(MessageId, ThreadId, Schedule, Offset),
}

/// What an entry is.
pub(in crate::log) enum Entry<T> {
    There(T),
    /// It is gone with its thread; it may have been a message.
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
            Kind::Completed => Self::Completed,
            Kind::Error(reason) => Self::Error(reason),
            Kind::Notice => Self::Notice,
            Kind::Deleted => Self::Deleted,
        }
    }

    fn kind(self, thread: Option<&str>) -> Entry<Kind> {
        Entry::There(match self {
            Self::Gone(message) => return Entry::Gone(message),
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

/// What the log keeps of an entry beside its data, which follows.
#[derive(Serialize, Deserialize)]
struct About<'a> {
    run: u64,
    at: u64,
    kind: Kept,
    thread: Option<&'a str>,
}

/// The content of an entry.
pub(in crate::log) fn content(entry: &Written) -> Result<Vec<u8>, String> {
    let Content { thread, at, data, .. } = &*entry.record;
    let about =
        About { run: entry.run.0, at: *at, kind: Kept::of(entry.kind, thread.as_deref()), thread: thread.as_deref() };
    let mut bytes = postcard::to_allocvec(&about).map_err(|error| error.to_string())?;
    bytes.extend_from_slice(data.get().as_bytes());
    Ok(bytes)
}

/// The content of an entry that is gone.
pub(super) fn gone(message: Option<MessageId>) -> Vec<u8> {
    let about = About { run: 0, at: 0, kind: Kept::Gone(message), thread: None };
    postcard::to_allocvec(&about).expect("numbers have an encoding")
}

/// What kind of entry has this content, and its thread.
pub(super) fn kind(content: &[u8]) -> Option<(Entry<Kind>, Option<&str>)> {
    let (about, _) = postcard::take_from_bytes::<About<'_>>(content).ok()?;
    Some((about.kind.kind(about.thread), about.thread))
}

/// The entry that has this content.
pub(super) fn entry(content: &[u8]) -> Option<Entry<Written>> {
    let (about, data) = postcard::take_from_bytes::<About<'_>>(content).ok()?;
    let kind = match about.kind.kind(about.thread) {
        Entry::There(kind) => kind,
        Entry::Gone(message) => return Some(Entry::Gone(message)),
    };
    let data = RawValue::from_string(String::from_utf8(data.to_vec()).ok()?).ok()?;
    let record = Content::written(about.thread.map(Arc::from), data, about.at);
    Some(Entry::There(Written { run: RunId(about.run), kind, record: Arc::new(record) }))
}

/// The entry that has this content and is not gone.
pub(in crate::log) fn written(content: &[u8]) -> Option<Written> {
    match entry(content)? {
        Entry::There(written) => Some(written),
        Entry::Gone(_) => None,
    }
}

/// Which segments there are, and what is known of the last end: the file `manifest`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) version: u32,
    pub(super) id: u64,
    pub(super) epoch: u64,
    /// The highest number that a user was given by then.
    pub(super) users: u64,
    /// The start of the machine in which the log was last opened.
    pub(super) boot: Option<String>,
    /// Whether each answer was given after a sync.
    pub(super) synced: bool,
    /// Whether the log was closed, and all of it synced.
    pub(super) closed: bool,
    /// In order; the last one is written, and its length is that of a closed log.
    pub(super) segments: Vec<Listed>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Listed {
    pub(super) number: u32,
    pub(super) length: u64,
    /// The number of its first group.
    pub(super) first: u64,
}

impl Manifest {
    pub(super) fn encode(&self) -> Vec<u8> {
        let text = serde_json::to_string_pretty(self).expect("numbers and strings are JSON");
        format!("lockstep log, checksum {:08x}\n{text}\n", crc32fast::hash(text.as_bytes())).into_bytes()
    }

    /// `Err` if it is damaged; `Ok(Err)` if it is of another version.
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
            return Ok(Err(format!("it has format {version}, and this program knows format {VERSION}")));
        }
        let manifest: Self = serde_json::from_str(text).map_err(|_| damaged())?;
        Ok(Ok(Self { version: VERSION, ..manifest }))
    }
}

/// How far the segment that is written is known to be good: the file `mark`, which is written after each commit and never
/// synced. It has two places, written in turn, so that one is whole when a write is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    pub(super) segment: u32,
    /// What was answered lies before this.
    pub(super) answered: u64,
    /// What lies before this was synced.
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

/// Bytes of one place.
pub(super) const MARK_BYTES: usize = 24;
