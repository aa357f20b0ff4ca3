//! Why an event is not in the stream, and why a tool call has no result.

use core::fmt;

use lockstep_model::Refusal;

use super::{NOT_JSON, PANICKED};

/// Why an event is not in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EmitError {
    /// The machine refused it.
    Refused(Refusal),
    /// The process lost the session while the event was in flight: it may or may not be in the stream.
    Lost,
    /// The data cannot be written as a JSON object.
    NotJson,
}

impl fmt::Display for EmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => write!(f, "the event was refused: {why}"),
            Self::Lost => f.write_str("the session was lost; the event may or may not be in the stream"),
            Self::NotJson => f.write_str("the data of an event must be a JSON object"),
        }
    }
}

impl core::error::Error for EmitError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        if let Self::Refused(why) = self { Some(why) } else { None }
    }
}

/// Why a tool call has no result.
#[derive(Debug)]
#[non_exhaustive]
pub enum ToolError<E> {
    /// The tool failed; the stream has the failure.
    Failed(E),
    /// The tool panicked; the stream has the failure. The run continues.
    Panicked,
    /// The tool's result cannot be written as JSON; the stream has the failure.
    NotJson,
    /// The run ended first, or the event was refused.
    Run(EmitError),
}

impl<E: fmt::Display> fmt::Display for ToolError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => write!(f, "the tool failed: {error}"),
            Self::Panicked => f.write_str(PANICKED),
            Self::NotJson => f.write_str(NOT_JSON),
            Self::Run(error) => error.fmt(f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> core::error::Error for ToolError<E> {}
