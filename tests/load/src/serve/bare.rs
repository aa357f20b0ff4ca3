//! What a socket costs: tokio-tungstenite, a token check, and the last frames of each user for those who come back.
//!
//! An agent writes its events into the sockets of its user itself and awaits that the socket has taken them. There is no
//! log, no grammar of runs, no bound, no timer and no isolation of slow readers: it is the limit, not an alternative.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use jsonwebtoken::{DecodingKey, Validation};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::plan::{self, Kind, Plan, RETAINED, SECRET};

/// Bytes of a socket's read buffer, as in Lockstep.
const READ_BUFFER: usize = 4 * 1_024;

type Socket = WebSocketStream<TcpStream>;

struct Server {
    users: Mutex<HashMap<String, Arc<User>>>,
    key: DecodingKey,
    rules: Validation,
}

type User = tokio::sync::Mutex<State>;

#[derive(Default)]
struct State {
    head: u64,
    frames: VecDeque<(u64, Utf8Bytes)>,
    sockets: Vec<SplitSink<Socket, Message>>,
}

#[derive(Deserialize)]
struct Frame {
    r#type: String,
    token: Option<String>,
    resume: Option<Resume>,
    payload: Option<Plan>,
}

#[derive(Deserialize)]
struct Resume {
    offset: u64,
}

/// Serves until the process ends.
pub(crate) async fn serve(port: u16) -> std::io::Result<()> {
    let listener = super::listen(port)?;
    let (key, rules) = (DecodingKey::from_secret(SECRET.as_bytes()), Validation::default());
    let server = Arc::new(Server { users: Mutex::default(), key, rules });
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(talk(Arc::clone(&server), stream));
    }
}

#[expect(clippy::result_large_err, clippy::unnecessary_wraps, reason = "the library's signature")]
fn subprotocol(_: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    response.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("lockstep.v1"));
    Ok(response)
}

async fn talk(server: Arc<Server>, stream: TcpStream) {
    // The default of 128 KiB is for few connections.
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER);
    let accepted = tokio_tungstenite::accept_hdr_async_with_config(stream, subprotocol, Some(config)).await;
    let Ok(socket) = accepted else { return };
    let (sink, mut stream) = socket.split();
    let Some(auth) = next(&mut stream).await else { return };
    let Some(name) = auth.token.and_then(|token| plan::verify(&token, &server.key, &server.rules)) else { return };
    let user = Arc::clone(server.users.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default());
    if user.lock().await.open(sink, auth.resume).await.is_none() {
        return;
    }
    while let Some(frame) = next(&mut stream).await {
        match frame.payload {
            Some(plan) if plan.kind == Kind::Broadcast => {
                let all: Vec<_> =
                    server.users.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
                let text = plan.text(plan::now());
                for user in all {
                    user.lock().await.publish("notice", std::slice::from_ref(&text)).await;
                }
            }
            Some(plan) => drop(tokio::spawn(answer(Arc::clone(&user), plan))),
            None if frame.r#type == "ping" => {
                // One socket of several may answer: these runs have one here.
                if let Some(socket) = user.lock().await.sockets.last_mut() {
                    let _ = socket.send(Message::text(r#"{"type":"pong"}"#)).await;
                }
            }
            None => {}
        }
    }
}

async fn next(stream: &mut SplitStream<Socket>) -> Option<Frame> {
    loop {
        match stream.next().await?.ok()? {
            Message::Text(text) => return serde_json::from_str(&text).ok(),
            Message::Close(_) => return None,
            Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
}

async fn answer(user: Arc<User>, plan: Plan) {
    user.lock().await.publish("message_received", &[plan.text(plan::now())]).await;
    user.lock().await.publish("agent_started", &[plan.text(plan::now())]).await;
    let kind = if plan.kind == Kind::Token { "agent_delta" } else { "agent_thinking" };
    let (start, began) = (tokio::time::Instant::now(), plan::now());
    for (after, count) in plan.batches() {
        if plan.every > 0 {
            plan::until(start, after).await;
        }
        let due = if plan.every > 0 { began + after } else { plan::now() };
        let texts: Vec<String> = (0..count).map(|_| plan.text(due)).collect();
        user.lock().await.publish(kind, &texts).await;
        // Writing to a socket that has room never waits.
        tokio::task::consume_budget().await;
    }
    user.lock().await.publish("agent_completed", &[plan.text(plan::now())]).await;
}

impl State {
    /// Adds a socket behind what it has missed.
    async fn open(&mut self, mut socket: SplitSink<Socket, Message>, resume: Option<Resume>) -> Option<()> {
        let from = resume.map_or(self.head, |resume| resume.offset);
        let ready = format!(
            r#"{{"type":"connection_ready","connection_id":"0123456789abcdef","user_id":"","epoch":1,"offset":{from},"head":{}}}"#,
            self.head
        );
        socket.feed(Message::text(ready)).await.ok()?;
        for (offset, frame) in &self.frames {
            if *offset > from {
                socket.feed(Message::Text(frame.clone())).await.ok()?;
            }
        }
        socket.flush().await.ok()?;
        self.sockets.push(socket);
        Some(())
    }

    /// Returns when each socket has taken these events. A socket that fails is gone.
    async fn publish(&mut self, kind: &str, texts: &[String]) {
        let first = self.head;
        for text in texts {
            let frame = format!(
                r#"{{"type":"{kind}","offset":{},"previous":{},"run_id":"0123456789abcdef","thread_id":null,"timestamp":1795348729814,"data":{{"part":1,"kind":"text","text":"{text}"}}}}"#,
                self.head + 1,
                self.head
            );
            self.head += 1;
            self.frames.push_back((self.head, frame.into()));
        }
        let excess = self.frames.len().saturating_sub(RETAINED);
        self.frames.drain(..excess);
        let mut at = 0;
        while let Some(socket) = self.sockets.get_mut(at) {
            let new = self.frames.iter().rev().take_while(|(offset, _)| *offset > first).count();
            let mut written = Ok(());
            for (_, frame) in self.frames.range(self.frames.len() - new..) {
                written = socket.feed(Message::Text(frame.clone())).await;
            }
            if written.is_ok() && socket.flush().await.is_ok() {
                at += 1;
            } else {
                drop(self.sockets.swap_remove(at));
            }
        }
    }
}
