//! Records one socket's frames from a copy of its bytes.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::OnceLock;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, WebSocket};

use crate::history::History;

/// The sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client.
    Client,
    /// The gateway.
    Gateway,
}

/// The recorder of one socket. Records the close when dropped.
#[derive(Debug)]
pub struct Tap {
    history: Option<History>,
    client: String,
    opened: OnceLock<()>,
    /// The first close code from either side.
    code: OnceLock<u16>,
    closed: OnceLock<()>,
}

/// A decoder's socket: it reads the copy and discards what it would answer.
#[derive(Debug, Default)]
struct Copied {
    bytes: Vec<u8>,
    read: usize,
}

impl Tap {
    /// Records a socket under its number.
    #[must_use]
    pub fn new(history: History, number: u64) -> Self {
        Self::of(Some(history), number.to_string())
    }

    /// Records nothing.
    #[must_use]
    pub fn blind() -> Self {
        Self::of(None, String::new())
    }

    const fn of(history: Option<History>, client: String) -> Self {
        Self { history, client, opened: OnceLock::new(), code: OnceLock::new(), closed: OnceLock::new() }
    }

    /// Records that the socket is open.
    ///
    /// # Errors
    ///
    /// If the history cannot be written.
    pub fn opened(&self) -> io::Result<()> {
        let _ = self.opened.set(());
        self.note("open", json!({}))
    }

    /// Records that the socket is closed, with the close code that was sent.
    ///
    /// # Errors
    ///
    /// If the history cannot be written.
    pub fn closed(&self) -> io::Result<()> {
        match (self.opened.get(), self.closed.set(())) {
            (Some(()), Ok(())) => self.note("closed", json!({ "code": self.code.get().copied().unwrap_or(1006) })),
            (None, _) | (_, Err(())) => Ok(()),
        }
    }

    /// Returns a function that takes the bytes which `side` sends. An error is the history's.
    pub fn side(&self, side: Side) -> impl FnMut(&[u8]) -> io::Result<()> {
        let (role, fact) = match side {
            Side::Client => (Role::Server, "sent"),
            Side::Gateway => (Role::Client, "received"),
        };
        let config = WebSocketConfig::default().read_buffer_size(super::BUFFER);
        let mut socket =
            self.history.is_some().then(|| WebSocket::from_raw_socket(Copied::default(), role, Some(config)));
        move |bytes| {
            let Some(decoder) = &mut socket else { return Ok(()) };
            decoder.get_mut().bytes.extend_from_slice(bytes);
            loop {
                match decoder.read() {
                    Ok(Message::Text(text)) => {
                        let frame = serde_json::from_str(&text).ok().filter(Value::is_object);
                        let has_type = frame.filter(|frame| frame["type"].is_string());
                        self.note(fact, has_type.map_or(json!({}), |frame| json!({ "frame": frame })))?;
                    }
                    Ok(Message::Close(close)) => {
                        let _ = self.code.set(close.map_or(1005, |close| close.code.into()));
                    }
                    Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                    Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                    // After its close frame a side sends nothing more. A protocol violation is the receiver's concern.
                    Err(_) => {
                        socket = None;
                        return Ok(());
                    }
                }
            }
        }
    }

    fn note(&self, fact: &str, rest: Value) -> io::Result<()> {
        self.history.as_ref().map_or(Ok(()), |history| history.write(&self.client, None, 1, fact, rest))
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        // The next flush reports a failed write.
        let _ = self.closed();
    }
}

impl Read for Copied {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = (&self.bytes[self.read..]).read(into)?;
        self.read += read;
        if self.read == self.bytes.len() {
            self.bytes.clear();
            self.read = 0;
        }
        if read == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(read) }
    }
}

impl Write for Copied {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client's masked frame with a zero mask (RFC 6455 §5.2).
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).expect("a short frame");
        [&[first, 0x80 | length, 0, 0, 0, 0], payload].concat()
    }

    fn facts(history: &History) -> Vec<Value> {
        let kept = String::from_utf8(history.kept()).expect("text");
        kept.lines().map(|line| serde_json::from_str(line).expect("a fact")).collect()
    }

    #[test]
    fn a_frame_is_recorded_once_however_its_bytes_come() {
        let bytes = [
            frame(0x01, br#"{"type":"can"#),
            frame(0x89, b"a ping between"),
            frame(0x00, b""),
            frame(0x80, br#"cel","run_id":"7"}"#),
            frame(0x82, b"binary"),
            frame(0x88, &4_321_u16.to_be_bytes()),
        ]
        .concat();
        for length in [1, 2, 7, bytes.len()] {
            let history = History::in_memory();
            let tap = Tap::new(history.clone(), 7);
            tap.opened().expect("written");
            let mut side = tap.side(Side::Client);
            bytes.chunks(length).for_each(|chunk| side(chunk).expect("written"));
            drop(side);
            drop(tap);
            let facts = facts(&history);
            assert_eq!(facts.len(), 3, "{facts:?}");
            assert_eq!(facts[1]["frame"], json!({ "type": "cancel", "run_id": "7" }));
            assert_eq!((&facts[2]["fact"], &facts[2]["code"]), (&json!("closed"), &json!(4321)));
            assert!(facts.iter().all(|fact| fact["client"] == "7"));
        }
    }

    #[test]
    fn what_breaks_the_protocol_ends_the_recording_of_its_side_alone() {
        let history = History::in_memory();
        let tap = Tap::new(history.clone(), 1);
        let (mut client, mut gateway) = (tap.side(Side::Client), tap.side(Side::Gateway));
        client(&frame(0xF1, b"reserved bits")).expect("written");
        client(&frame(0x81, br#"{"type":"ping"}"#)).expect("written");
        gateway(b"\x81\x0f{\"type\":\"pong\"}").expect("written");
        let facts = facts(&history);
        assert_eq!(facts.len(), 1, "{facts:?}");
        assert_eq!((&facts[0]["fact"], &facts[0]["frame"]["type"]), (&json!("received"), &json!("pong")));
    }

    #[test]
    fn a_blind_tap_records_nothing_and_an_unopened_socket_has_no_close() {
        let blind = Tap::blind();
        blind.opened().expect("nothing to write");
        blind.side(Side::Client)(&frame(0x81, b"{}")).expect("nothing to write");
        let history = History::in_memory();
        drop(Tap::new(history.clone(), 1));
        assert_eq!(facts(&history), Vec::<Value>::new());
    }
}
