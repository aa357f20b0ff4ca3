//! The file `conversations.db`: what was trimmed of the log, by user, thread and run.
//!
//! | table | what |
//! | --- | --- |
//! | `log` | the log that it belongs to: another log may give the same number to another user |
//! | `users` | whose it is, and up to which offset it was taken from the log |
//! | `threads` | title, and when something happened last |
//! | `runs` | where each began, in which thread, for which message |
//! | `events` | what happened, as the log had it; pieces of a part are one |
//!
//! What is deleted is overwritten (`secure_delete`). A commit is synced before the log forgets what is in it.

use std::path::Path;

use lockstep_model::run::{Kind, Received};
use lockstep_model::{MessageId, Offset, RunId, UserId};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::super::Written;
use super::super::conversations::{Thread, ThreadPlace, joined, title};
use super::super::disk::format;
use crate::private;

/// The format of the file.
const VERSION: i64 = 1;

const TABLES: &str = "
    CREATE TABLE log (id INTEGER NOT NULL);
    CREATE TABLE users (user INTEGER PRIMARY KEY, subject TEXT NOT NULL, high INTEGER NOT NULL);
    CREATE TABLE threads (
        user INTEGER, thread TEXT, title TEXT, updated INTEGER NOT NULL, PRIMARY KEY (user, thread)
    ) WITHOUT ROWID;
    CREATE INDEX threads_by_time ON threads (user, updated, thread);
    CREATE TABLE runs (
        user INTEGER, begin INTEGER, run INTEGER NOT NULL, thread TEXT NOT NULL, message INTEGER, PRIMARY KEY (user, begin)
    ) WITHOUT ROWID;
    CREATE UNIQUE INDEX runs_by_id ON runs (user, run);
    CREATE INDEX runs_by_thread ON runs (user, thread, begin);
    CREATE TABLE events (
        user INTEGER, run INTEGER, at INTEGER, content BLOB NOT NULL, PRIMARY KEY (user, run, at)
    ) WITHOUT ROWID;
";

/// A connection to the file.
#[derive(Debug)]
pub(super) struct Store(Connection);

/// A run that is stored.
pub(super) struct Begun {
    pub(super) run: RunId,
    pub(super) begin: Offset,
}

/// What was trimmed of one user.
pub(super) struct Trimmed<'a> {
    pub(super) user: UserId,
    pub(super) subject: &'a str,
    /// What is at or before this was taken before.
    pub(super) behind: Offset,
    pub(super) through: Offset,
    pub(super) entries: Vec<(Offset, Written)>,
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
            Ok(true) => Ok(store),
            Ok(false) => {
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
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update(None, "secure_delete", true)?;
        connection.set_prepared_statement_cache_capacity(32);
        Ok(Self(connection))
    }

    fn belongs_to(&mut self, log: u64) -> Result<bool> {
        let version: i64 = self.0.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if version == 0 {
            let begin = self.0.transaction()?;
            begin.execute_batch(TABLES)?;
            begin.execute("INSERT INTO log (id) VALUES (?)", [signed(log)])?;
            begin.pragma_update(None, "user_version", VERSION)?;
            begin.commit()?;
            return Ok(true);
        }
        let id: i64 = self.0.query_row("SELECT id FROM log", [], |row| row.get(0))?;
        Ok(version == VERSION && id == signed(log))
    }

    /// Users, and up to which offset their conversations were taken from the log.
    pub(super) fn users(&self) -> Result<Vec<(UserId, Offset)>> {
        let mut users = self.0.prepare_cached("SELECT user, high FROM users")?;
        let row = |row: &rusqlite::Row<'_>| Ok((UserId(unsigned(row, 0)?), Offset(unsigned(row, 1)?)));
        users.query_map([], row)?.collect()
    }

    /// Deletes what is behind the log's end, which the log has lost.
    pub(super) fn cut(&mut self, user: UserId, head: Offset) -> Result<()> {
        let (user, head) = (signed(user.0), ordered(head.0));
        let cut = self.0.transaction()?;
        cut.execute("DELETE FROM events WHERE user = ? AND at > ?", params![user, head])?;
        cut.execute("DELETE FROM runs WHERE user = ? AND begin > ?", params![user, head])?;
        cut.execute("UPDATE users SET high = ?2 WHERE user = ?1", params![user, head])?;
        cut.commit()
    }

    /// Deletes everything of a user, from the disk.
    pub(super) fn erase(&mut self, user: UserId) -> Result<()> {
        let erase = self.0.transaction()?;
        erase_in(&erase, user)?;
        erase.commit()?;
        // What was overwritten is in the journal still, until that is moved to the file and cut.
        self.0.query_row("PRAGMA wal_checkpoint(truncate)", [], |_| Ok(()))
    }

    /// Takes in what was trimmed of these users.
    pub(super) fn keep(&mut self, trimmed: Vec<Trimmed<'_>>) -> Result<()> {
        let keep = self.0.transaction()?;
        for of_user in trimmed {
            keep_in(&keep, of_user)?;
        }
        keep.commit()
    }

    /// Whether something is kept under that number for that name.
    pub(super) fn knows(&self, user: UserId, subject: &str) -> Result<bool> {
        let mut knows = self.0.prepare_cached("SELECT 1 FROM users WHERE user = ? AND subject = ?")?;
        knows.exists(params![signed(user.0), subject])
    }

    /// The threads that come behind that place, the newest first.
    pub(super) fn threads(&self, user: UserId, before: Option<&ThreadPlace>, limit: usize) -> Result<Vec<Thread>> {
        let (updated, name) = before.map_or((i64::MAX, ""), |place| (ordered(place.updated), &place.name));
        let mut threads = self.0.prepare_cached(
            "SELECT thread, title, updated FROM threads WHERE user = ?1 AND (updated, thread) < (?2, ?3)
             ORDER BY updated DESC, thread DESC LIMIT ?4",
        )?;
        let row = |row: &rusqlite::Row<'_>| {
            let name: String = row.get(0)?;
            let name = (!name.is_empty()).then(|| name.into());
            Ok(Thread { name, title: row.get(1)?, updated: unsigned(row, 2)?, open: false })
        };
        threads.query_map(params![signed(user.0), updated, name, count(limit)], row)?.collect()
    }

    /// The title of a thread.
    pub(super) fn title(&self, user: UserId, thread: Option<&str>) -> Result<Option<String>> {
        let mut title = self.0.prepare_cached("SELECT title FROM threads WHERE user = ? AND thread = ?")?;
        let found = title.query_row(params![signed(user.0), thread.unwrap_or_default()], |row| row.get(0));
        found.optional().map(Option::flatten)
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

    /// Where a run began.
    pub(super) fn begin(&self, user: UserId, run: RunId) -> Result<Option<Offset>> {
        let mut begin = self.0.prepare_cached("SELECT begin FROM runs WHERE user = ? AND run = ?")?;
        begin.query_row(params![signed(user.0), signed(run.0)], |row| Ok(Offset(unsigned(row, 0)?))).optional()
    }

    /// What happened in a run up to that offset.
    pub(super) fn events(&self, user: UserId, run: RunId, through: Offset) -> Result<Vec<(Offset, Written)>> {
        let mut events = self
            .0
            .prepare_cached("SELECT at, content FROM events WHERE user = ? AND run = ? AND at <= ? ORDER BY at")?;
        let row = |row: &rusqlite::Row<'_>| {
            let content = row.get_ref(1)?.as_blob()?;
            let written = format::written(content).ok_or(rusqlite::Error::InvalidQuery)?;
            Ok((Offset(unsigned(row, 0)?), written))
        };
        events.query_map(params![signed(user.0), signed(run.0), ordered(through.0)], row)?.collect()
    }

    /// The ids of the newest messages at or before that offset, oldest first.
    pub(super) fn messages(&self, user: UserId, through: Offset, limit: usize) -> Result<Vec<MessageId>> {
        let mut messages = self.0.prepare_cached(
            "SELECT message FROM runs WHERE user = ? AND begin <= ? AND message IS NOT NULL ORDER BY begin DESC LIMIT ?",
        )?;
        let rows =
            messages.query_map(params![signed(user.0), ordered(through.0), count(limit)], |row| unsigned(row, 0))?;
        let mut ids = rows.map(|id| id.map(MessageId)).collect::<Result<Vec<_>>>()?;
        ids.reverse();
        Ok(ids)
    }
}

fn unsigned(row: &rusqlite::Row<'_>, column: usize) -> Result<u64> {
    row.get(column).map(i64::cast_unsigned)
}

fn erase_in(transaction: &Transaction<'_>, user: UserId) -> Result<()> {
    for table in ["events", "runs", "threads", "users"] {
        transaction.execute(&format!("DELETE FROM {table} WHERE user = ?"), [signed(user.0)])?;
    }
    Ok(())
}

fn keep_in(keep: &Transaction<'_>, trimmed: Trimmed<'_>) -> Result<()> {
    let Trimmed { user, subject, behind, through, entries } = trimmed;
    let number = signed(user.0);
    let known: Option<String> =
        keep.query_row("SELECT subject FROM users WHERE user = ?", [number], |row| row.get(0)).optional()?;
    if known.is_some_and(|known| known != subject) {
        // The log is a copy from before this user was there, and has given the number anew.
        erase_in(keep, user)?;
    }
    let mut of_user = keep.prepare_cached(
        "INSERT INTO users (user, subject, high) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET high = max(high, ?3)",
    )?;
    of_user.execute(params![number, subject, ordered(through.0)])?;
    let mut runs: Vec<(RunId, Vec<(Offset, Written)>)> = Vec::new();
    for (offset, entry) in entries {
        match runs.iter_mut().find(|(run, _)| *run == entry.run) {
            Some((_, of_run)) => of_run.push((offset, entry)),
            None => runs.push((entry.run, vec![(offset, entry)])),
        }
    }
    runs.into_iter().try_for_each(|(run, entries)| keep_run(keep, number, run, behind, entries))
}

fn keep_run(
    keep: &Transaction<'_>,
    user: i64,
    run: RunId,
    behind: Offset,
    entries: Vec<(Offset, Written)>,
) -> Result<()> {
    let run = signed(run.0);
    // What the log has forgotten without its having been told to the disk comes a second time, and may be joined otherwise.
    let mut again = keep.prepare_cached("DELETE FROM events WHERE user = ? AND run = ? AND at > ?")?;
    again.execute(params![user, run, ordered(behind.0)])?;
    let mut begun =
        keep.prepare_cached("INSERT OR IGNORE INTO runs (user, begin, run, thread, message) VALUES (?, ?, ?, ?, ?)")?;
    let mut thread = keep.prepare_cached(
        "INSERT INTO threads (user, thread, title, updated) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET title = coalesce(title, ?3), updated = max(updated, ?4)",
    )?;
    let mut event = keep.prepare_cached("INSERT INTO events (user, run, at, content) VALUES (?, ?, ?, ?)")?;
    for (index, (offset, entry)) in joined(entries).into_iter().enumerate() {
        let name = entry.record.thread.as_deref().unwrap_or_default();
        if index == 0 {
            let message =
                if let Kind::Received(Received { message, .. }) = entry.kind { Some(signed(message.0)) } else { None };
            begun.execute(params![user, ordered(offset.0), run, name, message])?;
        }
        thread.execute(params![user, name, title(entry.kind, &entry.record), ordered(entry.record.at)])?;
        let content = format::content(&entry).map_err(|_| rusqlite::Error::InvalidQuery)?;
        event.execute(params![user, run, ordered(offset.0), content])?;
    }
    Ok(())
}
