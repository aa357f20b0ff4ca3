//! The file `conversations.db`: what was copied from the log, by user, thread and run.
//!
//! | table | what |
//! | --- | --- |
//! | `log` | the log that it belongs to: another log may give the same number to another user |
//! | `users` | whose it is, and up to which offset it was copied from the log |
//! | `threads` | what each began with, what its user calls it, and when something happened last |
//! | `runs` | where each began, in which thread, for which message, and whether its end is still to come |
//! | `deleted` | the messages that are gone with their threads, so that none of them runs again |
//! | `events` | what happened, as the log had it; pieces of a part are one, and what was copied of a run at a time is compressed together |
//!
//! What is deleted is overwritten (`secure_delete`). A commit is synced before the log forgets what is in it.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use lockstep_model::run::{Kind, Received};
use lockstep_model::{MessageId, Offset, RunId, UserId};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::super::Written;
use super::super::conversations::{Thread, ThreadPlace, joined, title};
use super::super::deletions::Deletions;
use super::super::disk::entries::{iter, put_rest};
use super::super::disk::format;
use crate::private;

/// The format of the file.
const VERSION: i64 = 2;

const TABLES: &str = "
    CREATE TABLE log (id INTEGER NOT NULL);
    CREATE TABLE users (user INTEGER PRIMARY KEY, subject TEXT NOT NULL, high INTEGER NOT NULL);
    CREATE TABLE threads (
        user INTEGER, thread TEXT, title TEXT, given TEXT, updated INTEGER NOT NULL, PRIMARY KEY (user, thread)
    ) WITHOUT ROWID;
    CREATE INDEX threads_by_time ON threads (user, updated, thread);
    CREATE TABLE runs (
        user INTEGER, begin INTEGER, run INTEGER NOT NULL, thread TEXT NOT NULL, message INTEGER, open INTEGER NOT NULL,
        PRIMARY KEY (user, begin)
    ) WITHOUT ROWID;
    CREATE INDEX runs_open ON runs (user) WHERE open;
    CREATE UNIQUE INDEX runs_by_id ON runs (user, run);
    CREATE INDEX runs_by_thread ON runs (user, thread, begin);
    CREATE TABLE events (
        user INTEGER NOT NULL, run INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, content BLOB NOT NULL
    );
    CREATE UNIQUE INDEX events_by_run ON events (user, run, last);
";

/// What the second version has more than the first.
const SECOND: &str = "
    CREATE TABLE deleted (user INTEGER, begin INTEGER, message INTEGER NOT NULL, PRIMARY KEY (user, begin)) WITHOUT ROWID;
";

/// A connection to the file.
#[derive(Debug)]
pub(super) struct Store(Connection);

/// What tells a file from another one that has its name later; `None` if there is none. The file is not opened for that:
/// closing it would give up the locks that SQLite has on it.
pub(super) fn identity(path: &Path) -> Option<u64> {
    let about = std::fs::metadata(path).ok()?;
    #[cfg(unix)]
    return Some(std::os::unix::fs::MetadataExt::ino(&about));
    #[cfg(not(unix))]
    Some(u64::from(about.is_file()))
}

/// A run that is stored.
pub(super) struct Begun {
    pub(super) run: RunId,
    pub(super) begin: Offset,
}

/// What was copied of one user.
pub(super) struct Copied<'a> {
    pub(super) user: UserId,
    pub(super) subject: &'a str,
    /// Up to here.
    pub(super) through: Offset,
    pub(super) entries: Vec<(Offset, Written)>,
    /// The messages of what is gone by them.
    pub(super) gone: Vec<(Offset, MessageId)>,
}

/// Whose file it is.
enum Found {
    Ours,
    /// It belongs to another log.
    Other,
    /// It has this version, which is a later one.
    Later(i64),
}

type Result<T> = core::result::Result<T, rusqlite::Error>;

/// SQLite's integers have a sign. The same bits, with it: for what is only compared for being the same.
const fn signed(number: u64) -> i64 {
    number.cast_signed()
}

/// For a number of rows.
fn count(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

/// For what has an order.
fn ordered(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Store {
    /// Opens the file, or begins it, for the log with that id.
    ///
    /// # Errors
    ///
    /// A sentence, if it cannot be opened, is of another version, or belongs to another log.
    pub(super) fn open(path: &Path, log: u64) -> core::result::Result<Self, String> {
        // SQLite gives its other files the permissions of this one.
        private::options().read(true).write(true).create(true).truncate(false).open(path).map_err(|e| e.to_string())?;
        let mut store = Self::connect(path).map_err(|error| error.to_string())?;
        match store.belongs_to(log) {
            Ok(Found::Ours) => Ok(store),
            Ok(Found::Later(version)) => {
                Err(format!("it has format {version}, and this program knows format {VERSION}"))
            }
            Ok(Found::Other) => {
                Err("it belongs to another log than the one beside it; restore the log that it belongs to, or \
                              move it away to begin without conversations"
                    .to_owned())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// Another connection to a file that is open.
    pub(super) fn connect(path: &Path) -> Result<Self> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(core::time::Duration::from_secs(5))?;
        // Of a file that is made: an answer takes a part of a page, and not a page and a bit of another.
        connection.pragma_update(None, "page_size", 8_192)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update(None, "secure_delete", true)?;
        connection.set_prepared_statement_cache_capacity(32);
        Ok(Self(connection))
    }

    /// Whose file it is. One that is new is begun, one of an earlier version becomes one of this.
    fn belongs_to(&mut self, log: u64) -> Result<Found> {
        let version: i64 = self.0.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if !(0..=VERSION).contains(&version) {
            return Ok(Found::Later(version));
        }
        if version > 0 && self.0.query_row("SELECT id FROM log", [], |row| row.get::<_, i64>(0))? != signed(log) {
            return Ok(Found::Other);
        }
        if version < VERSION {
            let begin = self.0.transaction()?;
            if version == 0 {
                begin.execute_batch(TABLES)?;
                begin.execute("INSERT INTO log (id) VALUES (?)", [signed(log)])?;
            }
            begin.execute_batch(SECOND)?;
            begin.pragma_update(None, "user_version", VERSION)?;
            begin.commit()?;
        }
        Ok(Found::Ours)
    }

    /// What is read until this is dropped is what there is now.
    pub(super) fn snapshot(&self) -> Result<Transaction<'_>> {
        self.0.unchecked_transaction()
    }

    /// Users, and up to which offset their conversations were copied from the log.
    pub(super) fn users(&self) -> Result<Vec<(UserId, Offset)>> {
        let mut users = self.0.prepare_cached("SELECT user, high FROM users")?;
        let row = |row: &rusqlite::Row<'_>| Ok((UserId(unsigned(row, 0)?), Offset(unsigned(row, 1)?)));
        users.query_map([], row)?.collect()
    }

    /// The log has no more of the user than what is behind `trimmed` and up to `head`. Deletes what is not whole then, and all
    /// that follows it: that can be copied again.
    pub(super) fn cut(&mut self, user: UserId, trimmed: Offset, head: Offset) -> Result<()> {
        let (user, trimmed, mut high) = (signed(user.0), ordered(trimmed.0), ordered(head.0));
        let cut = self.0.transaction()?;
        loop {
            let first = "SELECT min(first) FROM events WHERE user = ? AND last > ?";
            let first: Option<i64> = cut.query_row(first, params![user, high], |row| row.get(0))?;
            match first {
                Some(first) if first <= high && high > trimmed => high = (first - 1).max(trimmed),
                Some(_) | None => break,
            }
        }
        cut.execute("DELETE FROM events WHERE user = ? AND last > ?", params![user, high])?;
        cut.execute("DELETE FROM runs WHERE user = ? AND begin > ?", params![user, high])?;
        cut.execute("DELETE FROM deleted WHERE user = ? AND begin > ?", params![user, high])?;
        cut.execute("UPDATE users SET high = ?2 WHERE user = ?1", params![user, high])?;
        cut.commit()
    }

    /// Deletes everything of a user. What is overwritten in the file is in the journal until that is cut.
    pub(super) fn erase(&mut self, user: UserId) -> Result<()> {
        let erase = self.0.transaction()?;
        erase_in(&erase, user)?;
        erase.commit()
    }

    /// Moves the journal to the file, and cuts it. False if it cannot be now, because something reads.
    pub(super) fn checkpoint(&self) -> Result<bool> {
        self.0.query_row("PRAGMA wal_checkpoint(truncate)", [], |row| row.get(0)).map(|busy: bool| !busy)
    }

    /// Takes in what was copied of these users.
    pub(super) fn keep(&mut self, copied: Vec<Copied<'_>>) -> Result<()> {
        let keep = self.0.transaction()?;
        for of_user in copied {
            keep_in(&keep, of_user)?;
        }
        keep.commit()
    }

    /// Up to which offset there is what was copied of the user with that number and that name.
    pub(super) fn high(&self, user: UserId, subject: &str) -> Result<Option<Offset>> {
        let mut high = self.0.prepare_cached("SELECT high FROM users WHERE user = ? AND subject = ?")?;
        high.query_row(params![signed(user.0), subject], |row| Ok(Offset(unsigned(row, 0)?))).optional()
    }

    /// The threads that come behind that place, the newest first.
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

    /// The title of a thread.
    pub(super) fn title(&self, user: UserId, thread: Option<&str>) -> Result<Option<String>> {
        let mut title =
            self.0.prepare_cached("SELECT coalesce(given, title) FROM threads WHERE user = ? AND thread = ?")?;
        let found = title.query_row(params![signed(user.0), thread.unwrap_or_default()], |row| row.get(0));
        found.optional().map(Option::flatten)
    }

    /// Gives a thread a title of its user's, or takes it away. False if there is no such thread.
    pub(super) fn rename(&self, user: UserId, thread: Option<&str>, title: Option<&str>) -> Result<bool> {
        let mut rename = self.0.prepare_cached("UPDATE threads SET given = ? WHERE user = ? AND thread = ?")?;
        rename.execute(params![title, signed(user.0), thread.unwrap_or_default()]).map(|renamed| renamed == 1)
    }

    /// The runs of a thread that begin before that offset, the newest first.
    pub(super) fn runs(&self, user: UserId, thread: Option<&str>, before: Offset, limit: usize) -> Result<Vec<Begun>> {
        let mut runs = self.0.prepare_cached(
            "SELECT run, begin FROM runs WHERE user = ? AND thread = ? AND begin < ? ORDER BY begin DESC LIMIT ?",
        )?;
        let row =
            |row: &rusqlite::Row<'_>| Ok(Begun { run: RunId(unsigned(row, 0)?), begin: Offset(unsigned(row, 1)?) });
        runs.query_map(params![signed(user.0), thread.unwrap_or_default(), ordered(before.0), count(limit)], row)?
            .collect()
    }

    /// The runs whose end is still to come, each with its thread.
    pub(super) fn open_runs(&self, user: UserId) -> Result<Vec<(RunId, Option<Arc<str>>)>> {
        let mut runs = self.0.prepare_cached("SELECT run, thread FROM runs WHERE user = ? AND open")?;
        let row = |row: &rusqlite::Row<'_>| Ok((RunId(unsigned(row, 0)?), named(row.get(1)?)));
        runs.query_map([signed(user.0)], row)?.collect()
    }

    /// Where a run began.
    pub(super) fn begin(&self, user: UserId, run: RunId) -> Result<Option<Offset>> {
        let mut begin = self.0.prepare_cached("SELECT begin FROM runs WHERE user = ? AND run = ?")?;
        begin.query_row(params![signed(user.0), signed(run.0)], |row| Ok(Offset(unsigned(row, 0)?))).optional()
    }

    /// What happened in a run up to that offset.
    pub(super) fn events(&self, user: UserId, run: RunId, through: Offset) -> Result<Vec<(Offset, Written)>> {
        let mut events = self
            .0
            .prepare_cached("SELECT content FROM events WHERE user = ? AND run = ? AND last <= ? ORDER BY last")?;
        let mut rows = events.query(params![signed(user.0), signed(run.0), ordered(through.0)])?;
        let mut entries = Vec::new();
        while let Some(row) = rows.next()? {
            let content = row.get_ref(0)?.as_blob()?;
            entries.extend(unpacked(content).ok_or(rusqlite::Error::InvalidQuery)?);
        }
        Ok(entries)
    }

    /// The ids of the newest messages at or before that offset, oldest first.
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

/// The name of a thread, which is empty for the one without.
fn named(name: String) -> Option<Arc<str>> {
    (!name.is_empty()).then(|| name.into())
}

fn unsigned(row: &rusqlite::Row<'_>, column: usize) -> Result<u64> {
    row.get(column).map(i64::cast_unsigned)
}

fn erase_in(transaction: &Transaction<'_>, user: UserId) -> Result<()> {
    for table in ["events", "runs", "threads", "deleted", "users"] {
        transaction.execute(&format!("DELETE FROM {table} WHERE user = ?"), [signed(user.0)])?;
    }
    Ok(())
}

fn keep_in(keep: &Transaction<'_>, copied: Copied<'_>) -> Result<()> {
    let Copied { user, subject, through, entries, gone } = copied;
    let number = signed(user.0);
    let known: Option<String> =
        keep.query_row("SELECT subject FROM users WHERE user = ?", [number], |row| row.get(0)).optional()?;
    if known.is_some_and(|known| known != subject) {
        // The log is a copy from before this user was there, and has given the number again.
        erase_in(keep, user)?;
    }
    let mut of_user = keep.prepare_cached(
        "INSERT INTO users (user, subject, high) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET high = max(high, ?3)",
    )?;
    of_user.execute(params![number, subject, ordered(through.0)])?;
    let deletions = Deletions::of(&entries);
    deletions.names().try_for_each(|thread| delete_in(keep, number, thread))?;
    for (begin, message) in gone {
        let mut of_message =
            keep.prepare_cached("INSERT OR IGNORE INTO deleted (user, begin, message) VALUES (?, ?, ?)")?;
        of_message.execute(params![number, ordered(begin.0), signed(message.0)])?;
    }
    let mut runs: Vec<(RunId, Vec<(Offset, Written)>)> = Vec::new();
    for (offset, entry) in entries {
        if deletions.covers(offset, entry.record.thread.as_deref()) {
            continue;
        }
        match runs.iter_mut().rfind(|(run, _)| *run == entry.run) {
            Some((_, of_run)) => of_run.push((offset, entry)),
            None => runs.push((entry.run, vec![(offset, entry)])),
        }
    }
    runs.into_iter().try_for_each(|(run, entries)| keep_run(keep, number, signed(run.0), entries))
}

/// Deletes a thread, but for the ids of its messages.
fn delete_in(keep: &Transaction<'_>, user: i64, thread: &str) -> Result<()> {
    for delete in [
        "INSERT OR IGNORE INTO deleted (user, begin, message)
         SELECT user, begin, message FROM runs WHERE user = ?1 AND thread = ?2 AND message IS NOT NULL",
        "DELETE FROM events WHERE user = ?1 AND run IN (SELECT run FROM runs WHERE user = ?1 AND thread = ?2)",
        "DELETE FROM runs WHERE user = ?1 AND thread = ?2",
        "DELETE FROM threads WHERE user = ?1 AND thread = ?2",
    ] {
        keep.prepare_cached(delete)?.execute(params![user, thread])?;
    }
    Ok(())
}

fn keep_run(keep: &Transaction<'_>, user: i64, run: i64, entries: Vec<(Offset, Written)>) -> Result<()> {
    let begin = entries.first().map_or(Offset(0), |(offset, _)| *offset);
    let entries = joined(entries);
    let (Some((_, first)), Some((end, last))) = (entries.first(), entries.last()) else { return Ok(()) };
    let name = first.record.thread.as_deref().unwrap_or_default();
    let message =
        if let Kind::Received(Received { message, .. }) = first.kind { Some(signed(message.0)) } else { None };
    let open = !entries.iter().any(|(_, entry)| entry.kind.is_terminal());
    let mut begun = keep.prepare_cached(
        "INSERT INTO runs (user, begin, run, thread, message, open) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (user, run) DO UPDATE SET open = open AND ?6",
    )?;
    begun.execute(params![user, ordered(begin.0), run, name, message, open])?;
    let mut thread = keep.prepare_cached(
        "INSERT INTO threads (user, thread, title, updated) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET title = coalesce(title, ?3), updated = max(updated, ?4)",
    )?;
    thread.execute(params![user, name, title(first.kind, &first.record), ordered(last.record.at)])?;
    let mut event =
        keep.prepare_cached("INSERT INTO events (user, run, first, last, content) VALUES (?, ?, ?, ?, ?)")?;
    let content = packed(&entries).ok_or(rusqlite::Error::InvalidQuery)?;
    event.execute(params![user, run, ordered(begin.0), ordered(end.0), content])?;
    Ok(())
}

/// Entries of one run, compressed together: an answer is in its pieces and in its end.
fn packed(entries: &[(Offset, Written)]) -> Option<Vec<u8>> {
    let contents: Vec<(Offset, Vec<u8>)> =
        entries.iter().map(|(offset, entry)| Some((*offset, format::content(entry).ok()?))).collect::<Option<_>>()?;
    let mut bytes = Vec::new();
    put_rest(&mut bytes, Offset(0), contents.iter().map(|(offset, content)| (*offset, &**content)));
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&bytes).ok()?;
    encoder.finish().ok()
}

fn unpacked(content: &[u8]) -> Option<Vec<(Offset, Written)>> {
    let mut bytes = Vec::new();
    DeflateDecoder::new(content).read_to_end(&mut bytes).ok()?;
    iter(Offset(0), &bytes).map(|(offset, content)| Some((offset, format::written(content)?))).collect()
}
