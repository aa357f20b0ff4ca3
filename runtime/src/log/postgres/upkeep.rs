//! Removes the leftovers of processes that stopped: content of erased users and deleted threads, tickets, and leases
//! that ended long ago.

use std::sync::Weak;
use std::time::Duration;

use super::pool::{Pool, SLOW};
use super::statements;
use crate::log::LogError;

/// The pause between two rounds.
const PAUSE: Duration = Duration::from_secs(60);

/// The most users of each kind in one round.
const MAX_USERS: i64 = 256;

/// Removes what is left, once at the start and then each minute.
pub(super) async fn run(pool: Weak<Pool>) {
    loop {
        let Some(open) = pool.upgrade() else { return };
        if let Err(error) = round(&open).await {
            tracing::debug!(%error, "the upkeep of the log in PostgreSQL waits");
        }
        drop(open);
        tokio::time::sleep(PAUSE).await;
    }
}

async fn round(pool: &Pool) -> Result<(), LogError> {
    for row in pool.execute(statements::LEFT, &[&MAX_USERS], Some(SLOW)).await? {
        let (user, erased): (i64, bool) = (row.get(0), row.get(1));
        let statement = if erased { statements::PURGE } else { statements::SWEEP };
        pool.execute(statement, &[&user], Some(SLOW)).await?;
    }
    pool.execute(statements::FORGET, &[], Some(SLOW)).await?;
    pool.execute(statements::FORGET_REVOCATIONS, &[], Some(SLOW)).await?;
    pool.execute(statements::broadcasts::FORGET, &[], Some(SLOW)).await?;
    pool.execute(statements::logins::FORGET_TICKETS, &[], Some(SLOW)).await?;
    Ok(())
}
