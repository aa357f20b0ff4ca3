//! Records what clients sent and saw as JSON Lines, one fact each, in the order in which this process observed it.
//!
//! | field | what |
//! | --- | --- |
//! | `at` | microseconds since the recording began |
//! | `client` | the client's name |
//! | `user` | the user whose credential it holds, if known |
//! | `socket` | which of the client's sockets, from 1 |
//! | `fact` | `open`, `sent`, `received`, `closed`; for an agent `acked` |
//! | `frame` | the frame that was sent or received; a credential is replaced by a marker |
//! | `code` | the close code; 1006 when there was none |

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde_json::{Map, Value, json};

/// The members of client frames that are recorded. Any other member could be a credential.
const SENT: [&str; 13] = [
    "message_id",
    "thread_id",
    "threadId",
    "payload",
    "repeat",
    "run_id",
    "resume",
    "replaces",
    "lastMessageId",
    "content",
    "message",
    "user_request",
    "text",
];

/// The types of client frames that are recorded.
const TYPES: [&str; 15] = [
    "auth",
    "user_message",
    "cancel",
    "ping",
    "start_agent",
    "chat",
    "chat_message",
    "agent_request",
    "execute_agent",
    "user_input",
    "stop_agent",
    "stop",
    "heartbeat",
    "switch_thread",
    "session_restore",
];

/// A sink for facts. Clones write to the same place.
#[derive(Clone, Debug)]
pub struct History {
    began: Instant,
    lines: Option<Arc<Mutex<Lines>>>,
}

#[derive(Debug)]
enum Lines {
    File(BufWriter<File>),
    Memory(Vec<u8>),
}

impl History {
    /// Discards all facts.
    #[must_use]
    pub fn none() -> Self {
        Self { began: Instant::now(), lines: None }
    }

    /// Keeps the facts in memory.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::of(Lines::Memory(Vec::new()))
    }

    /// Writes to a new file that only its owner can read, because it contains what users say.
    ///
    /// # Errors
    ///
    /// If the file exists or cannot be created.
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        Ok(Self::of(Lines::File(BufWriter::new(options.open(path)?))))
    }

    fn of(lines: Lines) -> Self {
        Self { began: Instant::now(), lines: Some(Arc::new(Mutex::new(lines))) }
    }

    /// Records a fact.
    ///
    /// # Panics
    ///
    /// If it cannot be written: a history with holes proves nothing.
    pub fn note(&self, client: &str, user: Option<&str>, socket: u32, fact: &str, rest: Value) {
        self.write(client, user, socket, fact, rest).expect("the history can be written");
    }

    /// Records a fact.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn write(&self, client: &str, user: Option<&str>, socket: u32, fact: &str, mut rest: Value) -> io::Result<()> {
        let Some(lines) = &self.lines else { return Ok(()) };
        let mut line = Map::new();
        line.insert("client".to_owned(), client.into());
        line.extend(user.map(|user| ("user".to_owned(), user.into())));
        line.insert("socket".to_owned(), socket.into());
        line.insert("fact".to_owned(), fact.into());
        if let Some(frame) = rest.get_mut("frame").filter(|_| fact == "sent") {
            *frame = without_credentials(frame.take());
        }
        if let Some(rest) = rest.as_object_mut() {
            line.append(rest);
        }
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        let at = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        line.insert("at".to_owned(), at.into());
        lines.write_all(format!("{}\n", Value::Object(line)).as_bytes())
    }

    /// Flushes the buffer.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn flush(&self) -> io::Result<()> {
        self.lines.as_ref().map_or(Ok(()), |lines| lines.lock().unwrap_or_else(PoisonError::into_inner).flush())
    }

    /// The facts that were kept in memory.
    #[must_use]
    pub fn kept(&self) -> Vec<u8> {
        match self.lines.as_ref().map(|lines| lines.lock().unwrap_or_else(PoisonError::into_inner)).as_deref() {
            Some(Lines::Memory(lines)) => lines.clone(),
            Some(Lines::File(_)) | None => Vec::new(),
        }
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Memory(lines) => lines.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.flush(),
            Self::Memory(_) => Ok(()),
        }
    }
}

/// A client's frame with `***` for its token and without unknown members. Returns `null` for anything that is not a
/// frame, because it may be a bare credential.
fn without_credentials(frame: Value) -> Value {
    let Value::Object(mut members) = frame else { return Value::Null };
    let token = members.contains_key("token").then(|| ("token".to_owned(), json!("***")));
    let known = |name: &Value| name.as_str().is_some_and(|name| TYPES.contains(&name));
    let Some(name) = members.remove("type").filter(known) else { return Value::Null };
    members.retain(|member, _| SENT.contains(&member.as_str()));
    if name == "auth"
        && let Some(payload) = members.get_mut("payload")
    {
        // An older client's credential is inside it.
        *payload = json!({ "token": "***" });
    }
    members.insert("type".to_owned(), name);
    members.extend(token);
    Value::Object(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(fact: &str, frame: &Value) -> Value {
        let history = History::in_memory();
        history.note("a", None, 1, fact, json!({ "frame": frame }));
        serde_json::from_slice(&history.kept()).expect("a line")
    }

    #[test]
    fn what_a_client_sends_is_kept_without_its_credential_wherever_that_is() {
        let auth = json!({ "type": "auth", "token": "secret", "jwt": "secret", "resume": "latest" });
        assert_eq!(kept("sent", &auth)["frame"], json!({ "type": "auth", "token": "***", "resume": "latest" }));
        for frame in [
            json!("secret"),
            json!(["secret"]),
            json!({ "type": "secret" }),
            json!({ "type": ["secret"] }),
            json!({ "token": "secret" }),
            json!({ "type": "auth", "token": { "of": "secret" } }),
            json!({ "type": "ping", "token": ["secret"], "secret": 1 }),
            json!({ "type": "auth", "payload": { "token": "secret", "jwt": ["secret"] } }),
            json!({ "type": "auth", "payload": "secret" }),
        ] {
            let line = kept("sent", &frame);
            assert!(!line.to_string().contains("secret"), "{line}");
        }
    }

    #[test]
    fn messages_and_what_is_received_are_kept_as_they_are() {
        let message =
            json!({ "type": "user_message", "message_id": "m", "payload": { "token": "mine" }, "repeat": true });
        assert_eq!(kept("sent", &message)["frame"], message);
        let restore = json!({ "type": "session_restore", "payload": { "lastMessageId": "7:12" } });
        assert_eq!(kept("sent", &restore)["frame"], restore);
        let event = json!({ "type": "agent_completed", "data": { "token": "x" }, "whatever": 1 });
        assert_eq!(kept("received", &event)["frame"], event);
    }

    #[test]
    fn a_history_is_not_written_over_another_one() {
        let path = std::env::temp_dir().join(format!("lockstep-history-{}.jsonl", std::process::id()));
        let history = History::create(&path).expect("a file");
        history.note("a", Some("ada"), 1, "open", json!({}));
        history.flush().expect("written");
        assert!(History::create(&path).is_err());
        let text = std::fs::read_to_string(&path).expect("a file");
        std::fs::remove_file(&path).expect("removed");
        let line: Value = serde_json::from_str(&text).expect("a line");
        assert_eq!((&line["user"], &line["fact"], line["at"].is_u64()), (&json!("ada"), &json!("open"), true));
    }
}
