//! A small private file that survives a crash: lines are appended, and now and then it is written anew as a whole.
//!
//! Everything here blocks on the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use serde::de::DeserializeOwned;

use crate::private::replace;

/// Lines that are appended before a journal is written anew, unless it holds more than that by right.
const MIN_LINES: usize = 512;

/// A file of JSON lines, to which one process appends.
///
/// A write that fails may leave half a line. The next one therefore writes the whole file anew, and with it what could
/// not be written before.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    /// Open while what is in it is whole.
    file: Option<File>,
    lines: usize,
    limit: usize,
}

impl Journal {
    /// Reads each line of the file, if there is one. The last line may have been cut by a crash before anybody was told
    /// that it is there; it is then passed over.
    ///
    /// # Errors
    ///
    /// A sentence that names the file, and the line that is not what it should be.
    pub(crate) fn open<T: DeserializeOwned>(path: PathBuf, mut each: impl FnMut(T)) -> Result<Self, String> {
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(format!("{}: {error}", path.display())),
        };
        let mut lines = bytes.split_inclusive(|byte| *byte == b'\n').enumerate();
        lines.try_for_each(|(index, line)| match serde_json::from_slice(line) {
            Ok(entry) => {
                each(entry);
                Ok(())
            }
            Err(_) if !line.ends_with(b"\n") => Ok(()),
            Err(error) => Err(format!("{}:{}: {error}", path.display(), index + 1)),
        })?;
        Ok(Self { path, file: None, lines: 0, limit: MIN_LINES })
    }

    /// Writes the file anew, with these lines and no other.
    ///
    /// # Errors
    ///
    /// What the disk said. The file is then as it was.
    pub(crate) fn rewrite(&mut self, lines: &[String]) -> Result<(), String> {
        let mut text = String::new();
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        self.file = None;
        let file = replace(&self.path, text.as_bytes())
            .and_then(|()| OpenOptions::new().append(true).open(&self.path))
            .map_err(|error| format!("{}: {error}", self.path.display()))?;
        (self.file, self.lines, self.limit) = (Some(file), lines.len(), MIN_LINES.max(lines.len() * 2));
        Ok(())
    }

    /// Appends a line. When this returns, it is on the disk. `all` is every line that counts, this one among them.
    ///
    /// # Errors
    ///
    /// What the disk said. The next call tries to write this line too, if it is among its `all`.
    pub(crate) fn append(&mut self, line: &str, all: impl FnOnce() -> Vec<String>) -> Result<(), String> {
        let Some(mut file) = self.file.take().filter(|_| self.lines < self.limit) else {
            return self.rewrite(&all());
        };
        let written = file.write_all(format!("{line}\n").as_bytes()).and_then(|()| file.sync_data());
        written.map_err(|error| format!("{}: {error}", self.path.display()))?;
        (self.file, self.lines) = (Some(file), self.lines + 1);
        Ok(())
    }
}
