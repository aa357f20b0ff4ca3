//! Reads a trace frame by frame, and detects damage.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use super::format::{HEAD, Header, MAGIC, MAX_BODY, PREFIX, Record, VERSION, check, link};

/// Bytes per read.
const BUFFER: usize = 1 << 20;

/// Why a file cannot be replayed, or not beyond a point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub kind: DamageKind,
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DamageKind {
    /// It is empty.
    Empty,
    /// It does not begin like a trace.
    Foreign,
    /// It is a trace of another version of the format.
    OtherVersion(u16),
    /// It was cut off, or its process was killed, after this many records of this file.
    Truncated(u64),
    /// This record was changed.
    Tampered(u64),
    /// Records are out of order: one came where another was expected.
    Reordered {
        /// The expected number.
        expected: u64,
        /// The number found.
        found: u64,
    },
    /// Records were removed: from the first number to just before the second.
    Missing(u64, u64),
    /// A file of the trace between two others is missing.
    MissingFile(u32),
    /// The record is intact, but this version does not know its meaning.
    Unknown(u64),
    /// An error of the file system.
    World(String),
}

impl DamageKind {
    /// Returns one word for programs.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Foreign => "foreign",
            Self::OtherVersion(_) => "other-version",
            Self::Truncated(_) => "truncated",
            Self::Tampered(_) => "tampered",
            Self::Reordered { .. } => "reordered",
            Self::Missing(..) => "missing",
            Self::MissingFile(_) => "missing-file",
            Self::Unknown(_) => "unknown",
            Self::World(_) => "world",
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path.display())?;
        match &self.kind {
            DamageKind::Empty => f.write_str("empty: the file has no content"),
            DamageKind::Foreign => f.write_str("not a trace: it does not begin like one"),
            DamageKind::OtherVersion(found) => {
                write!(f, "a trace of format version {found}; this command reads version {VERSION}")
            }
            DamageKind::Truncated(records) => {
                write!(f, "truncated: it ends after {records} whole records, without its end record")
            }
            DamageKind::Tampered(sequence) => {
                write!(f, "tampered: record {sequence} is not what was written")
            }
            DamageKind::Reordered { expected, found } => {
                write!(f, "reordered: record {found} stands where record {expected} belongs")
            }
            DamageKind::Missing(from, to) => {
                write!(
                    f,
                    "records are missing: record {to} comes where record {from} belongs, which does not follow later"
                )
            }
            DamageKind::MissingFile(file) => write!(f, "file {file} of this trace, which precedes it, is missing"),
            DamageKind::Unknown(sequence) => write!(f, "record {sequence} is intact, but not a record of this version"),
            DamageKind::World(error) => f.write_str(error),
        }
    }
}

/// Reads one file.
pub(super) struct Reader {
    path: PathBuf,
    input: BufReader<File>,
    body: Vec<u8>,
    next: Option<u64>,
    link: u64,
    read: u64,
}

/// The result of a read.
enum Bytes {
    All,
    Part,
    None,
}

impl Reader {
    /// Opens a file and reads its header. `after` is the expected number and the last link of the preceding file.
    pub(super) fn open(path: &Path, after: Option<(u64, u64)>) -> Result<(Self, Header), Damage> {
        let fail = |kind| Damage { path: path.to_owned(), kind };
        let world = |error: io::Error| fail(DamageKind::World(error.to_string()));
        let mut input = BufReader::with_capacity(BUFFER, File::open(path).map_err(world)?);
        let mut prefix = [0; PREFIX];
        match fill(&mut input, &mut prefix).map_err(world)? {
            Bytes::None => return Err(fail(DamageKind::Empty)),
            Bytes::Part => return Err(fail(DamageKind::Foreign)),
            Bytes::All => {}
        }
        if prefix[..MAGIC.len()] != MAGIC {
            return Err(fail(DamageKind::Foreign));
        }
        let version = u16::from_le_bytes([prefix[8], prefix[9]]);
        if version != VERSION {
            return Err(fail(DamageKind::OtherVersion(version)));
        }
        let mut reader = Self { path: path.to_owned(), input, body: Vec::new(), next: None, link: 0, read: 0 };
        let (sequence, expected) = reader.frame()?;
        let Ok(Record::Header(header)) = postcard::from_bytes::<Record>(&reader.body) else {
            // A file's first record is its header. Another intact record was put in its place.
            return Err(fail(if link(0, sequence, &reader.body) == expected || sequence > 0 {
                DamageKind::Reordered { expected: 0, found: sequence }
            } else {
                DamageKind::Tampered(sequence)
            }));
        };
        if link(header.previous, sequence, &reader.body) != expected {
            return Err(fail(DamageKind::Tampered(sequence)));
        }
        match after {
            Some((next, _)) if next < sequence => return Err(fail(DamageKind::Missing(next, sequence))),
            Some((next, _)) if next > sequence => {
                return Err(fail(DamageKind::Reordered { expected: next, found: sequence }));
            }
            Some((_, last)) if last != header.previous => return Err(fail(DamageKind::Tampered(sequence))),
            None if header.file == 0 && sequence != 0 => return Err(fail(DamageKind::Missing(0, sequence))),
            Some(_) | None => {}
        }
        (reader.next, reader.link) = (Some(sequence + 1), expected);
        Ok((reader, header))
    }

    /// Returns the number of the next record and the link of the last.
    pub(super) fn place(&self) -> (u64, u64) {
        (self.next.unwrap_or_default(), self.link)
    }

    /// Reads the next record with its number. Must not be called after [`Record::End`].
    pub(super) fn record(&mut self) -> Result<(u64, Record), Damage> {
        let (sequence, expected) = self.frame()?;
        if link(self.link, sequence, &self.body) != expected {
            return Err(self.fail(DamageKind::Tampered(sequence)));
        }
        (self.next, self.link) = (Some(sequence + 1), expected);
        let record: Record = postcard::from_bytes(&self.body).map_err(|_| self.fail(DamageKind::Unknown(sequence)))?;
        if matches!(record, Record::End { .. }) {
            let mut more = [0; 1];
            if !matches!(fill(&mut self.input, &mut more), Ok(Bytes::None)) {
                return Err(self.fail(DamageKind::Tampered(sequence + 1)));
            }
        }
        Ok((sequence, record))
    }

    /// Reads a frame with the expected number, and returns the number and its link.
    fn frame(&mut self) -> Result<(u64, u64), Damage> {
        let Some((length, sequence, link)) = self.head()? else {
            return Err(self.fail(DamageKind::Truncated(self.read)));
        };
        if let Some(expected) = self.next.filter(|expected| *expected != sequence) {
            return Err(self.misplaced(expected, sequence, length));
        }
        self.body.resize(length, 0);
        match fill(&mut self.input, &mut self.body) {
            Ok(Bytes::All) => {}
            Ok(Bytes::None) if length == 0 => {}
            Ok(Bytes::Part | Bytes::None) => return Err(self.fail(DamageKind::Truncated(self.read))),
            Err(error) => return Err(self.fail(DamageKind::World(error.to_string()))),
        }
        self.read += 1;
        Ok((sequence, link))
    }

    /// Reads the head of a frame: the length of its body, its number, its link. Returns `None` at the end of the file.
    fn head(&mut self) -> Result<Option<(usize, u64, u64)>, Damage> {
        let mut head = [0; HEAD];
        match fill(&mut self.input, &mut head) {
            Ok(Bytes::All) => {}
            Ok(Bytes::Part | Bytes::None) => return Ok(None),
            Err(error) => return Err(self.fail(DamageKind::World(error.to_string()))),
        }
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|index| head[at + index]));
        let half = |at: usize| u32::from_le_bytes(std::array::from_fn(|index| head[at + index]));
        let (length, sequence) = (half(0), word(4));
        if check(length, sequence) != half(12) || length as usize > MAX_BODY {
            return Err(self.fail(DamageKind::Tampered(self.next.unwrap_or_default())));
        }
        Ok(Some((length as usize, sequence, word(16))))
    }

    /// Determines the damage when a record is in another's place: does the expected record follow later, or not at all?
    fn misplaced(&mut self, expected: u64, found: u64, length: usize) -> Damage {
        let mut skip = length;
        let behind = found < expected
            || loop {
                if io::copy(&mut (&mut self.input).take(skip as u64), &mut io::sink()).is_err() {
                    break false;
                }
                match self.head() {
                    Ok(Some((_, sequence, _))) if sequence == expected => break true,
                    Ok(Some((length, _, _))) => skip = length,
                    Ok(None) | Err(_) => break false,
                }
            };
        self.fail(if behind { DamageKind::Reordered { expected, found } } else { DamageKind::Missing(expected, found) })
    }

    fn fail(&self, kind: DamageKind) -> Damage {
        Damage { path: self.path.clone(), kind }
    }
}

/// Fills the buffer, or reports the end of the file.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<Bytes> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => return Ok(if filled == 0 { Bytes::None } else { Bytes::Part }),
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Bytes::All)
}
