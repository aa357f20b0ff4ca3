//! Why a model has not answered.

use core::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::agent::{EmitError, http};

/// Why there is no answer. Its text is for the user and contains no text of the server except its short code, because a
/// server's errors may repeat the request, including the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// There was no connection, or it broke before the answer began.
    Unreachable,
    /// The answer did not begin in time, or paused for too long.
    Slow,
    /// The server refused the request.
    Status(u16),
    /// The server refused the request because of a field that a setting controls.
    Refused {
        /// The status.
        status: u16,
        /// The field.
        field: String,
        /// The setting.
        setting: &'static str,
    },
    /// The server asks for a pause that is longer than the configured limit.
    Busy(Duration),
    /// The answer is not an event stream.
    NoStream,
    /// An event violates the protocol.
    Garbled,
    /// A part of the answer exceeds its bound.
    TooLong,
    /// The stream ended or broke before the answer was complete.
    Cut,
    /// The server reported an error in the stream, perhaps with its code.
    Reported(Option<String>),
    /// The reply reached its limit inside a tool call, or before it had any output.
    Truncated,
    /// The server withheld the answer.
    Filtered,
    /// The model keeps calling tools.
    Rounds(u32),
    /// The answer has neither text nor calls.
    Empty,
    /// The run is over, or its events are refused.
    Run(EmitError),
}

impl Failure {
    /// The failure for an error object that the server sent.
    pub(super) fn reported(error: &Value) -> Self {
        let code = ["code", "type"].iter().find_map(|field| error.get(field)?.as_str());
        Self::Reported(code.filter(|code| http::is_code(code)).map(str::to_owned))
    }

    /// A code for programs.
    pub(super) const fn code(&self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Slow => "timeout",
            Self::Status(_) | Self::Refused { .. } => "refused",
            Self::Busy(_) => "busy",
            Self::NoStream | Self::Garbled => "protocol",
            Self::TooLong => "too_long",
            Self::Cut => "cut",
            Self::Reported(_) => "reported",
            Self::Truncated => "truncated",
            Self::Filtered => "filtered",
            Self::Rounds(_) => "rounds",
            Self::Empty => "empty",
            Self::Run(_) => "run",
        }
    }

    /// Whether the same request may succeed a moment later.
    pub(super) const fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable => true,
            Self::Status(status) => matches!(*status, 408 | 429) || *status >= 500,
            Self::Slow
            | Self::Refused { .. }
            | Self::Busy(_)
            | Self::NoStream
            | Self::Garbled
            | Self::TooLong
            | Self::Cut
            | Self::Reported(_)
            | Self::Truncated
            | Self::Filtered
            | Self::Rounds(_)
            | Self::Empty
            | Self::Run(_) => false,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable => f.write_str("the model's server cannot be reached"),
            Self::Slow => f.write_str("the model's server took too long to answer"),
            Self::Status(401 | 403) => f.write_str("the model's server does not accept the gateway's API key"),
            Self::Status(429) => f.write_str("the model's server is busy (status 429)"),
            Self::Status(status) => write!(f, "the model's server refused the request (status {status})"),
            Self::Refused { status, field, setting } => write!(
                f,
                "the model's server refused the request (status {status}) because of `{field}`: see the setting {setting}"
            ),
            Self::Busy(pause) => write!(f, "the model's server is busy for another {} seconds", pause.as_secs()),
            Self::NoStream => f.write_str("the model's server did not answer with an event stream"),
            Self::Garbled => f.write_str("the model's server sent an invalid response"),
            Self::TooLong => f.write_str("the model's answer is too long"),
            Self::Cut => f.write_str("the model's answer ended unexpectedly"),
            Self::Reported(Some(code)) => write!(f, "the model's server reported an error: {code}"),
            Self::Reported(None) => f.write_str("the model's server reported an error"),
            Self::Truncated => f.write_str("the model's answer was cut off by its token limit"),
            Self::Filtered => f.write_str("the model's server withheld the answer (content filter)"),
            Self::Rounds(most) => write!(f, "the model called tools {most} times without answering"),
            Self::Empty => f.write_str("the model's answer was empty"),
            Self::Run(error) => error.fmt(f),
        }
    }
}
