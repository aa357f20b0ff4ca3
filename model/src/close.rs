//! Why a connection ends, and the one table of close codes (RFC 6455 §7.4).
//!
//! A client can hard-code one rule: **4000–4499, come back; 4500–4999, do not, until something changes** (a new token,
//! another tab closed). 1011 means a fault of ours, never a lifecycle race.
//!
//! The second code of each cause is for clients of the older protocol: see [`Cause::legacy_code`].

/// Whether and when the peer should come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Advice {
    /// Reconnect, after a pause.
    ComeBack,
    /// Reconnecting as before would fail again.
    StayAway,
    /// The connection ended normally, or because the peer wanted it.
    None,
}

macro_rules! causes {
    ($($(#[$doc:meta])* $name:ident = $code:literal | $legacy:literal, $reason:literal;)*) => {
        /// Why a connection ended. The cause is chosen once, and later events do not change it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        pub enum Cause { $($(#[$doc])* $name,)* }

        impl Cause {
            /// Every cause, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The close code that the peer is sent, or would be if it were still there.
            #[must_use]
            pub const fn code(self) -> u16 {
                match self { $(Self::$name => $code,)* }
            }

            /// The close code for a client of the older protocol: 1001 and 1013 mean that it should come back, 1008 that
            /// it needs a new credential first. These clients know no code from 4000 on.
            #[must_use]
            pub const fn legacy_code(self) -> u16 {
                match self { $(Self::$name => $legacy,)* }
            }

            /// The close reason: at most 123 bytes, and constant, so that it cannot contain a secret.
            #[must_use]
            pub const fn reason(self) -> &'static str {
                match self { $(Self::$name => $reason,)* }
            }
        }
    };
}

causes! {
    /// The peer closed.
    PeerClosed = 1000 | 1000, "closed by the peer";
    /// The peer violated the WebSocket protocol.
    ProtocolError = 1002 | 1013, "WebSocket protocol error";
    /// The peer sent a binary message.
    UnsupportedData = 1003 | 1013, "only text frames are accepted";
    /// The transport ended without a close frame. Never sent (RFC 6455 §7.4.1).
    Lost = 1006 | 1006, "the connection was lost";
    /// The peer sent a text frame that is not UTF-8.
    InvalidPayload = 1007 | 1013, "text is not valid UTF-8";
    /// The peer sent a frame or a message over the limit.
    TooBig = 1009 | 1013, "message too big";
    /// An internal check failed: a bug.
    Fault = 1011 | 1011, "internal fault";
    /// The node is draining; another will serve, or this one soon.
    GoingAway = 4000 | 1001, "going away: reconnect";
    /// No credential was verified in time, or the stream could not be restored in time.
    HandshakeTimeout = 4001 | 1001, "the handshake took too long: reconnect";
    /// Nothing was heard from the peer.
    HeartbeatLost = 4002 | 1001, "nothing received in time: reconnect";
    /// The verifier could not be reached, so no connection is admitted.
    VerifierUnavailable = 4003 | 1013, "credentials cannot be verified now: reconnect";
    /// The node admits no connection now.
    Overloaded = 4004 | 1013, "overloaded: reconnect later";
    /// The peer requests more than it reads, so control frames pile up.
    Slow = 4005 | 1013, "too slow: reconnect and resume";
    /// The log has granted the user to another owner, and takes nothing more from this session.
    Moved = 4006 | 1001, "served elsewhere: reconnect";
    /// The log could not be read for the entries that this reader has missed.
    HistoryUnavailable = 4007 | 1013, "missed events cannot be read now: reconnect and resume";
    /// The credential was rejected: malformed, wrongly signed, expired, for another audience.
    CredentialRejected = 4500 | 1008, "credential rejected: get a new one";
    /// The credential expired and was not refreshed.
    CredentialExpired = 4501 | 1008, "credential expired: get a new one";
    /// The credential was revoked.
    CredentialRevoked = 4502 | 1008, "credential revoked: log in again";
    /// A refresh was for another user.
    UserMismatch = 4503 | 1008, "a refresh cannot change the user";
    /// No credential was presented in time, or an invalid frame came before one.
    CredentialMissing = 4504 | 1008, "no credential presented";
    /// The user has as many connections as allowed.
    TooManyConnections = 4505 | 1013, "too many connections: close another";
    /// The same client opened a newer connection.
    Superseded = 4506 | 1000, "superseded by a newer connection";
    /// The peer sent more requests before `connection_ready` than the connection may queue.
    TooEager = 4507 | 1013, "too many frames before connection_ready";
    /// The peer sent more requests, or more unanswered credentials, than allowed.
    Flooding = 4508 | 1013, "too many requests";
}

impl Cause {
    /// The rule of the table, as the peer may hard-code it.
    #[must_use]
    pub const fn advice(self) -> Advice {
        advice(self.code())
    }
}

/// What a close code tells a client to do.
#[must_use]
pub const fn advice(code: u16) -> Advice {
    match code {
        1000 => Advice::None,
        1002 | 1003 | 1007..=1010 | 4500..=4999 => Advice::StayAway,
        _ => Advice::ComeBack,
    }
}
