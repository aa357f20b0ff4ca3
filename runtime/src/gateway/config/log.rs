//! Where streams are kept, and whether steps are written down.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::{Broken, at_least};
use super::table::table;
use crate::trace;

table! {
    /// Where streams are kept.
    pub struct Log {
        /// Which: `disk` for a file of the data directory, `memory` for chats that end with the process.
        pub kind: LogKind = LogKind::Disk,
        /// For `kind = "disk"`: whether an event is delivered only once it is on the disk, not just with the operating
        /// system. Without, a power cut may lose what was delivered; a crash of the process does not.
        pub sync: bool = true,
    }
}

/// Where streams are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogKind {
    /// In a file of the data directory.
    Disk,
    /// In memory: chats end with the process.
    Memory,
}

table! {
    /// Whether each step of each machine is written down, for `prove replay`, and where.
    pub struct Trace {
        /// The directory; without one there is no trace.
        pub directory: Option<PathBuf> = None,
        /// After so many bytes a file is closed and the next one begun; later where checkpoints are more than half of it.
        pub file_bytes: u64 = trace::Settings::new(Path::new("")).file_bytes,
        /// So many files are kept.
        pub files: usize = trace::Settings::new(Path::new("")).files,
    }
}

impl Trace {
    /// What a trace is begun with, if there is to be one.
    #[must_use]
    pub fn settings(&self) -> Option<trace::Settings> {
        let settings = trace::Settings::new(self.directory.as_deref()?);
        Some(trace::Settings { file_bytes: self.file_bytes, files: self.files, ..settings })
    }

    pub(super) fn validate(&self) -> Result<(), Broken> {
        at_least("trace.file_bytes", self.file_bytes, 65_536)?;
        at_least("trace.files", self.files as u64, 1)
    }
}
