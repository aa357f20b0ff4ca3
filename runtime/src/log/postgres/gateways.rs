//! The state that several gateways keep beside the log: accounts, logins, keys and tickets. This module only stores.
//! [`lockstep_model::login`] decides by the records that were read, and a write takes effect only if they have not
//! changed.

use core::time::Duration;
use std::sync::Arc;

use lockstep_model::CredentialId;
use lockstep_model::login::{Login, Moment};
use tokio_postgres::Row;

use super::connection::{Parameters, Quiet};
use super::entry::{ordered, signed, unsigned};
use super::pool::{Pool, SLOW};
use super::statements::logins as statements;
use super::{NotConnected, PostgresLog, Settings};
use crate::log::LogError;

/// The state that gateways share in the engine of their log. Each call is one statement, a transaction of its own. A
/// call that is unavailable may have taken effect, or may still do so.
#[derive(Clone)]
pub struct Shared(Arc<Pool>);

/// The logins of one subject.
#[derive(Debug)]
pub struct LoginsOf {
    /// The subject; `None` if there is no such login.
    pub subject: Option<Arc<str>>,
    /// Changes with each change.
    pub version: u64,
    /// How long gateways have run on these tables, in milliseconds. It lags by the pause between two ticks at most.
    pub age: u64,
    /// The engine's clock, in milliseconds since the Unix epoch.
    pub wall: u64,
    /// The logins.
    pub logins: Vec<(CredentialId, Login<Arc<str>>)>,
}

/// A change to the logins of one subject.
#[derive(Debug)]
pub struct Change<'a> {
    /// The subject.
    pub subject: &'a str,
    /// The version of the logins with which it was decided.
    pub from: u64,
    /// The version of the accounts with which it was decided.
    pub roster: u64,
    /// Logins that begin or go on.
    pub kept: &'a [(CredentialId, Login<Arc<str>>)],
    /// Logins that end: all processes apply their revocations.
    pub ended: &'a [CredentialId],
}

impl Shared {
    /// What gateways share in the engine of this log.
    #[must_use]
    pub fn of(log: &PostgresLog) -> Self {
        Self(Arc::clone(&log.pool))
    }

    /// Connects to an engine, without a log.
    ///
    /// # Errors
    ///
    /// [`NotConnected`].
    pub async fn connect(settings: Settings) -> Result<Self, NotConnected> {
        let settings = settings.connections(core::num::NonZeroUsize::MIN);
        Ok(Self(Arc::new(Pool::open(settings).await?)))
    }

    async fn execute(&self, statement: &'static str, parameters: Parameters<'_>) -> Result<Vec<Row>, LogError> {
        self.0.execute(statement, parameters, None).await
    }

    /// Keeps a key unless there is one of this name, and returns the one that is kept.
    ///
    /// # Errors
    ///
    /// [`LogError::Unavailable`].
    pub async fn key(&self, name: &str, key: &[u8]) -> Result<Vec<u8>, LogError> {
        let rows = self.execute(statements::KEEP_KEY, &[&name, &Quiet(key)]).await?;
        Ok(rows.first().ok_or_else(nothing)?.get(0))
    }

    /// Returns the accounts and their version, unless it is `known`. They are empty if there never were any.
    ///
    /// # Errors
    ///
    /// [`LogError::Unavailable`].
    pub async fn roster(&self, known: Option<u64>) -> Result<Option<(u64, Vec<u8>)>, LogError> {
        let rows = self.execute(statements::ROSTER, &[&known.map(signed)]).await?;
        Ok(rows.first().map(|row| (unsigned(row, 0), row.get(1))))
    }

    /// Replaces the accounts of this version. Returns the new version; `None` if they have another one.
    ///
    /// # Errors
    ///
    /// [`LogError::Unavailable`].
    pub async fn change_roster(&self, from: u64, content: &[u8]) -> Result<Option<u64>, LogError> {
        let rows = self.execute(statements::CHANGE_ROSTER, &[&signed(from), &Quiet(content)]).await?;
        Ok(rows.first().map(|row| unsigned(row, 0)))
    }

    /// Returns the logins of a subject.
    ///
    /// # Errors
    ///
    /// [`LogError::Unavailable`].
    pub async fn logins_of(&self, subject: &str) -> Result<LoginsOf, LogError> {
        self.logins(None, Some(subject.as_bytes())).await
    }

    /// Returns all logins of the subject whose login this is.
    ///
    /// # Errors
    ///
    /// [`LogError::Unavailable`].
    pub async fn logins_with(&self, login: CredentialId) -> Result<LoginsOf, LogError> {
        self.logins(Some(signed(login.0)), None).await
    }

    async fn logins(&self, login: Option<i64>, subject: Option<&[u8]>) -> Result<LoginsOf, LogError> {
        let rows = self.execute(statements::LOGINS, &[&login, &Quiet(subject)]).await?;
        let first = rows.first().ok_or_else(nothing)?;
        let subject = match first.get::<_, Option<&[u8]>>(2) {
            Some(subject) => Some(text(subject)?),
            None => None,
        };
        let moment = |row: &Row, column| Moment { age: unsigned(row, column), wall: unsigned(row, column + 1) };
        let login = |row: &Row| {
            let login = row.get::<_, Option<i64>>(4)?;
            let subject = subject.clone()?;
            let (version, began, turn, turned) = (unsigned(row, 5), moment(row, 6), unsigned(row, 8), moment(row, 9));
            Some((CredentialId(login.cast_unsigned()), Login { subject, version, began, turn, turned }))
        };
        let logins = rows.iter().filter_map(login).collect();
        let (age, wall, version) = (unsigned(first, 0), unsigned(first, 1), unsigned(first, 3));
        Ok(LoginsOf { subject, version, age, wall, logins })
    }

    /// Writes a change, and the revocations of the logins that end. Returns the version of the subject's logins from now
    /// on; `None` if they or the accounts have another version than the change was decided with.
    ///
    /// # Errors
    ///
    /// [`LogError::Unavailable`].
    pub async fn write(&self, change: &Change<'_>) -> Result<Option<u64>, LogError> {
        let column = |of: fn(&Login<Arc<str>>) -> u64| -> Vec<i64> {
            change.kept.iter().map(|(_, login)| signed(of(login))).collect()
        };
        let kept: Vec<i64> = change.kept.iter().map(|(id, _)| signed(id.0)).collect();
        let ended: Vec<i64> = change.ended.iter().map(|id| signed(id.0)).collect();
        let parameters: Parameters<'_> = &[
            &Quiet(change.subject.as_bytes()),
            &signed(change.from),
            &signed(change.roster),
            &Quiet(kept),
            &column(|login| login.version),
            &column(|login| login.began.age),
            &column(|login| login.began.wall),
            &column(|login| login.turn),
            &column(|login| login.turned.age),
            &column(|login| login.turned.wall),
            &Quiet(ended),
        ];
        let rows = self.execute(statements::WRITE_LOGINS, parameters).await?;
        Ok(rows.first().map(|row| unsigned(row, 0)))
    }

    /// Returns each subject with a login, and the versions of the passwords of its logins.
    ///
    /// # Errors
    ///
    /// [`LogError::Unavailable`].
    pub async fn holders(&self) -> Result<Vec<(Arc<str>, u64)>, LogError> {
        let rows = self.0.execute(statements::HOLDERS, &[], Some(SLOW)).await?;
        rows.iter().map(|row| Ok((text(row.get(0))?, unsigned(row, 1)))).collect()
    }

    /// Forgets logins that were unused for longer than `idle`, or have lasted for longer than `longest`.
    ///
    /// # Errors
    ///
    /// [`LogError::Unavailable`].
    pub async fn forget_logins(&self, idle: u64, longest: u64) -> Result<(), LogError> {
        self.0.execute(statements::FORGET_LOGINS, &[&ordered(idle), &ordered(longest)], Some(SLOW)).await.map(drop)
    }

    /// Forgets an erased subject, whose account is gone.
    ///
    /// # Errors
    ///
    /// [`LogError::Unavailable`].
    pub async fn forget_subject(&self, subject: &str) -> Result<(), LogError> {
        self.execute(statements::FORGET_SUBJECT, &[&Quiet(subject.as_bytes())]).await.map(drop)
    }

    /// Lets the clock of logins advance by the milliseconds that have passed since the answer with `tick`, unless another
    /// process has done so. Returns the newest tick.
    ///
    /// # Errors
    ///
    /// [`LogError::Unavailable`].
    pub async fn tick(&self, tick: u64, elapsed: u64) -> Result<u64, LogError> {
        let rows = self.execute(statements::TICK, &[&signed(tick), &ordered(elapsed)]).await?;
        rows.first().map(|row| unsigned(row, 0)).ok_or_else(nothing)
    }

    /// Waits until everything that was read until now is durable, and each process with a lease has applied every
    /// revocation until now. Never returns while one does not.
    ///
    /// # Errors
    ///
    /// [`LogError::Unavailable`].
    pub async fn settle(&self) -> Result<(), LogError> {
        let rows = self.execute(statements::SETTLE, &[]).await?;
        let mark: i64 = rows.first().ok_or_else(nothing)?.get(0);
        loop {
            let behind = self.execute(super::statements::BEHIND, &[&mark]).await?;
            if behind.first().is_none_or(|row| row.get::<_, i64>(0) == 0) {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Keeps a ticket, by its digest, for that long.
    ///
    /// # Errors
    ///
    /// [`LogError::Unavailable`].
    pub async fn keep_ticket(&self, digest: &[u8], token: &[u8], lifetime: Duration) -> Result<(), LogError> {
        let parameters: Parameters<'_> = &[&Quiet(digest), &Quiet(token), &lifetime.as_secs_f64()];
        self.execute(statements::KEEP_TICKET, parameters).await.map(drop)
    }

    /// Redeems a ticket: of all calls of all processes, one is told what it stands for.
    ///
    /// # Errors
    ///
    /// [`LogError::Unavailable`]. The ticket may be redeemed, and is lost then.
    pub async fn take_ticket(&self, digest: &[u8]) -> Result<Option<Vec<u8>>, LogError> {
        let rows = self.execute(statements::TAKE_TICKET, &[&Quiet(digest)]).await?;
        Ok(rows.first().map(|row| row.get(0)))
    }
}

/// The interval between two checks whether all processes have a revocation.
const LOOK: Duration = Duration::from_millis(50);

fn text(bytes: &[u8]) -> Result<Arc<str>, LogError> {
    let text = core::str::from_utf8(bytes);
    text.map(Arc::from)
        .map_err(|_| LogError::Unavailable("a login in PostgreSQL has a subject that is not text".into()))
}

fn nothing() -> LogError {
    LogError::Unavailable("PostgreSQL has returned no row: compare the tables of the schema lockstep".into())
}

impl core::fmt::Debug for Shared {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Shared").field(self.0.settings()).finish()
    }
}
