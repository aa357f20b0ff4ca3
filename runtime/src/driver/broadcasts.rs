//! Notices to everyone in a cluster. The log keeps for which users a notice is *due* ([`Members::broadcast`]), and each
//! process delivers what is due for the users that it owns. If a user's owner is gone, any process delivers the notice,
//! after it has acquired the user.
//!
//! A notice is put into each stream once. The append that stores it also removes it from the due ones, in the same
//! step. A process reads what is due after it has acquired the user, so the answer covers what every earlier owner has
//! appended. It delivers to that very session ([`Generation`]), hence under the tenure of that time. It does not repeat
//! a notice that it has delivered itself and that is not known to be durable yet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lockstep_model::session::Input;
use lockstep_model::{Generation, RunId, UserId};
use serde_json::value::RawValue;
use tokio::time::MissedTickBehavior;

use super::Core;
use super::membership::MembershipDriver;
use super::notices::NotSent;
use crate::agent::{Reports, Until};
use crate::log::guarded::Guarded;
use crate::log::members::{Due, Progress};
use crate::log::{LogError, Members};
use crate::payload::{Payload, Record};

/// The interval between polls for notices that are due.
const LOOK: Duration = Duration::from_millis(500);

/// The poll interval while a broadcast waits for its users.
const LOOK_DUE: Duration = Duration::from_millis(50);

/// The most notices that are read at once.
const MAX_DUE: usize = 4_096;

/// The most users without an owner for whom sessions are opened at once.
const MAX_OPENED: usize = 256;

/// Delivers what is due for users of this process, until the core is gone.
pub(super) async fn serve(core: Weak<Core>, log: Arc<Guarded>, membership: Arc<MembershipDriver>) {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // What was delivered here, until it is durable or its session is lost.
    let (mut under_way, mut delivered) = (FuturesUnordered::new(), BTreeSet::new());
    loop {
        tokio::select! {
            Some(ended) = under_way.next() => {
                delivered.remove(&ended);
                if !under_way.is_empty() {
                    continue;
                }
            }
            _ = looks.tick() => {}
            () = membership.announced.notified() => {}
        }
        let begun = match look(&core, &log, &membership, &delivered).await {
            Some(Ok(begun)) => begun,
            Some(Err(error)) => {
                if let Some(times) = log.refusals.say(&"broadcasts") {
                    tracing::warn!(%error, times, "notices to everyone cannot be read");
                }
                continue;
            }
            None => return,
        };
        for (user, run, progress) in begun {
            delivered.insert((user, run));
            under_way.push(async move {
                let _ = progress.wait(Until::Last).await;
                (user, run)
            });
        }
    }
}

/// A notice that a session has taken.
type Begun = (UserId, RunId, Reports);

/// Gives sessions what is due, and returns what they have taken. `None` if the core is gone.
async fn look(
    core: &Weak<Core>,
    log: &Guarded,
    membership: &MembershipDriver,
    delivered: &BTreeSet<(UserId, RunId)>,
) -> Option<Result<Vec<Begun>, LogError>> {
    core.upgrade()?;
    let Some(who) = membership.member() else { return Some(Ok(Vec::new())) };
    let users = match log.due(who, MAX_DUE).await {
        Ok(due) if due.is_empty() => return Some(Ok(Vec::new())),
        Ok(due) => due.into_iter().map(|due| due.user).collect(),
        Err(error) => return Some(Err(error)),
    };
    let sessions = owned(&*core.upgrade()?, users);
    if sessions.is_empty() {
        return Some(Ok(Vec::new()));
    }
    // Read again: these sessions hold their users by now.
    let due = match log.due(who, MAX_DUE).await {
        Ok(due) => due,
        Err(error) => return Some(Err(error)),
    };
    let core = core.upgrade()?;
    let (mut begun, mut full) = (Vec::new(), BTreeSet::new());
    for Due { user, run, data, .. } in due {
        let Some(generation) = sessions.get(&user) else { continue };
        // After one that was refused, a later one must wait, too.
        if delivered.contains(&(user, run)) || full.contains(&user) {
            continue;
        }
        match deliver(&core, (user, *generation), run, data) {
            Some(progress) => begun.push((user, run, progress)),
            None => drop(full.insert(user)),
        }
    }
    Some(Ok(begun))
}

/// The sessions of these users that hold their user. Opens one for users who have none.
fn owned(core: &Core, users: BTreeSet<UserId>) -> BTreeMap<UserId, Generation> {
    let (mut sessions, mut opened) = (BTreeMap::new(), 0);
    for user in users {
        match core.look(user, |generation, session| session.stream().map(|_| generation)) {
            Some(Some(generation)) => drop(sessions.insert(user, generation)),
            Some(None) => {}
            None if opened < MAX_OPENED => {
                opened += 1;
                // A process that drains opens none: another one does.
                let _ = core.open(user);
            }
            None => {}
        }
    }
    sessions
}

/// Puts a notice into the stream of this session. `None` if the session does not take it now.
fn deliver(core: &Core, (user, generation): (UserId, Generation), run: RunId, data: Arc<RawValue>) -> Option<Reports> {
    let payload = Payload::Record(Arc::new(Record::new(None, data)));
    let progress = core.effects().notices.open(user, generation, run);
    if core.session(user, generation, Input::Notice { notice: run, thread: None, payload }).is_ok() {
        return Some(progress);
    }
    core.effects().notices.close(user, run);
    None
}

/// Sends a notice to every user who has an owner in the cluster, and returns when their streams have it, or after two
/// leases: the owner of a user who is left may have died twice meanwhile.
pub(crate) async fn send(
    core: &Arc<Core>,
    membership: &MembershipDriver,
    notice: RunId,
    data: &RawValue,
) -> Result<Progress, NotSent> {
    let unavailable = |error: LogError| NotSent::Unavailable(error.to_string());
    let log = &core.effects().log;
    log.broadcast(notice, data).await.map_err(unavailable)?;
    membership.announced.notify_one();
    let ends = tokio::time::Instant::now() + 2 * membership.cluster().limits.lease;
    loop {
        let progress = log.progress(notice).await.map_err(unavailable)?;
        if progress.due == 0 || tokio::time::Instant::now() >= ends {
            return Ok(progress);
        }
        tokio::time::sleep(LOOK_DUE).await;
    }
}
