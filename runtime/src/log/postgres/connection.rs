//! One connection to the engine.
//!
//! A statement that takes too long ends its connection. It is never cancelled: the engine would then answer a commit
//! that its standby does not have. For the same reason, a warning of the class 01000 ends the connection before the
//! answer that follows it is read: the statement was committed here, but a failover may lose it.

use core::fmt;
use core::future::poll_fn;
use std::collections::HashMap;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{Format, IsNull, ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Row, Statement};

use super::settings::{Failover, Settings};
use super::{NotConnected, refused, schema, statements};
use crate::log::LogError;

/// The settings of each connection. The log relies on the isolation level: a statement that waited for a row sees its
/// newest version. The engine checks whether a client that waits for a row is still there. Each statement is short:
/// compiling it (`jit`) would take longer than executing it.
const SESSION: &str = "
    set default_transaction_isolation = 'read committed';
    set plan_cache_mode = force_generic_plan;
    set jit = off;
    set client_connection_check_interval = '2s';
    set statement_timeout = 0;
    set idle_session_timeout = 0;
";

/// The oldest server version.
const OLDEST: i32 = 150_000;

/// Commits that may wait for a standby for long before no further connection is opened: a connection that is dropped
/// meanwhile stays at the engine, which has a limited number.
const MAX_STUCK: i64 = 8;

/// The parameters of a statement.
pub(super) type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

/// An open connection whose statements are prepared.
pub(super) struct Connection {
    client: Client,
    prepared: HashMap<&'static str, Statement>,
    driver: AbortHandle,
    ended: watch::Receiver<Ended>,
    timeout: Duration,
}

/// Whether a connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    No,
    Yes,
}

/// Why a statement was not answered.
pub(super) enum Failed {
    /// The engine refused this statement; the connection goes on.
    Refused(String),
    /// There is no answer: the statement may have been executed.
    Unanswered(String),
}

impl From<Failed> for LogError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Refused(why) | Failed::Unanswered(why) => Self::Unavailable(why),
        }
    }
}

impl Connection {
    /// Opens a connection and checks the engine's promise and its tables.
    pub(super) async fn open(settings: &Settings) -> Result<Self, NotConnected> {
        let mut connection = Self::bare(settings).await?;
        check(&connection, settings).await?;
        schema::check(&connection, settings).await?;
        for statement in statements::ALL.iter().chain(statements::logins::ALL) {
            let prepared = connection.client.prepare(statement).await.map_err(|error| refused(settings, &error))?;
            connection.prepared.insert(statement, prepared);
        }
        Ok(connection)
    }

    /// Opens a connection to an engine that may have no tables.
    pub(super) async fn bare(settings: &Settings) -> Result<Self, NotConnected> {
        let (config, tls) = (settings.config()?, settings.tls()?);
        let late = || {
            let (place, seconds) = (settings.place(), settings.connect_timeout.as_secs_f32());
            NotConnected::from(format!(
                "PostgreSQL at {place} has not accepted a connection in {seconds} s: is it running, and can this \
                 machine reach it?"
            ))
        };
        let opened = tokio::time::timeout(settings.connect_timeout, async {
            let (client, connection) = config.connect(tls).await?;
            let (ends, ended) = watch::channel(Ended::No);
            let driver = tokio::spawn(async move {
                drive(connection).await;
                let _ = ends.send(Ended::Yes);
            });
            let driver = driver.abort_handle();
            let connection = Self { client, prepared: HashMap::new(), driver, ended, timeout: settings.timeout };
            connection.client.batch_execute(SESSION).await?;
            Ok(connection)
        });
        opened.await.map_err(|_| late())?.map_err(|error| refused(settings, &error))
    }

    pub(super) const fn client(&self) -> &Client {
        &self.client
    }

    /// Executes one of [`statements`].
    pub(super) async fn execute(
        &self,
        statement: &'static str,
        parameters: Parameters<'_>,
        timeout: Option<Duration>,
    ) -> Result<Vec<Row>, Failed> {
        let timeout = timeout.unwrap_or(self.timeout);
        let Some(prepared) = self.prepared.get(statement) else {
            return Err(Failed::Refused("a statement of the log is not prepared".to_owned()));
        };
        match tokio::time::timeout(timeout, self.client.query(prepared, parameters)).await {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(error)) => Err(failed(&error)),
            Err(_) => {
                self.driver.abort();
                let why = format!("PostgreSQL has not answered in {} s", timeout.as_secs_f32());
                Err(Failed::Unanswered(why))
            }
        }
    }

    /// Waits until the connection has ended.
    pub(super) async fn ended(&self) {
        let mut ended = self.ended.clone();
        // An aborted driver drops the sender.
        let _ = ended.wait_for(|ended| *ended == Ended::Yes).await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

fn failed(error: &tokio_postgres::Error) -> Failed {
    match error.as_db_error() {
        // The server ends the connection, or is about to.
        Some(refusal) if refusal.code().code().starts_with("57P") => {
            Failed::Unanswered(format!("PostgreSQL has ended the connection: {}", refusal.message()))
        }
        Some(refusal) => {
            Failed::Refused(format!("PostgreSQL refuses: {} ({})", refusal.message(), refusal.code().code()))
        }
        None => Failed::Unanswered(format!("the connection to PostgreSQL is lost: {error}")),
    }
}

/// Moves a connection's bytes until it ends. Statements in flight are then unanswered.
async fn drive<S, T>(mut connection: tokio_postgres::Connection<S, T>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
        match message {
            Ok(AsyncMessage::Notice(notice)) if *notice.code() == SqlState::WARNING => {
                let warning = notice.message();
                tracing::warn!(warning, "PostgreSQL warns of a commit; its answer does not count");
                return;
            }
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

/// Checks that the engine is one that the log can rely on.
async fn check(connection: &Connection, settings: &Settings) -> Result<(), NotConnected> {
    let row = connection.client.query_one(statements::PROMISE, &[]).await;
    let row = row.map_err(|error| refused(settings, &error))?;
    promise(&row, settings).map_err(|why| format!("PostgreSQL at {}: {why}", settings.place()).into())
}

/// Checks the engine's promise.
pub(super) fn promise(row: &Row, settings: &Settings) -> Result<(), String> {
    let (version, encoding): (i32, &str) = (row.get(0), row.get(1));
    let (commit, standbys, fsync): (&str, &str, &str) = (row.get(2), row.get(3), row.get(4));
    let stuck: i64 = row.get(5);
    if stuck >= MAX_STUCK {
        return Err(format!(
            "{stuck} commits wait for a synchronous standby that does not answer: start the standby, or change \
             synchronous_standby_names"
        ));
    }
    if version < OLDEST {
        return Err(format!("it has version {}, but the log needs 15 or later", version / 10_000));
    }
    if encoding != "UTF8" {
        return Err(format!("its database has the encoding {encoding}: create one with the encoding UTF8"));
    }
    if fsync != "on" {
        tracing::warn!("PostgreSQL runs with fsync = off: a crash of its machine loses acknowledged events");
    }
    match settings.failover {
        Failover::Keeps if standbys.trim().is_empty() => Err("failover = \"keeps\" needs a synchronous standby: set \
             synchronous_standby_names, or use failover = \"new-epoch\""
            .to_owned()),
        Failover::Keeps if !["on", "remote_apply"].contains(&commit) => Err(format!(
            "failover = \"keeps\" needs synchronous_commit = on or remote_apply, and it is {commit}: change it, or use \
             failover = \"new-epoch\""
        )),
        Failover::NewEpoch if commit == "off" => {
            Err("with synchronous_commit = off a crash loses acknowledged events: \
             set it to on or local"
                .to_owned())
        }
        Failover::Keeps | Failover::NewEpoch => Ok(()),
    }
}

/// A parameter with a user's content: tokio-postgres logs parameters by their `Debug`.
pub(super) struct Quiet<T>(pub(super) T);

impl<T> fmt::Debug for Quiet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}

impl<T: ToSql> ToSql for Quiet<T> {
    fn to_sql(&self, of: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn core::error::Error + Sync + Send>> {
        self.0.to_sql(of, out)
    }

    fn accepts(of: &Type) -> bool {
        T::accepts(of)
    }

    fn to_sql_checked(
        &self,
        of: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn core::error::Error + Sync + Send>> {
        self.0.to_sql_checked(of, out)
    }

    fn encode_format(&self, of: &Type) -> Format {
        self.0.encode_format(of)
    }
}
