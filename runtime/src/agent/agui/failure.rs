//! Why an agent has not answered.

use core::fmt;
use std::time::Duration;

use crate::agent::{EmitError, http};

/// Why there is no answer. Its text is for the user and contains no text of the server except its short code, because a
/// server's errors may repeat the request, including the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// There was no connection.
    Unreachable,
    /// The connection broke before the answer began. The server may have begun a run.
    Dropped,
    /// The answer did not begin in time, or paused for too long.
    Slow,
    /// The server refused the request.
    Status(u16),
    /// The server asks for a pause that is longer than the configured limit.
    Busy(Duration),
    /// The answer is not an event stream.
    NoStream,
    /// An event is not a JSON object, or lacks a field, or may not occur here. The operator's log has the details.
    Violation,
    /// An event, or all of them, exceed the bound.
    TooLong,
    /// The stream ended or broke before the run did.
    Cut,
    /// The run failed, perhaps with a code.
    Reported(Option<String>),
    /// The agent stopped the run.
    Stopped,
    /// The run is over, or its events are refused.
    Run(EmitError),
}

impl Failure {
    /// The failure that a server reports. Its code is shown only if it has the form of a code.
    pub(super) fn reported(code: Option<&str>) -> Self {
        Self::Reported(code.filter(|code| http::is_code(code)).map(str::to_owned))
    }

    /// A code for programs.
    pub(super) const fn code(&self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Slow => "timeout",
            Self::Status(_) => "refused",
            Self::Busy(_) => "busy",
            Self::NoStream | Self::Violation => "protocol",
            Self::TooLong => "too_long",
            Self::Dropped | Self::Cut => "cut",
            Self::Reported(_) => "reported",
            Self::Stopped => "stopped",
            Self::Run(_) => "run",
        }
    }

    /// Whether the server has not begun a run, so that the same request may be sent again.
    pub(super) const fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable | Self::Status(429 | 503) => true,
            Self::Status(_)
            | Self::Dropped
            | Self::Slow
            | Self::Busy(_)
            | Self::NoStream
            | Self::Violation
            | Self::TooLong
            | Self::Cut
            | Self::Reported(_)
            | Self::Stopped
            | Self::Run(_) => false,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable => f.write_str("the agent's server cannot be reached"),
            Self::Dropped => f.write_str("the agent's server closed the connection without an answer"),
            Self::Slow => f.write_str("the agent's server took too long to answer"),
            Self::Status(401 | 403) => f.write_str("the agent's server does not accept the gateway's token"),
            Self::Status(429) => f.write_str("the agent's server is busy (status 429)"),
            Self::Status(status) => write!(f, "the agent's server refused the request (status {status})"),
            Self::Busy(pause) => write!(f, "the agent's server is busy for another {} seconds", pause.as_secs()),
            Self::NoStream => f.write_str("the agent's server did not answer with an event stream"),
            Self::Violation => f.write_str("the agent's server sent an invalid response"),
            Self::TooLong => f.write_str("the agent's answer is too long"),
            Self::Cut => f.write_str("the agent's answer ended unexpectedly"),
            Self::Reported(Some(code)) => write!(f, "the agent reported an error: {code}"),
            Self::Reported(None) => f.write_str("the agent reported an error"),
            Self::Stopped => f.write_str("the agent stopped before it had answered"),
            Self::Run(error) => error.fmt(f),
        }
    }
}
