//! Writes down what clients sent and saw: JSON Lines, one fact each, in the order in which this process learnt it.
//!
//! | field | what |
//! | --- | --- |
//! | `at` | microseconds since the recording began |
//! | `client` | which client |
//! | `user` | whose credential it holds |
//! | `socket` | which of the client's sockets, from 1 |
//! | `fact` | `open`, `sent`, `received`, `closed` |
//! | `frame` | the frame that was sent or received; of a credential only that there was one |
//! | `code` | the close code; 1006 when there was none |

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};

/// Where facts go. A clone writes to the same file.
#[derive(Clone, Debug)]
pub struct History {
    began: Instant,
    file: Option<Arc<Mutex<BufWriter<File>>>>,
}

impl History {
    /// Writes nothing down.
    #[must_use]
    pub fn none() -> Self {
        Self { began: Instant::now(), file: None }
    }

    /// Writes into a new file.
    ///
    /// # Errors
    ///
    /// If the file cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = BufWriter::new(File::create(path)?);
        Ok(Self { began: Instant::now(), file: Some(Arc::new(Mutex::new(file))) })
    }

    /// Writes a fact down.
    ///
    /// # Panics
    ///
    /// If the file cannot be written: a history with holes proves nothing.
    pub fn note(&self, client: &str, user: &str, socket: u32, fact: &str, mut rest: Value) {
        let Some(file) = &self.file else { return };
        if rest["frame"]["token"].is_string() {
            rest["frame"]["token"] = json!("***");
        }
        let mut line = json!({
            "at": u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX),
            "client": client,
            "user": user,
            "socket": socket,
            "fact": fact,
        });
        if let (Some(line), Some(rest)) = (line.as_object_mut(), rest.as_object_mut()) {
            line.append(rest);
        }
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(file, "{line}").expect("the history can be written");
    }

    /// Writes out what is buffered.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn flush(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), |file| file.lock().unwrap_or_else(PoisonError::into_inner).flush())
    }
}
