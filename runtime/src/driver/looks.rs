//! Descriptions of sessions for an operator: the states of their machines, without the content of messages. And
//! connections that an operator closes.
//!
//! In a cluster, a user's owner is asked, in one hop: a member answers from its own sessions alone, and within a time.
//!
//! | question | status and body of a member's answer |
//! | --- | --- |
//! | a user's session | 200 and its description; 404 if it has none |
//! | all sessions | 200 and a line for each |
//! | close a connection of a user | 204; 404 if the user has no such connection there |

use core::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use http::StatusCode;
use lockstep_model::{Cause, ConnectionId, Generation, Session, UserId, connection};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Core;
use super::commands::Request;
use crate::cluster::OPERATOR_PATH;
use crate::log::members::Member;
use crate::log::{Log, LogError, Members};
use crate::payload::Payload;
use crate::wire::hex;

/// How long another member may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most bytes of an answer: the lines of some hundred thousand sessions.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// How many names of users are looked up at once.
const AT_ONCE: usize = 32;

/// Why an operator's question about a user of another process is not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotAnswered {
    /// The log cannot tell who owns the user.
    Unavailable(String),
    /// The member at this address owns the user, and has not answered.
    Member {
        /// Where other members reach it.
        address: Arc<str>,
        /// Why there is no answer.
        why: String,
    },
}

impl fmt::Display for NotAnswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(why) => write!(f, "the log cannot tell which gateway serves the user: {why}"),
            Self::Member { address, why } => write!(
                f,
                "the gateway at {address} does not answer: {why}; look at it and at the network between gateways"
            ),
        }
    }
}

impl core::error::Error for NotAnswered {}

impl From<LogError> for NotAnswered {
    fn from(error: LogError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// A question, as it is sent to a member.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Question {
    Session { user: u64 },
    Sessions,
    Close { user: u64, connection: u64, code: u16 },
}

impl Question {
    async fn answered_here(self, core: &Core) -> Option<Value> {
        match self {
            Self::Session { user } => session(core, UserId(user)),
            Self::Sessions => Some(Value::Array(sessions(core).await)),
            Self::Close { user, connection, code } => {
                let cause = Cause::ALL.iter().find(|cause| cause.code() == code)?;
                close(core, UserId(user), ConnectionId(connection), *cause).then_some(Value::Null)
            }
        }
    }

    /// The answer of this process, or of the one that owns the user.
    async fn answered(self, core: &Core, user: UserId) -> Result<Option<Value>, NotAnswered> {
        if let Some(answer) = self.answered_here(core).await {
            return Ok(Some(answer));
        }
        let Some(membership) = &core.effects().membership else { return Ok(None) };
        match core.effects().log.owner(user).await? {
            Some(owner) if Some(owner.incarnation) != membership.member() => self.answered_by(core, &owner).await,
            Some(_) | None => Ok(None),
        }
    }

    async fn answered_by(self, core: &Core, member: &Member) -> Result<Option<Value>, NotAnswered> {
        let failed = |why: String| NotAnswered::Member { address: Arc::clone(&member.address), why };
        let Some(membership) = &core.effects().membership else { return Ok(None) };
        let body = serde_json::to_string(&self).map_err(|error| failed(error.to_string()))?;
        let request = Request { address: &member.address, path: OPERATOR_PATH, body: &body };
        let sent = request.send(membership.cluster(), PATIENCE, MAX_ANSWER).await;
        let (status, body) = sent.map_err(|error| failed(error.to_string()))?;
        match status {
            StatusCode::OK => serde_json::from_str(&body).map(Some).map_err(|error| failed(error.to_string())),
            StatusCode::NO_CONTENT => Ok(Some(Value::Null)),
            StatusCode::NOT_FOUND if body.is_empty() => Ok(None),
            _ => Err(failed(format!("{status}: {}", body.trim_end()))),
        }
    }
}

/// Answers a question of another member, from the sessions of this process.
pub(crate) async fn answer(core: &Arc<Core>, body: &[u8]) -> (StatusCode, String) {
    let Ok(question) = serde_json::from_slice::<Question>(body) else {
        return (StatusCode::BAD_REQUEST, "this is not a question of this version\n".to_owned());
    };
    match question.answered_here(core).await {
        Some(Value::Null) => (StatusCode::NO_CONTENT, String::new()),
        Some(answer) => (StatusCode::OK, answer.to_string()),
        None => (StatusCode::NOT_FOUND, String::new()),
    }
}

/// Describes the user's session, wherever its owner is.
pub(crate) async fn anywhere(core: &Core, user: UserId) -> Result<Option<Value>, NotAnswered> {
    Question::Session { user: user.0 }.answered(core, user).await
}

/// Closes a connection of the user, wherever its owner is. Returns false if the user has no such connection.
pub(crate) async fn close_anywhere(
    core: &Core,
    user: UserId,
    connection: ConnectionId,
    cause: Cause,
) -> Result<bool, NotAnswered> {
    let question = Question::Close { user: user.0, connection: connection.0, code: cause.code() };
    question.answered(core, user).await.map(|closed| closed.is_some())
}

/// Describes all sessions of all members, a line for each. Members that do not answer are named beside.
pub(crate) async fn everywhere(core: &Core) -> Result<(Vec<Value>, Vec<NotAnswered>), NotAnswered> {
    let (mut lines, mut missing) = (sessions(core).await, Vec::new());
    let Some(membership) = &core.effects().membership else { return Ok((lines, missing)) };
    let mut others = core.effects().log.list().await?;
    others.retain(|member| Some(member.incarnation) != membership.member());
    let answers = others.iter().map(|member| Question::Sessions.answered_by(core, member));
    for answer in futures_util::future::join_all(answers).await {
        match answer {
            Ok(Some(Value::Array(of_member))) => lines.extend(of_member),
            Ok(_) => {}
            Err(why) => missing.push(why),
        }
    }
    Ok((lines, missing))
}

/// The address of this process, for the other members.
fn gateway(core: &Core) -> Value {
    json!(core.effects().membership.as_ref().map(|membership| &*membership.cluster().address))
}

async fn sessions(core: &Core) -> Vec<Value> {
    let line = |user| async move {
        let subject = core.effects().log.subject(user).await.ok();
        let mut line = core.look(user, |generation, session| {
            json!({
                "subject": subject.as_deref(),
                "user": user.0,
                "generation": generation.0,
                "state": format!("{:?}", session.state()),
                "connections": session.members().len(),
                "runs": session.runs().len(),
            })
        })?;
        if core.effects().membership.is_some() {
            line["gateway"] = gateway(core);
        }
        Some(line)
    };
    let lines = futures_util::stream::iter(core.users()).map(line).buffer_unordered(AT_ONCE);
    lines.filter_map(core::future::ready).collect().await
}

fn close(core: &Core, user: UserId, connection: ConnectionId, cause: Cause) -> bool {
    let has_it = core.look(user, |_, session: &Session<Payload>| session.members().contains_key(&connection));
    let inbox = core.inbox(connection).filter(|_| has_it == Some(true));
    inbox.is_some_and(|inbox| inbox.send(connection::Input::Close(cause)).is_ok())
}

/// Describes the user's session in this process, with the addresses of its clients. `None` if there is none.
fn session(core: &Core, user: UserId) -> Option<Value> {
    let look = |generation, session: &Session<Payload>| {
        (describe(user, generation, session), session.members().keys().copied().collect::<Vec<_>>())
    };
    let (mut state, connections) = core.look(user, look)?;
    if let Some(described) = state["connections"].as_array_mut() {
        let addresses = connections.iter().map(|id: &ConnectionId| core.effects().client(*id));
        for (connection, address) in described.iter_mut().zip(addresses) {
            connection["client"] = json!(address);
        }
    }
    if core.effects().membership.is_some() {
        state["gateway"] = gateway(core);
    }
    Some(state)
}

fn describe(user: UserId, generation: Generation, session: &Session<Payload>) -> Value {
    let connections = session.members().iter().map(|(id, member)| {
        json!({
            "id": hex(id.0).to_string(),
            "state": name_of(&format!("{:?}", member.connection.state())),
            "credential": name_of(&format!("{:?}", member.connection.auth().state())),
            "cursor": member.cursor.map(|cursor| cursor.at().0),
            "parked": member.parked,
        })
    });
    let connections: Vec<Value> = connections.collect();
    let runs: Vec<Value> = session
        .runs()
        .iter()
        .map(|(id, run)| json!({ "id": hex(id.0).to_string(), "state": format!("{:?}", run.state()) }))
        .collect();
    let stream = session.stream().map(|stream| {
        json!({
            "epoch": stream.epoch().0,
            "tail": stream.tail().0,
            "head": stream.head().0,
            "retained": stream.entries().len(),
            "pending": stream.pending().len(),
            "writer": format!("{:?}", stream.writer()),
        })
    });
    json!({
        "user": user.0,
        "generation": generation.0,
        "state": format!("{:?}", session.state()),
        "mode": session.mode(),
        "connections": connections,
        "runs": runs,
        "stream": stream,
        "messages_known": session.known().len(),
        "breaker_open": session.breaker().is_open(),
        "fence_up": session.fence().is_up(),
    })
}

/// The name of a state, without its fields.
fn name_of(debug: &str) -> &str {
    debug.split([' ', '(', '{']).next().unwrap_or(debug)
}
