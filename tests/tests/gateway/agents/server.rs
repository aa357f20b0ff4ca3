//! A model server as the adapter sees it: HTTP/1.1 over TCP, chunked, one connection per request. It follows a script,
//! correct or not.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lockstep::agent::openai::Config;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::pause;

/// The server's next step.
pub(super) enum Step {
    /// Writes one chunk of the body.
    Chunk(Vec<u8>),
    /// Writes nothing for that long.
    Pause(Duration),
    /// Ends the body correctly.
    End,
    /// Writes nothing more until the client closes.
    Silence,
}

/// How the server answers one request.
pub(super) struct Script {
    late: Duration,
    head: String,
    /// Whether `head` is the whole answer, written byte by byte.
    raw: bool,
    steps: Vec<Step>,
}

impl Script {
    /// An error status.
    pub(super) fn status(status: &str, headers: &str, body: &str) -> Self {
        let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{headers}");
        Self { head, steps: vec![Step::Chunk(body.into()), Step::End], ..Self::hang_up() }
    }

    /// A stream with these steps. Without [`Step::End`] or [`Step::Silence`] the connection is cut after them.
    pub(super) fn stream(steps: impl IntoIterator<Item = Step>) -> Self {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n".to_owned();
        Self { head, steps: steps.into_iter().collect(), ..Self::hang_up() }
    }

    /// A stream whose head is delayed.
    pub(super) fn late(late: Duration, steps: impl IntoIterator<Item = Step>) -> Self {
        Self { late, ..Self::stream(steps) }
    }

    /// These bytes, then the end of the connection.
    pub(super) fn raw(bytes: &str) -> Self {
        Self { head: bytes.to_owned(), raw: true, ..Self::hang_up() }
    }

    /// A whole stream of these events, one chunk each.
    pub(super) fn events(events: &[Value]) -> Self {
        let chunks = events.iter().map(event);
        let done = Step::Chunk(b"data: [DONE]\n\n".to_vec());
        Self::stream(chunks.chain([done, Step::End]))
    }

    /// A whole reply with this text.
    pub(super) fn text(text: &str) -> Self {
        Self::events(&[delta(json!({ "content": text })), finish("stop")])
    }

    /// No answer at all, not even a head.
    pub(super) fn silence() -> Self {
        Self { steps: vec![Step::Silence], ..Self::hang_up() }
    }

    /// The connection is closed without an answer.
    pub(super) fn hang_up() -> Self {
        Self { late: Duration::ZERO, head: String::new(), raw: false, steps: Vec::new() }
    }
}

/// An event of the stream, as a chunk.
pub(super) fn event(data: &Value) -> Step {
    Step::Chunk(format!("data: {data}\n\n").into_bytes())
}

/// A piece of a reply.
pub(super) fn delta(delta: Value) -> Value {
    let mut choice = json!({ "index": 0, "finish_reason": null });
    choice["delta"] = delta;
    json!({ "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "tiny-2026", "choices": [choice] })
}

/// The end of a reply.
pub(super) fn finish(reason: &str) -> Value {
    json!({ "model": "tiny-2026", "choices": [{ "index": 0, "delta": {}, "finish_reason": reason }] })
}

/// A piece of a tool call.
pub(super) fn call(index: u64, id: Option<&str>, name: Option<&str>, arguments: &str) -> Value {
    let mut piece = json!({ "index": index, "function": { "arguments": arguments } });
    if let Some(id) = id {
        piece["id"] = id.into();
        piece["type"] = "function".into();
    }
    if let Some(name) = name {
        piece["function"]["name"] = name.into();
    }
    delta(json!({ "tool_calls": [piece] }))
}

/// A request that the server received.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// The request line and the headers, in lower case.
    pub(super) head: String,
    pub(super) body: Value,
}

impl Request {
    /// The last `count` messages of the conversation.
    pub(super) fn last(&self, count: usize) -> Vec<Value> {
        let messages = self.body["messages"].as_array().expect("messages");
        messages[messages.len() - count..].to_vec()
    }
}

/// The server. It answers each request by the next script, and none after the last.
pub(super) struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    closed: watch::Receiver<u32>,
    serving: JoinHandle<()>,
}

impl Server {
    pub(super) async fn start(scripts: Vec<Script>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let requests = Arc::<Mutex<Vec<Request>>>::default();
        let (closing, closed) = watch::channel(0);
        let seen = Arc::clone(&requests);
        let serving = tokio::spawn(async move {
            for script in scripts {
                let (mut socket, _) = listener.accept().await.expect("a connection");
                let request = read(&mut socket).await;
                seen.lock().expect("a lock").push(request);
                if write(&mut socket, script).await {
                    closing.send_modify(|closed| *closed += 1);
                }
            }
            // The port stays bound, so that no other server answers there.
            core::future::pending::<()>().await;
        });
        Self { address, requests, closed, serving }
    }

    /// A configuration for this server with short pauses.
    pub(super) fn config(&self) -> Config {
        let mut config = Config::new(&format!("http://{}/v1/", self.address), "tiny");
        config.backoff = Duration::from_millis(1);
        config.retries = 2;
        config.proxy = false;
        config
    }

    /// Where runs are posted to.
    pub(super) fn url(&self) -> String {
        format!("http://{}/agent", self.address)
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("a lock").clone()
    }

    /// Returns when the client has closed a connection on which the server was silent.
    pub(super) async fn closed(&self) {
        self.closed.clone().wait_for(|closed| *closed > 0).await.expect("a server that is there");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn read(socket: &mut TcpStream) -> Request {
    let mut bytes = Vec::new();
    loop {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
            let length: usize = length.parse().expect("a number");
            if bytes.len() >= end + 4 + length {
                let body = serde_json::from_slice(&bytes[end + 4..]).expect("a body of JSON");
                return Request { head, body };
            }
        }
        assert!(socket.read_buf(&mut bytes).await.expect("a request") > 0, "the request broke off");
    }
}

/// Returns whether the client closed while the server was silent.
async fn write(socket: &mut TcpStream, script: Script) -> bool {
    pause(script.late).await;
    if script.raw {
        let _ = socket.write_all(script.head.as_bytes()).await;
    } else if !script.head.is_empty() {
        let head = format!("{}transfer-encoding: chunked\r\nconnection: close\r\n\r\n", script.head);
        // From here on the client may have disconnected.
        let _ = socket.write_all(head.as_bytes()).await;
    }
    for step in script.steps {
        match step {
            Step::Chunk(bytes) => {
                let chunk = [format!("{:x}\r\n", bytes.len()).as_bytes(), &bytes, b"\r\n"].concat();
                let _ = socket.write_all(&chunk).await;
            }
            Step::Pause(time) => pause(time).await,
            Step::End => {
                let _ = socket.write_all(b"0\r\n\r\n").await;
            }
            Step::Silence => {
                let mut rest = [0; 64];
                while socket.read(&mut rest).await.is_ok_and(|read| read > 0) {}
                return true;
            }
        }
    }
    false
}
