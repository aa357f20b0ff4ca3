//! The client side of the upgrade (RFC 6455 §4.1), to another process of the cluster.

use core::fmt;
use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::Role;

use super::accept::{MAX_FIELDS, MAX_HEAD, end_of_head};
use super::stream::Stream;
use super::{BufferLimits, WebSocket};

/// Why a WebSocket was not opened.
#[derive(Debug)]
pub(crate) enum NotConnected {
    /// The stream failed or ended.
    Lost(io::Error),
    /// The server refuses the upgrade.
    Refused(u16),
    /// The response is not the answer to an upgrade request.
    Invalid,
}

impl fmt::Display for NotConnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(error) => error.fmt(f),
            Self::Refused(status) => write!(f, "it answers with status {status}"),
            Self::Invalid => f.write_str("it does not answer as a WebSocket server"),
        }
    }
}

impl From<io::Error> for NotConnected {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Asks the server at the other end for an upgrade. `head` is the request's head without the fields of the upgrade
    /// and without the empty line. Cancel safe in that dropping the future drops the stream.
    pub(crate) async fn connect(mut io: S, head: &str, limits: &BufferLimits) -> Result<Self, NotConnected> {
        let key = crate::support::random::random_bytes::<16>().map_err(io::Error::other)?;
        let key = STANDARD.encode(key);
        let request = format!(
            "{head}Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
        );
        io.write_all(request.as_bytes()).await?;
        io.flush().await?;
        let mut bytes = Vec::with_capacity(512);
        let end = loop {
            if let Some(end) = end_of_head(&bytes, 0) {
                break end;
            }
            if bytes.len() > MAX_HEAD {
                return Err(NotConnected::Invalid);
            }
            if io.read_buf(&mut bytes).await? == 0 {
                return Err(NotConnected::Lost(io::ErrorKind::UnexpectedEof.into()));
            }
        };
        let frames = bytes.split_off(end);
        check(&bytes, &key)?;
        Ok(Self::over(Stream::new(io, frames, limits), Role::Client, limits))
    }
}

/// Checks the head of a response.
fn check(head: &[u8], key: &str) -> Result<(), NotConnected> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let Ok(httparse::Status::Complete(_)) = response.parse(head) else { return Err(NotConnected::Invalid) };
    match response.code {
        Some(101) => {}
        Some(status) => return Err(NotConnected::Refused(status)),
        None => return Err(NotConnected::Invalid),
    }
    let accept = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case("sec-websocket-accept"));
    match accept {
        Some(accept) if accept.value == derive_accept_key(key.as_bytes()).as_bytes() => Ok(()),
        Some(_) | None => Err(NotConnected::Invalid),
    }
}
