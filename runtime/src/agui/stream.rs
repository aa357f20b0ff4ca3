//! A run as a stream of server-sent events.

use core::fmt;

use lockstep_model::Cause;
use lockstep_model::frame::ReadFrom;
use serde_json::{Value, json};

use super::connection::{Connection, Received, after};
use super::input::Asked;
use super::place::Place;
use super::translator::{Reading, Settled, Translator};
use crate::Manager;
use crate::payload::Token;

/// Bytes of a reply besides its answers, at most.
const ENVELOPE: usize = 512;

/// Why a request has no stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotBegun {
    /// The machines closed the connection: the credential is not valid, or there are too many connections.
    Closed(Cause),
    /// The message was refused, with the code and the sentence of the frame `error`.
    Refused {
        /// The code, such as `too_many_runs`.
        code: String,
        /// The sentence for the user.
        message: String,
    },
    /// The message has more bytes than a message on a socket may have.
    TooLarge(usize),
    /// The place is not one of this run: the stream has begun again, or has no such entry.
    NoSuchPlace,
}

impl NotBegun {
    /// The request has answers, and nothing waits for them.
    fn no_run() -> Self {
        let message = "the newest message of the user has no run that waits for an answer";
        Self::Refused { code: "unknown_run".to_owned(), message: message.to_owned() }
    }
}

impl fmt::Display for NotBegun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(cause) => f.write_str(cause.reason()),
            Self::Refused { message, .. } => f.write_str(message),
            Self::TooLarge(most) => write!(f, "the message has more than {most} bytes"),
            Self::NoSuchPlace => {
                f.write_str("the place in `Last-Event-ID` cannot be read: repeat the request without it")
            }
        }
    }
}

impl core::error::Error for NotBegun {}

/// A run as server-sent events. Dropping it closes the connection, and does not end the run.
pub struct Events {
    manager: Manager,
    token: Token,
    connection: Connection,
    epoch: u64,
    translator: Translator,
    /// The place that the client has.
    at: Option<Place>,
    /// The newest entry when reading began.
    head: u64,
    /// Where the newest pause is.
    pause: Option<EntryAt>,
    /// The frame that was read first.
    first: Option<Value>,
}

/// Where an entry is, and how many of its events the client has.
#[derive(Clone, Copy, Debug)]
struct EntryAt {
    offset: u64,
    previous: u64,
    within: usize,
}

/// The connection ended before the run did. The run goes on: the client repeats the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut(
    /// Why the connection ended.
    pub Cause,
);

impl Cut {
    /// The last event of a stream that is cut: a `RUN_ERROR` with the code `disconnected` and without an id. To AG-UI
    /// clients, a body that just ends looks whole. A body that breaks ends programs that use `@ag-ui/client` 1.0 in
    /// Node.
    #[must_use]
    pub fn event(&self) -> String {
        let message = "The connection ended, and the answer goes on: repeat the request.";
        format!("data: {}\n\n", json!({ "type": "RUN_ERROR", "message": message, "code": "disconnected" }))
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the connection ended, and the run goes on: {}", self.0.reason())
    }
}

impl core::error::Error for Cut {}

/// How the machines have answered a message.
enum Answer {
    /// It is new, and this is its `message_received`.
    Received(Value),
    /// It ran before: its run, and the offset of its `message_received`.
    Known { run: String, offset: u64 },
}

impl Manager {
    /// Begins the run that a front end asks for, or finds the run that the same message has begun, and returns its
    /// events: from the beginning, or behind the place that the client has seen. If the run waits for the request's
    /// answers, it continues. Cancel safe: the message may then have begun a run.
    ///
    /// # Errors
    ///
    /// [`NotBegun`].
    pub async fn agui(&self, token: &Token, asked: &Asked, seen: Option<Place>) -> Result<Events, NotBegun> {
        let (mut connection, ready) =
            Connection::open(self, token, ReadFrom::Latest).await.map_err(NotBegun::Closed)?;
        // A request with answers has the earlier output in its messages.
        let seen = seen.filter(|_| asked.answers.is_empty());
        let repeat = seen.is_some() || !asked.answers.is_empty();
        let of = |(connection, head), translator, at, first| Events {
            manager: self.clone(),
            token: token.clone(),
            connection,
            epoch: ready.epoch,
            translator,
            at,
            head,
            pause: None,
            first,
        };
        let known = self.say(&mut connection, asked, repeat).await.map_err(|not| {
            let is_unknown = matches!(&not, NotBegun::Refused { code, .. } if code == "forgotten");
            if is_unknown && !asked.answers.is_empty() { NotBegun::no_run() } else { not }
        });
        match known? {
            Answer::Received(frame) => {
                let translator = Translator::new(asked, frame["run_id"].as_str().unwrap_or_default(), Reading::First);
                Ok(of((connection, ready.head), translator, None, Some(frame)))
            }
            Answer::Known { run, offset } => {
                let place = Place { epoch: ready.epoch, offset: offset.saturating_sub(1), within: 0 };
                let mut translator = Translator::new(asked, &run, Reading::Again);
                if seen.is_some() {
                    // The place tells how much the client has.
                    translator.forget_held();
                }
                if seen.is_some_and(|seen| seen.epoch != ready.epoch) {
                    return Err(NotBegun::NoSuchPlace);
                }
                let reading = self.reading(token, place).await?;
                Ok(of(reading, translator, seen, None))
            }
        }
    }

    /// Cancels the run that the message of a front end has begun. Returns false if it is not known, or has ended.
    ///
    /// # Errors
    ///
    /// [`NotBegun`].
    pub async fn cancel_agui(&self, token: &Token, asked: &Asked) -> Result<bool, NotBegun> {
        let (mut connection, _) = Connection::open(self, token, ReadFrom::Latest).await.map_err(NotBegun::Closed)?;
        let run = match self.say(&mut connection, asked, true).await {
            Ok(Answer::Received(frame)) => frame["run_id"].as_str().unwrap_or_default().to_owned(),
            Ok(Answer::Known { run, .. }) => run,
            Err(NotBegun::Refused { code, .. }) if code == "forgotten" => return Ok(false),
            Err(other) => return Err(other),
        };
        connection.cancel(&run);
        // Frames are answered in order, so the answer to this one says that the other was handled.
        connection.say(&json!({ "type": "ping" }));
        let mut found = true;
        loop {
            match connection.next().await {
                Received::Frame(frame) if frame["code"] == "unknown_run" => found = false,
                Received::Frame(frame) if frame["type"] == "pong" => return Ok(found),
                Received::Frame(_) => {}
                Received::Probe => connection.is_alive(),
                Received::Closed(cause) => return Err(NotBegun::Closed(cause)),
            }
        }
    }

    /// Sends the message, and returns the machines' answer.
    async fn say(&self, connection: &mut Connection, asked: &Asked, repeat: bool) -> Result<Answer, NotBegun> {
        let message = json!({
            "type": "user_message", "message_id": asked.message, "thread_id": asked.thread, "payload": asked.payload,
            "repeat": repeat,
        });
        let most = self.inner.limits.message;
        if message.to_string().len().max(asked.answers.size() + ENVELOPE) > most {
            return Err(NotBegun::TooLarge(most));
        }
        connection.say(&message);
        loop {
            let frame = match connection.next().await {
                Received::Frame(frame) => frame,
                Received::Probe => {
                    connection.is_alive();
                    continue;
                }
                Received::Closed(cause) => return Err(NotBegun::Closed(cause)),
            };
            let text = |field: &str| frame[field].as_str().unwrap_or_default().to_owned();
            match frame["type"].as_str() {
                Some("message_received") if frame["data"]["message_id"] == asked.message.as_str() => {
                    return Ok(Answer::Received(frame));
                }
                Some("message_known") => {
                    let offset = frame["offset"].as_u64().unwrap_or_default();
                    return Ok(Answer::Known { run: text("run_id"), offset });
                }
                Some("error") => return Err(NotBegun::Refused { code: text("code"), message: text("message") }),
                _ => {}
            }
        }
    }

    /// A connection that reads behind a place, and the newest entry.
    async fn reading(&self, token: &Token, place: Place) -> Result<(Connection, u64), NotBegun> {
        let from = after(place.epoch, place.offset);
        let (connection, ready) = Connection::open(self, token, from).await.map_err(NotBegun::Closed)?;
        if ready.resumed && ready.epoch == place.epoch {
            Ok((connection, ready.head))
        } else {
            Err(NotBegun::NoSuchPlace)
        }
    }
}

impl Events {
    /// The next events, as text of a stream of server-sent events; `None` behind the end of the run. Cancel safe only
    /// in that nothing is lost to the user's stream: this stream cannot be read further.
    ///
    /// # Errors
    ///
    /// [`Cut`].
    pub async fn next(&mut self) -> Result<Option<String>, Cut> {
        while !self.translator.is_over() {
            let frame = match self.first.take() {
                Some(frame) => frame,
                None => match self.connection.next().await {
                    Received::Frame(frame) => frame,
                    Received::Probe => {
                        // It is alive if it takes this.
                        self.connection.is_alive();
                        return Ok(Some(": alive\n\n".to_owned()));
                    }
                    Received::Closed(cause) => return Err(Cut(cause)),
                },
            };
            let text = self.take(&frame).await?;
            if !text.is_empty() {
                return Ok(Some(text));
            }
        }
        Ok(None)
    }

    async fn take(&mut self, frame: &Value) -> Result<String, Cut> {
        if frame["type"] == "stream_reset" {
            return Ok(unplaced(&self.translator.lose()));
        }
        if frame["type"] == "error" {
            let text = |field: &str| frame[field].as_str().unwrap_or_default();
            return Ok(unplaced(&self.translator.refused(text("code"), text("message"))));
        }
        let (Some(offset), Some(previous)) = (frame["offset"].as_u64(), frame["previous"].as_u64()) else {
            return Ok(String::new());
        };
        let mut text = self.translated(frame, offset, previous).await?;
        if offset >= self.head {
            match self.translator.settle() {
                Settled::Nothing => {}
                Settled::Reply(reply) => self.connection.say(&reply),
                Settled::Waits(events) => text.push_str(&self.behind_pause(&events)),
                Settled::Refused(events) => text.push_str(&unplaced(&events)),
            }
        }
        Ok(text)
    }

    /// The events of an entry.
    async fn translated(&mut self, frame: &Value, offset: u64, previous: u64) -> Result<String, Cut> {
        let is_pause = frame["type"] == "agent_paused" && frame["run_id"] == self.translator.run();
        if is_pause {
            self.pause = Some(EntryAt { offset, previous, within: 0 });
        }
        let mut within = 0;
        if let Some(at) = self.at {
            let is_seen = offset <= at.offset;
            let is_cut = previous < at.offset && !is_seen && frame["type"] == "agent_delta";
            if is_seen || is_cut {
                // Only what the events say of the translator's state.
                let _ = self.translator.take(frame);
            }
            if is_cut {
                // The client has the beginning of this piece: the rest is read from its place.
                let place = Place { within: 0, ..at };
                let reading = self.manager.reading(&self.token, place).await;
                (self.connection, self.head) = reading.map_err(|_| Cut(Cause::HistoryUnavailable))?;
                self.at = Some(place);
                return Ok(String::new());
            }
            if is_seen {
                if let Some(pause) = self.pause.as_mut().filter(|_| is_pause) {
                    pause.within = usize::MAX;
                }
                return Ok(String::new());
            }
            within = at.within;
            self.at = None;
        }
        if let Some(pause) = self.pause.as_mut().filter(|_| is_pause) {
            pause.within = within;
        }
        let events = self.translator.take(frame);
        Ok(self.placed(&events, EntryAt { offset, previous, within }))
    }

    /// The events that end the stream at the newest pause.
    fn behind_pause(&self, events: &[Value]) -> String {
        self.pause.map(|at| self.placed(events, at)).unwrap_or_default()
    }

    /// Events of one entry, with their places, less those that the client has.
    fn placed(&self, events: &[Value], EntryAt { offset, previous, within }: EntryAt) -> String {
        let last = events.len();
        let place = |index: usize| match index + 1 {
            whole if whole == last => Place { epoch: self.epoch, offset, within: 0 },
            within => Place { epoch: self.epoch, offset: previous, within },
        };
        let texts = events.iter().enumerate().skip(within);
        texts.map(|(index, event)| format!("id: {}\ndata: {event}\n\n", place(index))).collect()
    }
}

/// Events that have no place in the stream.
fn unplaced(events: &[Value]) -> String {
    events.iter().map(|event| format!("data: {event}\n\n")).collect()
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("run", &self.translator.run()).finish_non_exhaustive()
    }
}
