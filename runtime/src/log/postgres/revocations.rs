//! Revocations, which every process that shares the log applies.

use lockstep_model::{CredentialId, Incarnation};

use super::entry::{signed, unsigned};
use super::{PostgresLog, damaged_revocation, statements};
use crate::log::LogError;
use crate::log::members::{Mark, Revoked};
use crate::verify::Revocation;

impl PostgresLog {
    pub(super) async fn publish_revocation(&self, revocation: &Revocation, at: u64) -> Result<Mark, LogError> {
        let (subject, credential) = match revocation {
            Revocation::Subject(subject) => (subject, None),
            Revocation::Credential(subject, credential) => (subject, Some(signed(credential.0))),
        };
        let rows = self.execute(statements::PUBLISH, &[&subject.as_bytes(), &credential, &signed(at)]).await?;
        let row = rows.first().ok_or_else(|| LogError::Unavailable("the revocation has got no mark".to_owned()))?;
        Ok(Mark(unsigned(row, 0)))
    }

    pub(super) async fn revocations_after(&self, after: Mark, limit: usize) -> Result<Vec<Revoked>, LogError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.execute(statements::REVOCATIONS, &[&signed(after.0), &limit]).await?;
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
        self.execute(statements::APPLIED, &[&signed(who.0), &signed(through.0)]).await.map(drop)
    }

    pub(super) async fn members_behind(&self, mark: Mark) -> Result<u64, LogError> {
        let rows = self.execute(statements::BEHIND, &[&signed(mark.0)]).await?;
        rows.first().map(|row| unsigned(row, 0)).ok_or_else(|| LogError::Unavailable("no count".to_owned()))
    }
}
