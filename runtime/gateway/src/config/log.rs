//! Where streams are stored, and the trace of steps.

use core::fmt;
use core::str::FromStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lockstep::log::conversations::Retention;
use lockstep::log::disk::{Damage, Durability, Options};
use lockstep::trace;
use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::error::{Broken, at_least};
use super::table::table;
use super::units;

table! {
    /// Where streams are stored.
    pub struct Log {
        /// `disk` for files in the data directory, `memory` for chats that end with the process, `postgres` for a
        /// PostgreSQL that several gateways share. Content is kept until its user deletes the conversation or is
        /// erased, or until `keep_days`, `keep_turns` or `keep_bytes` says otherwise.
        pub kind: LogKind = LogKind::Disk,
        /// For `kind = "disk"`: what an event waits for before it is delivered. A process that crashes loses nothing at
        /// any level. If the system crashes or the power fails, `always` loses nothing, `interval` about as much as
        /// arrives in `sync_ms`, and `never` about as much as arrives in half a minute. If something may be lost, a new
        /// epoch begins and clients are told.
        pub sync: SyncLevel = SyncLevel::Always,
        /// For `sync = "interval"`: the milliseconds after which a delivered event is on the disk.
        pub sync_ms: u64 ["units::milliseconds"] = 200,
        /// Conversations without events for this many days are deleted; 0 keeps them until their user deletes them.
        pub keep_days: u64 ["units::days"] = 0,
        /// The most messages that are kept of one user; beyond this, the user's least recently active conversations are
        /// deleted. 0 keeps all.
        pub keep_turns: u64 = 0,
        /// The most bytes that one user's stored conversations may take, enforced in the same way. 0 keeps all.
        pub keep_bytes: u64 = 0,
        /// Seconds between two searches for conversations to delete.
        pub keep_look_s: u64 ["units::seconds"] = 3_600,
        /// For `kind = "postgres"`: `postgres://USER@HOST:PORT/DATABASE`, without a password. Several hosts may be given;
        /// the one that can be written is used. `lockstep migrate` creates the tables.
        pub url: Option<String> = None,
        /// For `kind = "postgres"`: the file with the password.
        pub password_file: Option<PathBuf> = None,
        /// For `kind = "postgres"`: the file with the certificates, as PEM, that sign the engine's. Without it the
        /// system's are used.
        pub authority_file: Option<PathBuf> = None,
        /// For `kind = "postgres"`: what a failover of the engine does. `keeps` loses nothing, and needs a synchronous
        /// standby. With `new_epoch` it may lose the newest events; a new epoch begins, and clients are told.
        pub failover: FailoverKind = FailoverKind::NewEpoch,
        /// For `kind = "postgres"`: the connections that append. As many again do everything else.
        pub connections: usize = 2,
        /// For `kind = "postgres"`: the most milliseconds for a statement. After that its connection is dropped and the
        /// call is repeated.
        pub statement_ms: u64 ["units::milliseconds"] = 5_000,
        /// For `kind = "postgres"`: the most milliseconds to open a connection.
        pub connect_ms: u64 ["units::milliseconds"] = 5_000,
        /// For `kind = "disk"`: opens a damaged log, keeps what can be read, and begins a new epoch. Meant for one
        /// start.
        pub repair: bool = false,
    }
}

impl Log {
    /// The options to open the log on disk with.
    #[must_use]
    pub const fn options(&self) -> Options {
        let durability = match self.sync {
            SyncLevel::Always => Durability::Always,
            SyncLevel::Interval => Durability::Interval(Duration::from_millis(self.sync_ms)),
            SyncLevel::Never => Durability::Never,
        };
        Options::new(durability).damage(if self.repair { Damage::Repair } else { Damage::Refuse })
    }

    /// The retention rules and the interval between their checks; `None` if all conversations are kept.
    #[must_use]
    pub fn retention(&self) -> Option<(Retention, Duration)> {
        let some = |most: u64| (most > 0).then_some(most);
        let age = some(self.keep_days).map(|days| Duration::from_secs(days.saturating_mul(24 * 60 * 60)));
        let mut retention = Retention::default();
        (retention.age, retention.turns, retention.bytes) = (age, some(self.keep_turns), some(self.keep_bytes));
        (retention != Retention::default()).then_some((retention, Duration::from_secs(self.keep_look_s)))
    }

    pub(super) fn validate(&self) -> Result<(), Broken> {
        at_least("log.sync_ms", self.sync_ms, 1)?;
        at_least("log.keep_look_s", self.keep_look_s, 1)?;
        at_least("log.connections", self.connections as u64, 1)?;
        at_least("log.statement_ms", self.statement_ms, 1)?;
        at_least("log.connect_ms", self.connect_ms, 1)?;
        match (&self.url, self.kind) {
            (None, LogKind::Postgres) => Err(Broken::new("log.url", "is needed with `log.kind = \"postgres\"`")),
            (Some(url), LogKind::Postgres) if has_password(url) => Err(Broken::new(
                "log.url",
                "must not contain a password, because the configuration is printed: put it into a file, and name that in \
                 `log.password_file`",
            )),
            (Some(_), LogKind::Postgres) | (None, LogKind::Disk | LogKind::Memory) => Ok(()),
            (Some(_), LogKind::Disk | LogKind::Memory) => {
                Err(Broken::new("log.url", "needs `log.kind = \"postgres\"`"))
            }
        }
    }
}

/// Whether `postgres://user:password@host/…` or a parameter has a password.
fn has_password(url: &str) -> bool {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest).split(['/', '?']).next().unwrap_or_default();
    let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
    user.contains(':') || url.contains("password=")
}

/// What `--log` sets.
#[derive(Clone, Debug, Serialize)]
pub struct LogFlag {
    /// The kind.
    pub kind: LogKind,
    /// The URL of an engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

impl FromStr for LogFlag {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let (kind, url) = match text {
            "disk" => (LogKind::Disk, None),
            "memory" => (LogKind::Memory, None),
            url if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
                (LogKind::Postgres, Some(url.to_owned()))
            }
            _ => return Err("must be `disk`, `memory` or postgres://USER@HOST:PORT/DATABASE"),
        };
        Ok(Self { kind, url })
    }
}

/// What a failover of the engine does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailoverKind {
    /// It loses nothing.
    Keeps,
    /// It may lose the newest events, and a new epoch begins.
    NewEpoch,
}

/// What an event waits for before it is delivered. `true` and `false` mean `always` and `never`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncLevel {
    /// Until it is on the disk.
    Always,
    /// Until the operating system has it, which writes it to the disk at an interval.
    Interval,
    /// Until the operating system has it.
    Never,
}

impl<'de> Deserialize<'de> for SyncLevel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SyncLevelVisitor)
    }
}

struct SyncLevelVisitor;

impl Visitor<'_> for SyncLevelVisitor {
    type Value = SyncLevel;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"always\", \"interval\" or \"never\"")
    }

    fn visit_bool<E: de::Error>(self, always: bool) -> Result<SyncLevel, E> {
        Ok(if always { SyncLevel::Always } else { SyncLevel::Never })
    }

    fn visit_str<E: de::Error>(self, level: &str) -> Result<SyncLevel, E> {
        match level {
            "always" => Ok(SyncLevel::Always),
            "interval" => Ok(SyncLevel::Interval),
            "never" => Ok(SyncLevel::Never),
            _ => Err(E::invalid_value(Unexpected::Str(level), &self)),
        }
    }
}

/// Where streams are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogKind {
    /// In files of the data directory.
    Disk,
    /// In memory: chats end with the process.
    Memory,
    /// In PostgreSQL, which several gateways share.
    Postgres,
}

table! {
    /// The trace: records each step of each machine, for `prove replay`.
    pub struct Trace {
        /// The directory of the trace files; if not set, there is no trace.
        pub directory: Option<PathBuf> = None,
        /// Bytes after which the next file is begun; later if checkpoints are more than half of the file.
        pub file_bytes: u64 = trace::Settings::new(Path::new("")).file_bytes,
        /// The number of files that are kept.
        pub files: usize = trace::Settings::new(Path::new("")).files,
    }
}

impl Trace {
    /// The trace settings; `None` if there is no trace.
    #[must_use]
    pub fn settings(&self) -> Option<trace::Settings> {
        let settings = trace::Settings::new(self.directory.as_deref()?);
        Some(settings.file_bytes(self.file_bytes).files(self.files))
    }

    pub(super) fn validate(&self) -> Result<(), Broken> {
        at_least("trace.file_bytes", self.file_bytes, 65_536)?;
        at_least("trace.files", self.files as u64, 1)
    }
}
