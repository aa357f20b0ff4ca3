//! Control frames: their members, common to both codecs.

use lockstep_model::node::{Mode, Successor};
use lockstep_model::{Code, Control};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{AnnouncedLimits, CodecState, Hex};
use crate::payload::{Payload, now_ms};

/// The members of a control frame.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Notice<'a> {
    Ready {
        connection_id: Hex,
        user_id: &'a str,
        epoch: u64,
        offset: u64,
        head: u64,
        resumed: bool,
        mode: Mode,
        limits: AnnouncedLimits,
        heartbeat_ms: u64,
        server_time: u64,
    },
    AuthOk {},
    AuthExpiring {},
    StreamReset {
        from: u64,
        to: u64,
    },
    Mode {
        mode: Mode,
    },
    GoingAway {
        reconnect: bool,
        reconnect_after_ms: u64,
    },
    Known {
        #[serde(skip_serializing_if = "Option::is_none")]
        message_id: Option<Box<str>>,
        run_id: Hex,
        offset: u64,
    },
    Error {
        code: Code,
        message: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        message_id: Option<Box<str>>,
    },
    Pong {
        server_time: u64,
    },
    Said {
        thread_id: Option<&'a str>,
        timestamp: u64,
        data: &'a RawValue,
    },
}

impl<'a> Notice<'a> {
    /// The members of a control frame for this peer. `None` for [`Control::Probe`], which is a frame of the WebSocket
    /// protocol itself, and for answers to queries, which are encoded as frames of their own.
    pub(super) fn of(peer: &'a mut CodecState, control: &'a Control<Payload>) -> Option<Self> {
        let mut refused = |message, code: Code| {
            let message_id = peer.names.answer(message);
            Self::Error { code, message: sentence(code), message_id }
        };
        Some(match *control {
            Control::Ready { user: _, epoch, offset, head, resumed, mode } => Self::Ready {
                connection_id: peer.connection.into(),
                user_id: &peer.subject,
                epoch: epoch.0,
                offset: offset.0,
                head: head.0,
                resumed,
                mode,
                limits: peer.limits,
                heartbeat_ms: peer.heartbeat_ms,
                server_time: now_ms(),
            },
            Control::AuthOk => Self::AuthOk {},
            Control::AuthExpiring => Self::AuthExpiring {},
            Control::StreamReset { from, to } => Self::StreamReset { from: from.0, to: to.0 },
            Control::Mode(mode) => Self::Mode { mode },
            Control::GoingAway(successor) => {
                let reconnect_after_ms = match successor {
                    Successor::Waiting => 0,
                    Successor::Absent => peer.reconnect_after_ms,
                };
                Self::GoingAway { reconnect: true, reconnect_after_ms }
            }
            Control::Known { message, run, offset } => {
                Self::Known { message_id: peer.names.answer(message), run_id: run.into(), offset: offset.0 }
            }
            Control::Refused { message, code } => refused(message, code),
            Control::Error(code) => Self::Error { code, message: sentence(code), message_id: None },
            Control::Pong => Self::Pong { server_time: now_ms() },
            // These are encoded by [`CodecState::encode`].
            Control::Answer(_) | Control::Unanswered { .. } | Control::Probe => return None,
            Control::Notice(ref payload) => {
                let record = payload.record()?;
                Self::Said { thread_id: record.thread.as_deref(), timestamp: now_ms(), data: &record.data }
            }
        })
    }

    /// The `type` of the frame.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Ready { .. } => "connection_ready",
            Self::AuthOk {} => "auth_ok",
            Self::AuthExpiring {} => "auth_expiring",
            Self::StreamReset { .. } => "stream_reset",
            Self::Mode { .. } => "mode",
            Self::GoingAway { .. } => "going_away",
            Self::Known { .. } => "message_known",
            Self::Error { .. } => "error",
            Self::Pong { .. } => "pong",
            Self::Said { .. } => "connection_notice",
        }
    }
}

/// The sentence that the user is shown.
pub(super) const fn sentence(code: Code) -> &'static str {
    match code {
        Code::Malformed => "The frame is not a JSON object, or is nested too deeply.",
        Code::UnknownType => "The type of the frame is unknown.",
        Code::InvalidField => "A field of the frame is missing or has the wrong type.",
        Code::Degraded => "No new messages are accepted at the moment. Try again later.",
        Code::Draining => "The gateway is shutting down. Reconnect and send the message again.",
        Code::TooManyRuns => "Too many answers are in progress. Wait for one to end.",
        Code::QueueFull => "Too many messages are waiting. Wait for an answer, or take one back.",
        Code::ThreadBusy => "This conversation takes one message at a time. Wait for the answer.",
        Code::BreakerOpen => "Too many answers failed in a row. Try again later.",
        Code::Busy => "The gateway is busy. Try again in a moment.",
        Code::Forgotten => "It is no longer known whether the message was answered.",
        Code::UnknownThread => "There is no such conversation.",
        Code::NotKept => "This gateway keeps no conversations.",
        Code::UnknownRun => "No answer with that run id is in progress.",
        Code::NotPaused => "The answer does not wait for this reply: it never asked, or another reply came first.",
        Code::VerifierUnavailable => "The new credential cannot be verified now. Try again in a moment.",
    }
}
