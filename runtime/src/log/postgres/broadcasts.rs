//! Notices to everyone, which the owners of their users deliver.

use std::collections::BTreeMap;
use std::sync::Arc;

use lockstep_model::{Incarnation, RunId, UserId};
use serde_json::value::RawValue;

use super::connection::Quiet;
use super::entry::{signed, unsigned};
use super::pool::SLOW;
use super::{PostgresLog, statements::broadcasts as statements};
use crate::log::LogError;
use crate::log::members::{Due, Progress};

impl PostgresLog {
    pub(super) async fn store_broadcast(&self, notice: RunId, data: &RawValue) -> Result<(), LogError> {
        let parameters: super::connection::Parameters<'_> = &[&signed(notice.0), &Quiet(data.get())];
        self.pool.execute(statements::STORE, parameters, Some(SLOW)).await.map(drop)
    }

    pub(super) async fn due_notices(&self, who: Incarnation, limit: usize) -> Result<Vec<Due>, LogError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let due = self.execute(statements::DUE, &[&signed(who.0), &limit]).await?;
        if due.is_empty() {
            return Ok(Vec::new());
        }
        let mut notices: Vec<i64> = due.iter().map(|row| row.get(1)).collect();
        notices.sort_unstable();
        notices.dedup();
        let mut said: BTreeMap<i64, Arc<RawValue>> = BTreeMap::new();
        for row in self.execute(statements::DATA, &[&notices]).await? {
            let data = RawValue::from_string(row.get(1))
                .map_err(|_| LogError::Unavailable("a broadcast in PostgreSQL has data that is not JSON".to_owned()))?;
            said.insert(row.get(0), Arc::from(data));
        }
        let with_data = |row: &tokio_postgres::Row| {
            let data = Arc::clone(said.get(&row.get(1))?);
            Some(Due {
                user: UserId(unsigned(row, 0)),
                notice: RunId(unsigned(row, 1)),
                run: RunId(unsigned(row, 2)),
                data,
            })
        };
        Ok(due.iter().filter_map(with_data).collect())
    }

    pub(super) async fn broadcast_progress(&self, notice: RunId) -> Result<Progress, LogError> {
        let rows = self.execute(statements::PROGRESS, &[&signed(notice.0)]).await?;
        let row = rows.first().ok_or_else(|| LogError::Unavailable("there is no such broadcast".to_owned()))?;
        Ok(Progress { users: unsigned(row, 0), due: unsigned(row, 1) })
    }
}
