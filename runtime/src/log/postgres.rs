//! A log in PostgreSQL, which several gateways share.
//!
//! Each user's stream is rows of one table, and its ownership is a row of another: the epoch, the fencing token (column
//! `generation`), the owner's incarnation and the head. Every statement is a transaction of its own and locks at most
//! rows of streams, so a process that stops in the middle holds up no other. The statement that appends compares epoch
//! and token in the newest version of that row: an earlier owner changes nothing, even if its statement arrives late.
//!
//! | event | result |
//! | --- | --- |
//! | an answer is lost | the call is repeated and *writes* again, so that its answer waits for the standby as the first did |
//! | a statement takes too long | its connection is dropped; the statement is not cancelled, and may still take effect |
//! | the engine warns that a commit did not wait for its standby | that is no answer |
//! | a connection is lost | calls in flight are unavailable; the connection is opened again |
//! | a failover, [`Failover::Keeps`] | nothing is lost; owners go on |
//! | a failover, [`Failover::NewEpoch`] | the timeline has changed: owners are fenced at once, and each stream begins a new epoch when it is next acquired |
//! | rows are missing at the end of a stream | it is unavailable, and never served |
//!
//! Appends of different users that wait at the same time share one statement, with a verdict for each.
//!
//! Trimmed entries stay in the tables as the user's conversations. A deleted thread's rows are removed before its
//! deletion is answered, an erased user's before its erasure is.

use std::sync::Arc;
use std::time::Duration;

use lockstep_model::run::Kind;
use lockstep_model::session::MAX_PAST;
use lockstep_model::{Epoch, FencingToken, Incarnation, MessageId, Offset, Tenure, UserId};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio_postgres::Row;

use super::{Acquired, Conversations, Held, Log, LogError, Members, Written};
use crate::BoxFuture;

mod appends;
mod broadcasts;
mod connection;
mod conversations;
mod entry;
pub(crate) mod gateways;
mod members;
mod pool;
mod revocations;
mod schema;
mod settings;
pub(crate) mod statements;
mod upkeep;

use self::appends::Append;
use self::connection::{Connection, Parameters, Quiet};
use self::entry::{ordered, signed, unsigned};
use self::pool::{Pool, SLOW};
pub use self::settings::{Failover, Settings};

crate::sentence! {
    /// Why a log in PostgreSQL cannot be used, with its place and what to do: a sentence for the operator. It contains
    /// no password.
    NotConnected
}

/// How often a read is repeated because of a deletion in progress.
const MAX_READS: usize = 5;

/// A log in PostgreSQL.
pub struct PostgresLog {
    pool: Arc<Pool>,
    upkeep: AbortHandle,
}

/// Creates the tables of the log, or migrates those of an earlier version. Gateways may run meanwhile. Returns the
/// version before and after; zero if there were no tables.
///
/// # Errors
///
/// [`NotConnected`].
pub async fn migrate(settings: Settings) -> Result<(i32, i32), NotConnected> {
    let connection = Connection::bare(&settings).await?;
    let before = schema::migrate(&connection, &settings).await?;
    Ok((before, schema::VERSION.max(before)))
}

impl PostgresLog {
    /// Connects to the engine. The log belongs to the tokio runtime of the caller.
    ///
    /// # Errors
    ///
    /// [`NotConnected`], if the engine cannot be reached, has not the tables that this version needs, or does not
    /// promise what [`Settings::failover`] says.
    pub async fn connect(settings: Settings) -> Result<Self, NotConnected> {
        let pool = Arc::new(Pool::open(settings).await?);
        let upkeep = tokio::spawn(upkeep::run(Arc::downgrade(&pool))).abort_handle();
        Ok(Self { pool, upkeep })
    }

    fn keeps(&self) -> bool {
        self.pool.settings().failover == Failover::Keeps
    }

    async fn execute(&self, statement: &'static str, parameters: Parameters<'_>) -> Result<Vec<Row>, LogError> {
        self.pool.execute(statement, parameters, None).await
    }

    /// Executes a statement that a tenure allows. It returns a row if the tenure is the newest.
    async fn owned(
        &self,
        statement: &'static str,
        user: UserId,
        tenure: Tenure,
        more: Parameters<'_>,
    ) -> Result<Vec<Row>, LogError> {
        let (epoch, generation) = (signed(tenure.epoch.0), i64::from(tenure.token.0));
        let (user, keeps) = (signed(user.0), self.keeps());
        let mut parameters: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> = vec![&user, &epoch, &generation, &keeps];
        parameters.extend_from_slice(more);
        let rows = self.execute(statement, &parameters).await?;
        if rows.is_empty() { Err(LogError::Fenced) } else { Ok(rows) }
    }

    /// Removes the content of the user's deleted threads.
    async fn sweep(&self, user: UserId) -> Result<(), LogError> {
        self.pool.execute(statements::SWEEP, &[&signed(user.0)], Some(SLOW)).await.map(drop)
    }

    async fn held(&self, user: UserId, tenure: Tenure) -> Result<Held, LogError> {
        for _ in 0..MAX_READS {
            let rows = self.owned(statements::RESTORE, user, tenure, &[]).await?;
            let first = &rows[0];
            if first.get(3) {
                self.sweep(user).await?;
                continue;
            }
            let (trimmed, read, head) =
                (Offset(unsigned(first, 0)), Offset(unsigned(first, 1)), Offset(unsigned(first, 2)));
            let there = rows.iter().filter(|row| row.get::<_, Option<i64>>(4).is_some());
            let entries =
                there.map(|row| entry::read(row, 4).ok_or_else(|| damaged(user))).collect::<Result<Vec<_>, _>>()?;
            if entries.last().map_or(trimmed, |(last, _)| *last) != head {
                return Err(damaged(user));
            }
            let limit = ordered(MAX_PAST as u64);
            let past = self.execute(statements::PAST, &[&signed(user.0), &ordered(trimmed.0), &limit]).await?;
            let past = past.iter().rev().map(|row| MessageId(unsigned(row, 0))).collect();
            return Ok(Held { trimmed, read, past, entries });
        }
        Err(LogError::Unavailable("a thread of the user is being deleted".to_owned()))
    }

    async fn mark(&self, user: UserId, tenure: Tenure, trimmed: Offset, read: Offset) -> Result<(), LogError> {
        self.owned(statements::MARK, user, tenure, &[&ordered(trimmed.0), &ordered(read.0)]).await.map(drop)
    }
}

impl core::fmt::Debug for PostgresLog {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PostgresLog").field("settings", self.pool.settings()).finish_non_exhaustive()
    }
}

impl Drop for PostgresLog {
    fn drop(&mut self) {
        self.upkeep.abort();
    }
}

/// Why the engine at this place cannot be used.
fn refused(settings: &Settings, error: &tokio_postgres::Error) -> NotConnected {
    let place = settings.place();
    match error.as_db_error() {
        Some(refusal) => format!("PostgreSQL at {place} refuses: {} ({})", refusal.message(), refusal.code().code()),
        None => {
            let cause = core::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
            format!("PostgreSQL at {place} cannot be reached: {error}{cause}")
        }
    }
    .into()
}

/// A stream that is not whole is never served.
fn damaged(user: UserId) -> LogError {
    LogError::Unavailable(format!(
        "the stream of user {} in PostgreSQL is damaged or of a later version: compare lockstep.stream and \
         lockstep.entry, or start a newer gateway",
        user.0
    ))
}

fn damaged_revocation() -> LogError {
    LogError::Unavailable("a revocation in PostgreSQL has a subject that is not text".to_owned())
}

/// Whether a batch deletes a thread.
fn deletes(batch: &[Written]) -> bool {
    batch.iter().any(|entry| entry.kind == Kind::Deleted)
}

impl Log for PostgresLog {
    fn user<'a>(&'a self, subject: &'a str) -> BoxFuture<'a, Result<UserId, LogError>> {
        Box::pin(async move {
            let subject = Quiet(subject.as_bytes());
            let mut found = self.execute(statements::FIND, &[&subject]).await?;
            if found.is_empty() {
                found = self.execute(statements::ENROL, &[&subject]).await?;
            }
            let row = found.first().ok_or_else(|| LogError::Unavailable("the user has got no number".to_owned()))?;
            Ok(UserId(unsigned(row, 0)))
        })
    }

    fn subject(&self, user: UserId) -> BoxFuture<'_, Result<Arc<str>, LogError>> {
        Box::pin(async move {
            let rows = self.execute(statements::SUBJECT, &[&signed(user.0)]).await?;
            let subject = rows.first().and_then(|row| core::str::from_utf8(row.get(0)).ok());
            subject.map(Arc::from).ok_or_else(|| LogError::Unavailable("the user is unknown".to_owned()))
        })
    }

    fn acquire(&self, user: UserId, who: Incarnation) -> BoxFuture<'_, Result<Acquired, LogError>> {
        Box::pin(async move {
            let parameters: Parameters<'_> = &[&signed(user.0), &signed(who.0), &schema::FORMAT, &self.keeps()];
            let rows = self.execute(statements::ACQUIRE, parameters).await?;
            // A number that is unknown was never assigned, or a failover has lost it.
            let row = rows.first().ok_or(LogError::Fenced)?;
            let unavailable = |why: &str| Err(LogError::Unavailable(why.to_owned()));
            match row.get::<_, &str>(0) {
                "granted" => {
                    let token = u32::try_from(row.get::<_, i64>(3)).map_err(|_| damaged(user))?;
                    Ok(Acquired::Owner(Tenure { epoch: Epoch(unsigned(row, 2)), token: FencingToken(token) }))
                }
                "elsewhere" => Ok(Acquired::Elsewhere(Incarnation(unsigned(row, 1)))),
                "fenced" => Err(LogError::Fenced),
                "newer" => unavailable("a newer gateway has written the user's stream: start a newer gateway"),
                _ => unavailable("this process has no lease in PostgreSQL: it must join again"),
            }
        })
    }

    fn restore(&self, user: UserId, tenure: Tenure) -> BoxFuture<'_, Result<Held, LogError>> {
        Box::pin(self.held(user, tenure))
    }

    fn append(
        &self,
        user: UserId,
        tenure: Tenure,
        after: Offset,
        batch: Vec<Written>,
    ) -> BoxFuture<'_, Result<Vec<Offset>, LogError>> {
        let (answer, answered) = oneshot::channel();
        let deletes = deletes(&batch);
        self.pool.append(Append { user, tenure, after, batch, answer });
        Box::pin(async move {
            let offsets =
                answered.await.map_err(|_| LogError::Unavailable("the log in PostgreSQL is closed".to_owned()))??;
            if deletes {
                self.sweep(user).await?;
            }
            Ok(offsets)
        })
    }

    fn trim(&self, user: UserId, tenure: Tenure, through: Offset) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(self.mark(user, tenure, through, Offset(0)))
    }

    fn read(&self, user: UserId, tenure: Tenure, through: Offset) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(self.mark(user, tenure, Offset(0), through))
    }

    fn release(&self, user: UserId, tenure: Tenure) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(async move { self.owned(statements::RELEASE, user, tenure, &[]).await.map(drop) })
    }

    fn erase(&self, user: UserId) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(async move {
            self.execute(statements::ERASE, &[&signed(user.0)]).await?;
            // Everything that was appended before the erasure is committed: the next statement sees all of it.
            self.pool.execute(statements::PURGE, &[&signed(user.0)], Some(SLOW)).await.map(drop)
        })
    }

    fn probe(&self) -> BoxFuture<'_, Result<Duration, LogError>> {
        Box::pin(async move {
            let rows = self.execute(statements::PROMISE, &[]).await?;
            let promise = rows.first().map_or(Ok(()), |row| connection::promise(row, self.pool.settings()));
            promise.map_err(|why| LogError::Unavailable(format!("PostgreSQL: {why}")))?;
            Ok(self.pool.last())
        })
    }

    fn conversations(&self) -> Option<&dyn Conversations> {
        Some(self)
    }

    fn members(&self) -> Option<&dyn Members> {
        Some(self)
    }
}
