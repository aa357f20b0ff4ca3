//! Revocations, which every process that shares the log applies.

use lockstep_model::{CredentialId, Incarnation};

use super::entry::{signed, unsigned};
use super::{PostgresLog, damaged_revocation};
use crate::log::LogError;
use crate::log::members::{Mark, Revoked};
use crate::verify::Revocation;

/// Adds a revocation. The one row of `revocation_mark` is locked until the end of the statement, so revocations become
/// visible in the order of their marks, and a reader that has passed a mark misses none before it.
const PUBLISH: &str = "
    with next as (
        update lockstep.revocation_mark set newest = newest + 1 returning newest
    )
    insert into lockstep.revocation (mark, subject, credential, at)
    select newest, $1, $2, $3 from next
    returning mark";

/// The revocations after a mark, oldest first.
const FEED: &str = "
    select mark, subject, credential, at from lockstep.revocation where mark > $1 order by mark limit $2";

/// Notes how far a member has applied revocations.
const APPLIED: &str = "update lockstep.member set applied = greatest(applied, $2) where incarnation = $1";

/// The members with a lease that have not applied a revocation yet.
const BEHIND: &str = "select count(*) from lockstep.member where expires > now() and applied < $1";

/// Forgets revocations that no credential can be older than.
pub(super) const FORGET: &str = "delete from lockstep.revocation where stored < now() - interval '32 days'";

impl PostgresLog {
    pub(super) async fn publish_revocation(&self, revocation: &Revocation, at: u64) -> Result<Mark, LogError> {
        let (subject, credential) = match revocation {
            Revocation::Subject(subject) => (subject, None),
            Revocation::Credential(subject, credential) => (subject, Some(signed(credential.0))),
        };
        let rows = self.execute(PUBLISH, &[&subject.as_bytes(), &credential, &signed(at)]).await?;
        let row = rows.first().ok_or_else(|| LogError::Unavailable("the revocation has got no mark".to_owned()))?;
        Ok(Mark(unsigned(row, 0)))
    }

    pub(super) async fn revocations_after(&self, after: Mark, limit: usize) -> Result<Vec<Revoked>, LogError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.execute(FEED, &[&signed(after.0), &limit]).await?;
        let revoked = |row: &tokio_postgres::Row| {
            let subject = core::str::from_utf8(row.get(1)).ok()?.into();
            let revocation = match row.get::<_, Option<i64>>(2) {
                Some(credential) => Revocation::Credential(subject, CredentialId(credential.cast_unsigned())),
                None => Revocation::Subject(subject),
            };
            Some(Revoked { mark: Mark(unsigned(row, 0)), revocation, at: unsigned(row, 3) })
        };
        rows.iter().map(|row| revoked(row).ok_or_else(damaged_revocation)).collect()
    }

    pub(super) async fn note_applied(&self, who: Incarnation, through: Mark) -> Result<(), LogError> {
        self.execute(APPLIED, &[&signed(who.0), &signed(through.0)]).await.map(drop)
    }

    pub(super) async fn members_behind(&self, mark: Mark) -> Result<u64, LogError> {
        let rows = self.execute(BEHIND, &[&signed(mark.0)]).await?;
        rows.first().map(|row| unsigned(row, 0)).ok_or_else(|| LogError::Unavailable("no count".to_owned()))
    }
}
