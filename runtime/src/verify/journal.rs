//! A small private file that survives a crash: lines are appended, and now and then it is written anew as a whole.
//!
//! Everything here blocks on the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use serde::de::DeserializeOwned;

use crate::private::replace;

/// A file of JSON lines, to which one process appends.
///
/// A write that fails may leave half a line: the next one must replace the file.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    /// Open while what is in it is whole.
    file: Option<File>,
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
        Ok(Self { path, file: None })
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
        self.file = Some(file);
        Ok(())
    }

    /// Appends lines. When this returns, they are on the disk.
    ///
    /// # Errors
    ///
    /// What the disk said, or that the file must be replaced first.
    pub(crate) fn append(&mut self, lines: &[String]) -> Result<(), String> {
        let fail = |reason: &dyn core::fmt::Display| format!("{}: {reason}", self.path.display());
        let Some(mut file) = self.file.take() else { return Err(fail(&"the last write has failed")) };
        let mut text = lines.join("\n");
        text.push('\n');
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_data());
        written.map_err(|error| fail(&error))?;
        self.file = Some(file);
        Ok(())
    }
}
