//! Hostile clients. What they receive is recorded and checked like everything else.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use lockstep_model::RunId;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::plan::Attack;
use crate::history::History;
use crate::process::token;

/// How long an attack may take.
const PATIENCE: Duration = Duration::from_secs(4);
/// Connections of an [`Attack::Crowd`]: more than one user may have.
const CROWD: usize = 24;
/// Requests of an [`Attack::Flood`]: more than the allowance.
const FLOOD: usize = 400;
/// Runs that one attack tries to cancel.
const MAX_FOREIGN: usize = 8;

/// What an attack needs to know.
#[derive(Clone, Debug)]
pub struct Target {
    /// The gateway's address.
    pub address: SocketAddr,
    /// The history to record to.
    pub history: History,
    /// Runs of other users.
    pub runs: Vec<RunId>,
    /// A revoked token and its user.
    pub revoked: Option<(String, String)>,
    /// The attack's number.
    pub number: usize,
}

struct Hostile {
    target: Target,
    user: String,
    sockets: u32,
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Runs one attack.
///
/// # Errors
///
/// If the gateway admitted what it must not.
pub async fn attack(attack: Attack, target: Target) -> Result<(), String> {
    let user = match (&target.revoked, attack) {
        (Some((user, _)), Attack::Revoked) => user.clone(),
        _ => "mallory".to_owned(),
    };
    let mut hostile = Hostile { target, user, sockets: 0 };
    // An attack that takes longer has sent everything.
    tokio::time::timeout(PATIENCE, hostile.attack(attack)).await.unwrap_or(Ok(()))
}

impl Hostile {
    async fn attack(&mut self, attack: Attack) -> Result<(), String> {
        let good = || token("mallory", Duration::from_secs(60));
        match attack {
            Attack::Garbage => {
                self.talk(None, garbage()).await;
            }
            Attack::LiveGarbage => {
                self.talk(Some(good()), garbage()).await;
            }
            Attack::Binary => {
                self.talk(Some(good()), vec![Message::binary(vec![0, 159, 146, 150])]).await;
            }
            Attack::TooBig => {
                let text = json!({ "type": "user_message", "message_id": "big", "payload": "x".repeat(200_000) });
                self.talk(Some(good()), vec![Message::text(text.to_string())]).await;
            }
            Attack::Bytes => self.bytes().await,
            Attack::Flood => {
                self.talk(Some(good()), vec![Message::text("{\"type\":\"ping\"}"); FLOOD]).await;
            }
            Attack::Eager => {
                self.talk(None, vec![Message::text("{\"type\":\"ping\"}"); 40]).await;
            }
            Attack::Expired => {
                let old = token("mallory", Duration::ZERO);
                return self.refused(old, "a token that had expired").await;
            }
            Attack::Unsigned => {
                let good = good();
                let (signed, _) = good.rsplit_once('.').unwrap_or_default();
                return self.refused(format!("{signed}.AAAA"), "a token that nobody signed").await;
            }
            Attack::Revoked => {
                if let Some((_, token)) = self.target.revoked.clone() {
                    return self.refused(token, "a token that was revoked").await;
                }
            }
            Attack::ForeignCancel => {
                let runs = self.target.runs.iter().take(MAX_FOREIGN);
                let cancel = |run: &RunId| json!({ "type": "cancel", "run_id": format!("{:016x}", run.0) }).to_string();
                let frames = runs.map(|run| Message::text(cancel(run))).collect();
                self.talk(Some(good()), frames).await;
            }
            Attack::HalfHeader => {
                if let Ok(mut stream) = TcpStream::connect(self.target.address).await {
                    let _ = stream.write_all(b"GET /ws HTTP/1.1\r\nhost: somewhere\r\nx-half").await;
                    let _ = stream.read(&mut [0; 64]).await;
                }
            }
            Attack::Crowd => {
                let mut crowd = Vec::new();
                for _ in 0..CROWD {
                    crowd.extend(self.open(Some(good())).await);
                }
                for (number, mut socket) in crowd {
                    self.hear(number, &mut socket, PATIENCE / 50).await;
                }
            }
            Attack::Gone => {
                let _ = self.open(None).await;
            }
        }
        Ok(())
    }

    /// Presents a credential that must not be admitted.
    async fn refused(&mut self, token: String, what: &str) -> Result<(), String> {
        if self.talk(Some(token), Vec::new()).await {
            return Err(format!("{} (hostile-{}): {what} was admitted", self.user, self.target.number));
        }
        Ok(())
    }

    /// Sends `messages`, then reads the gateway's answers. Returns whether the connection became ready.
    async fn talk(&mut self, token: Option<String>, messages: Vec<Message>) -> bool {
        let Some((number, mut socket)) = self.open(token).await else { return false };
        for message in messages {
            if socket.send(message).await.is_err() {
                break;
            }
        }
        self.hear(number, &mut socket, PATIENCE / 2).await
    }

    async fn open(&mut self, token: Option<String>) -> Option<(u32, Socket)> {
        let mut request = format!("ws://{}/ws", self.target.address).into_client_request().ok()?;
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("lockstep.v1"));
        let (mut socket, _) = tokio_tungstenite::connect_async(request).await.ok()?;
        self.sockets += 1;
        self.note(self.sockets, "open", json!({}));
        if let Some(token) = token {
            let frame = json!({ "type": "auth", "token": token, "resume": "latest" });
            self.note(self.sockets, "sent", json!({ "frame": frame }));
            let _ = socket.send(Message::text(frame.to_string())).await;
        }
        Some((self.sockets, socket))
    }

    /// Reads until the socket is closed or `time` has passed. Returns whether the connection became ready.
    async fn hear(&self, number: u32, socket: &mut Socket, time: Duration) -> bool {
        let mut ready = false;
        let end = tokio::time::Instant::now() + time;
        while let Ok(Some(Ok(message))) = tokio::time::timeout_at(end, socket.next()).await {
            match message {
                Message::Text(text) => {
                    let frame: Value = serde_json::from_str(&text).unwrap_or_default();
                    ready |= frame["type"] == "connection_ready";
                    self.note(number, "received", json!({ "frame": frame }));
                }
                Message::Close(close) => {
                    let code = close.map_or(1005, |close| u16::from(close.code));
                    self.note(number, "closed", json!({ "code": code }));
                    return ready;
                }
                Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
        self.note(number, "closed", json!({ "code": 1006 }));
        ready
    }

    /// A proper handshake, then bytes that are not a frame.
    async fn bytes(&self) {
        let Ok(mut stream) = TcpStream::connect(self.target.address).await else { return };
        let handshake = format!(
            "GET /ws HTTP/1.1\r\nhost: {}\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: lockstep.v1\r\n\r\n",
            self.target.address
        );
        let _ = stream.write_all(handshake.as_bytes()).await;
        let _ = stream.write_all(&[0xff, 0xff, 0xff, 0xff, 0x00, 0x83, 0x7f, 0x01, 0x02]).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
    }

    fn note(&self, socket: u32, fact: &str, rest: Value) {
        self.target.history.note(&format!("hostile-{}", self.target.number), Some(&self.user), socket, fact, rest);
    }
}

fn garbage() -> Vec<Message> {
    [
        "",
        "no json",
        "{\"type\":",
        "[]",
        "null",
        "{\"type\":\"no such type\"}",
        "{\"type\":\"auth\"}",
        "{\"type\":\"cancel\",\"run_id\":7}",
        "{\"type\":\"cancel\",\"run_id\":\"zzzzzzzzzzzzzzzz\"}",
        "{\"type\":\"user_message\",\"message_id\":\"\",\"payload\":{}}",
        "{\"type\":\"user_message\",\"message_id\":\"m\"}",
        "{\"type\":\"connection_ready\",\"offset\":1}",
    ]
    .into_iter()
    .map(Message::text)
    .chain([Message::text("[".repeat(30_000))])
    .collect()
}
