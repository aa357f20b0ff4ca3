//! The leases of the processes, by the engine's clock.

use core::time::Duration;
use std::sync::Arc;

use lockstep_model::{Incarnation, RunId, UserId};
use serde_json::value::RawValue;

use super::entry::{signed, unsigned};
use super::{PostgresLog, statements};
use crate::BoxFuture;
use crate::log::LogError;
use crate::log::members::{Due, Mark, Member, Members, Progress, Revoked};
use crate::verify::Revocation;

fn member(row: &tokio_postgres::Row) -> Member {
    let left = Duration::try_from_secs_f64(row.get(2)).unwrap_or_default();
    Member::new(Incarnation(unsigned(row, 0)), row.get::<_, &str>(1).into(), left)
}

impl Members for PostgresLog {
    fn renew<'a>(&'a self, who: Incarnation, address: &'a str, lease: Duration) -> BoxFuture<'a, Result<(), LogError>> {
        Box::pin(async move {
            let renewed = self.execute(statements::RENEW, &[&signed(who.0), &address, &lease.as_secs_f64()]).await?;
            if renewed.is_empty() { Err(LogError::Fenced) } else { Ok(()) }
        })
    }

    fn depart(&self, who: Incarnation) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(async move { self.execute(statements::DEPART, &[&signed(who.0)]).await.map(drop) })
    }

    fn address(&self, who: Incarnation) -> BoxFuture<'_, Result<Option<Arc<str>>, LogError>> {
        Box::pin(async move {
            let rows = self.execute(statements::ADDRESS, &[&signed(who.0)]).await?;
            Ok(rows.first().map(|row| row.get::<_, &str>(0).into()))
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Member>, LogError>> {
        Box::pin(async move {
            let rows = self.execute(statements::MEMBERS, &[]).await?;
            let mut members: Vec<Member> = rows.iter().map(member).collect();
            members.sort_unstable_by_key(|member| member.incarnation);
            Ok(members)
        })
    }

    fn owner(&self, user: UserId) -> BoxFuture<'_, Result<Option<Member>, LogError>> {
        Box::pin(async move {
            let rows = self.execute(statements::OWNER, &[&signed(user.0)]).await?;
            Ok(rows.first().map(member))
        })
    }

    fn publish<'a>(&'a self, revocation: &'a Revocation, at: u64) -> BoxFuture<'a, Result<Mark, LogError>> {
        Box::pin(self.publish_revocation(revocation, at))
    }

    fn revocations(&self, after: Mark, limit: usize) -> BoxFuture<'_, Result<Vec<Revoked>, LogError>> {
        Box::pin(self.revocations_after(after, limit))
    }

    fn applied(&self, who: Incarnation, through: Mark) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(self.note_applied(who, through))
    }

    fn behind(&self, mark: Mark) -> BoxFuture<'_, Result<u64, LogError>> {
        Box::pin(self.members_behind(mark))
    }

    fn broadcast<'a>(&'a self, notice: RunId, data: &'a RawValue) -> BoxFuture<'a, Result<(), LogError>> {
        Box::pin(self.store_broadcast(notice, data))
    }

    fn due(&self, who: Incarnation, limit: usize) -> BoxFuture<'_, Result<Vec<Due>, LogError>> {
        Box::pin(self.due_notices(who, limit))
    }

    fn progress(&self, notice: RunId) -> BoxFuture<'_, Result<Progress, LogError>> {
        Box::pin(self.broadcast_progress(notice))
    }
}
