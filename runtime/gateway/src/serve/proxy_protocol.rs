//! The header of the PROXY protocol, versions 1 and 2, in which a proxy names the client of a connection.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncRead, AsyncReadExt};

/// The first bytes of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The most bytes of version 1, including its end.
const MAX_LINE: usize = 107;
/// The most bytes of version 2 after its first 16: addresses and further fields.
const MAX_REST: usize = 2_048;
/// A further field (section 2.2) about the client's TLS, and its flag that TLS was used.
const TLS: u8 = 0x20;
const CAME_BY_TLS: u8 = 0x01;

/// The client of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source {
    /// `None` if the connection is the proxy's own, or the client is unknown.
    pub(super) address: Option<IpAddr>,
    /// Whether the client used TLS; `None` if the proxy does not say.
    pub(super) secure: Option<bool>,
}

impl Source {
    const UNKNOWN: Self = Self { address: None, secure: None };
}

fn wrong(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Reads the header, and no byte after it.
///
/// # Errors
///
/// The connection's error, or that it does not begin with this header.
pub(super) async fn read(io: &mut (impl AsyncRead + Unpin)) -> io::Result<Source> {
    let mut first = [0; 8];
    io.read_exact(&mut first).await?;
    if first == SIGNATURE[..8] {
        return binary(io).await;
    }
    let mut line = first.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() == MAX_LINE {
            return Err(wrong("the PROXY protocol line is too long"));
        }
        // Byte by byte, because the bytes after the header belong to the next protocol. There are few bytes, and only
        // once.
        line.push(io.read_u8().await?);
    }
    text(&line).ok_or_else(|| wrong("the connection does not begin with a PROXY protocol header"))
}

/// `PROXY TCP4 192.0.2.1 198.51.100.1 4711 443`.
fn text(line: &[u8]) -> Option<Source> {
    let mut words = core::str::from_utf8(line).ok()?.strip_prefix("PROXY ")?.trim_end_matches("\r\n").split(' ');
    let address = match words.next()? {
        "UNKNOWN" => return Some(Source::UNKNOWN),
        "TCP4" => IpAddr::V4(words.next()?.parse().ok()?),
        "TCP6" => IpAddr::V6(words.next()?.parse().ok()?),
        _ => return None,
    };
    let _to: IpAddr = words.next()?.parse().ok()?;
    let (_from, _to): (u16, u16) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    words.next().is_none().then_some(Source { address: Some(address.to_canonical()), secure: None })
}

async fn binary(io: &mut (impl AsyncRead + Unpin)) -> io::Result<Source> {
    let mut head = [0; 8];
    io.read_exact(&mut head).await?;
    let [a, b, c, d, version_and_command, family, high, low] = head;
    if [a, b, c, d] != SIGNATURE[8..] || version_and_command >> 4 != 2 {
        return Err(wrong("the PROXY protocol header has an unsupported version"));
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_REST {
        return Err(wrong("the PROXY protocol header is too long"));
    }
    let mut rest = vec![0; length];
    io.read_exact(&mut rest).await?;
    match version_and_command & 0x0F {
        // The proxy's own connection: a health check.
        0 => Ok(Source::UNKNOWN),
        1 => proxied(family, &rest).ok_or_else(|| wrong("the PROXY protocol header is too short")),
        _ => Err(wrong("the PROXY protocol header has an unknown command")),
    }
}

/// Parses addresses and ports of source and destination, and further fields.
fn proxied(family: u8, rest: &[u8]) -> Option<Source> {
    let (address, others) = match family >> 4 {
        1 => (IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(rest.get(..4)?).ok()?)), rest.get(12..)?),
        2 => (IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(rest.get(..16)?).ok()?)), rest.get(36..)?),
        _ => return Some(Source::UNKNOWN),
    };
    Some(Source { address: Some(address.to_canonical()), secure: tls(others) })
}

fn tls(mut others: &[u8]) -> Option<bool> {
    while let [kind, high, low, rest @ ..] = others {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if *kind == TLS {
            return rest.first().map(|flags| flags & CAME_BY_TLS != 0);
        }
        others = rest.get(length..)?;
    }
    None
}
