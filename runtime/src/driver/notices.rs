//! Notices and deletions by the embedding service: events of a user's stream that belong to no run.

use core::fmt;
use std::sync::Arc;

use futures_util::StreamExt;
use lockstep_model::session::Input;
use lockstep_model::{Incarnation, Offset, Refusal, RunId, UserId};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::backpressure::Answered;
use super::commands::Command;
use super::{Core, Driver};
use crate::agent::Until;
use crate::payload::{Payload, Record, thread_id};
use crate::wire;

/// The most notices of one call to everyone that are in progress at once. The log can store them together.
const AT_ONCE: usize = 1_024;

/// Why a notice is not in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotSent {
    /// The data cannot be written as a JSON object.
    NotJson,
    /// The user could not be looked up. Contains the log's error.
    Unavailable(String),
    /// The gateway is draining, and accepts nothing new for a user who has no session here.
    Draining,
    /// The user is owned by another process of the cluster, which could not be reached or did not answer. Contains why. It
    /// is unknown whether the notice is in the stream.
    Elsewhere(String),
    /// The notice to everyone has an id, and this process has its log to itself: no log keeps which ids were sent.
    NotShared,
    /// The process lost the session while the notice was in flight. It is unknown whether the notice is in the stream.
    Lost,
}

impl fmt::Display for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson => f.write_str("the data of a notice must be a JSON object"),
            Self::Unavailable(why) => write!(f, "the user cannot be looked up: {why}"),
            Self::Draining => f.write_str("the gateway is draining, and the user has no session here"),
            Self::Elsewhere(why) => {
                write!(
                    f,
                    "the process that owns the user did not answer; the notice may or may not be in the stream: {why}"
                )
            }
            Self::NotShared => f.write_str("a notice to everyone can have an id only in a cluster"),
            Self::Lost => f.write_str("the session was lost; the notice may or may not be in the stream"),
        }
    }
}

impl core::error::Error for NotSent {}

/// Builds the payload of a notice.
pub(crate) fn record(thread: Option<&str>, data: &impl Serialize) -> Result<Payload, NotSent> {
    Ok(Payload::Record(Arc::new(Record::new(thread.map(Arc::from), json_of(data)?))))
}

/// Writes the data of a notice.
pub(crate) fn json_of(data: &impl Serialize) -> Result<Box<RawValue>, NotSent> {
    let data = to_raw_value(data).map_err(|_| NotSent::NotJson)?;
    if data.get().starts_with('{') { Ok(data) } else { Err(NotSent::NotJson) }
}

/// Draws the id of a notice or a deletion.
pub(super) fn new_id() -> Result<RunId, NotSent> {
    crate::random().map(RunId).map_err(|error| NotSent::Unavailable(error.to_string()))
}

/// The end of an attempt to put a notice or a deletion into a user's stream.
pub(super) enum Announced {
    /// The log has it.
    Durable,
    /// It was refused because of a change in the meantime.
    Changed,
    /// Another process owns the user.
    Elsewhere(Incarnation),
}

/// Puts a notice into the user's stream, wherever its owner is, and returns when the log has it.
pub(crate) async fn send(core: &Arc<Core>, user: UserId, payload: &Payload) -> Result<(), NotSent> {
    send_as(core, user, new_id()?, payload).await
}

/// Puts a notice into the stream of every user who has a session, and returns how many have it, and how many do not.
///
/// The users share the notice's text. They do not share its run (ISO-1): a run's id is the user's number in a space
/// that is drawn at random.
pub(crate) async fn send_to_all(core: &Arc<Core>, data: &impl Serialize) -> Result<(usize, usize), NotSent> {
    let data: Arc<RawValue> = json_of(data)?.into();
    let space = new_id()?;
    let sends = core.users().into_iter().map(|user| {
        let payload = Payload::Record(Arc::new(Record::new(None, Arc::clone(&data))));
        async move { send_as(core, user, RunId(space.0 ^ user.0), &payload).await.is_ok() }
    });
    let (mut sent, mut failed) = (0, 0);
    let mut sends = futures_util::stream::iter(sends).buffer_unordered(AT_ONCE);
    while let Some(is_sent) = sends.next().await {
        *(if is_sent { &mut sent } else { &mut failed }) += 1;
    }
    Ok((sent, failed))
}

/// As [`send`], under an id that no run has yet.
async fn send_as(core: &Arc<Core>, user: UserId, id: RunId, payload: &Payload) -> Result<(), NotSent> {
    let record = payload.record().ok_or(NotSent::NotJson)?;
    match send_here(core, user, id, payload).await? {
        Announced::Elsewhere(owner) => Command::notice(user, record).execute_at(core, owner).await.map(|_| ()),
        Announced::Durable | Announced::Changed => Ok(()),
    }
}

/// Puts a notice into the user's stream if this process owns the user.
pub(super) async fn send_here(
    core: &Arc<Core>,
    user: UserId,
    id: RunId,
    payload: &Payload,
) -> Result<Announced, NotSent> {
    let thread = payload.record().and_then(|record| record.thread.as_deref()).map(|name| thread_id(Some(name)));
    announce(core, user, id, |notice| Input::Notice { notice, thread, payload: payload.clone() }).await
}

/// Deletes a thread of the user, wherever its owner is, and returns when the log has the deletion. Returns false, and
/// deletes nothing, if the thread has changed since `as_of`.
pub(crate) async fn delete(
    core: &Arc<Core>,
    user: UserId,
    thread: Option<&str>,
    as_of: Option<Offset>,
) -> Result<bool, NotSent> {
    match delete_here(core, user, thread, as_of).await? {
        Announced::Durable => Ok(true),
        Announced::Changed => Ok(false),
        Announced::Elsewhere(owner) => Command::deletion(user, thread, as_of).execute_at(core, owner).await,
    }
}

/// Deletes a thread of the user if this process owns the user.
pub(super) async fn delete_here(
    core: &Arc<Core>,
    user: UserId,
    thread: Option<&str>,
    as_of: Option<Offset>,
) -> Result<Announced, NotSent> {
    let (thread, payload) = wire::deleted(thread.map(Arc::from));
    announce(core, user, new_id()?, |deletion| Input::Delete { thread, deletion, payload: payload.clone(), as_of })
        .await
}

async fn announce(
    core: &Arc<Core>,
    user: UserId,
    notice: RunId,
    input: impl Fn(RunId) -> Input<Payload>,
) -> Result<Announced, NotSent> {
    let waiting = Waiting { driver: core.effects(), user, notice };
    loop {
        let room = waiting.driver.backpressure.wait(user);
        let mut progress = None;
        let prepare = |generation| progress = Some(waiting.driver.notices.open(user, generation, notice));
        match (core.announce(user, input(notice), prepare), progress) {
            (Ok(_), Some(progress)) => {
                let answer = progress.wait(Until::Last).await;
                return if answer.is_some_and(|progress| progress.last) {
                    Ok(Announced::Durable)
                } else {
                    Err(NotSent::Lost)
                };
            }
            (Err(Refusal::Backpressure), _) => {
                if let Answered::Elsewhere(owner) = room.await {
                    return Ok(Announced::Elsewhere(owner));
                }
            }
            (Err(Refusal::Changed), _) => return Ok(Announced::Changed),
            (Ok(_), None) | (Err(_), _) => return Err(NotSent::Draining),
        }
    }
}

/// Removes the entry from the driver's map, even if the future is dropped.
struct Waiting<'a> {
    driver: &'a Driver,
    user: UserId,
    notice: RunId,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.driver.notices.close(self.user, self.notice);
    }
}
