//! Several processes that share a log and serve as one.
//!
//! Each user has one owner: the process that has acquired the user in the log, which alone runs the user's session. A
//! connection may land on any process. If its user has another owner, it is *relayed* there, one hop: the process that
//! accepted it opens a WebSocket to the owner, hands over the client's credential and place in the stream, and from then
//! on passes text frames in both directions, without decoding them. To the machines a relay is a part of the network.
//!
//! | part | what it does |
//! | --- | --- |
//! | [`Members`](crate::log::Members) | the log's side: leases, and where a member is reached |
//! | [`Cluster`] | this process's side: its address, the cluster's key, the times of a lease |
//! | [`Manager::serve_member`](crate::Manager::serve_member) | answers other members: connections that they relay, notices and deletions for this process's users, operators' questions |
//!
//! # Security
//!
//! Members know each other by a shared key, which each relayed connection presents. Their traffic is not encrypted, and
//! contains credentials, messages and answers. A member trusts the client addresses that another one reports. So the
//! address should be in a private network. The key does not replace the client's credential: the owner verifies that
//! too.

use core::fmt;
use std::net::{AddrParseError, IpAddr};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{HeaderMap, HeaderName};
use lockstep_model::member::LeaseTimes;
use sha2::{Digest, Sha256};

use crate::payload::Token;

/// The path of relayed connections.
pub(crate) const PATH: &str = "/lockstep/member";

/// The path of commands for users of the process.
pub(crate) const COMMAND_PATH: &str = "/lockstep/member/command";

/// The path of an operator's questions about users of the process.
pub(crate) const OPERATOR_PATH: &str = "/lockstep/member/operator";

/// The header with the cluster's key, in base64url.
pub(crate) const KEY: HeaderName = HeaderName::from_static("lockstep-cluster-key");

/// The header with the client's credential, in base64url.
pub(crate) const CREDENTIAL: HeaderName = HeaderName::from_static("lockstep-credential");

/// The header with the address of a relayed connection's client. It counts only beside the cluster's key.
pub(crate) const CLIENT: HeaderName = HeaderName::from_static("lockstep-client-address");

/// The fewest bytes of a cluster's key.
pub const MIN_KEY: usize = 32;

/// How this process takes part in a cluster.
#[derive(Clone)]
pub struct Cluster {
    pub(crate) address: Arc<str>,
    pub(crate) limits: LeaseTimes,
    key: Arc<Key>,
}

struct Key {
    /// As the header has it.
    text: String,
    digest: [u8; 32],
}

/// The key is too short to be secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShortKey;

impl fmt::Display for ShortKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a cluster's key must have at least {MIN_KEY} bytes")
    }
}

impl core::error::Error for ShortKey {}

impl Cluster {
    /// A member that others reach at `address` (`host:port`), in a cluster with this key.
    ///
    /// # Errors
    ///
    /// [`ShortKey`].
    pub fn new(address: &str, key: &[u8]) -> Result<Self, ShortKey> {
        if key.len() < MIN_KEY {
            return Err(ShortKey);
        }
        let text = URL_SAFE_NO_PAD.encode(key);
        let key = Key { digest: Sha256::digest(text.as_bytes()).into(), text };
        Ok(Self { address: Arc::from(address), limits: LeaseTimes::DEFAULT, key: Arc::new(key) })
    }

    /// Sets the times of a lease, [`LeaseTimes::DEFAULT`] unless set. All members must have the same.
    #[must_use]
    pub const fn lease(mut self, limits: LeaseTimes) -> Self {
        self.limits = limits;
        self
    }

    /// The key, as the header has it.
    pub(crate) fn key(&self) -> &str {
        &self.key.text
    }

    /// Whether a request comes from a member. Digests are compared, so the duration reveals nothing about the key.
    pub(crate) fn admits(&self, headers: &HeaderMap) -> bool {
        let mut keys = headers.get_all(KEY).iter();
        let presented = keys.next().map(|key| <[u8; 32]>::from(Sha256::digest(key.as_bytes())));
        presented == Some(self.key.digest) && keys.next().is_none()
    }
}

impl fmt::Debug for Cluster {
    /// Omits the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("address", &self.address).field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// A credential as it is passed on.
pub(crate) fn encoded(credential: &Token) -> String {
    URL_SAFE_NO_PAD.encode(credential.expose())
}

/// The credential of a relayed connection.
pub(crate) fn credential(headers: &HeaderMap) -> Option<Token> {
    let bytes = URL_SAFE_NO_PAD.decode(headers.get(CREDENTIAL)?).ok()?;
    String::from_utf8(bytes).ok().map(|token| Token::new(&token))
}

/// The address of a relayed connection's client, if the member that accepted the connection knows it.
pub(crate) fn client(headers: &HeaderMap) -> Result<Option<IpAddr>, AddrParseError> {
    headers.get(CLIENT).map(|address| address.to_str().unwrap_or_default().parse()).transpose()
}
