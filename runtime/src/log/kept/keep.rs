//! Writing to the store.

use lockstep_model::run::{Kind, Received};
use lockstep_model::{MessageId, Offset, RunId, UserId};
use rusqlite::{OptionalExtension as _, Result, Transaction, params};

use super::super::Written;
use super::super::conversations::{Joined, joined, title};
use super::super::deletions::Deletions;
use super::pack;
use super::schema;
use super::store::{Store, count, ordered, signed};

/// Bytes of content after which a span ends: a page of the stream reads at least one span.
const SPAN: usize = 256 * 1024;

/// The entries copied of one user.
pub(super) struct Copied<'a> {
    pub(super) user: UserId,
    pub(super) subject: &'a str,
    /// The offset up to which they were copied.
    pub(super) through: Offset,
    pub(super) entries: Vec<(Offset, Written)>,
    /// The messages that are gone with their threads.
    pub(super) gone: Vec<(Offset, MessageId)>,
}

impl Store {
    /// Cuts a user's copy, of whom the log has only the entries after `trimmed`, up to `head`. Deletes events that
    /// would not be whole, and everything after them, which can be copied again.
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
        cut.execute("DELETE FROM deletions WHERE user = ? AND offset > ?", params![user, high])?;
        cut.execute("DELETE FROM spans WHERE user = ? AND low >= ?", params![user, high])?;
        cut.execute("UPDATE spans SET high = ?2 WHERE user = ?1 AND high > ?2", params![user, high])?;
        cut.execute("UPDATE users SET high = ?2 WHERE user = ?1", params![user, high])?;
        schema::count(&cut, Some(user))?;
        cut.commit()
    }

    /// Deletes everything of a user. The overwritten content stays in the journal until the journal is truncated.
    pub(super) fn erase(&mut self, user: UserId) -> Result<()> {
        let erase = self.0.transaction()?;
        erase_in(&erase, user)?;
        erase.commit()
    }

    /// Stores the copied entries of these users, in one commit.
    pub(super) fn keep(&mut self, copied: Vec<Copied<'_>>) -> Result<()> {
        let keep = self.0.transaction()?;
        for of_user in copied {
            keep_in(&keep, of_user)?;
        }
        keep.commit()
    }
}

fn erase_in(transaction: &Transaction<'_>, user: UserId) -> Result<()> {
    for table in ["events", "spans", "runs", "threads", "deleted", "deletions", "users"] {
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
        // The log is a copy from before this user existed, and has reassigned the number.
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
    spans(entries).into_iter().try_for_each(|span| keep_span(keep, number, span, &deletions))
}

/// Divides the entries into spans of about [`SPAN`] bytes.
fn spans(entries: Vec<(Offset, Written)>) -> Vec<Vec<(Offset, Written)>> {
    let mut spans: Vec<Vec<(Offset, Written)>> = Vec::new();
    let mut size = 0;
    for entry in entries {
        if size == 0 || size >= SPAN {
            spans.push(Vec::new());
            size = 0;
        }
        size += entry.1.record.data.get().len();
        if let Some(span) = spans.last_mut() {
            span.push(entry);
        }
    }
    spans
}

/// Stores one span. Each run becomes one event; an entry that is no longer part of a conversation becomes an event
/// without a run.
fn keep_span(keep: &Transaction<'_>, user: i64, span: Vec<(Offset, Written)>, deletions: &Deletions) -> Result<()> {
    let (Some((first, _)), Some((last, _))) = (span.first(), span.last()) else { return Ok(()) };
    let mut of_span = keep.prepare_cached("INSERT OR REPLACE INTO spans (user, high, low) VALUES (?, ?, ?)")?;
    of_span.execute(params![user, ordered(last.0), ordered(first.0.saturating_sub(1))])?;
    let mut runs: Vec<(RunId, Vec<(Offset, Written)>)> = Vec::new();
    for (offset, entry) in span {
        let covered = deletions.covers(offset, entry.record.thread.as_deref());
        if entry.kind == Kind::Deleted {
            keep_deletion(keep, user, offset, entry)?;
        } else if covered && is_of_none(&entry) {
            keep_events(keep, user, signed(entry.run.0), offset, vec![(offset, entry)])?;
        } else if !covered {
            match runs.iter_mut().rfind(|(run, _)| *run == entry.run) {
                Some((_, of_run)) => of_run.push((offset, entry)),
                None => runs.push((entry.run, vec![(offset, entry)])),
            }
        }
    }
    runs.into_iter().try_for_each(|(run, entries)| keep_run(keep, user, signed(run.0), entries))
}

/// Whether an entry is a notice without a thread, which no deletion removes.
fn is_of_none(entry: &Written) -> bool {
    entry.kind == Kind::Notice && entry.record.thread.is_none()
}

/// Stores the deletion of a thread, which is in the stream until the thread is deleted again.
fn keep_deletion(keep: &Transaction<'_>, user: i64, offset: Offset, entry: Written) -> Result<()> {
    let mut deletion =
        keep.prepare_cached("INSERT OR REPLACE INTO deletions (user, thread, offset, content) VALUES (?, ?, ?, ?)")?;
    let name = entry.record.thread.clone();
    let content = pack::packed(&joined(vec![(offset, entry)])).ok_or(rusqlite::Error::InvalidQuery)?;
    deletion.execute(params![user, name.as_deref().unwrap_or_default(), ordered(offset.0), content])?;
    Ok(())
}

/// Deletes a thread, except the ids of its messages, and notices without a thread that were shown in it.
fn delete_in(keep: &Transaction<'_>, user: i64, thread: &str) -> Result<()> {
    if thread.is_empty() {
        let runs = "SELECT run FROM runs INDEXED BY runs_by_thread WHERE user = ? AND thread = '' AND message IS NULL";
        let runs = keep.prepare_cached(runs)?.query_map([user], |row| row.get(0))?.collect::<Result<Vec<i64>>>()?;
        for run in runs {
            if is_notice(keep, user, run)? {
                keep.prepare_cached("DELETE FROM runs WHERE user = ? AND run = ?")?.execute(params![user, run])?;
            }
        }
    }
    for delete in [
        "INSERT OR IGNORE INTO deleted (user, begin, message)
         SELECT user, begin, message FROM runs INDEXED BY runs_by_thread
         WHERE user = ?1 AND thread = ?2 AND message IS NOT NULL",
        "DELETE FROM events WHERE user = ?1
         AND run IN (SELECT run FROM runs INDEXED BY runs_by_thread WHERE user = ?1 AND thread = ?2)",
        "DELETE FROM runs WHERE user = ?1 AND thread = ?2",
        "UPDATE users SET turns = users.turns - threads.turns, bytes = users.bytes - threads.bytes FROM threads
         WHERE users.user = ?1 AND threads.user = ?1 AND threads.thread = ?2",
        "DELETE FROM threads WHERE user = ?1 AND thread = ?2",
    ] {
        keep.prepare_cached(delete)?.execute(params![user, thread])?;
    }
    Ok(())
}

/// Whether all stored entries of a run are notices without a thread.
fn is_notice(keep: &Transaction<'_>, user: i64, run: i64) -> Result<bool> {
    let mut events = keep.prepare_cached("SELECT content FROM events WHERE user = ? AND run = ?")?;
    let mut rows = events.query(params![user, run])?;
    while let Some(row) = rows.next()? {
        let entries = pack::unpacked(row.get_ref(0)?.as_blob()?).ok_or(rusqlite::Error::InvalidQuery)?;
        if !entries.iter().all(|(_, entry)| is_of_none(entry)) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn keep_run(keep: &Transaction<'_>, user: i64, run: i64, entries: Vec<(Offset, Written)>) -> Result<()> {
    let (Some((begin, first)), Some((_, last))) = (entries.first().cloned(), entries.last().cloned()) else {
        return Ok(());
    };
    let open = !entries.iter().any(|(_, entry)| entry.kind.is_terminal());
    let bytes = keep_events(keep, user, run, begin, entries)?;
    let name = first.record.thread.as_deref().unwrap_or_default();
    let message =
        if let Kind::Received(Received { message, .. }) = first.kind { Some(signed(message.0)) } else { None };
    let mut begun = keep.prepare_cached(
        "INSERT INTO runs (user, begin, run, thread, message, open) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (user, run) DO UPDATE SET open = open AND ?6",
    )?;
    begun.execute(params![user, ordered(begin.0), run, name, message, open])?;
    let mut thread = keep.prepare_cached(
        "INSERT INTO threads (user, thread, title, updated, turns, bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT DO UPDATE SET
            title = coalesce(title, ?3), updated = max(updated, ?4), turns = turns + ?5, bytes = bytes + ?6",
    )?;
    let title = title(first.kind, &first.record);
    thread.execute(params![user, name, title, ordered(last.record.at()), message.is_some(), bytes])?;
    let mut of_user = keep.prepare_cached("UPDATE users SET turns = turns + ?2, bytes = bytes + ?3 WHERE user = ?1")?;
    of_user.execute(params![user, message.is_some(), bytes])?;
    Ok(())
}

/// Stores entries of a run, and returns their stored size in bytes.
fn keep_events(
    keep: &Transaction<'_>,
    user: i64,
    run: i64,
    begin: Offset,
    entries: Vec<(Offset, Written)>,
) -> Result<i64> {
    let entries: Vec<Joined> = joined(entries);
    let end = entries.last().map_or(begin, |entry| entry.offset);
    let packed = pack::packed(&entries).zip(pack::packed_joints(&entries));
    let (content, joints) = packed.ok_or(rusqlite::Error::InvalidQuery)?;
    let mut event =
        keep.prepare_cached("INSERT INTO events (user, run, first, last, content, joints) VALUES (?, ?, ?, ?, ?, ?)")?;
    event.execute(params![user, run, ordered(begin.0), ordered(end.0), content, joints])?;
    Ok(count(content.len() + joints.len()))
}
