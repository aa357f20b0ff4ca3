//! The server side of the upgrade on a bare byte stream (RFC 6455 §4.2). It reads a request's head, checks it as the
//! gateway does, and answers with 101, or with a status that names the error. Bytes after the head are the first
//! frames.

use core::fmt;
use core::time::Duration;

use http::header::{HeaderName, HeaderValue};
use http::{Method, Request, StatusCode, Version};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tungstenite::protocol::Role;

use super::handshake::{NotUpgraded, handshake};
use super::stream::Stream;
use super::{BufferLimits, WebSocket};

/// The most bytes of a request's head.
pub(super) const MAX_HEAD: usize = 16 * 1024;
/// The most fields of a request's head.
pub(super) const MAX_FIELDS: usize = 64;
/// How long a refused peer may take to read the response.
const PARTING: Duration = Duration::from_secs(1);
/// Bytes that a refused peer may still send meanwhile.
const MAX_PARTING: usize = 64 * 1024;

/// Why a byte stream was not accepted as a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotAccepted {
    /// The peer has gone, or the stream ended before the request did.
    Lost,
    /// The request is not a valid upgrade request. The peer was told so.
    Refused(NotUpgraded),
}

impl fmt::Display for NotAccepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost => f.write_str("the peer is gone"),
            Self::Refused(why) => why.fmt(f),
        }
    }
}

impl core::error::Error for NotAccepted {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Refused(why) => Some(why),
            Self::Lost => None,
        }
    }
}

const fn refused(status: StatusCode, reason: &'static str) -> NotAccepted {
    NotAccepted::Refused(NotUpgraded { status, reason })
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Reads the upgrade request from the stream and accepts the connection, whatever the request's path. The caller
    /// must bound how long the peer may take. Set `TCP_NODELAY` on a TCP socket: otherwise data that is sent in several
    /// writes waits for the peer's acknowledgements, some 40 ms each.
    ///
    /// # Errors
    ///
    /// [`NotAccepted`]. Unless the peer is gone, it was answered with the status that names the error.
    pub async fn accept(mut io: S, limits: &BufferLimits) -> Result<Self, NotAccepted> {
        match request(&mut io).await {
            Ok((accept, frames)) => {
                let mut response = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                                     Sec-WebSocket-Accept: "
                    .to_vec();
                response.extend_from_slice(accept.as_bytes());
                response.extend_from_slice(b"\r\n\r\n");
                io.write_all(&response).await.map_err(|_| NotAccepted::Lost)?;
                io.flush().await.map_err(|_| NotAccepted::Lost)?;
                Ok(Self::begun(io, frames, limits))
            }
            Err(NotAccepted::Refused(why)) => {
                refuse(&mut io, why).await;
                Err(NotAccepted::Refused(why))
            }
            Err(NotAccepted::Lost) => Err(NotAccepted::Lost),
        }
    }

    /// The server side of an upgraded connection of which some bytes were already read.
    pub(crate) fn begun(io: S, frames: Vec<u8>, limits: &BufferLimits) -> Self {
        Self::over(Stream::new(io, frames, limits), Role::Server, limits)
    }
}

/// Reads a request. Returns the answer to its key and the bytes that followed the request.
async fn request(io: &mut (impl AsyncRead + Unpin)) -> Result<(HeaderValue, Vec<u8>), NotAccepted> {
    let mut bytes = Vec::with_capacity(1_024);
    let mut looked = 0;
    let end = loop {
        // The end of a head may start in bytes that were already searched.
        let end = end_of_head(&bytes, looked);
        if let Some(end) = end.filter(|end| *end <= MAX_HEAD) {
            break end;
        }
        looked = bytes.len().saturating_sub(3);
        if end.is_some() || bytes.len() > MAX_HEAD {
            return Err(refused(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the request's head is too long"));
        }
        if io.read_buf(&mut bytes).await.map_err(|_| NotAccepted::Lost)? == 0 {
            return Err(NotAccepted::Lost);
        }
    };
    let frames = bytes.split_off(end);
    let accept = handshake(&parsed(&bytes)?).map_err(NotAccepted::Refused)?;
    Ok((accept, frames))
}

/// Returns the end of the empty line that ends a head.
pub(super) fn end_of_head(bytes: &[u8], from: usize) -> Option<usize> {
    let found =
        |end: &[u8]| bytes[from..].windows(end.len()).position(|window| window == end).map(|at| from + at + end.len());
    match (found(b"\n\r\n"), found(b"\n\n")) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn parsed(head: &[u8]) -> Result<Request<()>, NotAccepted> {
    let wrong = || refused(StatusCode::BAD_REQUEST, "this is not an HTTP/1.1 request");
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut parser = httparse::Request::new(&mut fields);
    match parser.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => {
            return Err(refused(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the request has too many header fields"));
        }
        Ok(httparse::Status::Partial) | Err(_) => return Err(wrong()),
    }
    let (Some(method), Some(path), Some(version)) = (parser.method, parser.path, parser.version) else {
        return Err(wrong());
    };
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(method.as_bytes()).map_err(|_| wrong())?;
    *request.uri_mut() = path.parse().map_err(|_| wrong())?;
    *request.version_mut() = if version == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    for field in &*parser.headers {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| wrong())?;
        request.headers_mut().append(name, HeaderValue::from_bytes(field.value).map_err(|_| wrong())?);
    }
    Ok(request)
}

/// Sends the peer the reason, then reads on for a moment: a socket that is closed with unread bytes is reset, which may
/// lose the response.
async fn refuse(io: &mut (impl AsyncRead + AsyncWrite + Unpin), NotUpgraded { status, reason }: NotUpgraded) {
    let version = if status == StatusCode::UPGRADE_REQUIRED {
        "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n"
    } else {
        "Connection: close\r\n"
    };
    let (length, phrase) = (reason.len() + 1, status.canonical_reason().unwrap_or_default());
    let response = format!(
        "HTTP/1.1 {} {phrase}\r\n{version}Content-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{reason}\n",
        status.as_u16()
    );
    let told = async {
        io.write_all(response.as_bytes()).await?;
        io.shutdown().await?;
        let mut unread = Vec::new();
        (&mut *io).take(MAX_PARTING as u64).read_to_end(&mut unread).await
    };
    // Nothing can be done about a peer that does not read.
    let _ = tokio::time::timeout(PARTING, told).await;
}
