//! A small private file that survives a crash. Lines are appended, and the whole file is rewritten from time to time.
//!
//! The first line has the file's id and the number of lines that it was created with. Each line begins with a checksum
//! of the id, the line's number and its text. A second file, the *mark*, records how many bytes were acknowledged. If
//! anything acknowledged is truncated, altered or removed, the file is refused when it is opened, because the loss of a
//! line that ends something must not go unnoticed. Damaged lines after that were left by a crash and never
//! acknowledged; they are skipped.
//!
//! | state of the files | meaning |
//! | --- | --- |
//! | no mark, or one with another id | a crash between the two writes, or a restored backup: the line count decides |
//! | the mark is there and the file is not | the file is gone |
//! | the first line has no checksum | an earlier version wrote the file |
//!
//! All functions here block on the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::sentence;
use crate::support::private_file::{self, replace};

/// The size of a mark in bytes: the id, the number of acknowledged bytes, and a checksum of both.
const MARK: usize = 20;

sentence! {
    /// Why a file cannot be read or written: a sentence that names it.
    FileError
}

impl FileError {
    fn of(path: &Path, cause: impl core::error::Error + Send + Sync + 'static) -> Self {
        Self::because(format!("{}: {cause}", path.display()), cause)
    }

    fn at_line(path: &Path, line: u64, cause: serde_json::Error) -> Self {
        Self::because(format!("{}:{line}: {cause}", path.display()), cause)
    }
}

/// The first line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    id: u64,
    /// The number of lines that were written together with this one.
    lines: u64,
}

/// A file of JSON lines that one process appends to.
///
/// A failed write may leave half a line, so the next write must replace the file.
#[derive(Debug)]
pub(crate) struct LineFile {
    path: PathBuf,
    /// Open while the file's content is intact.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    id: u64,
    /// The number of lines, including the first one, and of bytes.
    lines: u64,
    length: u64,
}

impl LineFile {
    /// Opens the file, if there is one, and passes each line to `each`.
    ///
    /// # Errors
    ///
    /// A sentence that names the file and the position of the damage.
    pub(crate) fn open<T: DeserializeOwned>(path: PathBuf, mut each: impl FnMut(T)) -> Result<Self, FileError> {
        let refuse = |what: &str| {
            let (file, mark) = (path.display(), mark_of(&path));
            FileError::new(format!(
                "{file}: {what}; restore it from a backup, or remove it and {} to start without: all users then \
                 log in again, and revoked tokens of another issuer are valid until they expire",
                mark.display()
            ))
        };
        let marked = fs::read(mark_of(&path));
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound && marked.is_err() => Vec::new(),
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(refuse("it is missing")),
            Err(error) => return Err(FileError::of(&path, error)),
        };
        if bytes.first().is_none_or(|first| *first == b'{') {
            if bytes.is_empty() && marked.is_ok() {
                return Err(refuse("it is empty"));
            }
            read_plain(&path, &bytes, each)?;
            return Ok(Self { path, open: None });
        }
        let damaged = |at: usize| refuse(&format!("it is damaged at byte {at} of {}", bytes.len()));
        let head = bytes.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
        let head = text(head, 0, 0).ok_or_else(|| damaged(0))?;
        let unknown = |number: u64, error| FileError::at_line(&path, number + 1, error);
        let head: Head = serde_json::from_slice(head).map_err(|error| unknown(0, error))?;
        let answered = marked.ok().and_then(|mark| answered(&mark, head.id)).unwrap_or_default();
        let (mut number, mut good) = (0, 0);
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if number > 0 {
                let Some(entry) = text(line, head.id, number) else { break };
                each(serde_json::from_slice(entry).map_err(|error| unknown(number, error))?);
            }
            (number, good) = (number + 1, good + line.len());
        }
        if number <= head.lines || (good as u64) < answered {
            return Err(damaged(good));
        }
        Ok(Self { path, open: None })
    }

    /// Replaces the file's content with these lines.
    ///
    /// # Errors
    ///
    /// The disk's error. The file is then unchanged.
    pub(crate) fn rewrite(&mut self, lines: &[String]) -> Result<(), FileError> {
        self.open = None;
        let random = crate::support::random::random_bytes();
        let id = u64::from_le_bytes(random.map_err(|error| FileError::of(&self.path, error))?);
        let head = serde_json::to_string(&Head { id, lines: lines.len() as u64 }).expect("numbers are JSON");
        let mut text = line(0, 0, &head);
        for (number, entry) in (1..).zip(lines) {
            text.push_str(&line(id, number, entry));
        }
        let file = replace(&self.path, text.as_bytes())
            .and_then(|()| OpenOptions::new().append(true).open(&self.path))
            .map_err(|error| FileError::of(&self.path, error))?;
        let open = Open { file, id, lines: lines.len() as u64 + 1, length: text.len() as u64 };
        self.mark(&open);
        self.open = Some(open);
        Ok(())
    }

    /// Appends lines. When this returns, they are on the disk.
    ///
    /// # Errors
    ///
    /// The disk's error, or that the file must be replaced first.
    pub(crate) fn append(&mut self, lines: &[String]) -> Result<(), FileError> {
        let fail = |reason: &str| FileError::new(format!("{}: {reason}", self.path.display()));
        let Some(mut open) = self.open.take() else { return Err(fail("the last write failed")) };
        let text: String = (open.lines..).zip(lines).map(|(number, entry)| line(open.id, number, entry)).collect();
        let written = open.file.write_all(text.as_bytes()).and_then(|()| open.file.sync_data());
        written.map_err(|error| FileError::of(&self.path, error))?;
        if !private_file::is_linked(&open.file) {
            return Err(fail("it was removed while in use"));
        }
        open.lines += lines.len() as u64;
        open.length += text.len() as u64;
        self.mark(&open);
        self.open = Some(open);
        Ok(())
    }

    /// Records how many bytes are about to be acknowledged. The mark is not synced: it survives a killed process, and
    /// after a power cut an older mark covers less. If it cannot be written, the next opening detects less damage.
    fn mark(&self, open: &Open) {
        let mut bytes = [open.id.to_le_bytes(), open.length.to_le_bytes()].concat();
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        let mark = private_file::options().write(true).create(true).truncate(false).open(mark_of(&self.path));
        let _ = mark.and_then(|mut mark| mark.write_all(&bytes));
    }
}

/// Reads a file of an earlier version, whose lines have no checksum.
///
/// # Errors
///
/// A sentence that names the file and the invalid line.
pub(crate) fn read_old<T: DeserializeOwned>(path: &Path, each: impl FnMut(T)) -> Result<(), FileError> {
    match fs::read(path) {
        Ok(bytes) => read_plain(path, &bytes, each),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(FileError::of(path, error)),
    }
}

/// Reads lines without checksums. A crash may have cut the last line before it was acknowledged; it is then skipped.
fn read_plain<T: DeserializeOwned>(path: &Path, bytes: &[u8], mut each: impl FnMut(T)) -> Result<(), FileError> {
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n').enumerate();
    lines.try_for_each(|(index, line)| match serde_json::from_slice(line) {
        Ok(entry) => {
            each(entry);
            Ok(())
        }
        Err(_) if !line.ends_with(b"\n") => Ok(()),
        Err(error) => Err(FileError::at_line(path, index as u64 + 1, error)),
    })
}

fn mark_of(path: &Path) -> PathBuf {
    path.with_extension("mark")
}

/// The number of acknowledged bytes in the mark, if the mark belongs to the file with this id.
fn answered(mark: &[u8], id: u64) -> Option<u64> {
    let number = |at: usize| Some(u64::from_le_bytes(mark.get(at..at + 8)?.try_into().ok()?));
    let sum = u32::from_le_bytes(mark.get(16..MARK)?.try_into().ok()?);
    (number(0)? == id && crc32fast::hash(&mark[..16]) == sum).then(|| number(8))?
}

fn checksum(id: u64, number: u64, text: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&id.to_le_bytes());
    hasher.update(&number.to_le_bytes());
    hasher.update(text);
    hasher.finalize()
}

fn line(id: u64, number: u64, text: &str) -> String {
    format!("{:08x} {text}\n", checksum(id, number, text.as_bytes()))
}

/// The text of a line; `None` if it is cut or damaged. The first line, which has the id, is checked without it.
fn text(line: &[u8], id: u64, number: u64) -> Option<&[u8]> {
    let (sum, text) = line.strip_suffix(b"\n")?.split_at_checked(9)?;
    (sum == format!("{:08x} ", checksum(id, number, text)).as_bytes()).then_some(text)
}
