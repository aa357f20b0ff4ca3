//! A connection of this process to its own machines: the same as a WebSocket's, over a socket in memory.

use lockstep_model::frame::ReadFrom;
use lockstep_model::{Cause, Epoch, Offset, Position, Resume};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::Manager;
use crate::manager::Opening;
use crate::payload::Token;
use crate::transport::{Incoming, Outgoing, memory};
use crate::wire::Codec;

/// Frames that may wait for the front end. Beyond that, the machines see a full socket.
const BUFFER: usize = 8;

/// The client's end. Dropping it closes the connection.
pub(super) struct Connection {
    up: mpsc::UnboundedSender<Incoming>,
    down: mpsc::Receiver<Outgoing>,
}

/// An item that a connection delivers.
#[derive(Debug)]
pub(super) enum Received {
    /// A frame of the protocol `lockstep.v1`.
    Frame(Value),
    /// The machines probe whether the client is alive. It is if it takes the next item: then call
    /// [`Connection::is_alive`].
    Probe,
    /// The connection is over.
    Closed(Cause),
}

/// The stream of a ready connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ready {
    pub(super) epoch: u64,
    /// The newest entry of the stream.
    pub(super) head: u64,
    /// Whether it reads from the place that it was opened for.
    pub(super) resumed: bool,
}

impl Connection {
    /// Opens a connection and waits until it is ready. The machines bound how long that takes.
    pub(super) async fn open(manager: &Manager, token: &Token, from: ReadFrom) -> Result<(Self, Ready), Cause> {
        let (up, down, socket) = memory::pair(BUFFER);
        let resume = Resume { from, replaces: None };
        let opening = Opening { credential: Some(token.clone()), resume, ..Opening::new(Codec::V1) };
        tokio::spawn(manager.serve(opening, core::future::ready(Some(socket))));
        let mut connection = Self { up, down };
        loop {
            match connection.next().await {
                Received::Frame(frame) if frame["type"] == "connection_ready" => {
                    let epoch = frame["epoch"].as_u64().unwrap_or_default();
                    let head = frame["head"].as_u64().unwrap_or_default();
                    return Ok((connection, Ready { epoch, head, resumed: frame["resumed"] == true }));
                }
                Received::Frame(_) => {}
                Received::Probe => connection.is_alive(),
                Received::Closed(cause) => return Err(cause),
            }
        }
    }

    /// Sends a frame. Does nothing once the connection is over.
    pub(super) fn say(&self, frame: &Value) {
        let _ = self.up.send(Incoming::Text(frame.to_string().into()));
    }

    /// Answers a probe.
    pub(super) fn is_alive(&self) {
        let _ = self.up.send(Incoming::Alive);
    }

    /// Cancels a run.
    pub(super) fn cancel(&self, run: &str) {
        self.say(&json!({ "type": "cancel", "run_id": run }));
    }

    /// The next item of the connection. Cancel safe.
    pub(super) async fn next(&mut self) -> Received {
        loop {
            return match self.down.recv().await {
                Some(Outgoing::Text(text)) => match serde_json::from_str(&text) {
                    Ok(frame) => Received::Frame(frame),
                    Err(_) => continue,
                },
                Some(Outgoing::Ping) => Received::Probe,
                Some(Outgoing::Close(cause) | Outgoing::LegacyClose(cause)) => Received::Closed(cause),
                Some(Outgoing::Binary(_)) => continue,
                None => Received::Closed(Cause::Lost),
            };
        }
    }
}

/// Reading starts behind this place.
pub(super) const fn after(epoch: u64, offset: u64) -> ReadFrom {
    ReadFrom::After(Position { epoch: Epoch(epoch), offset: Offset(offset) })
}
