//! The tables of `conversations.db`, and the migration of earlier versions.

use rusqlite::{Result, Transaction};

use super::store::{Store, signed};

/// The format version of the file.
pub(super) const VERSION: i64 = 3;

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

/// The additions of the second version.
const SECOND: &str = "
    CREATE TABLE deleted (user INTEGER, begin INTEGER, message INTEGER NOT NULL, PRIMARY KEY (user, begin)) WITHOUT ROWID;
";

/// The log that a file belongs to.
pub(super) enum Found {
    Ours,
    /// It belongs to another log.
    Other,
    /// It has this version, which is later than ours.
    Later(i64),
}

/// The additions of the third version. A span is the part of a stream that was copied at a time, so no event begins in
/// one and ends in another. For earlier content, spans are formed so that no event crosses their boundaries.
const THIRD: &str = "
    ALTER TABLE events ADD COLUMN joints BLOB;
    CREATE INDEX events_by_last ON events (user, last);
    CREATE TABLE spans (user INTEGER, high INTEGER, low INTEGER NOT NULL, PRIMARY KEY (user, high)) WITHOUT ROWID;
    INSERT INTO spans (user, high, low)
        SELECT user, max(last), min(first) - 1 FROM (
            SELECT user, first, last, sum(begins) OVER (PARTITION BY user ORDER BY first, last) AS span FROM (
                SELECT user, first, last, first > coalesce(max(last) OVER (
                    PARTITION BY user ORDER BY first, last ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
                ), -1) AS begins FROM events
            )
        ) GROUP BY user, span;
    CREATE TABLE deletions (
        user INTEGER, thread TEXT, offset INTEGER NOT NULL, content BLOB NOT NULL, PRIMARY KEY (user, thread)
    ) WITHOUT ROWID;
    CREATE INDEX deletions_by_offset ON deletions (user, offset);
    ALTER TABLE threads ADD COLUMN turns INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE threads ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX threads_by_age ON threads (updated);
    ALTER TABLE users ADD COLUMN turns INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE users ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
";

/// Counts the turns and bytes of each thread, and of each user.
const COUNTS: [&str; 2] = [
    "UPDATE threads SET
        turns = (
            SELECT count(*) FROM runs
            WHERE runs.user = threads.user AND runs.thread = threads.thread AND message IS NOT NULL
        ),
        bytes = (
            SELECT coalesce(sum(length(content) + coalesce(length(joints), 0)), 0)
            FROM runs JOIN events ON events.user = runs.user AND events.run = runs.run
            WHERE runs.user = threads.user AND runs.thread = threads.thread
        )",
    "UPDATE users SET (turns, bytes) =
        (SELECT coalesce(sum(turns), 0), coalesce(sum(bytes), 0) FROM threads WHERE threads.user = users.user)",
];

/// Recounts the turns and bytes of all threads and users, or of one user.
pub(super) fn count(transaction: &Transaction<'_>, user: Option<i64>) -> Result<()> {
    for counts in COUNTS {
        match user {
            Some(user) => transaction.execute(&format!("{counts} WHERE user = ?"), [user])?,
            None => transaction.execute(counts, [])?,
        };
    }
    Ok(())
}

impl Store {
    /// Checks which log the file belongs to. A new file is initialized, and an earlier version is migrated.
    pub(super) fn belongs_to(&mut self, log: u64) -> Result<Found> {
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
            if version < 2 {
                begin.execute_batch(SECOND)?;
            }
            begin.execute_batch(THIRD)?;
            count(&begin, None)?;
            begin.pragma_update(None, "user_version", VERSION)?;
            begin.commit()?;
        }
        Ok(Found::Ours)
    }
}
