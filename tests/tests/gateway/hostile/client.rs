//! A client that does what no library would: hand-made frames over a bare TCP socket.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::judged::{Socket, history_of};

/// The deadline of every wait in a test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The first byte of a frame: FIN and opcode (RFC 6455 §5.2).
pub(crate) const TEXT: u8 = 0x81;
pub(crate) const BINARY: u8 = 0x82;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;
pub(crate) const PONG: u8 = 0x8A;
/// The beginning of a fragmented text message, its middle and its end.
pub(crate) const BEGIN: u8 = 0x01;
pub(crate) const MORE: u8 = 0x00;
pub(crate) const LAST: u8 = 0x80;

const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// What the gateway sends.
#[derive(Debug, PartialEq)]
pub(crate) enum Heard {
    Text(Value),
    /// A close frame, with its code.
    Close(u16),
    Ping,
    Pong(Vec<u8>),
    /// The gateway has closed its side in order.
    End,
    /// The gateway has reset the connection.
    Reset,
}

/// A socket, and bytes that were read ahead. The frames that it reads go into the gateway's history.
pub(crate) struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
    socket: Socket,
}

/// The head of a masked frame that claims that length.
pub(crate) fn head(first: u8, length: u64) -> Vec<u8> {
    let mut head = vec![first];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length @ ..=125), _) => head.push(0x80 | length),
        (_, Ok(length)) => {
            head.push(0x80 | 126);
            head.extend(length.to_be_bytes());
        }
        (_, Err(_)) => {
            head.push(0x80 | 127);
            head.extend(length.to_be_bytes());
        }
    }
    head.extend(MASK);
    head
}

/// A masked frame.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = head(first, payload.len() as u64);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// An upgrade request with additional header lines.
pub(crate) fn request(lines: &[&str]) -> String {
    let mut request =
        "GET /ws HTTP/1.1\r\nHost: gateway.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw==\r\n"
            .to_owned();
    for line in lines {
        request.push_str(line);
        request.push_str("\r\n");
    }
    request + "\r\n"
}

/// A user message.
pub(crate) fn message(id: &str, text: &str) -> Value {
    json!({ "type": "user_message", "message_id": id, "thread_id": "t", "payload": { "text": text } })
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::of(TcpStream::connect(address).await.expect("a listener"), address)
    }

    /// A client with a small receive buffer.
    pub(crate) async fn narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4 * 1024).expect("a size");
        Self::of(socket.connect(address).await.expect("a listener"), address)
    }

    fn of(stream: TcpStream, address: SocketAddr) -> Self {
        Self { stream, unread: Vec::new(), socket: Socket::new(history_of(address)) }
    }

    /// Sends a request and reads the head of the answer.
    pub(crate) async fn ask(&mut self, request: &str) -> String {
        self.send(request.as_bytes()).await;
        self.answer().await
    }

    /// The head of an answer.
    pub(crate) async fn answer(&mut self) -> String {
        loop {
            if let Some(end) = self.unread.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let head = self.unread.drain(..end + 4).collect();
                return String::from_utf8(head).expect("text");
            }
            let read = self.fill().await.expect("an answer");
            assert!(read > 0, "no answer, but {:?}", String::from_utf8_lossy(&self.unread));
        }
    }

    /// Reads that many bytes.
    pub(crate) async fn bytes(&mut self, length: usize) -> Vec<u8> {
        while self.unread.len() < length {
            assert!(self.fill().await.is_ok_and(|read| read > 0), "{length} bytes, not {:?}", self.unread);
        }
        self.unread.drain(..length).collect()
    }

    /// Everything up to the end of the stream.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.fill().await.is_ok_and(|read| read > 0) {}
        core::mem::take(&mut self.unread)
    }

    /// Whether the next bytes are these.
    pub(crate) async fn begins_with(&mut self, bytes: &[u8]) -> bool {
        while self.unread.len() < bytes.len() {
            if !self.fill().await.is_ok_and(|read| read > 0) {
                return false;
            }
        }
        self.unread.starts_with(bytes)
    }

    /// An upgraded client without a credential.
    pub(crate) async fn upgraded(address: SocketAddr, lines: &[&str]) -> Self {
        let mut client = Self::connect(address).await;
        client.upgrade(lines).await;
        client
    }

    pub(crate) async fn upgrade(&mut self, lines: &[&str]) {
        let head = self.ask(&request(lines)).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        self.socket.opened();
    }

    pub(crate) async fn live(address: SocketAddr, token: &str) -> Self {
        let mut client = Self::upgraded(address, &[]).await;
        client.authenticate(token).await;
        client
    }

    /// Presents the token and waits for `connection_ready`.
    pub(crate) async fn authenticate(&mut self, token: &str) -> Value {
        self.say(&json!({ "type": "auth", "token": token, "resume": "latest" })).await;
        let ready = self.next().await;
        assert_eq!(ready["type"], "connection_ready", "{ready}");
        ready
    }

    /// Sends raw bytes; ignores that the gateway may have closed.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let _ = timeout(PATIENCE, self.stream.write_all(bytes)).await.expect("a reader");
    }

    /// Sends these bytes repeatedly, at most `most` in all, until they are no longer read. Returns the number sent.
    pub(crate) async fn pour(&mut self, bytes: &[u8], most: usize, quiet: Duration) -> usize {
        let mut poured = 0;
        while poured < most {
            match timeout(quiet, self.stream.write_all(bytes)).await {
                Ok(Ok(())) => poured += bytes.len(),
                Ok(Err(_)) | Err(_) => break,
            }
        }
        poured
    }

    pub(crate) async fn say(&mut self, value: &Value) {
        self.socket.sent(value);
        self.send(&frame(TEXT, value.to_string().as_bytes())).await;
    }

    /// Closes the sending side only.
    pub(crate) async fn half_close(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    async fn fill(&mut self) -> io::Result<usize> {
        timeout(PATIENCE, self.stream.read_buf(&mut self.unread)).await.expect("the gateway says nothing")
    }

    /// Whether the gateway closes within `time`. Keeps what it sends meanwhile.
    pub(crate) async fn ended_within(&mut self, time: Duration) -> bool {
        let ended = async { while self.stream.read_buf(&mut self.unread).await.is_ok_and(|read| read > 0) {} };
        timeout(time, ended).await.is_ok()
    }

    /// The next frame of any kind.
    pub(crate) async fn hear(&mut self) -> Heard {
        loop {
            if let Some((opcode, payload)) = self.take() {
                return match opcode {
                    1 => {
                        let value = serde_json::from_slice(&payload).expect("JSON");
                        self.socket.received(&value);
                        Heard::Text(value)
                    }
                    8 => {
                        let code = u16::from_be_bytes([payload[0], payload[1]]);
                        self.socket.closed(code);
                        Heard::Close(code)
                    }
                    9 => Heard::Ping,
                    10 => Heard::Pong(payload),
                    _ => panic!("an opcode {opcode}"),
                };
            }
            match self.fill().await {
                Ok(0) => {
                    assert!(self.unread.is_empty(), "half a frame: {:?}", self.unread);
                    return Heard::End;
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Heard::Reset,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// A complete frame from the bytes that were read.
    fn take(&mut self) -> Option<(u8, Vec<u8>)> {
        let (first, length) = (*self.unread.first()?, *self.unread.get(1)?);
        assert_eq!(first & 0xF0, 0x80, "the gateway neither fragments nor extends");
        let (start, length) = match length {
            126 => (4, usize::from(u16::from_be_bytes(self.unread.get(2..4)?.try_into().ok()?))),
            127 => (10, usize::try_from(u64::from_be_bytes(self.unread.get(2..10)?.try_into().ok()?)).ok()?),
            length => (2, usize::from(length)),
        };
        let payload = self.unread.get(start..start + length)?.to_vec();
        self.unread.drain(..start + length);
        Some((first & 0x0F, payload))
    }

    /// The next text frame; a close is `{"type": "close", "code": …}`, and an end without a close frame has no code.
    pub(crate) async fn next(&mut self) -> Value {
        loop {
            match self.hear().await {
                Heard::Text(value) => return value,
                Heard::Close(code) => return json!({ "type": "close", "code": code }),
                Heard::Ping => self.send(&frame(PONG, b"")).await,
                Heard::Pong(_) => {}
                Heard::End | Heard::Reset => return json!({ "type": "close" }),
            }
        }
    }

    /// All frames up to the first of that type.
    pub(crate) async fn until(&mut self, kind: &str) -> Vec<Value> {
        let mut seen = Vec::new();
        loop {
            let value = self.next().await;
            let last = value["type"] == kind;
            assert!(last || value["type"] != "close", "{value} before {kind}");
            seen.push(value);
            if last {
                return seen;
            }
        }
    }

    /// The code of the next `error`, which must be the next frame.
    pub(crate) async fn error(&mut self) -> String {
        let error = self.next().await;
        assert_eq!(error["type"], "error", "{error}");
        error["code"].as_str().expect("a code").to_owned()
    }

    /// Asserts that the connection is still served.
    pub(crate) async fn is_live(&mut self) {
        self.say(&json!({ "type": "ping" })).await;
        self.until("pong").await;
    }

    /// Reads up to the close frame, answers it, and reads up to the end, which must not be a reset. Returns the code.
    pub(crate) async fn end(&mut self) -> u16 {
        let closed = self.until("close").await;
        let code = closed.last().and_then(|close| close["code"].as_u64()).expect("a close frame");
        let code = u16::try_from(code).expect("a code");
        self.send(&frame(CLOSE, &code.to_be_bytes())).await;
        self.half_close().await;
        assert_eq!(self.hear().await, Heard::End);
        code
    }

    /// Sends a message and reads to the end of its answer. Returns the events of its run, and everything else that
    /// arrived.
    pub(crate) async fn exchange(&mut self, id: &str) -> (Vec<Value>, Vec<Value>) {
        self.say(&message(id, id)).await;
        let (mut own, mut others) = (Vec::new(), Vec::new());
        loop {
            let value = self.next().await;
            assert_ne!(value["type"], "close", "{value} instead of the answer to {id}");
            let begins = value["type"] == "message_received" && value["data"]["message_id"] == id;
            let run = own.first().map(|first: &Value| first["run_id"].clone());
            let last = value["type"] == "agent_completed";
            if begins || run.is_some_and(|run| run == value["run_id"]) {
                own.push(value);
                if last {
                    return (own, others);
                }
            } else {
                others.push(value);
            }
        }
    }
}

/// The clients that behave: another user, and another tab of Mallory's.
pub(crate) struct Others {
    bob: Client,
    tab: Client,
    messages: u32,
}

impl Others {
    pub(crate) async fn arrive(address: SocketAddr) -> Self {
        Self::with(address, "bob", "mallory").await
    }

    pub(crate) async fn with(address: SocketAddr, bob: &str, mallory: &str) -> Self {
        Self { bob: Client::live(address, bob).await, tab: Client::live(address, mallory).await, messages: 0 }
    }

    /// Each sends a message and gets its answer, event by event; Bob sees nothing else.
    pub(crate) async fn notice_nothing(&mut self) {
        self.messages += 1;
        let id = format!("innocent {}", self.messages);
        let expected = ["message_received", "agent_started", "agent_completed"];
        let (answer, others) = self.bob.exchange(&id).await;
        assert_eq!(answer.iter().map(|event| &event["type"]).collect::<Vec<_>>(), expected);
        assert!(others.is_empty(), "{others:?}");
        let (answer, _) = self.tab.exchange(&id).await;
        assert_eq!(answer.iter().map(|event| &event["type"]).collect::<Vec<_>>(), expected);
    }
}
