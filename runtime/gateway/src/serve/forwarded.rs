//! The client that trusted proxies name: `X-Forwarded-*` and `Forwarded` (RFC 7239).
//!
//! Each proxy appends the address that its request came from to the list. The list is therefore read from its end, past
//! the addresses of trusted proxies: the first other address is the client, as the outermost trusted proxy saw it.
//! Anything before that was written by the client itself, and is ignored.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::config::{Proxies, ProxyHeader};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The client of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Client {
    pub(super) address: IpAddr,
    /// Whether it used TLS. `None` if no proxy says so.
    pub(super) secure: Option<bool>,
    /// The host that it requested, if a proxy says so.
    pub(super) host: Option<HeaderValue>,
}

/// What one proxy says about the request that it received.
#[derive(Default)]
struct Hop<'a> {
    client: Option<IpAddr>,
    proto: Option<&'a str>,
    host: Option<&'a str>,
}

/// The client of a request that came from a trusted proxy's address.
pub(super) fn client(proxies: &Proxies, proxy: IpAddr, headers: &HeaderMap) -> Client {
    let hops = match proxies.header {
        ProxyHeader::None => Vec::new(),
        ProxyHeader::XForwardedFor => x_forwarded(headers),
        ProxyHeader::Forwarded => forwarded(headers),
    };
    let mut found = Client { address: proxy, secure: None, host: None };
    for hop in hops.iter().rev() {
        if let Some(proto) = hop.proto {
            found.secure = Some(proto.eq_ignore_ascii_case("https") || proto.eq_ignore_ascii_case("wss"));
        }
        if let Some(host) = hop.host {
            found.host = HeaderValue::from_str(host).ok().filter(|host| !host.is_empty());
        }
        // A value that is not an address hides its client, so the proxy that added it is the nearest known one.
        let Some(client) = hop.client else { break };
        found.address = client;
        if !proxies.trusts(client) {
            break;
        }
    }
    found
}

/// The hops; the nearest proxy's is the last. A single proto or host value belongs to the nearest proxy.
fn x_forwarded(headers: &HeaderMap) -> Vec<Hop<'_>> {
    let clients = elements(headers, &X_FORWARDED_FOR);
    let (protos, hosts) = (elements(headers, &X_FORWARDED_PROTO), elements(headers, &X_FORWARDED_HOST));
    let hops = clients.len().max(1);
    let from_end = |list: &[&'_ str], index: usize| (list.len() + index).checked_sub(hops);
    (0..hops)
        .map(|index| Hop {
            client: clients.get(index).and_then(|text| address(text)),
            proto: from_end(&protos, index).and_then(|at| protos.get(at).copied()),
            host: from_end(&hosts, index).and_then(|at| hosts.get(at).copied()),
        })
        .collect()
}

/// The hops; the nearest proxy's is the last.
fn forwarded(headers: &HeaderMap) -> Vec<Hop<'_>> {
    let mut hops = Vec::new();
    for line in headers.get_all(header::FORWARDED).iter().filter_map(|line| line.to_str().ok()) {
        for element in split(line, ',') {
            let mut hop = Hop::default();
            for pair in split(element, ';') {
                let Some((name, value)) = pair.split_once('=') else { continue };
                let (name, value) = (name.trim(), value.trim().trim_matches('"'));
                if name.eq_ignore_ascii_case("for") {
                    hop.client = address(value);
                } else if name.eq_ignore_ascii_case("proto") {
                    hop.proto = Some(value);
                } else if name.eq_ignore_ascii_case("host") {
                    hop.host = Some(value);
                }
            }
            hops.push(hop);
        }
    }
    hops
}

/// The elements of a comma-separated header, over all its lines.
fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    let lines = headers.get_all(name).into_iter().map(|line| line.to_str().unwrap_or_default());
    lines.flat_map(|line| line.split(',')).map(str::trim).collect()
}

/// Splits at a character outside quoted strings.
fn split(text: &str, at: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c: char| {
        quoted ^= c == '"';
        c == at && !quoted
    })
    .map(str::trim)
}

/// Parses an address as proxies write it: with or without a port, an IPv6 address with or without brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    bare.parse().ok().or_else(with_port).map(|address: IpAddr| address.to_canonical())
}

/// Removes the headers in which a peer names a client.
pub(super) fn strip(headers: &mut HeaderMap) {
    for name in [X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST, header::FORWARDED] {
        headers.remove(name);
    }
}
