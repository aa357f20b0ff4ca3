//! The retention policy: deletes threads that are too old, or more than a user may keep, as their user would.
//!
//! The log finds these threads ([`Conversations::stale`](crate::log::Conversations::stale)). Its user's session decides
//! whether a thread has changed since then: it refuses a deletion that would end ongoing activity.

use std::sync::{Arc, Weak};
use std::time::Duration;

use lockstep_model::node::Mode;
use tokio::time::MissedTickBehavior;

use crate::driver::{Core, notices};
use crate::log::conversations::{Retention, Stale};
use crate::log::{Log, LogError};
use crate::payload::now_ms;

/// Threads that are looked up at a time.
const AT_A_TIME: usize = 64;

/// How long the deletion of one thread may take before this pass is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Deletes stale threads once per `every`, until the gateway is gone.
pub(super) async fn enforce(core: Weak<Core>, retention: Retention, every: Duration) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(core) = core.upgrade() else { return };
        let deleted = look(&core, retention).await;
        if core.node().mode() == Mode::Draining {
            return;
        }
        match deleted {
            Ok(0) => {}
            Ok(threads) => tracing::info!(threads, "deleted conversations that exceed the retention limits"),
            Err(error) => tracing::warn!(%error, "cannot find the conversations that exceed the retention limits"),
        }
    }
}

/// Deletes the threads that are stale now, and returns how many were deleted.
async fn look(core: &Arc<Core>, retention: Retention) -> Result<usize, LogError> {
    let log = &core.effects().log;
    let Some(conversations) = log.conversations() else { return Ok(0) };
    let mut deleted = 0;
    loop {
        let stale = conversations.stale(retention, now_ms(), AT_A_TIME).await?;
        let (found, before) = (stale.len(), deleted);
        for Stale { user, thread, as_of } in stale {
            let deletion = notices::delete(core, user, thread.as_deref(), Some(as_of));
            match tokio::time::timeout(PATIENCE, deletion).await {
                Ok(Ok(done)) => deleted += usize::from(done),
                // The next pass tries again.
                Ok(Err(_)) | Err(_) => return Ok(deleted),
            }
        }
        if found < AT_A_TIME || deleted == before {
            return Ok(deleted);
        }
    }
}
