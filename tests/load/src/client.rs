//! The neutral client: a WebSocket (RFC 6455) with as little work per frame as possible, so that its own cost hides
//! nothing of the server's.
//!
//! It reads frames in place, looks at the first members of an event only, and answers pings. It relies on what servers
//! here do: text messages in one frame each, and `type`, `offset` and `previous` first in an event. Socket.IO wraps the
//! same JSON in its own packets; [`Dialect`] unwraps them. Older clients know an event's place by other names.

use std::io;
use std::net::SocketAddr;

use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::plan::{DIGITS, Plan};

/// How frames are wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Lockstep's frames.
    Plain,
    /// Lockstep's envelope for older clients.
    Legacy,
    /// Engine.IO 4 and Socket.IO 5 around them.
    SocketIo,
}

/// Where a client has read to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// The stream's epoch.
    pub(crate) epoch: u64,
    /// The last event that was read.
    pub(crate) offset: u64,
    /// Socket.IO: the session and the last packet.
    packet: (String, String),
}

/// An event of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// Whether it ends a run.
    pub(crate) completes: bool,
    /// How many events the frame stands for: a server may join pieces of an answer.
    pub(crate) count: u64,
    /// Whether it follows the last one without a gap.
    pub(crate) follows: bool,
    /// When it was due, in microseconds since 1970, if it says so.
    pub(crate) due: Option<u64>,
}

/// A connection with a live credential.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    dialect: Dialect,
    buffer: Vec<u8>,
    read: usize,
    /// Where it has read to.
    pub(crate) place: Place,
}

/// The members that have an event's text, the last two in the envelope of older clients.
const TEXT: [&str; 3] = ["\"text\":\"", "\"content\":\"", "\"reasoning\":\""];

/// Bytes of a read buffer that is in use.
const BUFFER: usize = 64 * 1_024;

fn broken(why: &str) -> io::Error {
    io::Error::other(why.to_owned())
}

impl Client {
    /// Connects with a token, at a place if there is one, and returns when the server says that the connection is ready.
    pub(crate) async fn connect(
        address: SocketAddr,
        dialect: Dialect,
        token: &str,
        place: Option<&Place>,
    ) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut client = Self { stream, dialect, buffer: Vec::new(), read: 0, place: Place::default() };
        client.upgrade(token).await?;
        match dialect {
            Dialect::Plain => {
                let resume = place.map(|place| json!({ "epoch": place.epoch, "offset": place.offset }));
                let auth = match resume {
                    Some(resume) => json!({ "type": "auth", "token": token, "resume": resume }),
                    None => json!({ "type": "auth", "token": token, "from": "latest" }),
                };
                client.write(&auth.to_string()).await?;
            }
            // The token came with the upgrade.
            Dialect::Legacy => {}
            Dialect::SocketIo => {
                let mut auth = json!({ "token": token });
                if let Some(Place { packet: (pid, offset), .. }) = place {
                    auth["pid"] = pid.as_str().into();
                    auth["offset"] = offset.as_str().into();
                }
                client.write(&format!("40{auth}")).await?;
            }
        }
        client.ready(place).await?;
        if dialect == Dialect::Legacy {
            let place = place.unwrap_or(&client.place);
            let last = format!("{}:{}", place.epoch, place.offset);
            let restore = json!({ "type": "session_restore", "payload": { "lastMessageId": last } });
            client.place = place.clone();
            client.write(&restore.to_string()).await?;
        }
        Ok(client)
    }

    async fn upgrade(&mut self, token: &str) -> io::Result<()> {
        let (path, protocols) = match self.dialect {
            Dialect::Plain => ("/", "lockstep.v1".to_owned()),
            Dialect::Legacy => ("/", format!("jwt-auth, bearer.{token}")),
            Dialect::SocketIo => ("/socket.io/?EIO=4&transport=websocket", "lockstep.v1".to_owned()),
        };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
             Sec-WebSocket-Protocol: {protocols}\r\n\r\n"
        );
        self.stream.write_all(request.as_bytes()).await?;
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                if !self.buffer.starts_with(b"HTTP/1.1 101") {
                    return Err(broken("the server does not upgrade"));
                }
                self.read = end + 4;
                return Ok(());
            }
            self.fill().await?;
        }
    }

    async fn ready(&mut self, place: Option<&Place>) -> io::Result<()> {
        #[derive(Deserialize)]
        struct Ready {
            r#type: String,
            epoch: u64,
            offset: u64,
        }
        #[derive(Deserialize)]
        struct Established {
            r#type: String,
            payload: Start,
        }
        #[derive(Deserialize)]
        struct Start {
            epoch: u64,
            offset: u64,
        }
        #[derive(Deserialize)]
        struct Connected {
            pid: String,
        }
        let mut early = Vec::new();
        loop {
            let (start, end) = self.message().await?;
            let text = text(&self.buffer[start..end])?;
            match self.dialect {
                Dialect::Plain => {
                    let Ok(ready) = serde_json::from_str::<Ready>(text) else { continue };
                    if ready.r#type == "connection_ready" {
                        // A server that gives the place a new beginning says so here.
                        self.place = Place { epoch: ready.epoch, offset: ready.offset, ..Place::default() };
                        return Ok(());
                    }
                }
                Dialect::Legacy => {
                    let Ok(established) = serde_json::from_str::<Established>(text) else { continue };
                    if established.r#type == "connection_established" {
                        let Start { epoch, offset } = established.payload;
                        self.place = Place { epoch, offset, ..Place::default() };
                        return Ok(());
                    }
                }
                Dialect::SocketIo => {
                    if let Some(connected) = text.strip_prefix("40") {
                        let pid = serde_json::from_str::<Connected>(connected)?.pid;
                        let (offset, last) = match place {
                            Some(Place { packet: (before, last), offset, .. }) if *before == pid => {
                                (*offset, last.clone())
                            }
                            Some(_) | None => (0, String::new()),
                        };
                        self.place = Place { epoch: 1, offset, packet: (pid, last) };
                        self.unread(&early);
                        return Ok(());
                    }
                    if text.starts_with("42") {
                        // What was missed comes before the answer.
                        early.push(0x81);
                        early.push(127);
                        early.extend((text.len() as u64).to_be_bytes());
                        early.extend_from_slice(text.as_bytes());
                    }
                    if text.starts_with("44") {
                        return Err(broken("the server refuses the token"));
                    }
                }
            }
        }
    }

    /// Sends a message whose answer follows this plan.
    pub(crate) async fn say(&mut self, id: &str, plan: &Plan) -> io::Result<()> {
        let message = json!({ "type": "user_message", "message_id": id, "payload": plan });
        self.request(&message.to_string()).await
    }

    /// Sends an application's ping, where the server has one.
    pub(crate) async fn ping(&mut self) -> io::Result<()> {
        match self.dialect {
            Dialect::Plain | Dialect::Legacy => self.request(r#"{"type":"ping"}"#).await,
            // The server pings by itself.
            Dialect::SocketIo => Ok(()),
        }
    }

    async fn request(&mut self, text: &str) -> io::Result<()> {
        match self.dialect {
            Dialect::Plain | Dialect::Legacy => self.write(text).await,
            Dialect::SocketIo => self.write(&format!("42[\"m\",{text}]")).await,
        }
    }

    /// The next event. Other frames are read over. Cancel safe.
    pub(crate) async fn event(&mut self) -> io::Result<Event> {
        loop {
            let (start, end) = self.message().await?;
            let mut text = text(&self.buffer[start..end])?;
            if self.dialect == Dialect::SocketIo {
                let Some(inner) = text.strip_prefix("42[\"e\",") else {
                    if text == "2" {
                        self.write("3").await?;
                    }
                    continue;
                };
                text = inner;
            }
            let head = if self.dialect == Dialect::Legacy { legacy_head(text) } else { head(text) };
            let Some((kind, offset, previous)) = head else { continue };
            let follows = previous == self.place.offset || self.place.offset == 0;
            let due = TEXT.iter().find_map(|name| {
                let at = text.find(name)? + name.len();
                text.get(at..at + DIGITS)?.parse().ok()
            });
            let event =
                Event { completes: kind == "agent_completed", count: offset.saturating_sub(previous), follows, due };
            if self.dialect == Dialect::SocketIo {
                let last = text.rsplit('"').nth(1).unwrap_or_default();
                self.place.packet.1.clear();
                self.place.packet.1.push_str(last);
            }
            self.place.offset = offset;
            return Ok(event);
        }
    }

    /// Reads to the end of a run. Returns how many events that were.
    pub(crate) async fn run(&mut self, mut each: impl FnMut(&Event)) -> io::Result<u64> {
        let mut events = 0;
        loop {
            let event = self.event().await?;
            events += event.count;
            each(&event);
            if event.completes {
                return Ok(events);
            }
        }
    }

    /// The next text message's place in the buffer.
    async fn message(&mut self) -> io::Result<(usize, usize)> {
        loop {
            let unread = &self.buffer[self.read..];
            let Some((opcode, start, length)) = frame(unread) else {
                self.fill().await?;
                continue;
            };
            if unread.len() < start + length {
                self.fill().await?;
                continue;
            }
            let place = (self.read + start, self.read + start + length);
            self.read = place.1;
            match opcode {
                0x1 => return Ok(place),
                0x8 => return Err(broken("the server has closed the connection")),
                0x9 => {
                    let payload = self.buffer[place.0..place.1].to_vec();
                    self.frame(0x8a, &payload).await?;
                }
                _ => {}
            }
        }
    }

    /// Puts frames before those that were not read yet.
    fn unread(&mut self, frames: &[u8]) {
        self.buffer.splice(..self.read, frames.iter().copied());
        self.read = 0;
    }

    async fn fill(&mut self) -> io::Result<()> {
        if self.read > 0 {
            self.buffer.drain(..self.read);
            self.read = 0;
        }
        // Thousands of idle clients hold no buffer.
        if self.buffer.is_empty() && self.buffer.capacity() > 0 {
            self.buffer = Vec::new();
        }
        self.stream.readable().await?;
        self.buffer.reserve(BUFFER);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(broken("the server has closed the socket")),
            _ => Ok(()),
        }
    }

    async fn write(&mut self, text: &str) -> io::Result<()> {
        self.frame(0x81, text.as_bytes()).await
    }

    /// Writes one frame, masked with zeros, so as it is (RFC 6455 §5.3).
    async fn frame(&mut self, first: u8, payload: &[u8]) -> io::Result<()> {
        let mut frame = vec![first];
        match u16::try_from(payload.len()) {
            Ok(length) if length < 126 => frame.push(0x80 | length.to_le_bytes()[0]),
            Ok(length) => {
                frame.push(0x80 | 126);
                frame.extend(length.to_be_bytes());
            }
            Err(_) => return Err(broken("a message of more than 64 KiB")),
        }
        frame.extend([0; 4]);
        frame.extend_from_slice(payload);
        self.stream.write_all(&frame).await
    }
}

fn text(bytes: &[u8]) -> io::Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| broken("the server sends what is no text"))
}

/// An unmasked frame's opcode, where its payload begins, and how long it is.
fn frame(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let opcode = bytes.first()? & 0xf;
    match *bytes.get(1)? & 0x7f {
        126 => Some((opcode, 4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?])))),
        127 => {
            let length = u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?);
            Some((opcode, 10, usize::try_from(length).ok()?))
        }
        length => Some((opcode, 2, usize::from(length))),
    }
}

/// An event's type, offset and predecessor, which are its first members.
fn head(text: &str) -> Option<(&str, u64, u64)> {
    let (kind, rest) = text.strip_prefix("{\"type\":\"")?.split_once('"')?;
    let (offset, rest) = rest.strip_prefix(",\"offset\":")?.split_once(',')?;
    let digits = rest.strip_prefix("\"previous\":")?;
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    Some((kind, offset.parse().ok()?, digits[..end].parse().ok()?))
}

/// The same of an event in the envelope of older clients, whose `message_id` is its place, as `previous_id` is its
/// predecessor's.
fn legacy_head(text: &str) -> Option<(&str, u64, u64)> {
    let (kind, rest) = text.strip_prefix("{\"type\":\"")?.split_once('"')?;
    let offset = |name: &str| {
        let (_, place) = rest.split_once(name)?;
        place.split_once('"')?.0.split_once(':')?.1.parse().ok()
    };
    Some((kind, offset("\"message_id\":\"")?, offset("\"previous_id\":\"")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_events_head_is_read_and_other_frames_have_none() {
        let event = r#"{"type":"agent_delta","offset":44,"previous":41,"data":{}}"#;
        assert_eq!(head(event), Some(("agent_delta", 44, 41)));
        assert_eq!(head(r#"{"type":"pong"}"#), None);
        assert_eq!(head(r#"{"type":"connection_ready","epoch":1,"offset":2}"#), None);
    }

    #[test]
    fn an_older_envelope_has_the_same_head() {
        let event = r#"{"type":"partial_result","run_id":"1f","message_id":"7:44","previous_id":"7:41","payload":{}}"#;
        assert_eq!(legacy_head(event), Some(("partial_result", 44, 41)));
        assert_eq!(legacy_head(r#"{"type":"pong","user_id":"ada"}"#), None);
    }

    #[test]
    fn a_frame_of_each_length_is_found_and_half_a_head_is_none() {
        assert_eq!(frame(&[0x81, 5]), Some((1, 2, 5)));
        assert_eq!(frame(&[0x81, 126, 1, 0]), Some((1, 4, 256)));
        assert_eq!(frame(&[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]), Some((1, 10, 65_536)));
        assert_eq!(frame(&[0x81, 126, 1]), None);
    }
}
