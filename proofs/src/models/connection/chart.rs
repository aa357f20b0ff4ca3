//! The names of a connection's phases and inputs.

use lockstep_model::auth::Verdict;
use lockstep_model::connection::{Input, Relay, State as Stage};
use lockstep_model::{Handled, Request, Timer, UserId};

use super::{Action, Socket, State};
use crate::engine::proof::{Lifecycle, Outcome};

impl Lifecycle for Socket {
    fn phases(&self) -> &'static [&'static str] {
        &["opening", "authenticating", "attaching", "live", "draining", "relaying", "relayed", "closing", "closed"]
    }

    fn inputs(&self) -> &'static [&'static str] {
        &[
            "opened",
            "opened by a member",
            "auth",
            "message or cancel",
            "ping",
            "pong",
            "invalid",
            "violation",
            "found valid",
            "found another user",
            "rejected",
            "unavailable",
            "stale verdict",
            "ready",
            "tell",
            "notify",
            "owned elsewhere",
            "relay opened",
            "owner heard",
            "revoked",
            "drain",
            "close",
            "gone",
            "handshake expired",
            "idle expired",
            "allowance expired",
            "grace expired",
            "close expired",
            "verification expired",
            "warning expired",
            "credential expired",
            "another timer",
        ]
    }

    fn phase(&self, state: &State) -> &'static str {
        match state.connection.state() {
            Stage::Opening => "opening",
            Stage::Authenticating { .. } => "authenticating",
            Stage::Attaching { .. } => "attaching",
            Stage::Live { .. } => "live",
            Stage::Draining => "draining",
            Stage::Relayed { relay: Relay::Opening, .. } => "relaying",
            Stage::Relayed { relay: Relay::Open { .. }, .. } => "relayed",
            Stage::Closing { .. } => "closing",
            Stage::Closed { .. } => "closed",
        }
    }

    fn input(&self, action: &Action) -> Option<&'static str> {
        let Action::Hear(input, stale) = action else { return None };
        Some(match input {
            Input::Opened => "opened",
            Input::OpenedByMember => "opened by a member",
            Input::Relay { .. } => "owned elsewhere",
            Input::RelayOpened => "relay opened",
            Input::RelayHeard => "owner heard",
            Input::Received(Request::Auth { .. }) => "auth",
            Input::Received(
                Request::Message { .. }
                | Request::Cancel { .. }
                | Request::Reply { .. }
                | Request::Seek { .. }
                | Request::Delete { .. }
                | Request::Query { .. },
            ) => "message or cancel",
            Input::Received(Request::Ping) => "ping",
            Input::Received(Request::Pong) => "pong",
            Input::Received(Request::Invalid { .. }) => "invalid",
            Input::Received(Request::Violation(_)) => "violation",
            Input::Verdict { .. } if *stale => "stale verdict",
            Input::Verdict { verdict: Verdict::Valid { grant, .. }, .. } if grant.user == UserId(2) => {
                "found another user"
            }
            Input::Verdict { verdict: Verdict::Valid { .. }, .. } => "found valid",
            Input::Verdict { verdict: Verdict::Rejected, .. } => "rejected",
            Input::Verdict { verdict: Verdict::Unavailable, .. } => "unavailable",
            Input::Ready { .. } => "ready",
            Input::Tell(_) => "tell",
            Input::Notify(_) => "notify",
            Input::Revoked => "revoked",
            Input::Drain { .. } => "drain",
            Input::Close(_) => "close",
            Input::Gone(_) => "gone",
            Input::Expired(Timer::Handshake) => "handshake expired",
            Input::Expired(Timer::Idle) => "idle expired",
            Input::Expired(Timer::Allowance) => "allowance expired",
            Input::Expired(Timer::Grace) => "grace expired",
            Input::Expired(Timer::Close) => "close expired",
            Input::Expired(Timer::Verification) => "verification expired",
            Input::Expired(Timer::Warning) => "warning expired",
            Input::Expired(Timer::Credential) => "credential expired",
            Input::Expired(_) => "another timer",
        })
    }

    fn outcome(&self, before: &State, action: &Action) -> Outcome {
        let mut after = before.clone();
        let Action::Hear(input, _) = action else { return Outcome::Stayed };
        match after.feed(&self.bounds, &before.connection, input) {
            Handled::Ignored => Outcome::Ignored,
            Handled::Done if self.phase(before) == self.phase(&after) => Outcome::Stayed,
            Handled::Done => Outcome::Moved,
        }
    }
}
