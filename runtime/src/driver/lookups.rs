//! What sessions have the log look up: each in a task of its own, for as long as it takes. The machine has a deadline for that,
//! and knows which answers it still wants.

use std::sync::{Arc, Weak};

use lockstep_model::session::{Found, Input, Lookup};
use lockstep_model::stream::Page;
use lockstep_model::{Attempt, Code, ConnectionId, Generation, Offset, UserId};

use super::{Driver, journal};
use crate::log::guarded::Guarded;
use crate::log::{Log, LogError};
use crate::payload::Payload;
use crate::wire::{Answer, Query, Wanted};

impl Driver {
    pub(super) fn look_up(
        &self,
        (user, generation): (UserId, Generation),
        (connection, attempt): (ConnectionId, Attempt),
        lookup: Lookup<Payload>,
    ) {
        let (shell, log) = (Weak::clone(&self.shell), Arc::clone(&self.log));
        let bytes = shell.upgrade().map_or(0, |shell| shell.bounds().page);
        self.runtime.spawn(async move {
            let input = match find(&log, user, lookup, bytes).await {
                Ok(found) => Input::Found { connection, attempt, found },
                Err(error) => {
                    if let Some(times) = log.refusals.say(&"lookup") {
                        tracing::warn!(%error, times, "what was said before cannot be read");
                    }
                    Input::NotFound { connection, attempt }
                }
            };
            if let Some(shell) = shell.upgrade() {
                let _ = shell.session(user, generation, input);
            }
        });
    }
}

async fn find(_: &Guarded, _: UserId, _: Lookup<Payload>, _: usize) -> Result<Found<Payload>, LogError> {
    Err(LogError::Unavailable(String::new()))
}
