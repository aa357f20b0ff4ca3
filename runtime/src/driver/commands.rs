//! Commands of the embedding service for a user whom another process of the cluster owns: notices and deletions. They
//! are sent to the owner, over one connection each, and are executed there or not at all: an owner that has lost the
//! user meanwhile says so and sends them no further.
//!
//! | status | meaning |
//! | --- | --- |
//! | 204 | the log has it |
//! | 409 | the thread has changed since |
//! | 421 | the user is owned by another process again |
//! | 503 | it could not be done; the body says why |

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use lockstep_model::{Incarnation, Offset, UserId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::notices::{self, Announced, NotSent};
use super::{Core, Driver};
use crate::cluster::{self, Cluster};
use crate::log::Members;
use crate::payload::Record;

/// The most bytes of a command and of its answer.
pub(crate) const MAX_COMMAND: usize = 1024 * 1024;

/// How long the owner may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a command follows a user that moves.
const MAX_MOVES: usize = 4;

/// A command as it is sent.
#[derive(Serialize, Deserialize)]
pub(super) struct Command {
    user: u64,
    thread: Option<Arc<str>>,
    /// The data of a notice; `None` deletes the thread.
    data: Option<Box<RawValue>>,
    /// For a deletion: it is refused if the thread has changed since this offset.
    as_of: Option<u64>,
}

impl Command {
    pub(super) fn notice(user: UserId, record: &Record) -> Self {
        Self { user: user.0, thread: record.thread.clone(), data: Some((*record.data).to_owned()), as_of: None }
    }

    pub(super) fn deletion(user: UserId, thread: Option<&str>, as_of: Option<Offset>) -> Self {
        Self { user: user.0, thread: thread.map(Arc::from), data: None, as_of: as_of.map(|offset| offset.0) }
    }

    /// Executes the command in this process.
    async fn execute_here(&self, core: &Arc<Core>) -> Result<Announced, NotSent> {
        let user = UserId(self.user);
        match &self.data {
            Some(data) => {
                let payload = notices::record(self.thread.as_deref(), data)?;
                notices::send_here(core, user, notices::new_id()?, &payload).await
            }
            None => notices::delete_here(core, user, self.thread.as_deref(), self.as_of.map(Offset)).await,
        }
    }

    /// Executes the command in the process that owns the user, which was `owner` a moment ago. Returns false if the
    /// thread has changed.
    pub(super) async fn execute_at(&self, core: &Arc<Core>, mut owner: Incarnation) -> Result<bool, NotSent> {
        for _ in 0..MAX_MOVES {
            match self.forward(core.effects(), owner).await? {
                StatusCode::NO_CONTENT => return Ok(true),
                StatusCode::CONFLICT => return Ok(false),
                _ => {}
            }
            owner = match self.execute_here(core).await? {
                Announced::Durable => return Ok(true),
                Announced::Changed => return Ok(false),
                Announced::Elsewhere(owner) => owner,
            };
        }
        Err(NotSent::Elsewhere("the user moves between processes".to_owned()))
    }

    /// Sends the command to the user's owner, and returns a status that is an answer.
    async fn forward(&self, driver: &Driver, owner: Incarnation) -> Result<StatusCode, NotSent> {
        let failed = |why: String| NotSent::Elsewhere(why);
        let membership = driver.membership.as_ref().ok_or_else(|| failed("there is no cluster".to_owned()))?;
        let address = driver.log.address(owner).await.map_err(|error| failed(error.to_string()))?;
        // Without a lease it owns the user no longer: the next attempt finds the one that does.
        let Some(address) = address else { return Ok(StatusCode::MISDIRECTED_REQUEST) };
        let body = serde_json::to_string(self).map_err(|error| failed(error.to_string()))?;
        let request = Request { address: &address, path: cluster::COMMAND_PATH, body: &body };
        let (status, why) = request
            .send(membership.cluster(), PATIENCE, MAX_COMMAND)
            .await
            .map_err(|error| failed(format!("{address}: {error}")))?;
        match status {
            StatusCode::NO_CONTENT | StatusCode::CONFLICT | StatusCode::MISDIRECTED_REQUEST => Ok(status),
            _ => Err(failed(format!("{address}: {status}: {}", why.trim_end()))),
        }
    }
}

/// Executes a command of another process. Returns the status and the body of the response.
pub(crate) async fn execute(core: &Arc<Core>, body: &[u8]) -> (StatusCode, String) {
    let Ok(command) = serde_json::from_slice::<Command>(body) else {
        return (StatusCode::BAD_REQUEST, "this is not a command of this version\n".to_owned());
    };
    match command.execute_here(core).await {
        Ok(Announced::Durable) => (StatusCode::NO_CONTENT, String::new()),
        Ok(Announced::Changed) => (StatusCode::CONFLICT, "the thread has changed\n".to_owned()),
        Ok(Announced::Elsewhere(_)) => (StatusCode::MISDIRECTED_REQUEST, "another process owns the user\n".to_owned()),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
    }
}

/// A request to another member.
pub(super) struct Request<'a> {
    pub(super) address: &'a str,
    pub(super) path: &'a str,
    pub(super) body: &'a str,
}

impl Request<'_> {
    /// Sends the request over a connection of its own. Returns the status and the body of the response, of at most
    /// `most` bytes with its head.
    pub(super) async fn send(
        &self,
        cluster: &Cluster,
        patience: Duration,
        most: usize,
    ) -> io::Result<(StatusCode, String)> {
        let answered = tokio::time::timeout(patience, self.exchange(cluster, most)).await;
        answered.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn exchange(&self, cluster: &Cluster, most: usize) -> io::Result<(StatusCode, String)> {
        let Self { address, path, body } = self;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n{name}: {key}\r\n\r\n",
            length = body.len(),
            name = cluster::KEY,
            key = cluster.key(),
        );
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
        let mut response = Vec::new();
        stream.take(most as u64).read_to_end(&mut response).await?;
        let invalid = || io::Error::from(io::ErrorKind::InvalidData);
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut parsed = httparse::Response::new(&mut fields);
        let Ok(httparse::Status::Complete(end)) = parsed.parse(&response) else { return Err(invalid()) };
        let status = StatusCode::from_u16(parsed.code.ok_or_else(invalid)?).map_err(|_| invalid())?;
        Ok((status, String::from_utf8_lossy(response.get(end..).unwrap_or_default()).into_owned()))
    }
}
