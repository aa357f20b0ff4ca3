//! The head of a request, and of the answer to an upgrade request (RFC 6455 §4), as forwarded bytes.

use std::io::{self, ErrorKind};

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// The largest head.
const MAX_HEAD: usize = 64 * 1024;

/// A request.
pub(super) struct Request {
    lines: Vec<Vec<u8>>,
    /// Whether it requests an upgrade.
    pub(super) upgrades: bool,
    /// The bytes after the head.
    pub(super) rest: Vec<u8>,
}

/// Why a request is not forwarded.
pub(super) struct Refusal {
    pub(super) status: &'static str,
    pub(super) reason: String,
}

/// An answer.
pub(super) struct Answer {
    /// Its head.
    pub(super) bytes: Vec<u8>,
    /// Whether it is an upgrade.
    pub(super) upgrades: bool,
    /// Whether what follows is `lockstep.v1` or the older protocol, without extensions.
    pub(super) is_recorded: bool,
    /// Bytes of its body that are still to come.
    pub(super) body: u64,
    /// The bytes after the head.
    pub(super) rest: Vec<u8>,
}

impl Request {
    pub(super) async fn read(client: &mut TcpStream) -> Result<Self, Refusal> {
        let refusal = |status, reason: &str| Refusal { status, reason: reason.to_owned() };
        let head = read(client).await;
        let (lines, rest) = head.map_err(|error| refusal("400 Bad Request", &format!("no request came: {error}")))?;
        if ![&b" HTTP/1.1"[..], b" HTTP/1.0"].iter().any(|version| lines[0].ends_with(version)) {
            return Err(refusal("400 Bad Request", "this is not an HTTP/1 request"));
        }
        let upgrades = values(&lines, "upgrade").any(|value| value.eq_ignore_ascii_case("websocket"));
        Ok(Self { lines, upgrades, rest })
    }

    /// The request as forwarded to the gateway. A request that is not an upgrade is the only one on its connection, so
    /// no uninspected request follows it.
    pub(super) fn to(&self, host: &str) -> Vec<u8> {
        let replaced = if self.upgrades { "sec-websocket-extensions" } else { "connection" };
        let theirs = |line: &&Vec<u8>| !is(line, "host") && !is(line, replaced);
        let host = format!("Host: {host}").into_bytes();
        let mut lines: Vec<&[u8]> = vec![&self.lines[0], &host];
        lines.extend(self.lines[1..].iter().filter(theirs).map(Vec::as_slice));
        if !self.upgrades {
            lines.push(b"Connection: close");
        }
        lines.extend([&b""[..], b""]);
        lines.join(&b"\r\n"[..])
    }
}

impl Answer {
    pub(super) async fn read(gateway: &mut TcpStream) -> io::Result<Self> {
        let (lines, rest) = read(gateway).await?;
        let mut bytes = lines.join(&b"\r\n"[..]);
        bytes.extend(b"\r\n\r\n");
        let upgrades = lines[0].split(|byte| *byte == b' ').nth(1) == Some(b"101");
        let ours = |protocol: &str| {
            ["lockstep.v1", "jwt-auth"].contains(&protocol)
                || ["jwt.", "jwt-auth."].iter().any(|prefix| protocol.starts_with(prefix))
        };
        let of_ours = values(&lines, "sec-websocket-protocol").all(ours);
        let is_plain = values(&lines, "sec-websocket-extensions").all(str::is_empty);
        let length = values(&lines, "content-length").find_map(|length| length.parse().ok());
        let (mut body, mut rest) = (length.unwrap_or(u64::MAX), rest);
        if !upgrades {
            body = body.saturating_sub(rest.len() as u64);
            bytes.append(&mut rest);
        }
        Ok(Self { bytes, upgrades, is_recorded: of_ours && is_plain, body, rest })
    }
}

/// The lines of a head, at least one, and the bytes after it.
async fn read(stream: &mut TcpStream) -> io::Result<(Vec<Vec<u8>>, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            bytes.truncate(end);
            let lines = bytes.split(|byte| *byte == b'\n').map(|line| line.trim_ascii_end().to_vec());
            return Ok((lines.collect(), rest));
        }
        if bytes.len() > MAX_HEAD {
            return Err(io::Error::new(ErrorKind::InvalidData, "its head is too long"));
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "the connection was closed"));
        }
    }
}

fn is(line: &[u8], name: &str) -> bool {
    line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()))
        && line.get(name.len()) == Some(&b':')
}

/// The values of a field, over all of its lines.
fn values<'a>(lines: &'a [Vec<u8>], name: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = lines.iter().filter(move |line| is(line, name));
    let texts = lines.filter_map(move |line| core::str::from_utf8(&line[name.len() + 1..]).ok());
    texts.flat_map(|text| text.split(',')).map(str::trim)
}
