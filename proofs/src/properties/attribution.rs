//! The property whose sentence a connection breaks: by a timer, a frame, a cause or an input that is not as it must be.

use lockstep_model::connection::Input;
use lockstep_model::{Cause, Control, Frame, Timer};

/// The property that is violated by a connection that stays open although it must close with this cause.
pub(crate) const fn protects(cause: &Cause) -> &'static str {
    match cause {
        Cause::CredentialExpired | Cause::CredentialRevoked | Cause::CredentialRejected => "AUTH-1",
        Cause::UserMismatch => "AUTH-2",
        Cause::VerifierUnavailable => "AUTH-3",
        Cause::TooEager | Cause::Flooding | Cause::Slow => "LIM-1",
        Cause::HeartbeatLost | Cause::GoingAway => "LIVE-4",
        Cause::PeerClosed
        | Cause::ProtocolError
        | Cause::UnsupportedData
        | Cause::Lost
        | Cause::InvalidPayload
        | Cause::TooBig
        | Cause::Fault
        | Cause::HandshakeTimeout
        | Cause::Overloaded
        | Cause::Moved
        | Cause::HistoryUnavailable
        | Cause::CredentialMissing
        | Cause::TooManyConnections
        | Cause::Superseded => "CONN-1",
    }
}

/// The property that is violated if this timer is not armed with its duration.
pub(crate) const fn guards(timer: Timer) -> &'static str {
    match timer {
        Timer::Idle | Timer::Verification | Timer::Warning => "LIVE-4",
        Timer::Credential => "AUTH-1",
        Timer::Allowance => "LIM-1",
        Timer::Handshake | Timer::Grace | Timer::Close => "CONN-3",
        // A connection has none of these.
        Timer::Silence
        | Timer::Deadline
        | Timer::Pause
        | Timer::Linger
        | Timer::Restore
        | Timer::Breaker
        | Timer::Retry
        | Timer::LogAnswer
        | Timer::Lookup
        | Timer::Seek
        | Timer::Probe
        | Timer::Drain
        | Timer::Backoff
        | Timer::Connect
        | Timer::Heartbeat
        | Timer::Stable
        | Timer::Leave
        | Timer::Answer => "CONN-3",
    }
}

/// The property that is violated if this frame does not leave in its place.
pub(crate) const fn says(frame: &Frame<u8>) -> &'static str {
    match frame {
        Frame::Close(_) => "CONN-1",
        Frame::Control(control) => tells(control),
        Frame::Event(_) => "STR-1",
    }
}

/// The same for a control frame.
pub(crate) const fn tells(control: &Control<u8>) -> &'static str {
    match control {
        Control::Mode(_) => "NODE-1",
        Control::GoingAway(_) => "NODE-2",
        Control::Probe | Control::AuthExpiring => "LIVE-4",
        Control::StreamReset { .. } => "STR-1",
        Control::AuthOk => "AUTH-3",
        Control::Ready { .. }
        | Control::Known { .. }
        | Control::Refused { .. }
        | Control::Error(_)
        | Control::Notice(_)
        | Control::Answer(_)
        | Control::Unanswered { .. }
        | Control::Pong => "CONN-2",
    }
}

/// The property that is violated if a late input is taken, or one that counts is not.
pub(crate) const fn counts(input: &Input<u8>) -> &'static str {
    match input {
        Input::Verdict { .. } => "AUTH-3",
        Input::Revoked => "AUTH-1",
        Input::Notify(_) => "LIM-1",
        Input::Drain { .. } => "NODE-2",
        Input::Expired(timer) => guards(*timer),
        Input::Opened | Input::OpenedByMember | Input::Close(_) | Input::Gone(_) => "CONN-1",
        Input::Relay { .. } => "OWN-6",
        Input::RelayOpened | Input::RelayHeard => "LIVE-4",
        Input::Received(_) | Input::Ready { .. } | Input::Tell(_) => "CONN-2",
    }
}
