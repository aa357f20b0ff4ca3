//! Look-ups of sessions in the log, each in a task of its own, for as long as it takes. The machine has a deadline for
//! a look-up and ignores answers that it no longer wants.

use std::sync::{Arc, Weak};

use lockstep_model::session::{Found, Input, Lookup};
use lockstep_model::stream::Page;
use lockstep_model::{Code, ConnectionId, Generation, LookupId, Offset, UserId};
use tungstenite::Utf8Bytes;

use super::{Driver, journal};
use crate::log::guarded::Guarded;
use crate::log::{Log, LogError};
use crate::payload::Payload;
use crate::payload::{Query, Wanted};

impl Driver {
    pub(super) fn look_up(
        &self,
        (user, generation): (UserId, Generation),
        (connection, attempt): (ConnectionId, LookupId),
        lookup: Lookup<Payload>,
    ) {
        let (core, log) = (Weak::clone(&self.core), Arc::clone(&self.log));
        let bytes = core.upgrade().map_or(0, |core| core.bounds().page);
        self.runtime.spawn(async move {
            let input = match find(&log, user, lookup, bytes).await {
                Ok(found) => Input::Found { connection, attempt, found },
                Err(error) => {
                    if let Some(times) = log.refusals.say(&"lookup") {
                        tracing::warn!(%error, times, "earlier events cannot be read");
                    }
                    Input::NotFound { connection, attempt }
                }
            };
            if let Some(core) = core.upgrade() {
                let _ = core.session(user, generation, input);
            }
        });
    }
}

async fn find(log: &Guarded, user: UserId, lookup: Lookup<Payload>, bytes: usize) -> Result<Found<Payload>, LogError> {
    match lookup {
        Lookup::Page { after, through } => page(log, user, after, through, bytes).await.map(Found::Page),
        Lookup::Query(Payload::Query(query)) => {
            let answer = answer(log, user, &query).await?;
            Ok(Found::Answer(Payload::Answer(answer.into())))
        }
        Lookup::Query(_) => Err(LogError::Broken("the payload of a query is not a query".to_owned())),
    }
}

async fn page(
    log: &Guarded,
    user: UserId,
    after: Offset,
    through: Offset,
    bytes: usize,
) -> Result<Page<Payload>, LogError> {
    let Some(conversations) = log.conversations() else {
        return Err(LogError::Broken("it no longer keeps conversations".to_owned()));
    };
    let found = conversations.page(user, after, through, bytes).await?;
    Ok(Page {
        trimmed: found.trimmed,
        entries: journal::entries(after, found.entries).collect(),
        through: found.through,
    })
}

async fn answer(log: &Guarded, user: UserId, query: &Query) -> Result<Utf8Bytes, LogError> {
    let wanted = match &query.wanted {
        Ok(wanted) => wanted,
        Err(code) => return Ok(query.refused(*code)),
    };
    let Some(conversations) = log.conversations() else { return Ok(query.refused(Code::NotKept)) };
    Ok(match wanted {
        Wanted::Threads { before, limit } => {
            let found = conversations.threads(user, before.as_ref(), *limit).await?;
            query.threads(&found)
        }
        Wanted::Turns { thread, before, limit } => {
            let found = conversations.turns(user, thread.as_deref(), *before, *limit).await?;
            query.turns(&found)
        }
        Wanted::Rename { thread, title } => {
            let renamed = conversations.rename(user, thread.as_deref(), title.as_deref()).await?;
            if renamed { query.renamed() } else { query.refused(Code::UnknownThread) }
        }
    })
}
