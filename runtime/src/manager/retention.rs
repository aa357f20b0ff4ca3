//! A policy of what is kept: threads that are older, or that are more than a user may keep, are deleted as their user would
//! delete them.
//!
//! Which threads these are is the log's to say ([`Conversations::stale`](crate::log::Conversations::stale)). Whether nothing
//! happened since in a thread is for its user's session to say: it refuses a deletion that would end what goes on.

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

/// How long the deletion of one thread may take before the next look.
const PATIENCE: Duration = Duration::from_secs(60);

/// Looks every so often, as long as the gateway is there, for what is not to be kept, and deletes it.
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
            Ok(threads) => tracing::info!(threads, "conversations were deleted that are not to be kept"),
            Err(error) => tracing::warn!(%error, "what is not to be kept cannot be looked up"),
        }
    }
}

/// Deletes what is not to be kept now, and tells how many threads those are.
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
                // It is looked at again.
                Ok(Err(_)) | Err(_) => return Ok(deleted),
            }
        }
        if found < AT_A_TIME || deleted == before {
            return Ok(deleted);
        }
    }
}
