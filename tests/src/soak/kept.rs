//! Compares the gateway's stored conversations with what the tabs have read: nothing that a tab saw is missing or
//! different.

use std::collections::BTreeMap;

use lockstep::log::{Conversations, Log, LogError, Written};
use lockstep::wire::event_type;
use lockstep_model::{Offset, UserId};

use super::ledger::{Ledger, Read, digest};

/// Threads and turns per page: few, so that there are many pages.
const PAGE: usize = 7;

/// Reads all conversations of these users after the gateway has ended, and compares them with what was seen.
pub async fn compare<L: Log + Conversations>(
    log: Result<L, LogError>,
    names: &[String],
    ledger: &mut Ledger,
) -> (String, String) {
    let row = |text: String| ("conversations".to_owned(), text);
    let log = match log {
        Ok(log) => log,
        Err(error) => {
            ledger.find(error.to_string());
            return row("none".to_owned());
        }
    };
    let (mut turns, mut compared) = (0, 0);
    for (user, name) in names.iter().enumerate() {
        let kept = match conversations(&log, name).await {
            Ok(kept) => kept,
            Err(error) => {
                ledger.find(format!("the conversations of {name} cannot be read: {error}"));
                continue;
            }
        };
        turns += kept.values().filter(|read| read.kind == "message_received").count();
        let seen = ledger.newest_epoch(user);
        compared += seen.len();
        for (offset, seen, gone) in seen {
            match kept.get(&offset) {
                Some(kept) if gone => ledger.find(format!("RET-1: {name} has deleted {kept:?} at {}", offset.0)),
                None if gone => {}
                Some(kept) if kept.is_same(&seen) => {}
                Some(kept) => ledger.find(format!("{name} has read {seen:?} at {}, kept is {kept:?}", offset.0)),
                None => ledger.find(format!("{name} has read {seen:?} at {}, which is not kept", offset.0)),
            }
        }
    }
    row(format!("{turns} turns, {compared} events as they were read"))
}

/// Everything that is stored for a user except pieces, which are joined.
async fn conversations<L: Log + Conversations>(log: &L, name: &str) -> Result<BTreeMap<Offset, Read>, LogError> {
    let user = log.user(name).await?;
    let (mut kept, mut before) = (BTreeMap::new(), None);
    loop {
        let page = log.threads(user, before.as_ref(), PAGE).await?;
        for thread in &page.threads {
            turns(log, user, thread.name.as_deref(), &mut kept).await?;
        }
        match page.next {
            Some(next) => before = Some(next),
            None => return Ok(kept),
        }
    }
}

async fn turns<L: Log + Conversations>(
    log: &L,
    user: UserId,
    thread: Option<&str>,
    kept: &mut BTreeMap<Offset, Read>,
) -> Result<(), LogError> {
    let mut before = None;
    loop {
        let page = log.turns(user, thread, before, PAGE).await?;
        for (offset, Written { run, kind, record }) in page.entries {
            let read = Read { previous: Offset(0), run, kind: event_type(kind), data: digest(record.data.get()) };
            if kept.insert(offset, read).is_some() {
                return Err(LogError::Broken(format!("offset {} is on two pages", offset.0)));
            }
        }
        match page.next {
            Some(next) => before = Some(next),
            None => return Ok(()),
        }
    }
}
