//! The file `conversations.db`: entries copied from the log, by user, thread and run.
//!
//! | table | content |
//! | --- | --- |
//! | `log` | the log that the file belongs to: another log may assign the same number to another user |
//! | `users` | the user's subject, the offset up to which it was copied, and its totals |
//! | `threads` | the initial title, the title given by the user, the time of the newest entry, and the totals |
//! | `runs` | the run's first offset, its thread, its message, and whether it is open |
//! | `deleted` | the messages that are gone with their threads, so that none of them runs again |
//! | `deletions` | the newest deletion of each thread, which is in the stream like entries that are not deleted |
//! | `events` | entries as the log had them: those of a run that were copied at a time |
//! | `spans` | the parts of a stream that were copied at a time: no event begins in one and ends in another |
//!
//! The entries of an event are compressed together, and pieces of a part are joined. `joints` has the piece boundaries
//! of what was copied since the third version.
//!
//! Deleted content is overwritten (`secure_delete`). A commit is synced before the log forgets its entries.

use std::path::Path;
use std::sync::Arc;

use lockstep_model::{MessageId, Offset, RunId, UserId};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::super::Written;
use super::super::conversations::{Thread, ThreadPlace};
use super::super::pages::Stored;
use super::super::retention::Sizes;
use super::pack;
use super::schema::{Found, VERSION};
use crate::support::private_file;

/// A connection to the file.
#[derive(Debug)]
pub(super) struct Store(pub(super) Connection);

/// Distinguishes a file from a later one with the same name; `None` if there is none. The file is not opened for this,
/// because closing it would release the locks that SQLite holds on it.
pub(super) fn identity(path: &Path) -> Option<u64> {
    let about = std::fs::metadata(path).ok()?;
    #[cfg(unix)]
    return Some(std::os::unix::fs::MetadataExt::ino(&about));
    #[cfg(not(unix))]
    Some(u64::from(about.is_file()))
}

/// A stored run.
pub(super) struct Begun {
    pub(super) run: RunId,
    pub(super) begin: Offset,
}

type Result<T> = core::result::Result<T, rusqlite::Error>;

/// SQLite's integers are signed. Returns the same bits, for numbers that are only compared for equality.
pub(super) const fn signed(number: u64) -> i64 {
    number.cast_signed()
}

/// Converts a number of rows.
pub(super) fn count(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

/// Converts a number whose order matters.
pub(super) fn ordered(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Store {
    /// Opens the file for the log with that id, or creates it.
    ///
    /// # Errors
    ///
    /// A message, if it cannot be opened, has another version, or belongs to another log.
    pub(super) fn open(path: &Path, log: u64) -> core::result::Result<Self, String> {
        // SQLite gives its other files the permissions of this file.
        private_file::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(|e| e.to_string())?;
        let mut store = Self::connect(path).map_err(|error| error.to_string())?;
        match store.belongs_to(log) {
            Ok(Found::Ours) => Ok(store),
            Ok(Found::Later(version)) => {
                Err(format!("it has format {version}, but this program reads only up to format {VERSION}"))
            }
            Ok(Found::Other) => {
                Err("it does not belong to the log next to it; restore the log that it belongs to, or \
                              move it away to start without conversations"
                    .to_owned())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// Opens another connection to an open file.
    pub(super) fn connect(path: &Path) -> Result<Self> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(core::time::Duration::from_secs(5))?;
        // For a new file: an answer takes part of one page, not a page and a bit of another.
        connection.pragma_update(None, "page_size", 8_192)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update(None, "secure_delete", true)?;
        connection.set_prepared_statement_cache_capacity(32);
        Ok(Self(connection))
    }

    /// Starts a snapshot: until it is dropped, reads see the current state.
    pub(super) fn snapshot(&self) -> Result<Transaction<'_>> {
        self.0.unchecked_transaction()
    }

    /// Returns all users, each with the offset up to which it was copied from the log.
    pub(super) fn users(&self) -> Result<Vec<(UserId, Offset)>> {
        let mut users = self.0.prepare_cached("SELECT user, high FROM users")?;
        let row = |row: &rusqlite::Row<'_>| Ok((UserId(unsigned(row, 0)?), Offset(unsigned(row, 1)?)));
        users.query_map([], row)?.collect()
    }

    /// Moves the journal into the file, and truncates it. Returns false if a reader prevents this now.
    pub(super) fn checkpoint(&self) -> Result<bool> {
        self.0.query_row("PRAGMA wal_checkpoint(truncate)", [], |row| row.get(0)).map(|busy: bool| !busy)
    }

    /// Returns the offset up to which the user with that number and subject was copied.
    pub(super) fn high(&self, user: UserId, subject: &str) -> Result<Option<Offset>> {
        let mut high = self.0.prepare_cached("SELECT high FROM users WHERE user = ? AND subject = ?")?;
        high.query_row(params![signed(user.0), subject], |row| Ok(Offset(unsigned(row, 0)?))).optional()
    }

    /// Returns the threads after that place, the newest first.
    pub(super) fn threads(&self, user: UserId, before: Option<&ThreadPlace>, limit: usize) -> Result<Vec<Thread>> {
        let (updated, name) = before.map_or((i64::MAX, ""), |place| (ordered(place.updated), &place.name));
        let mut threads = self.0.prepare_cached(
            "SELECT thread, coalesce(given, title), updated FROM threads WHERE user = ?1 AND (updated, thread) < (?2, ?3)
             ORDER BY updated DESC, thread DESC LIMIT ?4",
        )?;
        let row = |row: &rusqlite::Row<'_>| {
            let name = named(row.get(0)?);
            Ok(Thread { name, title: row.get(1)?, updated: unsigned(row, 2)?, open: false })
        };
        threads.query_map(params![signed(user.0), updated, name, count(limit)], row)?.collect()
    }

    /// Returns the title of a thread.
    pub(super) fn title(&self, user: UserId, thread: Option<&str>) -> Result<Option<String>> {
        let mut title =
            self.0.prepare_cached("SELECT coalesce(given, title) FROM threads WHERE user = ? AND thread = ?")?;
        let found = title.query_row(params![signed(user.0), thread.unwrap_or_default()], |row| row.get(0));
        found.optional().map(Option::flatten)
    }

    /// Sets the title that the user gives a thread, or removes it. Returns false if there is no such thread.
    pub(super) fn rename(&self, user: UserId, thread: Option<&str>, title: Option<&str>) -> Result<bool> {
        let mut rename = self.0.prepare_cached("UPDATE threads SET given = ? WHERE user = ? AND thread = ?")?;
        rename.execute(params![title, signed(user.0), thread.unwrap_or_default()]).map(|renamed| renamed == 1)
    }

    /// Returns the runs of a thread that begin before that offset, the newest first.
    pub(super) fn runs(&self, user: UserId, thread: Option<&str>, before: Offset, limit: usize) -> Result<Vec<Begun>> {
        let mut runs = self.0.prepare_cached(
            "SELECT run, begin FROM runs INDEXED BY runs_by_thread
             WHERE user = ? AND thread = ? AND begin < ? ORDER BY begin DESC LIMIT ?",
        )?;
        let row =
            |row: &rusqlite::Row<'_>| Ok(Begun { run: RunId(unsigned(row, 0)?), begin: Offset(unsigned(row, 1)?) });
        runs.query_map(params![signed(user.0), thread.unwrap_or_default(), ordered(before.0), count(limit)], row)?
            .collect()
    }

    /// Returns the open runs, each with its thread.
    pub(super) fn open_runs(&self, user: UserId) -> Result<Vec<(RunId, Option<Arc<str>>)>> {
        let mut runs =
            self.0.prepare_cached("SELECT run, thread FROM runs INDEXED BY runs_open WHERE user = ? AND open")?;
        let row = |row: &rusqlite::Row<'_>| Ok((RunId(unsigned(row, 0)?), named(row.get(1)?)));
        runs.query_map([signed(user.0)], row)?.collect()
    }

    /// Returns the offset at which a run began.
    pub(super) fn begin(&self, user: UserId, run: RunId) -> Result<Option<Offset>> {
        let mut begin = self.0.prepare_cached("SELECT begin FROM runs WHERE user = ? AND run = ?")?;
        begin.query_row(params![signed(user.0), signed(run.0)], |row| Ok(Offset(unsigned(row, 0)?))).optional()
    }

    /// Returns the entries of a run up to that offset.
    pub(super) fn events(&self, user: UserId, run: RunId, through: Offset) -> Result<Vec<(Offset, Written)>> {
        let mut events = self
            .0
            .prepare_cached("SELECT content FROM events WHERE user = ? AND run = ? AND last <= ? ORDER BY last")?;
        let mut rows = events.query(params![signed(user.0), signed(run.0), ordered(through.0)])?;
        let mut entries = Vec::new();
        while let Some(row) = rows.next()? {
            let content = row.get_ref(0)?.as_blob()?;
            entries.extend(pack::unpacked(content).ok_or(rusqlite::Error::InvalidQuery)?);
        }
        Ok(entries)
    }

    /// Finds the span of the first event that ends after `after`. Returns the span's end and its stored entries after
    /// `after`, up to `through`, including entries that overlap this range. `None` if there is no such span.
    pub(super) fn span(&self, user: UserId, after: Offset, through: Offset) -> Result<Option<(Offset, Vec<Stored>)>> {
        let mut span = self.0.prepare_cached(
            "SELECT low, high FROM spans
             WHERE user = ?1 AND high >= (SELECT min(last) FROM events WHERE user = ?1 AND last > ?2)
             ORDER BY high LIMIT 1",
        )?;
        let row = |row: &rusqlite::Row<'_>| Ok((unsigned(row, 0)?, unsigned(row, 1)?));
        let Some((low, high)) = span.query_row(params![signed(user.0), ordered(after.0)], row).optional()? else {
            return Ok(None);
        };
        let mut events = self.0.prepare_cached(
            "SELECT first, content, joints FROM events WHERE user = ? AND last > ? AND last <= ? AND first <= ?",
        )?;
        let bounds = params![signed(user.0), ordered(low.max(after.0)), ordered(high), ordered(through.0)];
        let (mut rows, mut stored) = (events.query(bounds)?, Vec::new());
        while let Some(row) = rows.next()? {
            let (content, joints) = (row.get_ref(1)?.as_blob()?, row.get_ref(2)?.as_blob_or_null()?);
            let unpacked = pack::unpacked_with(Offset(unsigned(row, 0)?), content, joints);
            stored.append(&mut unpacked.ok_or(rusqlite::Error::InvalidQuery)?);
        }
        Ok(Some((Offset(high), stored)))
    }

    /// Returns the deletions after one offset and up to another.
    pub(super) fn deletions(&self, user: UserId, after: Offset, through: Offset) -> Result<Vec<Stored>> {
        let mut deletions =
            self.0.prepare_cached("SELECT content FROM deletions WHERE user = ? AND offset > ? AND offset <= ?")?;
        let mut rows = deletions.query(params![signed(user.0), ordered(after.0), ordered(through.0)])?;
        let mut stored = Vec::new();
        while let Some(row) = rows.next()? {
            let entries = pack::unpacked(row.get_ref(0)?.as_blob()?).ok_or(rusqlite::Error::InvalidQuery)?;
            stored.extend(entries.into_iter().map(|(offset, entry)| Stored::whole(offset, entry)));
        }
        Ok(stored)
    }

    /// Returns the users that may have stale threads: with a thread whose newest entry is from before `since`, or with
    /// more than `turns` or `bytes`.
    pub(super) fn over(&self, since: u64, turns: u64, bytes: u64) -> Result<Vec<UserId>> {
        let mut users = self.0.prepare_cached(
            "SELECT user FROM threads WHERE updated < ?1 UNION SELECT user FROM users WHERE turns > ?2 OR bytes > ?3",
        )?;
        let row = |row: &rusqlite::Row<'_>| Ok(UserId(unsigned(row, 0)?));
        users.query_map([since, turns, bytes].map(ordered), row)?.collect()
    }

    /// Returns the threads of a user, least recently active first, each with the time of its newest entry, its turns
    /// and its bytes.
    pub(super) fn sizes(&self, user: UserId) -> Result<Vec<(Option<Arc<str>>, Sizes)>> {
        let mut threads = self.0.prepare_cached(
            "SELECT thread, updated, turns, bytes FROM threads WHERE user = ? ORDER BY updated, thread",
        )?;
        let row = |row: &rusqlite::Row<'_>| {
            let sizes = Sizes { updated: unsigned(row, 1)?, turns: unsigned(row, 2)?, bytes: unsigned(row, 3)? };
            Ok((named(row.get(0)?), sizes))
        };
        threads.query_map([signed(user.0)], row)?.collect()
    }

    /// Returns the ids of the newest messages at or before that offset, oldest first.
    pub(super) fn messages(&self, user: UserId, through: Offset, limit: usize) -> Result<Vec<MessageId>> {
        let mut messages = self.0.prepare_cached(
            "SELECT begin, message FROM runs WHERE user = ?1 AND begin <= ?2 AND message IS NOT NULL
             UNION ALL SELECT begin, message FROM deleted WHERE user = ?1 AND begin <= ?2
             ORDER BY begin DESC LIMIT ?3",
        )?;
        let rows =
            messages.query_map(params![signed(user.0), ordered(through.0), count(limit)], |row| unsigned(row, 1))?;
        let mut ids = rows.map(|id| id.map(MessageId)).collect::<Result<Vec<_>>>()?;
        ids.reverse();
        Ok(ids)
    }
}

/// A thread's name, which is stored as empty for the thread without one.
fn named(name: String) -> Option<Arc<str>> {
    (!name.is_empty()).then(|| name.into())
}

pub(super) fn unsigned(row: &rusqlite::Row<'_>, column: usize) -> Result<u64> {
    row.get(column).map(i64::cast_unsigned)
}
