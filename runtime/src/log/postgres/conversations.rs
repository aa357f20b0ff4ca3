//! Conversations: all that was appended and is not deleted. Runs have rows of their own, so that a thread's newest
//! turns are found without reading the stream.

use std::collections::BTreeSet;

use lockstep_model::{Offset, UserId};
use tokio_postgres::Row;

use super::connection::{Parameters, Quiet};
use super::entry::{self, bytes_of, named, ordered, signed, unsigned};
use super::pool::SLOW;
use super::{MAX_READS, PostgresLog, damaged, statements};
use crate::BoxFuture;
use crate::log::conversations::{self, Page, Retention, Stale, Thread, ThreadPlace, Threads, Turns};
use crate::log::retention::{self, Sizes};
use crate::log::{Conversations, LogError, Written};

/// Entries that are read at a time for a page.
const CHUNK: i64 = 256;

impl PostgresLog {
    /// Waits until the user has no content that must be removed.
    async fn swept(&self, user: UserId) -> Result<(), LogError> {
        for _ in 0..MAX_READS {
            let rows = self.execute(statements::STANDING, &[&signed(user.0)]).await?;
            if !rows.first().ok_or(LogError::Fenced)?.get::<_, bool>(0) {
                return Ok(());
            }
            self.sweep(user).await?;
        }
        Err(LogError::Unavailable("a thread of the user is being deleted".to_owned()))
    }

    async fn slow(&self, statement: &'static str, parameters: Parameters<'_>) -> Result<Vec<Row>, LogError> {
        self.pool.execute(statement, parameters, Some(SLOW)).await
    }

    /// The users that may have stale threads.
    async fn over(&self, retention: &Retention, now: u64) -> Result<Vec<UserId>, LogError> {
        let mut users = Vec::new();
        let bounds = [
            (statements::AGED, retention::since(retention, now)),
            (statements::TALKATIVE, retention.turns),
            (statements::LARGE, retention.bytes),
        ];
        for (statement, bound) in bounds {
            if let Some(bound) = bound {
                let rows = self.slow(statement, &[&ordered(bound)]).await?;
                users.extend(rows.iter().map(|row| UserId(unsigned(row, 0))));
            }
        }
        users.sort_unstable();
        users.dedup();
        Ok(users)
    }

    async fn stale_of(&self, user: UserId, retention: &Retention, now: u64) -> Result<Vec<Stale>, LogError> {
        self.swept(user).await?;
        let rows = self.slow(statements::SIZES, &[&signed(user.0), &retention.bytes.is_some()]).await?;
        let (mut sizes, mut open) = (Vec::with_capacity(rows.len()), BTreeSet::new());
        for row in &rows {
            let thread = named(row.get(0)).ok_or_else(|| damaged(user))?;
            if row.get(2) {
                open.insert(thread.clone());
            }
            sizes.push((thread, Sizes { updated: unsigned(row, 1), turns: unsigned(row, 3), bytes: unsigned(row, 4) }));
        }
        let as_of = rows.first().map_or(Offset(0), |row| Offset(unsigned(row, 5)));
        let stale = retention::stale(sizes, |thread| open.contains(thread), retention, now);
        Ok(stale.into_iter().map(|thread| Stale { user, thread, as_of }).collect())
    }
}

fn thread(row: &Row) -> Option<Thread> {
    let title = row.get::<_, Option<Vec<u8>>>(3).map(String::from_utf8).transpose().ok()?;
    Some(Thread { name: named(row.get(0))?, title, updated: unsigned(row, 1), open: row.get(2) })
}

impl Conversations for PostgresLog {
    fn threads<'a>(
        &'a self,
        user: UserId,
        before: Option<&'a ThreadPlace>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Threads, LogError>> {
        Box::pin(async move {
            self.swept(user).await?;
            let updated = before.map(|before| ordered(before.updated));
            let name = Quiet(before.map(|before| before.name.as_bytes()));
            let most = ordered(limit as u64).saturating_add(1);
            let rows = self.slow(statements::THREADS, &[&signed(user.0), &updated, &name, &most]).await?;
            let threads = rows.iter().map(thread).collect::<Option<_>>().ok_or_else(|| damaged(user))?;
            Ok(conversations::page_of(threads, before, limit))
        })
    }

    fn turns<'a>(
        &'a self,
        user: UserId,
        thread: Option<&'a str>,
        before: Option<Offset>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Turns, LogError>> {
        Box::pin(async move {
            self.swept(user).await?;
            let (name, before) = (Quiet(bytes_of(thread)), ordered(before.map_or(u64::MAX, |before| before.0)));
            let most = ordered(limit as u64).saturating_add(1);
            let rows = self.slow(statements::TURNS, &[&signed(user.0), &name, &before, &most]).await?;
            let mut runs: Vec<(Offset, Vec<(Offset, Written)>)> = Vec::new();
            for row in &rows {
                let (begin, entry) = (Offset(unsigned(row, 0)), entry::read(row, 1).ok_or_else(|| damaged(user))?);
                match runs.last_mut() {
                    Some((of, entries)) if *of == begin => entries.push(entry),
                    Some(_) | None => runs.push((begin, vec![entry])),
                }
            }
            let more = runs.len() > limit;
            runs.truncate(limit);
            let next = runs.last().filter(|_| more).map(|(begin, _)| *begin);
            Ok(Turns { entries: conversations::in_order(runs.into_iter().map(|(_, entries)| entries)), next })
        })
    }

    fn rename<'a>(
        &'a self,
        user: UserId,
        thread: Option<&'a str>,
        title: Option<&'a str>,
    ) -> BoxFuture<'a, Result<bool, LogError>> {
        Box::pin(async move {
            self.swept(user).await?;
            let (user, name) = (signed(user.0), Quiet(bytes_of(thread)));
            let Some(title) = title else {
                let rows = self.execute(statements::UNNAME, &[&user, &name]).await?;
                return Ok(rows.first().is_some_and(|row| row.get(0)));
            };
            let named = self.execute(statements::RENAME, &[&user, &name, &Quiet(title.as_bytes())]).await?;
            Ok(!named.is_empty() && self.execute(statements::RENAMED, &[&user, &name]).await?.is_empty())
        })
    }

    /// Nothing is missing, because trimmed entries stay.
    fn page(
        &self,
        user: UserId,
        after: Offset,
        through: Offset,
        bytes: usize,
    ) -> BoxFuture<'_, Result<Page, LogError>> {
        Box::pin(async move {
            self.swept(user).await?;
            let (mut entries, mut size) = (Vec::<(Offset, Written)>::new(), 0);
            loop {
                let reached = entries.last().map_or(after, |(offset, _)| *offset);
                let parameters: Parameters<'_> = &[&signed(user.0), &ordered(reached.0), &ordered(through.0), &CHUNK];
                let rows = self.slow(statements::PAGE, parameters).await?;
                for row in &rows {
                    if size > bytes
                        && let Some((last, _)) = entries.last()
                    {
                        return Ok(Page { trimmed: after, through: *last, entries });
                    }
                    let (offset, entry) = entry::read(row, 0).ok_or_else(|| damaged(user))?;
                    size += entry.record.data.get().len();
                    entries.push((offset, entry));
                }
                if ordered(rows.len() as u64) < CHUNK {
                    return Ok(Page { trimmed: after, through, entries });
                }
            }
        })
    }

    fn stale(&self, retention: Retention, now: u64, limit: usize) -> BoxFuture<'_, Result<Vec<Stale>, LogError>> {
        Box::pin(async move {
            let mut stale = Vec::new();
            for user in self.over(&retention, now).await? {
                match self.stale_of(user, &retention, now).await {
                    Ok(mut of_user) => stale.append(&mut of_user),
                    Err(LogError::Fenced) => {}
                    Err(error) => return Err(error),
                }
                if stale.len() >= limit {
                    break;
                }
            }
            stale.truncate(limit);
            Ok(stale)
        })
    }
}
