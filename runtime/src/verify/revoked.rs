//! What was revoked, in memory and in an append-only file, so that a restart forgives nobody.
//!
//! **Order.** Each revocation has an instant: milliseconds of the wall clock, but later than every earlier instant, also
//! when that clock stands still or goes back. Revoking a subject means: what was issued before the instant is not good.
//!
//! * The gateway's own tokens carry the latest instant that there was when they were issued, as the claim `gen`. A token
//!   is good if its `gen` is not before the subject's instant. No clock is compared: of a token and a revocation in the
//!   same millisecond, the one that came later wins.
//! * Another issuer's tokens have `iat` alone, often in whole seconds and by a clock that may be ahead by the leeway.
//!   A token is good if its `iat` is later than the instant and the leeway. So one that was issued right after the
//!   revocation may be rejected too, for as long as the leeway and one second; one from before it never gets through.
//!   A token without `iat` is rejected for that subject.
//!
//! **Memory.** What is revoked is kept for the retention, which is no shorter than the life of any token, and then is
//! dropped. A subject of whom [`MAX_CREDENTIALS`] single credentials are revoked is revoked as a whole.
//!
//! | lock | what it holds | under it may be taken |
//! | --- | --- | --- |
//! | the journal's (async) | the file | the table's |
//! | the table's | what is revoked | nothing |
//!
//! A revocation is in the table, and so in effect, before it is written; whoever revokes is told once it is written.

use core::fmt;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lockstep_model::CredentialId;
use serde::{Deserialize, Serialize};

use super::Revocation;
use super::clock::{Clock, millis};
use super::journal::Journal;
use crate::sync::lock;

/// The file in the data directory.
pub const FILE: &str = "revoked.jsonl";
/// Single credentials of one subject. One more revokes the subject.
pub const MAX_CREDENTIALS: usize = 1024;
/// Revocations that are remembered. One more is an error.
pub const MAX_REVOCATIONS: usize = 1 << 20;
/// Revocations among which nothing is looked for that can be dropped.
const MIN_SWEEP: usize = 1024;

/// What was revoked, shared by all who issue or verify.
pub struct Revocations {
    table: Arc<Mutex<Table>>,
    journal: Option<Arc<tokio::sync::Mutex<Journal>>>,
    retention: u64,
    clock: Clock,
}

#[derive(Default)]
struct Table {
    latest: u64,
    subjects: BTreeMap<Arc<str>, Marks>,
    count: usize,
    sweep_at: usize,
}

#[derive(Default)]
struct Marks {
    /// Everything issued before.
    all: Option<u64>,
    /// Single credentials, and when they were revoked.
    credentials: BTreeMap<CredentialId, u64>,
}

/// A line of the file. Without a subject it is the latest instant that there was.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    at: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sub: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    credential: Option<u64>,
}

impl Revocations {
    /// What was revoked in an earlier life, from [`FILE`] in the data directory, which is written anew without what is
    /// older than `retention`.
    ///
    /// # Errors
    ///
    /// A sentence that names the file, and the line that is not a revocation.
    pub fn open(directory: &Path, retention: Duration, clock: Clock) -> Result<Self, String> {
        let mut table = Table::default();
        let mut journal = Journal::open(directory.join(FILE), |line: Line| table.note(&line))?;
        let retention = millis(retention);
        table.sweep(clock.now(), retention);
        journal.rewrite(&table.lines())?;
        let journal = Some(Arc::new(tokio::sync::Mutex::new(journal)));
        Ok(Self { table: Arc::new(Mutex::new(table)), journal, retention, clock })
    }

    /// Nothing revoked, and nothing remembered after the process.
    #[must_use]
    pub fn in_memory(retention: Duration, clock: Clock) -> Self {
        Self { table: Arc::default(), journal: None, retention: millis(retention), clock }
    }

    /// For how long a revocation is remembered.
    #[must_use]
    pub const fn retention(&self) -> Duration {
        Duration::from_millis(self.retention)
    }

    /// Revokes. It is in effect from the first poll; when this returns, it is on the disk. Cancel safe.
    ///
    /// # Errors
    ///
    /// A sentence for the operator, if it is not on the disk. It is in effect nevertheless, until the process ends,
    /// unless the sentence says that too much is revoked already.
    pub async fn revoke(&self, revocation: &Revocation) -> Result<(), String> {
        let line = lock(&self.table).revoke(revocation, self.clock.now(), self.retention)?;
        let Some(journal) = &self.journal else { return Ok(()) };
        let (journal, table) = (Arc::clone(journal), Arc::clone(&self.table));
        let text = to_json(&line);
        // A task of its own: what was begun is written, also if nobody waits for it any more.
        let task = tokio::spawn(async move {
            let mut journal = journal.lock_owned().await;
            let write = move || journal.append(&text, || lock(&table).lines());
            tokio::task::spawn_blocking(write).await
        });
        match task.await {
            Ok(Ok(written)) => written,
            Ok(Err(error)) | Err(error) => Err(format!("a revocation was not written: {error}")),
        }
    }

    /// The instant of the latest revocation: what a token that is issued now carries as `gen`.
    #[must_use]
    pub fn latest(&self) -> u64 {
        lock(&self.table).latest
    }

    /// What was issued for this subject before this instant is not good. `None` if nothing was revoked as a whole.
    #[must_use]
    pub fn subject(&self, subject: &str) -> Option<u64> {
        lock(&self.table).subjects.get(subject)?.all
    }

    /// Whether this one credential of the subject is revoked.
    #[must_use]
    pub fn credential(&self, subject: &str, credential: CredentialId) -> bool {
        let table = lock(&self.table);
        table.subjects.get(subject).is_some_and(|marks| marks.credentials.contains_key(&credential))
    }
}

impl Table {
    fn revoke(&mut self, revocation: &Revocation, now: u64, retention: u64) -> Result<Line, String> {
        if self.count >= self.sweep_at.max(MIN_SWEEP) {
            self.sweep(now, retention);
        }
        if self.count >= MAX_REVOCATIONS {
            return Err(format!("{MAX_REVOCATIONS} revocations are remembered already"));
        }
        let (subject, credential) = match revocation {
            Revocation::Subject(subject) => (subject, None),
            Revocation::Credential(subject, credential) => {
                let full = |marks: &Marks| marks.credentials.len() >= MAX_CREDENTIALS;
                let whole = self.subjects.get(subject).is_some_and(full);
                (subject, Some(credential.0).filter(|_| !whole))
            }
        };
        let at = now.max(self.latest.saturating_add(1));
        let line = Line { at, sub: Some(Arc::clone(subject)), credential };
        self.note(&line);
        Ok(line)
    }

    /// Takes a line in. The order of lines does not matter.
    fn note(&mut self, line: &Line) {
        self.latest = self.latest.max(line.at);
        let Some(subject) = &line.sub else { return };
        let marks = self.subjects.entry(Arc::clone(subject)).or_default();
        let (before, new) = (marks.len(), line.at);
        if let Some(credential) = line.credential {
            let at = marks.credentials.entry(CredentialId(credential)).or_default();
            *at = new.max(*at);
        } else {
            marks.all = Some(marks.all.map_or(new, |at| at.max(new)));
            if marks.credentials.len() >= MAX_CREDENTIALS {
                marks.credentials.clear();
            }
        }
        self.count = self.count - before + marks.len();
    }

    /// Drops what no token can be old enough for.
    fn sweep(&mut self, now: u64, retention: u64) {
        let kept = |at: u64| at.saturating_add(retention) >= now;
        for marks in self.subjects.values_mut() {
            marks.all = marks.all.filter(|at| kept(*at));
            marks.credentials.retain(|_, at| kept(*at));
        }
        self.subjects.retain(|_, marks| marks.len() > 0);
        self.count = self.subjects.values().map(Marks::len).sum();
        self.sweep_at = self.count * 2;
    }

    fn lines(&self) -> Vec<String> {
        let latest = (self.latest > 0).then_some(Line { at: self.latest, sub: None, credential: None });
        let marks = self.subjects.iter().flat_map(|(subject, marks)| {
            let line = |at: u64, credential| Line { at, sub: Some(Arc::clone(subject)), credential };
            let all = marks.all.map(|at| line(at, None));
            let credentials = marks.credentials.iter().map(move |(credential, at)| line(*at, Some(credential.0)));
            all.into_iter().chain(credentials)
        });
        latest.into_iter().chain(marks).map(|line| to_json(&line)).collect()
    }
}

impl Marks {
    fn len(&self) -> usize {
        self.credentials.len() + usize::from(self.all.is_some())
    }
}

fn to_json(line: &Line) -> String {
    serde_json::to_string(line).expect("numbers and strings are JSON")
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocations").field("count", &lock(&self.table).count).finish_non_exhaustive()
    }
}
